/** The processes of a measurement: nats-server, host and edge, each its own, on an empty folder that goes away with them. */
import { randomBytes } from 'node:crypto';
import { rmSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  type Durability,
  type NatsServer,
  reportedDurability,
  startNatsServer,
} from '../../cluster/log/nats-server.ts';
import { Child, childFile } from './child.ts';

const LOG_BYTES = 1024 ** 3; // Per partition: it is trimmed as usual, and shall not be the limit.

/** What host and edge get told. */
export type ClusterSettings = {
  readonly nats: { readonly servers: string; readonly user: string; readonly password: string };
  readonly folder: string;
  readonly partitions: number;
  readonly logBytes: number;
  /** Signs tokens and sessions. */
  readonly secret: Uint8Array;
};

export type Cluster = {
  readonly settings: ClusterSettings;
  readonly server: NatsServer;
  readonly host: Child;
  readonly edge: Child;
  readonly port: number;
  stop(): Promise<void>;
};

export type ClusterOptions = {
  readonly durability: Durability;
  readonly partitions: number;
  readonly exposeGc?: boolean;
  readonly profileFolder?: string | undefined;
};

/** Folders that are still there: a measurement that is interrupted takes them along. */
const folders = new Set<string>();

process.once('exit', () => {
  for (const folder of folders) rmSync(folder, { recursive: true, force: true, maxRetries: 3 });
});
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => process.exit(1));

/** An empty folder that goes away with `stop`, or with this process. */
export async function temporaryFolder(): Promise<{ folder: string; remove: () => Promise<void> }> {
  const folder = await mkdtemp(join(tmpdir(), 'troupe-bench-'));
  folders.add(folder);
  const remove = async () => {
    await rm(folder, { recursive: true });
    folders.delete(folder);
  };
  return { folder, remove };
}

/** A nats-server on an empty folder. `stop` removes the folder. Errors: Error when its durability is another than asked for. */
export async function startServer(
  durability: Durability,
): Promise<{ server: NatsServer; folder: string; stop: () => Promise<void> }> {
  const { folder, remove } = await temporaryFolder();
  const server = await startNatsServer({ dataDir: join(folder, 'nats'), durability });
  const stop = async () => {
    await server.stop();
    await remove();
  };
  const reported = await reportedDurability(server.monitorUrl);
  if (reported === durability) return { server, folder, stop };
  await stop();
  throw new Error(`nats-server runs with durability ${reported}, not ${durability}`);
}

export function natsOptions({ url, user, password }: NatsServer): ClusterSettings['nats'] {
  return { servers: url, user, password };
}

export async function startCluster({
  durability,
  partitions,
  exposeGc = false,
  profileFolder,
}: ClusterOptions): Promise<Cluster> {
  const { server, folder, stop: stopServer } = await startServer(durability);
  const settings = { nats: natsOptions(server), folder, partitions, logBytes: LOG_BYTES, secret: randomBytes(32) };
  const host = new Child({ name: 'host', file: childFile(import.meta.url, 'host-process'), profileFolder });
  const edge = new Child({ name: 'edge', file: childFile(import.meta.url, 'edge-process'), exposeGc, profileFolder });
  const stop = async () => {
    await Promise.all([edge.stop(), host.stop()]);
    await stopServer();
  };
  try {
    await host.ask('start', settings);
    const { port } = await edge.ask<{ port: number }>('start', settings);
    return { settings, server, host, edge, port, stop };
  } catch (error) {
    await stop();
    throw error;
  }
}
