/** A host of a measured cluster: all partitions, checkpoints in LMDB, as in `troupe up`. */
import { setImmediate as pause } from 'node:timers/promises';
import pino from 'pino';
import { Registry } from 'prom-client';
import type { ActorDefinition } from '../../actors/definition.ts';
import { counter } from '../../actors/sample/counter.ts';
import { NatsBus } from '../../cluster/bus/nats-bus.ts';
import { LmdbCheckpoints } from '../../cluster/checkpoint/lmdb-checkpoints.ts';
import { DEFAULT_PARTITION_SETTINGS, Host } from '../../cluster/host/host.ts';
import { systemClock } from '../../cluster/log/clock.ts';
import { JetStreamLog } from '../../cluster/log/jetstream-log.ts';
import type { PartitionLog } from '../../cluster/log/log.ts';
import { connectToNats } from '../../cluster/log/nats-connection.ts';
import { beacon } from './beacon.ts';
import { serve } from './child.ts';
import type { ClusterSettings } from './cluster.ts';

const NO_EFFECTS = { run: () => Promise.reject(new Error('no effects here')) };

let end: () => Promise<void> = async () => undefined;

serve({ start }, () => end());

async function start({ nats, folder, partitions, logBytes }: ClusterSettings): Promise<void> {
  const link = await connectToNats({ ...nats, name: 'bench-host' });
  const log = await JetStreamLog.over(link);
  const checkpoints = new LmdbCheckpoints(`${folder}/partitions`);
  const logs = new Map<string, Promise<PartitionLog>>();
  const openLog = (partition: string): Promise<PartitionLog> => {
    const opened = logs.get(partition) ?? log.open(partition, 1, { maxBytes: logBytes, replicas: 1 });
    logs.set(partition, opened);
    return opened;
  };
  const host = new Host({
    settings: { ...DEFAULT_PARTITION_SETTINGS, node: 'bench', groups: { main: partitions } },
    definitions: [counter, beacon] as unknown as ActorDefinition[],
    bus: new NatsBus(link.connection),
    clock: systemClock,
    checkpoints,
    logger: pino({ level: 'warn' }, pino.destination(2)),
    registry: new Registry(),
    effects: NO_EFFECTS,
    openLog,
    pause: () => pause(),
  });
  await host.start();
  const halted = host.all.filter(({ state }) => state !== 'live');
  if (halted.length > 0)
    throw new Error(halted.map((partition) => `${partition.name}: ${partition.beat().reason}`).join('\n'));
  end = async () => {
    await host.stop();
    await checkpoints.close();
    await log.close();
    await link.close();
  };
}
