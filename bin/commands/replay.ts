/** `troupe replay <actor> [--at seq]`: folds the partition's log anew, in memory, and shows the actor as it was. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { type Command, InvalidArgumentError } from 'commander';
import { type Change, type CheckpointStore, SPACES } from '../../cluster/checkpoint/checkpoint.ts';
import { LmdbCheckpoints } from '../../cluster/checkpoint/lmdb-checkpoints.ts';
import { MemoryCheckpoints } from '../../cluster/checkpoint/memory-checkpoints.ts';
import type { Fold } from '../../cluster/host/fold.ts';
import { decodeHead, META_KEY } from '../../cluster/host/head.ts';
import { compileKinds } from '../../cluster/host/kinds.ts';
import { stateAsText } from '../../cluster/host/queries.ts';
import { replay } from '../../cluster/host/replay.ts';
import { actorHash, stateHash } from '../../cluster/host/state-hash.ts';
import { partitionOf } from '../../cluster/placement/partition-of.ts';
import { decodeState } from '../../protocol/canonical.ts';
import { isProtocolError } from '../../protocol/errors.ts';
import { actorNamed } from '../actor-reference.ts';
import { loadKinds } from '../all-kinds.ts';
import { type DataFolder, locateDataFolder, optionsOf, parseJson } from '../data-folder.ts';
import { Failure } from '../failure.ts';
import { openLogs } from '../nats-access.ts';
import { grouped, print } from '../output.ts';
import { addDataOption } from '../server-access.ts';

type ReplayFlags = { readonly data?: string; readonly at?: number; readonly json?: boolean };

export function define(command: Command): void {
  addDataOption(command.argument('<actor>', 'kind:key'))
    .option('--at <sequence>', 'after this message of the log (default: the newest)', sequenceOf)
    .option('--json', 'print JSON')
    .addHelpText(
      'after',
      '\nReads the log of the cluster that runs on the folder, or of a stopped one. Changes nothing.',
    )
    .action(run);
}

function sequenceOf(text: string): number {
  if (!/^[1-9]\d{0,14}$/.test(text)) throw new InvalidArgumentError('A sequence is a number from 1 on.');
  return Number(text);
}

async function run(actor: string, { data, at, json = false }: ReplayFlags): Promise<void> {
  const { kind, key, ref } = await actorNamed(actor);
  const folder = locateDataFolder({ data }, process.env);
  const { sessionHorizonMs } = optionsOf(folder, {}, process.env);
  const logs = await openLogs(folder);
  try {
    const { groups } = logs.format;
    const partition = partitionOf(kind, key, groups);
    const { log, generation } = await logs.open(partition);
    const { first } = await log.state();
    const store = await startingPoint(folder, partition, first === 1 && generation === 1);
    const settings = {
      partition,
      groups,
      kinds: compileKinds(await loadKinds()),
      generation,
      traps: false,
      sessionHorizonMs,
    };
    const handledBefore = handledAt(store);
    const began = performance.now();
    let messages = 0;
    const fold = await replay({
      settings,
      log,
      store,
      ...(at !== undefined && { until: at }),
      onMessage: () => messages++,
    }).catch((error) => {
      throw explained(error, partition, first);
    });
    const report = reportOf(fold, ref, {
      partition,
      generation,
      handledBefore,
      messages,
      tookMs: performance.now() - began,
    });
    print(json, { ...report, state: parseJson(report.state) ?? report.state }, () => textOf(report));
  } finally {
    await logs.close();
  }
}

/** The whole log begins at nothing. A trimmed one needs the checkpoint, of which a copy is taken in one moment. */
async function startingPoint(folder: DataFolder, partition: string, isWhole: boolean): Promise<CheckpointStore> {
  const store = await new MemoryCheckpoints().open(partition);
  if (!isWhole && existsSync(join(folder.partitions, partition))) await store.commit(await copyOf(folder, partition));
  return store;
}

async function copyOf(folder: DataFolder, partition: string): Promise<Change[]> {
  const checkpoints = new LmdbCheckpoints(folder.partitions);
  try {
    const source = await checkpoints.open(partition);
    // Without an await in between: one read transaction, whatever a running host commits meanwhile.
    return SPACES.flatMap((space) =>
      Array.from(source.range(space, new Uint8Array()), ([key, value]) => ({
        space,
        key: key.slice(),
        value: value.slice(),
      })),
    );
  } finally {
    await checkpoints.close();
  }
}

/** Commands that a checkpoint has behind it. */
function handledAt(store: CheckpointStore): number {
  const saved = store.get('meta', META_KEY);
  return saved ? decodeHead(saved).handled : 0;
}

function explained(error: unknown, partition: string, first: number): unknown {
  if (error instanceof RangeError) {
    const advice =
      first > 1
        ? [
            `The log of ${partition} was trimmed up to ${first}: earlier states are only those that the checkpoint holds.`,
          ]
        : [];
    return new Failure(error.message, advice, 'bad_request');
  }
  if (isProtocolError(error, 'log_trimmed'))
    return new Failure(
      error.message,
      ['A host that runs has checkpointed again meanwhile: try once more.'],
      'log_trimmed',
    );
  return error;
}

type Report = {
  readonly actor: string;
  readonly partition: string;
  readonly generation: number;
  readonly sequence: number;
  readonly known: boolean;
  readonly messages: number;
  readonly commands: number;
  readonly tookMs: number;
  readonly commandsPerSecond: number;
  readonly actorHash: string | null;
  readonly stateHash: string;
  readonly state: string;
};

function reportOf(
  fold: Fold,
  ref: string,
  run: { partition: string; generation: number; messages: number; handledBefore: number; tookMs: number },
): Report {
  const saved = fold.actors.saved(ref);
  const [, , state] = saved ? (decodeState(saved) as [number, unknown, unknown]) : [0, 0, null];
  const { handledBefore, ...figures } = run;
  const commands = fold.head.handled - handledBefore;
  return {
    actor: ref,
    ...figures,
    tookMs: Math.round(run.tookMs),
    sequence: fold.head.sequence,
    known: saved !== undefined,
    commands,
    commandsPerSecond: Math.round((commands / run.tookMs) * 1_000),
    actorHash: actorHash(fold, ref) ?? null,
    stateHash: stateHash(fold),
    state: stateAsText(state),
  };
}

function textOf(report: Report): string {
  const { actor, partition, generation, sequence, known, messages, commands, tookMs, commandsPerSecond } = report;
  return [
    `actor       ${actor}${known ? '' : ' (never touched up to there)'}`,
    `partition   ${partition}, generation ${generation}, after message ${sequence}`,
    `folded      ${grouped(messages)} messages, ${grouped(commands)} commands in ${grouped(tookMs)} ms: ${grouped(commandsPerSecond)} commands/s`,
    `actor hash  ${report.actorHash ?? 'none'}`,
    `state hash  ${report.stateHash}`,
    `state       ${report.state}`,
  ].join('\n');
}
