/**
 * The logs of a data folder for tools: through the nats-server that runs on it, or through one that is started for the purpose
 * (then the folder is locked meanwhile). Reading disturbs nothing.
 */
import { readFileSync } from 'node:fs';
import { CLUSTER_BUCKET, generationOf, readClusterRecord } from '../cluster/log/cluster-record.ts';
import { JetStreamLog } from '../cluster/log/jetstream-log.ts';
import type { PartitionLog } from '../cluster/log/log.ts';
import { connectToNats, type NatsLink, type NatsOptions } from '../cluster/log/nats-connection.ts';
import { NatsKeyValue } from '../cluster/log/nats-key-value.ts';
import { startNatsServer } from '../cluster/log/nats-server.ts';
import { type DataFolder, type FolderFormat, readFormat } from './data-folder.ts';
import { Failure } from './failure.ts';
import { lockFolder } from './folder-lock.ts';
import { storeBytes } from './nats-process.ts';
import { runningOn } from './server-access.ts';

export type LogAccess = {
  readonly link: NatsLink;
  readonly format: FolderFormat;
  /** A partition's log in its present generation. Errors: Failure for no partition of this cluster. */
  open(partition: string): Promise<{ log: PartitionLog; generation: number }>;
  close(): Promise<void>;
};

/** Errors: Failure, and those of log and connection. */
export async function openLogs(folder: DataFolder): Promise<LogAccess> {
  const format = readFormat(folder);
  if (!format)
    throw new Failure(`${folder.path} is not a data folder of Troupe`, ['Name one with --data.'], 'foreign_folder');
  const { nats, end } = await natsOf(folder, format);
  try {
    const link = await connectToNats({ ...nats, name: 'troupe cli' });
    const log = await JetStreamLog.over(link);
    return {
      link,
      format,
      open: (partition) => openPartition(link, log, format, partition),
      close: async () => {
        await log.close();
        await link.close();
        await end();
      },
    };
  } catch (error) {
    await end();
    throw error;
  }
}

async function openPartition(link: NatsLink, logs: JetStreamLog, format: FolderFormat, partition: string) {
  const [group = '', index = ''] = partition.split('-');
  if (!(Number(index) < (format.groups[group] ?? 0))) {
    const groups = Object.entries(format.groups).map(([name, count]) => `${name}-0 to ${name}-${count - 1}`);
    throw new Failure(`there is no partition "${partition}"`, [`Partitions: ${groups.join(', ')}`], 'not_found');
  }
  const present = await readClusterRecord(await NatsKeyValue.open(link, CLUSTER_BUCKET, 1));
  if (!present) throw new Failure('nothing was written on this folder yet', ['Start it once: troupe up'], 'not_found');
  const generation = generationOf(present.record, partition);
  return { log: await logs.open(partition, generation, { maxBytes: format.logBytes, replicas: 1 }), generation };
}

/** The server of the cluster that runs, else one of our own. */
async function natsOf(
  folder: DataFolder,
  { groups, logBytes }: FolderFormat,
): Promise<{ nats: Omit<NatsOptions, 'name'>; end: () => Promise<void> }> {
  const running = runningOn(folder);
  if (running) {
    const { url, user, passwordFile } = running.nats;
    return {
      nats: { servers: url, user, password: readFileSync(passwordFile, 'utf8').trim() },
      end: async () => undefined,
    };
  }
  const unlock = lockFolder(folder);
  try {
    const server = await startNatsServer({
      dataDir: folder.nats,
      durability: 'os',
      maxFileStoreBytes: storeBytes(groups, logBytes),
    });
    const end = async () => {
      await server.stop();
      unlock();
    };
    return { nats: { servers: server.url, user: server.user, password: server.password }, end };
  } catch (error) {
    unlock();
    throw error;
  }
}
