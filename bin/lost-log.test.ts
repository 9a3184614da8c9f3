/**
 * Logs that were lost under a cluster: a stream that was deleted, and a store brought back from an older copy, while the
 * checkpoints are newer. The partition halts and says why, others work; `troupe accept-loss` begins a new generation, and
 * clients that were connected all the time go on.
 */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { cpSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { jetstreamManager } from '@nats-io/jetstream';
import { counter } from '../actors/sample/counter.ts';
import { until } from '../cluster/edge/test-edge.ts';
import { connectToNats } from '../cluster/log/nats-connection.ts';
import { startNatsServer } from '../cluster/log/nats-server.ts';
import type { Client } from '../protocol/client/client.ts';
import { type RunningCluster, type Stage, startCluster } from './embedded.ts';
import { identityOf, isAlive } from './process-identity.ts';
import { clientOf, keyIn, readiness, SteadyClient, statusOf } from './test-cluster.ts';

const TROUPE = fileURLToPath(new URL('./troupe.js', import.meta.url));
const PARTITIONS = 3;
const FROM = keyIn('main-0', PARTITIONS, 'from'); // Sends to:
const TO = keyIn('main-1', PARTITIONS, 'to');

const base = mkdtempSync(join(tmpdir(), 'troupe-lost-log-'));
const data = join(base, 'data');
const copy = join(base, 'copy-of-nats');
let cluster: RunningCluster | undefined;
let stages: Stage[] = [];
const clients: { close(): void }[] = [];
after(async () => {
  for (const client of clients) client.close();
  await cluster?.stop();
  rmSync(base, { recursive: true, force: true });
});

async function start(checkpointMs = 300): Promise<RunningCluster> {
  stages = [];
  const port = cluster ? Number(new URL(cluster.url).port) : 0; // The same one: clients come back to it.
  cluster = await startCluster(
    { data, port, demo: false, mainPartitions: PARTITIONS, exchangePartitions: 1, checkpointMs },
    { onStage: (stage) => stages.push(stage) },
  );
  return cluster;
}

async function crash(running: RunningCluster): Promise<void> {
  const pids = (['nats', 'host', 'edge'] as const).map((name) => running.pidOf(name) as number);
  const identities = pids.map(identityOf);
  running.kill();
  await until('the end of all', () => !identities.some((identity) => identity && isAlive(identity)), 20_000);
}

function troupe(...words: string[]): Promise<{ code: number; out: string; err: string }> {
  return new Promise((resolve) => {
    execFile(process.execPath, [TROUPE, ...words, '--data', data], (error, out, err) => {
      resolve({ code: error ? Number(error.code ?? 1) : 0, out, err });
    });
  });
}

async function deleteStream(folder: string, stream: string): Promise<void> {
  const server = await startNatsServer({ dataDir: folder, durability: 'os' });
  const { url: servers, user, password } = server;
  const link = await connectToNats({ servers, user, password, name: 'test' });
  await (await jetstreamManager(link.connection)).streams.delete(stream);
  await link.close();
  await server.stop();
}

const haltedAtStart = () => {
  const host = stages.find(({ stage }) => stage === 'host') as Extract<Stage, { stage: 'host' }>;
  return Object.fromEntries(host.halted.map(({ partition, reason }) => [partition, reason]));
};
const counted = async (client: Client, key: string) => (await client.actor(counter, key).query('value', {})).value;
const add = (client: Client, key: string) => client.actor(counter, key).command('add', { amount: 1, note: '' });
const move = (client: Client) => client.actor(counter, FROM).command('move', { to: TO, amount: 1 });
const accept = async (partition: string) => {
  const { code, out, err } = await troupe('accept-loss', partition, '--yes', '--json');
  assert.equal(code, 0, err);
  const accepted = JSON.parse(out) as { generation: number; state: string };
  const isKnown = async () => {
    const token = (await cluster?.token(['operator'])) ?? '';
    const found = (await statusOf(cluster?.url ?? '', token)).find((each) => each.partition === partition);
    return found?.state === 'live' && found.generation === accepted.generation;
  };
  await until('the edge knows', isKnown, 20_000);
  return accepted;
};

test('a deleted stream', { timeout: 120_000 }, async () => {
  let running = await start();
  const token = await running.token(['user', 'operator']);
  const client = clientOf(running.url, token, 30_000);
  clients.push(client);
  for (let i = 0; i < 20; i++) await add(client, FROM);
  for (let i = 0; i < 5; i++) await move(client);
  await until('the sends', async () => (await counted(client, TO)) === 5, 20_000);
  await running.stop();
  cpSync(running.folder.nats, copy, { recursive: true });

  // What is sent now is in the log of main-1 and in no checkpoint of it.
  running = await start(3_600_000);
  for (let i = 0; i < 5; i++) await move(client);
  await until('the sends', async () => (await counted(client, TO)) === 10, 20_000);
  await crash(running);
  await deleteStream(running.folder.nats, 'P_main_1_g1');

  running = await start();
  const steady = new SteadyClient(clientOf(running.url, token), [
    keyIn('main-0', PARTITIONS),
    keyIn('main-2', PARTITIONS),
  ]);
  clients.push(steady);
  assert.deepEqual(Object.keys(haltedAtStart()), ['main-1']);
  assert.match(
    haltedAtStart()['main-1'] ?? '',
    /^log_loss: the checkpoint holds messages up to \d+, the log ends at 0/,
  );
  await assert.rejects(add(client, TO), { code: 'partition_halted' });
  await assert.rejects(counted(client, TO), { code: 'partition_halted' });
  const { status, text } = await readiness(running.operationsUrl);
  assert.equal(status, 200, 'the other partitions want traffic');
  assert.match(text, /^ready\nmain-1 is halted: log_loss: /);
  const told = await troupe('status');
  assert.match(told.out, /main-1 is HALTED: log_loss: [\s\S]*troupe accept-loss main-1/);
  await steady.goesOn();

  assert.deepEqual(await accept('main-1').then(({ generation, state }) => [generation, state]), [2, 'live']);
  assert.deepEqual(await add(client, TO), { value: 6 }, 'the checkpoint had five');
  await move(client);
  await until('a send after the loss', async () => (await counted(client, TO)) === 7, 20_000);
  await steady.goesOn();
  assert.equal((await readiness(running.operationsUrl)).text, 'ready\n');
  await steady.finish();
  await running.stop();
});

test('a store brought back from an older copy', { timeout: 120_000 }, async () => {
  rmSync(join(data, 'nats'), { recursive: true });
  cpSync(copy, join(data, 'nats'), { recursive: true });
  const running = await start();
  const token = await running.token(['user', 'operator']);
  const client = clientOf(running.url, token, 30_000);
  clients.push(client);
  const halted = haltedAtStart();
  assert.deepEqual(Object.keys(halted).sort(), ['exchange-0', 'main-0', 'main-1', 'main-2']);
  for (const reason of Object.values(halted)) assert.match(reason, /^log_loss: /);
  const before = 20 - 5 - 5 - 1;
  assert.equal((await accept('main-0')).generation, 2);
  // The copy knows nothing of main-1's second generation: its numbers and ids must not be given out again.
  assert.equal((await accept('main-1')).generation, 3);
  assert.equal(await counted(client, FROM), before);
  assert.equal(await counted(client, TO), 7);
  assert.deepEqual(await add(client, FROM), { value: before + 1 });
  await move(client);
  await until('the send', async () => (await counted(client, TO)) === 8, 20_000);
  await assert.rejects(add(client, keyIn('main-2', PARTITIONS)), { code: 'partition_halted' });
});
