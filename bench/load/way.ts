/**
 * The whole way of a command: websocket, edge, frame, JetStream, host, fold, reply batch, edge, websocket; with dedupe, checkpoints
 * and trimming on. Closed loop for the rate, open loop for latency. Beside it the same client against a server that only echoes,
 * and JetStream alone with frames of the size that the way made.
 */

import { JetStreamLog } from '../../cluster/log/jetstream-log.ts';
import { connectToNats } from '../../cluster/log/nats-connection.ts';
import type { Durability } from '../../cluster/log/nats-server.ts';
import { allPartitions } from '../../cluster/placement/partition-of.ts';
import { FRAME_HEADER } from '../../protocol/frame.ts';
import { recordLength } from '../../protocol/record.ts';
import { type Check, type Measurement, type Spread, spreadOf } from '../figures.ts';
import { CoreMeter, type CoresUsed, waitForQuiet } from '../machine.ts';
import { Child, childFile } from './child.ts';
import { type Cluster, startCluster } from './cluster.ts';
import type { ClosedResult, Latency, PacedResult } from './command-load.ts';
import { openRawLog } from './raw-log.ts';

export type WayOptions = {
  readonly durability: Durability;
  readonly runs: number;
  readonly partitions: number;
  readonly quietSeconds: number;
  readonly profileFolder?: string | undefined;
};

const CONNECTIONS = 64;
const IN_FLIGHT = 32;
const COUNTERS_PER_CONNECTION = 16;
const RATES = [1_000, 10_000] as const; // Commands per second of the open loop.
const FIRST_WARM_MS = 3_000; // Until the compilers of four processes have settled.
const WARM_MS = 1_000;
const RUN_MS = 5_000;
const RAW_MS = 2_000;
const COMMAND_BYTES = 100;

/** Of the command's record, beside its body. */
const REF_BYTES = 'counter:w00-00'.length;
const PRINCIPAL_BYTES = 'user00'.length;

type Cores = CoresUsed<'natsServer' | 'host' | 'edge' | 'client'>;
type Closed = {
  readonly result: ClosedResult;
  readonly cores: Cores;
  readonly commandsPerSecond: number;
  readonly commandsPerFrame: number;
};
type Paced = { readonly result: PacedResult; readonly cores: Cores };
type Run = { readonly closed: Closed; readonly paced: readonly Paced[] };

/** Latency goals in microseconds, `os`; twice these with `disk`. */
const GOALS = [
  { p50: 800, p99: 4_000 },
  { p50: 1_500, p99: 8_000 },
] as const;

export async function benchWay(options: WayOptions): Promise<Measurement> {
  const { durability, partitions, profileFolder } = options;
  const cluster = await startCluster({ durability, partitions, profileFolder });
  const client = newClient(profileFolder);
  try {
    const opening = {
      port: cluster.port,
      secret: cluster.settings.secret,
      connections: CONNECTIONS,
      prefix: 'w',
      countersPerConnection: COUNTERS_PER_CONNECTION,
    };
    await client.ask('openCommands', opening);
    await client.ask('closed', { inFlight: IN_FLIGHT, warmMs: 0, runMs: FIRST_WARM_MS });
    const runs: Run[] = [];
    for (let i = 0; i < options.runs; i++) runs.push(await oneRun(cluster, client, options.quietSeconds));
    const applied = await client.ask<{ acknowledged: number; applied: number }>('applied');
    const echo = await benchEcho(options);
    const raw = await benchRaw(cluster, runs, partitions);
    return wayMeasurement(options, runs, applied, { ...echo, ...raw });
  } finally {
    await client.stop();
    await cluster.stop();
  }
}

function newClient(profileFolder: string | undefined): Child {
  return new Child({ name: 'client', file: childFile(import.meta.url, 'client-process'), profileFolder });
}

async function oneRun(cluster: Cluster, client: Child, quietSeconds: number): Promise<Run> {
  await waitForQuiet(quietSeconds);
  const closed = await closedRun(cluster, client);
  const paced: Paced[] = [];
  for (const perSecond of RATES) paced.push(await pacedRun(cluster, client, perSecond, quietSeconds));
  return { closed, paced };
}

async function pacedRun(cluster: Cluster, client: Child, perSecond: number, quietSeconds: number): Promise<Paced> {
  await waitForQuiet(quietSeconds);
  const meter = meterOf(cluster, client);
  const result = await client.ask<PacedResult>('paced', { perSecond, warmMs: WARM_MS, runMs: RUN_MS });
  return { result, cores: meter.stop() };
}

