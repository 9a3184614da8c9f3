/** The host process: owns the partitions of an embedded cluster. */
import { setImmediate as pause } from 'node:timers/promises';
import { collectDefaultMetrics, Registry } from 'prom-client';
import { NatsBus } from '../../cluster/bus/nats-bus.ts';
import { operationsOf } from '../../cluster/bus/subjects.ts';
import { LmdbCheckpoints } from '../../cluster/checkpoint/lmdb-checkpoints.ts';
import { OperationsPort } from '../../cluster/edge/operations-port.ts';
import { acceptLoss } from '../../cluster/host/accept-loss.ts';
import { Host } from '../../cluster/host/host.ts';
import type { PartitionSettings } from '../../cluster/host/partition.ts';
import { systemClock } from '../../cluster/log/clock.ts';
import { CLUSTER_BUCKET, generationOf, joinCluster } from '../../cluster/log/cluster-record.ts';
import { JetStreamLog } from '../../cluster/log/jetstream-log.ts';
import type { PartitionLog } from '../../cluster/log/log.ts';
import { connectToNats, type NatsOptions } from '../../cluster/log/nats-connection.ts';
import { NatsKeyValue } from '../../cluster/log/nats-key-value.ts';
import { WebhookWorker } from '../../cluster/worker/webhook-worker.ts';
import { ProtocolError } from '../../protocol/errors.ts';
import { pack, unpack } from '../../protocol/msgpack.ts';
import { loadKinds } from '../all-kinds.ts';
import { describe, fileLogger, type LogTarget, runRole, type Stop } from './role.ts';

export type HostRoleSettings = {
  readonly nats: Omit<NatsOptions, 'name'>;
  readonly dataFolder: string;
  readonly logBytes: number;
  readonly partition: PartitionSettings;
  /** Modules whose kinds are served beside the shipped ones; for tests only. */
  readonly testKinds?: readonly string[];
  readonly log: LogTarget;
};

/** What a host says when it is ready: how the recovery went. */
export type HostReport = {
  /** Of /healthz, /readyz and /metrics on 127.0.0.1. */
  readonly operationsPort: number;
  readonly partitions: number;
  readonly halted: readonly { partition: string; reason: string }[];
  readonly recoveredMessages: number;
  readonly recoveredCommands: number;
  readonly longestMs: number;
  readonly recoveries: readonly { partition: string; from: number; to: number; commands: number; tookMs: number }[];
};

export async function startHost(settings: HostRoleSettings): Promise<{ report: HostReport; stop: Stop }> {
  const { partition: partitionSettings } = settings;
  const logger = fileLogger('host', settings.log);
  const link = await connectToNats({ ...settings.nats, name: partitionSettings.node });
  const log = await JetStreamLog.over(link);
  const cluster = await NatsKeyValue.open(link, CLUSTER_BUCKET, 1);
  let { record } = await joinCluster(cluster, partitionSettings.groups);
  const logs = new Map<string, Promise<PartitionLog>>();
  const openLog = (partition: string): Promise<PartitionLog> => {
    const generation = generationOf(record, partition);
    const name = `${partition} ${generation}`;
    const known = logs.get(name);
    if (known) return known;
    const opened = log.open(partition, generation, { maxBytes: settings.logBytes, replicas: 1 });
    logs.set(name, opened);
    opened.catch(() => logs.delete(name));
    return opened;
  };
  const checkpoints = new LmdbCheckpoints(settings.dataFolder);
  const registry = new Registry();
  collectDefaultMetrics({ register: registry });
  const worker = new WebhookWorker();
  const bus = new NatsBus(link.connection);
  const host = new Host({
    settings: partitionSettings,
    definitions: await loadKinds(settings.testKinds),
    bus,
    clock: systemClock,
    checkpoints,
    logger,
    registry,
    effects: worker,
    openLog,
    pause: () => pause(),
  });
  const endOperations = bus.subscribe(operationsOf(partitionSettings.node), (bytes, replyTo) => {
    const [action, partition] = unpack(bytes) as [string, string];
    const answer = (result: unknown) => replyTo !== undefined && bus.publish(replyTo, pack(result));
    if (action !== 'accept-loss') return void answer([1, 'bad_request', `no operation "${action}"`]);
    acceptLoss({
      host,
      partition,
      checkpoints,
      cluster,
      openLog,
      onRecord: (newer) => {
        record = newer;
      },
    }).then(
      (result) => answer([0, result]),
      (error) => answer([1, error instanceof ProtocolError ? error.code : 'internal', describe(error)]),
    );
  });
  const endRepeats = link.onUp(() => host.repeatHeads());
  await host.start();
  const operations = new OperationsPort(registry, () => haltedPartitions(host));
  const operationsPort = await operations.listen(0);
  const stop = async () => {
    endOperations();
    endRepeats();
    await operations.close();
    await host.stop();
    worker.stop();
    await checkpoints.close();
    await log.close();
    await link.close();
  };
  return { report: reportOf(host, operationsPort), stop };
}

function haltedPartitions(host: Host): string | undefined {
  const halted = host.all.filter(({ state }) => state === 'halted').map(({ name }) => name);
  return halted.length > 0 ? `halted: ${halted.join(', ')}` : undefined;
}

function reportOf(host: Host, operationsPort: number): HostReport {
  const beats = host.all.map((partition) => partition.beat());
  const recoveries = host.all.flatMap((partition) =>
    partition.recovery ? [{ partition: partition.name, ...partition.recovery }] : [],
  );
  return {
    operationsPort,
    partitions: beats.length,
    halted: beats
      .filter(({ state }) => state === 'halted')
      .map(({ partition, reason }) => ({ partition, reason: reason ?? '' })),
    recoveredMessages: recoveries.reduce((sum, { from, to }) => sum + Math.max(0, to - from + 1), 0),
    recoveredCommands: recoveries.reduce((sum, { commands }) => sum + commands, 0),
    longestMs: Math.round(Math.max(0, ...recoveries.map(({ tookMs }) => tookMs))),
    recoveries: recoveries.filter(({ commands }) => commands > 0),
  };
}

if (process.send) runRole(startHost);
