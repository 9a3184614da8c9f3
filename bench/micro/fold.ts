/**
 * `fold`: records per second that a partition folds from memory: a state-changing command with a body of about 100 bytes,
 * with dedupe, replies, and checkpoints into LMDB going on.
 */
import { setImmediate as pause } from 'node:timers/promises';
import type { ActorDefinition } from '../../actors/definition.ts';
import { counter } from '../../actors/sample/counter.ts';
import { LmdbCheckpoints } from '../../cluster/checkpoint/lmdb-checkpoints.ts';
import { Fold } from '../../cluster/host/fold.ts';
import { takeCheckpoint } from '../../cluster/host/fold-checkpoint.ts';
import { compileKinds } from '../../cluster/host/kinds.ts';
import { type Measurement, spreadOf } from '../figures.ts';
import { temporaryFolder } from '../load/cluster.ts';
import { makeFrames } from './frames.ts';

export type FoldBenchSettings = {
  readonly commands: number;
  readonly runs: number;
  readonly actors: number;
  readonly sessions: number;
  readonly commandsPerFrame: number;
  readonly checkpointCommands: number;
};

export const FOLD_BENCH: FoldBenchSettings = {
  commands: 2_000_000,
  runs: 5,
  actors: 1_000,
  sessions: 64,
  commandsPerFrame: 180, // Of this size so many fill a frame of 32 KiB.
  checkpointCommands: 50_000,
};

const START_US = 1_700_000_000_000_000;

/** Errors: Error when the final state is not what the commands add up to. */
export async function benchFold(settings: FoldBenchSettings): Promise<Measurement> {
  const kinds = compileKinds([counter] as unknown as ActorDefinition[]);
  const frames = makeFrames(kinds, { ...settings, createdMs: START_US / 1_000 });
  const rates: number[] = [];
  for (let run = 0; run <= settings.runs; run++) rates.push(await foldOnce(kinds, frames, settings));
  return {
    name: 'fold',
    settings: { ...settings, bodyBytes: 100 },
    figures: { recordsPerSecond: spreadOf(rates.slice(1)) }, // The first is for the compiler.
    targets: [{ figure: 'recordsPerSecond', atLeast: 600_000 }],
    checks: [
      {
        name: 'the counters add up to the commands',
        passed: true,
        detail: `in each of ${rates.length} runs, else it had failed`,
      },
    ],
  };
}

async function foldOnce(
  kinds: ReturnType<typeof compileKinds>,
  frames: readonly Uint8Array[],
  settings: FoldBenchSettings,
): Promise<number> {
  const { folder, remove } = await temporaryFolder();
  const checkpoints = new LmdbCheckpoints(folder);
  try {
    const store = await checkpoints.open('main-0');
    const fold = new Fold(
      { partition: 'main-0', groups: { main: 1 }, kinds, generation: 1, traps: false, sessionHorizonMs: 86_400_000 },
      store,
    );
    const startMs = performance.now();
    await foldFrames(fold, frames, settings.checkpointCommands);
    const seconds = (performance.now() - startMs) / 1_000;
    checkSum(fold, settings.actors);
    return fold.head.handled / seconds;
  } finally {
    await checkpoints.close();
    await remove();
  }
}

async function foldFrames(fold: Fold, frames: readonly Uint8Array[], checkpointCommands: number): Promise<void> {
  let running: Promise<unknown> | undefined;
  let checkpointed = 0;
  let sequence = 0;
  for (const data of frames) {
    sequence++;
    fold.fold({ sequence, timeUs: START_US + sequence * 1_000, subject: 'p.main-0.cmd.e1', data });
    if (sequence % 16 === 0) await pause(); // As in a host, where frames come as events.
    if (running || fold.head.handled - checkpointed < checkpointCommands) continue;
    checkpointed = fold.head.handled;
    running = takeCheckpoint(
      fold,
      () => performance.now(),
      () => pause(),
    ).finally(() => {
      running = undefined;
    });
  }
  await running;
}

function checkSum(fold: Fold, actors: number): void {
  let sum = 0;
  for (let i = 0; i < actors; i++) sum += (fold.actors.get(`counter:c${i}`, 0).state as { value: number }).value;
  if (sum !== fold.head.handled) throw new Error(`the counters add up to ${sum}, not ${fold.head.handled}`);
}
