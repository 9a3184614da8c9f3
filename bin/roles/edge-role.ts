/** The edge process: where clients come in, and the console's files. */
import { hkdfSync } from 'node:crypto';
import { collectDefaultMetrics, Registry } from 'prom-client';
import { NatsBus } from '../../cluster/bus/nats-bus.ts';
import type { Connection } from '../../cluster/edge/connection.ts';
import { createEdge } from '../../cluster/edge/edge.ts';
import type { EdgeSettings } from '../../cluster/edge/settings.ts';
import { readOrMakeSecret } from '../../cluster/edge/tokens.ts';
import { UwsTransport } from '../../cluster/edge/uws-transport.ts';
import { CLUSTER_BUCKET, generationOf, joinCluster, readClusterRecord } from '../../cluster/log/cluster-record.ts';
import { FramePublisher } from '../../cluster/log/frame-publisher.ts';
import { EDGES_BUCKET, takeIncarnation } from '../../cluster/log/incarnation.ts';
import { JetStreamLog } from '../../cluster/log/jetstream-log.ts';
import { connectToNats, type NatsOptions } from '../../cluster/log/nats-connection.ts';
import { NatsKeyValue } from '../../cluster/log/nats-key-value.ts';
import type { Groups } from '../../cluster/placement/partition-of.ts';
import { loadKinds } from '../all-kinds.ts';
import { fileLogger, type LogTarget, runRole, type Stop } from './role.ts';

export type EdgeRoleSettings = {
  readonly nats: Omit<NatsOptions, 'name'>;
  readonly groups: Groups;
  readonly logBytes: number;
  readonly edge: Partial<EdgeSettings> & Pick<EdgeSettings, 'id' | 'node'>;
  readonly secretFile: string;
  /** As in LogProblem, at the start. */
  readonly logProblem?: string | undefined;
  /** Modules whose kinds are served beside the shipped ones; for tests only. */
  readonly testKinds?: readonly string[];
  readonly log: LogTarget;
};

/** Sent to an edge whenever it changes: why the log stores nothing now; undefined: it does. */
export type LogProblem = { readonly type: 'log_problem'; readonly reason: string | undefined };

/** What an edge says when it listens. */
export type EdgeReport = { readonly port: number; readonly operationsPort: number; readonly incarnation: number };

const SECRET_BYTES = 32;

export async function startEdge(settings: EdgeRoleSettings): Promise<{ report: EdgeReport; stop: Stop }> {
  const { edge: edgeSettings, groups } = settings;
  const problem = new ProblemOfLog(settings.logProblem);
  const logger = fileLogger('edge', settings.log);
  const link = await connectToNats({ ...settings.nats, name: edgeSettings.node });
  const log = await JetStreamLog.over(link);
  const cluster = await NatsKeyValue.open(link, CLUSTER_BUCKET, 1);
  await joinCluster(cluster, groups);
  const incarnation = await takeIncarnation(await NatsKeyValue.open(link, EDGES_BUCKET, 1), edgeSettings.id);
  const tokens = readOrMakeSecret(settings.secretFile);
  const registry = new Registry();
  collectDefaultMetrics({ register: registry });
  const edge = createEdge({
    settings: edgeSettings,
    kinds: await loadKinds(settings.testKinds),
    groups,
    bus: new NatsBus(link.connection),
    openPublisher: async (partition, wanted, failed) => {
      const generation = wanted ?? (await newestGeneration(cluster, partition));
      const partitionLog = await log.open(partition, generation, { maxBytes: settings.logBytes, replicas: 1 });
      const publisher = new FramePublisher({
        log: partitionLog,
        token: `cmd.${edgeSettings.id}`,
        incarnation,
        onFailed: failed,
      });
      return { generation, publisher };
    },
    incarnation,
    secrets: { tokens, sessions: sessionSecret(tokens) },
    logger,
    registry,
    transport: (transport, handlers) => new UwsTransport<Connection>(transport, handlers),
  });
  problem.follow((reason) => edge.noteLogProblem(reason));
  const ports = await edge.start();
  const stop = async () => {
    await edge.drain();
    await log.close();
    await link.close();
  };
  return { report: { ...ports, incarnation }, stop };
}

/** What the parent says of the log, heard from the first moment: the edge takes a while to start. */
class ProblemOfLog {
  #reason: string | undefined;
  #tell: (reason: string | undefined) => void = () => undefined;

  constructor(reason: string | undefined) {
    this.#reason = reason;
    process.on('message', (message: LogProblem) => {
      if (message.type !== 'log_problem') return;
      this.#reason = message.reason;
      this.#tell(message.reason);
    });
  }

  follow(tell: (reason: string | undefined) => void): void {
    this.#tell = tell;
    tell(this.#reason);
  }
}

/** Read each time: an operator may have raised it since this edge started. */
async function newestGeneration(cluster: NatsKeyValue, partition: string): Promise<number> {
  const present = await readClusterRecord(cluster);
  return present ? generationOf(present.record, partition) : 1;
}

/** Sessions are signed by a key of their own, so that nothing signed for one purpose is of use for another. */
function sessionSecret(tokens: Uint8Array): Uint8Array {
  return new Uint8Array(hkdfSync('sha256', tokens, '', 'troupe sessions', SECRET_BYTES));
}

if (process.send) runRole(startEdge);
