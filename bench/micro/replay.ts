/**
 * `replay`: how fast a partition's log is read from JetStream and folded, offline; and how long a host that was killed takes to
 * recover a partition whose checkpoint lies a million records back. The log is one stream (file, one replica) in frames of 32 KiB.
 */
import { cp, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { setImmediate as pause } from 'node:timers/promises';
import pino from 'pino';
import { Registry } from 'prom-client';
import type { ActorDefinition } from '../../actors/definition.ts';
import { counter } from '../../actors/sample/counter.ts';
import { NatsBus } from '../../cluster/bus/nats-bus.ts';
import { LmdbCheckpoints } from '../../cluster/checkpoint/lmdb-checkpoints.ts';
import { MemoryCheckpoints } from '../../cluster/checkpoint/memory-checkpoints.ts';
import { DEFAULT_PARTITION_SETTINGS, Host } from '../../cluster/host/host.ts';
import { compileKinds } from '../../cluster/host/kinds.ts';
import type { Recovery } from '../../cluster/host/partition.ts';
import { replay } from '../../cluster/host/replay.ts';
import { systemClock } from '../../cluster/log/clock.ts';
import { JetStreamLog } from '../../cluster/log/jetstream-log.ts';
import type { PartitionLog } from '../../cluster/log/log.ts';
import { connectToNats, type NatsLink } from '../../cluster/log/nats-connection.ts';
import type { Durability } from '../../cluster/log/nats-server.ts';
import { type Check, type Measurement, spreadOf } from '../figures.ts';
import { natsOptions, startServer } from '../load/cluster.ts';
import { makeFrames } from './frames.ts';

export type ReplayOptions = { readonly durability: Durability; readonly runs: number };

const PARTITION = 'main-0';
const GROUPS = { main: 1 };
const LOAD = { actors: 1_000, sessions: 64, commandsPerFrame: 180 };
const CHECKPOINTED_COMMANDS = 100_080; // Whole frames: the checkpoint holds all actors and sessions.
const COMMANDS = 1_000_080; // After the checkpoint.
const FILL_WINDOW = 64; // Frames outstanding while the log is filled.
const LOG_BYTES = 4 * 1024 ** 3;

type Parts = { readonly link: NatsLink; readonly log: PartitionLog; readonly folder: string };

export async function benchReplay({ durability, runs }: ReplayOptions): Promise<Measurement> {
  const { server, folder, stop } = await startServer(durability);
  const link = await connectToNats({ ...natsOptions(server), name: 'bench-replay' });
  try {
    const jetStream = await JetStreamLog.over(link);
    const parts = { link, folder, log: await jetStream.open(PARTITION, 1, { maxBytes: LOG_BYTES, replicas: 1 }) };
    const measurement = await measure(parts, runs, durability);
    await jetStream.close();
    return measurement;
  } finally {
    await link.close();
    await stop();
  }
}

async function measure(parts: Parts, runs: number, durability: Durability): Promise<Measurement> {
  const fillPerSecond = await fillLog(parts);
  const rates: number[] = [];
  const readRates: number[] = [];
  const recoveries: Recovery[] = [];
  const sums: number[] = [];
  await replayOnce(parts.log); // For the compiler.
  for (let i = 0; i < runs; i++) {
    const { recordsPerSecond, sum } = await replayOnce(parts.log);
    rates.push(recordsPerSecond);
    sums.push(sum);
    readRates.push(await readOnce(parts.log));
    recoveries.push(await recoverOnce(parts, i));
  }
  const recoveredPerSecond = recoveries.map(({ commands, tookMs }) => (commands / tookMs) * 1_000);
  return {
    name: 'replay',
    settings: {
      durability,
      runs,
      ...LOAD,
      commands: CHECKPOINTED_COMMANDS + COMMANDS,
      recoveredCommands: COMMANDS,
      bodyBytes: 100,
    },
    figures: {
      recordsPerSecond: spreadOf(rates),
      readOnlyRecordsPerSecond: spreadOf(readRates),
      recoverySeconds: spreadOf(recoveries.map(({ tookMs }) => tookMs / 1_000)),
      recoveredPerSecond: spreadOf(recoveredPerSecond),
      filledPerSecond: fillPerSecond,
    },
    targets: [{ figure: 'recordsPerSecond', atLeast: 400_000 }],
    checks: checksOf(sums, recoveries),
  };
}

function checksOf(sums: readonly number[], recoveries: readonly Recovery[]): Check[] {
  const all = CHECKPOINTED_COMMANDS + COMMANDS;
  return [
    {
      name: 'the counters add up to the commands',
      passed: sums.every((sum) => sum === all),
      detail: `${[...new Set(sums)].join(', ')} of ${all}`,
    },
    {
      name: 'a recovery reads what follows the checkpoint, and no more',
      passed: recoveries.every(({ commands }) => commands === COMMANDS),
      detail: `${[...new Set(recoveries.map(({ commands }) => commands))].join(', ')} of ${COMMANDS} commands`,
    },
  ];
}

/** The first part is folded by a host that then stops with a checkpoint, which each recovery gets a copy of. */
async function fillLog(parts: Parts): Promise<number> {
  const kinds = compileKinds([counter] as unknown as ActorDefinition[]);
  const frames = makeFrames(kinds, { ...LOAD, commands: CHECKPOINTED_COMMANDS + COMMANDS, createdMs: Date.now() });
  const first = CHECKPOINTED_COMMANDS / LOAD.commandsPerFrame;
  await append(parts.log, frames.slice(0, first));
  const { host, checkpoints } = newHost(parts, join(parts.folder, 'checkpointed'));
  await host.start();
  await host.stop();
  await checkpoints.close();
  const startMs = performance.now();
  await append(parts.log, frames.slice(first));
  return COMMANDS / ((performance.now() - startMs) / 1_000);
}

async function append(log: PartitionLog, frames: readonly Uint8Array[]): Promise<void> {
  for (let at = 0; at < frames.length; at += FILL_WINDOW) {
    // In their order: the connection sends them as they are given.
    await Promise.all(frames.slice(at, at + FILL_WINDOW).map((frame) => log.append('cmd.e1', frame)));
  }
}

async function replayOnce(log: PartitionLog): Promise<{ recordsPerSecond: number; sum: number }> {
  const kinds = compileKinds([counter] as unknown as ActorDefinition[]);
  const { sessionHorizonMs } = DEFAULT_PARTITION_SETTINGS;
  const settings = { partition: PARTITION, groups: GROUPS, kinds, generation: 1, traps: false, sessionHorizonMs };
  const store = await new MemoryCheckpoints().open(PARTITION);
  const startMs = performance.now();
  const fold = await replay({ settings, log, store });
  const seconds = (performance.now() - startMs) / 1_000;
  let sum = 0;
  for (let i = 0; i < LOAD.actors; i++) sum += (fold.actors.get(`counter:c${i}`, 0).state as { value: number }).value;
  return { recordsPerSecond: (CHECKPOINTED_COMMANDS + COMMANDS) / seconds, sum };
}

/** What reading alone gives. */
async function readOnce(log: PartitionLog): Promise<number> {
  const { last } = await log.state();
  const startMs = performance.now();
  await new Promise<void>((resolve, reject) => {
    const reader = log.read(
      1,
      ({ sequence }) => {
        if (sequence === last) resolve(queueMicrotask(() => reader.stop()));
      },
      reject,
    );
  });
  return (CHECKPOINTED_COMMANDS + COMMANDS) / ((performance.now() - startMs) / 1_000);
}

async function recoverOnce(parts: Parts, run: number): Promise<Recovery> {
  const folder = join(parts.folder, `run-${run}`);
  await cp(join(parts.folder, 'checkpointed'), folder, { recursive: true });
  const { host, checkpoints } = newHost(parts, folder);
  await host.start();
  const { recovery } = host.partition(PARTITION) ?? {};
  await host.stop(false);
  await checkpoints.close();
  await rm(folder, { recursive: true });
  if (!recovery) throw new Error(`${PARTITION} did not recover: ${host.partition(PARTITION)?.beat().reason}`);
  return recovery;
}

function newHost({ link, log }: Parts, folder: string): { host: Host; checkpoints: LmdbCheckpoints } {
  const checkpoints = new LmdbCheckpoints(folder);
  const host = new Host({
    settings: { ...DEFAULT_PARTITION_SETTINGS, node: 'bench', groups: GROUPS },
    definitions: [counter] as unknown as ActorDefinition[],
    bus: new NatsBus(link.connection),
    clock: systemClock,
    checkpoints,
    logger: pino({ level: 'warn' }, pino.destination(2)),
    registry: new Registry(),
    effects: { run: () => Promise.reject(new Error('no effects here')) },
    openLog: () => Promise.resolve(log),
    pause: () => pause(),
  });
  return { host, checkpoints };
}
