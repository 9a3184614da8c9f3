/**
 * What an authenticated connection that says nothing costs the edge in resident memory: the difference that ten thousand of them
 * make, each of another user, with garbage collected before and after. Each run has a fresh edge, warmed by connections that come
 * and go. The second round fills memory that the first left behind, and shows what remains. Sockets of the kernel are not counted.
 */
import { type Measurement, spreadOf } from '../figures.ts';
import { Child, childFile } from './child.ts';
import { startCluster } from './cluster.ts';

export type IdleOptions = { readonly runs: number; readonly connections: number };

const ROUNDS = 2;
const WARM_CONNECTIONS = 100;
const WARM_ROUNDS = 20; // Each message is compiled by then, and few connections were open at once.

type Target = { readonly port: number; readonly secret: Uint8Array };

export async function benchIdle({ runs: count, connections }: IdleOptions): Promise<Measurement> {
  const ours: number[][] = [];
  for (let i = 0; i < count; i++) ours.push(await throughCluster(connections));
  const library = await throughLibrary(connections);
  const round = (index: number) => spreadOf(ours.map((rounds) => rounds[index] as number));
  return {
    name: 'idle',
    settings: { runs: count, connections, rounds: ROUNDS, users: connections },
    figures: {
      bytesPerConnection: round(0),
      bytesPerConnectionSecondRound: round(1),
      libraryBytesPerConnection: library[0] as number,
      timesTheLibrary: round(0).median / (library[0] as number),
    },
    targets: [{ figure: 'bytesPerConnection', atMost: 4_096 }],
    checks: [
      {
        name: 'all connections were welcomed',
        passed: true,
        detail: `${connections} in each round, else the run had failed`,
      },
    ],
  };
}

async function throughCluster(connections: number): Promise<number[]> {
  const cluster = await startCluster({ durability: 'os', partitions: 4, exposeGc: true });
  try {
    return await measure(cluster.edge, { port: cluster.port, secret: cluster.settings.secret }, connections);
  } finally {
    await cluster.stop();
  }
}

async function throughLibrary(connections: number): Promise<number[]> {
  const server = new Child({ name: 'echo', file: childFile(import.meta.url, 'echo-process'), exposeGc: true });
  try {
    const { port } = await server.ask<{ port: number }>('start', { publishes: false });
    return await measure(server, { port, secret: new Uint8Array(32) }, connections);
  } finally {
    await server.stop();
  }
}

async function measure(server: Child, target: Target, connections: number): Promise<number[]> {
  const client = new Child({ name: 'client', file: childFile(import.meta.url, 'client-process') });
  try {
    for (let i = 0; i < WARM_ROUNDS; i++) {
      await open(client, target, WARM_CONNECTIONS);
      await client.ask('closeIdle');
    }
    const rounds: number[] = [];
    for (let i = 0; i < ROUNDS; i++) {
      const before = await server.ask<number>('residentBytes');
      await open(client, target, connections);
      const after = await server.ask<number>('residentBytes');
      rounds.push((after - before) / connections);
      await client.ask('closeIdle');
    }
    return rounds;
  } finally {
    await client.stop();
  }
}

async function open(client: Child, target: Target, connections: number): Promise<void> {
  const opened = await client.ask<number>('openIdle', { ...target, connections });
  if (opened !== connections) throw new Error(`${opened} connections were opened, not ${connections}`);
}
