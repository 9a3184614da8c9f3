/**
 * One event of 100 bytes to each of a thousand sockets, which decode and check it. The topic is a lossless one, so that nothing may
 * be left out: told by a command, stored as a row, published by the host, given out by the edge in order. Beside it the websocket
 * library's own publish with the same clients.
 *
 * An edge joins the events of one tick into one websocket message per socket. So the rate is measured twice: with one event on the
 * way at a time, where each is a message of its own, and with several.
 */
import type { Durability } from '../../cluster/log/nats-server.ts';
import { type Measurement, type Spread, spreadOf } from '../figures.ts';
import { CoreMeter, type CoresUsed, waitForQuiet } from '../machine.ts';
import { Child, childFile } from './child.ts';
import { startCluster } from './cluster.ts';
import type { FanoutResult } from './event-load.ts';

export type FanoutOptions = {
  readonly durability: Durability;
  readonly runs: number;
  readonly quietSeconds: number;
  readonly profileFolder?: string | undefined;
};

const SOCKETS = 1_000;
const ON_THE_WAY = [1, 8] as const;
const FIRST_WARM_MS = 2_000;
const WARM_MS = 500;
const RUN_MS = 4_000;

type Cores = CoresUsed<'server' | 'client'>;
type Run = { readonly result: FanoutResult; readonly cores: Cores };
type Totals = {
  readonly sent: number;
  readonly acknowledged: number;
  readonly leastOfSockets: number;
  readonly mostOfSockets: number;
};

export async function benchFanout(options: FanoutOptions): Promise<Measurement> {
  const { durability, runs: count } = options;
  const ours = await throughCluster(options);
  const raw = await throughLibrary(options);
  const { totals } = ours;
  return {
    name: 'fanout',
    settings: {
      durability,
      runs: count,
      sockets: SOCKETS,
      eventBytes: 100,
      topic: 'lossless',
      secondsPerRun: RUN_MS / 1_000,
    },
    figures: Object.assign(
      {},
      ...ON_THE_WAY.map((onTheWay, i) =>
        figuresOf(
          onTheWay,
          ours.runs.map((run) => run[i] as Run),
          raw.runs.map((run) => run[i] as Run),
        ),
      ),
    ),
    targets: [
      { figure: `deliveriesPerSecondWith${ON_THE_WAY[1]}`, atLeast: 400_000 },
      { figure: `messagesPerSecondWith${ON_THE_WAY[1]}`, atLeast: 400_000 },
    ],
    checks: [
      {
        name: 'every socket got every event, in order and once',
        passed:
          totals.sent > 0 &&
          [totals.acknowledged, totals.leastOfSockets, totals.mostOfSockets].every((each) => each === totals.sent),
        detail: `${totals.sent} told, ${totals.acknowledged} acknowledged, ${totals.leastOfSockets} to ${totals.mostOfSockets} at the sockets`,
      },
    ],
  };
}

type Runs = { readonly runs: Run[][]; readonly totals: Totals };

async function throughCluster(options: FanoutOptions): Promise<Runs> {
  const cluster = await startCluster({ ...options, partitions: 1 });
  try {
    return await measure(cluster.edge, { port: cluster.port, secret: cluster.settings.secret }, options);
  } finally {
    await cluster.stop();
  }
}

async function throughLibrary(options: FanoutOptions): Promise<Runs> {
  const server = new Child({ name: 'echo', file: childFile(import.meta.url, 'echo-process') });
  try {
    const { port } = await server.ask<{ port: number }>('start', { publishes: true });
    return await measure(server, { port, secret: new Uint8Array(32) }, { ...options, profileFolder: undefined });
  } finally {
    await server.stop();
  }
}

type Target = { readonly port: number; readonly secret: Uint8Array };

async function measure(
  server: Child,
  target: Target,
  { runs: count, quietSeconds, profileFolder }: FanoutOptions,
): Promise<Runs> {
  const client = new Child({ name: 'client', file: childFile(import.meta.url, 'client-process'), profileFolder });
  try {
    await client.ask('openEvents', { ...target, sockets: SOCKETS });
    await client.ask('fanout', { onTheWay: 8, warmMs: 0, runMs: FIRST_WARM_MS });
    const runs: Run[][] = [];
    for (let i = 0; i < count; i++) {
      const run: Run[] = [];
      for (const onTheWay of ON_THE_WAY) {
        await waitForQuiet(quietSeconds);
        run.push(await oneRun(server, client, onTheWay));
      }
      runs.push(run);
    }
    return { runs, totals: await client.ask<Totals>('fanoutTotals') };
  } finally {
    await client.stop();
  }
}

async function oneRun(server: Child, client: Child, onTheWay: number): Promise<Run> {
  const meter = new CoreMeter({ server: server.pid, client: client.pid });
  const result = await client.ask<FanoutResult>('fanout', { onTheWay, warmMs: WARM_MS, runMs: RUN_MS });
  return { result, cores: meter.stop() };
}

function figuresOf(onTheWay: number, ours: readonly Run[], raw: readonly Run[]): Record<string, Spread | number> {
  const deliveries = (runs: readonly Run[]) => spreadOf(runs.map(({ result }) => result.deliveries / result.seconds));
  const messages = (runs: readonly Run[]) => spreadOf(runs.map(({ result }) => result.messages / result.seconds));
  const named: Record<string, Spread | number> = {
    deliveriesPerSecond: deliveries(ours),
    messagesPerSecond: messages(ours),
    lastSocketP50Us: spreadOf(ours.map(({ result }) => result.lastSocketUs.p50)),
    lastSocketP99Us: spreadOf(ours.map(({ result }) => result.lastSocketUs.p99)),
    cpuUsPerDeliveryEdge: costOf(ours, 'server'),
    cpuUsPerDeliveryClient: costOf(ours, 'client'),
    coresOthers: spreadOf(ours.map(({ cores }) => cores.others)),
    libraryDeliveriesPerSecond: deliveries(raw),
    libraryCpuUsPerDelivery: costOf(raw, 'server'),
    partOfLibrary: deliveries(ours).median / deliveries(raw).median,
  };
  return Object.fromEntries(Object.entries(named).map(([name, figure]) => [`${name}With${onTheWay}`, figure]));
}

/** Of the whole call, its warm-up included. */
function costOf(runs: readonly Run[], name: 'server' | 'client'): Spread {
  return spreadOf(runs.map(({ result, cores }) => (cores[name] * 1e6) / (result.deliveries / result.seconds)));
}