function meterOf({ server, host, edge }: Cluster, client: Child): CoreMeter<'natsServer' | 'host' | 'edge' | 'client'> {
  return new CoreMeter({ natsServer: server.pid, host: host.pid, edge: edge.pid, client: client.pid });
}

async function closedRun(cluster: Cluster, client: Child): Promise<Closed> {
  const messagesBefore = await lastSequences(cluster);
  const commandsBefore = await acknowledged(client);
  const meter = meterOf(cluster, client);
  const result = await client.ask<ClosedResult>('closed', { inFlight: IN_FLIGHT, warmMs: WARM_MS, runMs: RUN_MS });
  const cores = meter.stop();
  const frames = (await lastSequences(cluster)) - messagesBefore;
  const commands = (await acknowledged(client)) - commandsBefore;
  return { result, cores, commandsPerSecond: commands / meter.seconds, commandsPerFrame: commands / frames };
}

function acknowledged(client: Child): Promise<number> {
  return client.ask<number>('acknowledged');
}

/** Messages ever stored, over all partitions; the few that are no frames of commands do not matter. */
async function lastSequences({ settings: { nats, partitions, logBytes } }: Cluster): Promise<number> {
  const link = await connectToNats({ ...nats, name: 'bench' });
  const log = await JetStreamLog.over(link);
  const logs = allPartitions({ main: partitions }).map((name) =>
    log.open(name, 1, { maxBytes: logBytes, replicas: 1 }),
  );
  const states = await Promise.all((await Promise.all(logs)).map((opened) => opened.state()));
  await log.close();
  await link.close();
  return states.reduce((sum, { last }) => sum + last, 0);
}

type EchoFigures = { readonly echo: ClosedResult; readonly echoPaced: readonly PacedResult[] };

async function benchEcho({ profileFolder, quietSeconds }: WayOptions): Promise<EchoFigures | undefined> {
  if (profileFolder) return undefined;
  const server = new Child({ name: 'echo', file: childFile(import.meta.url, 'echo-process') });
  const client = newClient(undefined);
  try {
    const { port } = await server.ask<{ port: number }>('start', { publishes: false });
    await client.ask('openCommands', {
      port,
      secret: new Uint8Array(32),
      connections: CONNECTIONS,
      prefix: 'w',
      countersPerConnection: 1,
    });
    await waitForQuiet(quietSeconds);
    const echo = await client.ask<ClosedResult>('closed', {
      inFlight: IN_FLIGHT,
      warmMs: FIRST_WARM_MS,
      runMs: RUN_MS,
    });
    const echoPaced: PacedResult[] = [];
    for (const perSecond of RATES) {
      await waitForQuiet(quietSeconds);
      echoPaced.push(await client.ask('paced', { perSecond, warmMs: WARM_MS, runMs: RUN_MS }));
    }
    return { echo, echoPaced };
  } finally {
    await client.stop();
    await server.stop();
  }
}

type RawFigures = { readonly rawFramesPerSecond: number; readonly ackUs: Latency; readonly frameBytes: number };

async function benchRaw({ settings }: Cluster, runs: readonly Run[], partitions: number): Promise<RawFigures> {
  const perFrame = spreadOf(runs.map(({ closed }) => closed.commandsPerFrame)).median;
  const frameBytes = Math.round(FRAME_HEADER + perFrame * recordLength(REF_BYTES, PRINCIPAL_BYTES, COMMAND_BYTES));
  const log = await openRawLog(settings.nats, partitions);
  try {
    const ackUs = await log.ackLatencyUs(
      FRAME_HEADER + recordLength(REF_BYTES, PRINCIPAL_BYTES, COMMAND_BYTES),
      RAW_MS,
    );
    return { rawFramesPerSecond: await log.framesPerSecond(frameBytes, RAW_MS), ackUs, frameBytes };
  } finally {
    await log.close();
  }
}

