/** An edge of a measured cluster, as in `troupe up`. */
import pino from 'pino';
import { Registry } from 'prom-client';
import type { ActorDefinition } from '../../actors/definition.ts';
import { counter } from '../../actors/sample/counter.ts';
import { NatsBus } from '../../cluster/bus/nats-bus.ts';
import { createEdge } from '../../cluster/edge/edge.ts';
import { UwsTransport } from '../../cluster/edge/uws-transport.ts';
import { FramePublisher } from '../../cluster/log/frame-publisher.ts';
import { EDGES_BUCKET, takeIncarnation } from '../../cluster/log/incarnation.ts';
import { JetStreamLog } from '../../cluster/log/jetstream-log.ts';
import { connectToNats } from '../../cluster/log/nats-connection.ts';
import { NatsKeyValue } from '../../cluster/log/nats-key-value.ts';
import { beacon } from './beacon.ts';
import { serve } from './child.ts';
import type { ClusterSettings } from './cluster.ts';
import { residentBytes } from './resident-memory.ts';

const EDGE = 'e1';

let end: () => Promise<void> = async () => undefined;

serve({ start, residentBytes }, () => end());

async function start({ nats, partitions, logBytes, secret }: ClusterSettings): Promise<{ port: number }> {
  const link = await connectToNats({ ...nats, name: 'bench-edge' });
  const log = await JetStreamLog.over(link);
  const incarnation = await takeIncarnation(await NatsKeyValue.open(link, EDGES_BUCKET, 1), EDGE);
  const edge = createEdge({
    settings: { id: EDGE, node: 'bench', port: 0 },
    kinds: [counter, beacon] as unknown as ActorDefinition[],
    groups: { main: partitions },
    bus: new NatsBus(link.connection),
    incarnation,
    secrets: { tokens: secret, sessions: secret },
    logger: pino({ level: 'warn' }, pino.destination(2)),
    registry: new Registry(),
    transport: (settings, handlers) => new UwsTransport(settings, handlers),
    openPublisher: async (partition, _generation, failed) => {
      const opened = await log.open(partition, 1, { maxBytes: logBytes, replicas: 1 });
      return {
        generation: 1,
        publisher: new FramePublisher({ log: opened, token: `cmd.${EDGE}`, incarnation, onFailed: failed }),
      };
    },
  });
  const { port } = await edge.start();
  end = async () => {
    await edge.stop();
    await log.close();
    await link.close();
  };
  return { port };
}