function wayMeasurement(
  { durability, runs: count, partitions }: WayOptions,
  runs: readonly Run[],
  applied: { acknowledged: number; applied: number },
  beside: Partial<EchoFigures> & RawFigures,
): Measurement {
  const rate = spreadOf(runs.map(({ closed: { result } }) => result.commands / result.seconds));
  const cost = (name: keyof Cores) =>
    spreadOf(runs.map(({ closed }) => (closed.cores[name] * 1e6) / closed.commandsPerSecond));
  const perFrame = spreadOf(runs.map(({ closed }) => closed.commandsPerFrame));
  const figures: Record<string, Spread | number> = {
    commandsPerSecond: rate,
    ...Object.assign(
      {},
      ...RATES.map((perSecond, i) =>
        latencyFigures(
          perSecond,
          runs.map(({ paced }) => paced[i] as Paced),
        ),
      ),
    ),
    cpuUsPerCommandHost: cost('host'),
    cpuUsPerCommandEdge: cost('edge'),
    cpuUsPerCommandNatsServer: cost('natsServer'),
    cpuUsPerCommandClient: cost('client'),
    coresOthers: spreadOf(runs.map(({ closed }) => closed.cores.others)),
    commandsPerFrame: perFrame,
    rawLogCommandsPerSecond: beside.rawFramesPerSecond * perFrame.median,
    rawLogAckP50Us: beside.ackUs.p50,
    rawLogAckP99Us: beside.ackUs.p99,
    partOfRawLog: rate.median / (beside.rawFramesPerSecond * perFrame.median),
    ...echoFigures(rate.median, beside),
  };
  const factor = durability === 'disk' ? 2 : 1;
  return {
    name: 'way',
    settings: {
      durability,
      runs: count,
      partitions,
      connections: CONNECTIONS,
      inFlightPerConnection: IN_FLIGHT,
      bodyBytes: COMMAND_BYTES,
      counters: CONNECTIONS * COUNTERS_PER_CONNECTION,
      commandsPerWebsocketMessage: 1,
      secondsPerRun: RUN_MS / 1_000,
      rawFrameBytes: beside.frameBytes,
    },
    figures,
    targets: [
      { figure: 'commandsPerSecond', atLeast: durability === 'disk' ? 50_000 : 80_000 },
      ...RATES.flatMap((perSecond, i) => [
        { figure: `p50UsAt${perSecond}`, atMost: (GOALS[i]?.p50 ?? 0) * factor },
        { figure: `p99UsAt${perSecond}`, atMost: (GOALS[i]?.p99 ?? 0) * factor },
      ]),
    ],
    checks: wayChecks(runs, applied),
  };
}

function latencyFigures(perSecond: number, runs: readonly Paced[]): Record<string, Spread> {
  const of = (name: keyof Latency) => spreadOf(runs.map(({ result: { latencyUs } }) => latencyUs[name]));
  return {
    [`p50UsAt${perSecond}`]: of('p50'),
    [`p99UsAt${perSecond}`]: of('p99'),
    [`maxUsAt${perSecond}`]: of('max'),
    [`coresAt${perSecond}`]: spreadOf(runs.map(({ cores }) => cores.natsServer + cores.host + cores.edge)),
    [`coresOthersAt${perSecond}`]: spreadOf(runs.map(({ cores }) => cores.others)),
  };
}

function echoFigures(rate: number, { echo, echoPaced = [] }: Partial<EchoFigures>): Record<string, number> {
  if (!echo) return {};
  const echoRate = echo.commands / echo.seconds;
  const latencies = RATES.flatMap((perSecond, i): [string, number][] => [
    [`echoP50UsAt${perSecond}`, echoPaced[i]?.latencyUs.p50 ?? Number.NaN],
    [`echoP99UsAt${perSecond}`, echoPaced[i]?.latencyUs.p99 ?? Number.NaN],
  ]);
  return { echoPerSecond: echoRate, partOfEcho: rate / echoRate, ...Object.fromEntries(latencies) };
}

function wayChecks(
  runs: readonly Run[],
  { acknowledged: known, applied }: { acknowledged: number; applied: number },
): Check[] {
  const paced = runs.flatMap((run) => run.paced);
  const missing = paced.filter(({ result: { commands, planned } }) => Math.abs(commands - planned) > 1).length; // The clocks may cut one off.
  return [
    {
      name: 'each command was applied exactly once',
      passed: known === applied && known > 0,
      detail: `${known} acknowledged, ${applied} applied`,
    },
    {
      name: 'all planned commands were answered',
      passed: missing === 0,
      detail: `${missing} of ${paced.length} open loops lack some`,
    },
  ];
}
