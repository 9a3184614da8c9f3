/**
 * A log of 1 MiB, filled before the first checkpoint: edges refuse as `log_full`, what was acknowledged stays, checkpoints make
 * room, and work goes on without anybody's help. Another partition notices nothing.
 */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { counter } from '../actors/sample/counter.ts';
import { TestClient, until } from '../cluster/edge/test-edge.ts';
import { type RunningCluster, startCluster } from './embedded.ts';
import { clientOf, keyIn, metricOf, SteadyClient, statusOf } from './test-cluster.ts';

const PARTITIONS = 2;
const WRITERS = 200;
const COMMANDS_PER_WRITER = 60; // Together 1.8 MB of records: the log is filled twice.
const NOTE = 'n'.repeat(96);

const folder = mkdtempSync(join(tmpdir(), 'troupe-full-log-'));
let cluster: RunningCluster | undefined;
const clients: { close(): void }[] = [];
after(async () => {
  for (const client of clients) client.close();
  await cluster?.stop();
  rmSync(folder, { recursive: true, force: true });
});

test('a full log refuses by name, loses nothing and empties itself', { timeout: 120_000 }, async (t) => {
  const limits = { logBytes: 1024 ** 2, checkpointMs: 2_000, checkpointCommands: 10_000_000, logMarginMessages: 0 };
  cluster = await startCluster({
    data: folder,
    port: 0,
    demo: false,
    mainPartitions: PARTITIONS,
    exchangePartitions: 1,
    ...limits,
  });
  const token = await cluster.token(['user', 'operator']);
  const steady = new SteadyClient(clientOf(cluster.url, token), [keyIn('main-1', PARTITIONS)]);
  const client = clientOf(cluster.url, token, 90_000);
  clients.push(steady, client);
  const keys = Array.from({ length: WRITERS }, (_, i) => keyIn('main-0', PARTITIONS, `w${i}.`));

  /** Each reply must be one above the last: nothing lost, nothing twice. */
  const write = async (key: string) => {
    const actor = client.actor(counter, key);
    for (let expected = 1; expected <= COMMANDS_PER_WRITER; expected++) {
      assert.deepEqual(await actor.command('add', { amount: 1, note: NOTE }), { value: expected }, key);
    }
  };
  const written = Promise.all(keys.map(write));

  const raw = await new TestClient(Number(new URL(cluster.url).port)).open();
  raw.send([1, { v: 1, token }]);
  await raw.find(1);
  const isRefused = ([type, , name]: unknown[]) => type === 5 && name === 'log_full';
  const probe = async () => {
    const number = raw.messages.length;
    raw.send([2, number, number, `counter:${keyIn('main-0', PARTITIONS)}`, 'add', [1, '']]);
    await until('an answer', () => raw.messages.length > number, 30_000);
    return raw.messages.some(isRefused);
  };
  await until('log_full', probe, 30_000);
  t.diagnostic(`refused at ${edgeFill(await statusOf(cluster.url, token)) / 10} %`);
  raw.end();

  await written;
  assert.ok((await metricOf(cluster.operationsUrl, 'troupe_edge_refusals{error="log_full"}')) > 0);
  for (const key of keys) {
    assert.equal((await client.actor(counter, key).query('value', {})).value, COMMANDS_PER_WRITER, key);
  }
  await until('room', async () => Number(edgeFill(await statusOf(cluster?.url ?? '', token))) < 500, 20_000);
  await steady.goesOn();
  await steady.finish();
});

function edgeFill(partitions: readonly object[]): number {
  return (partitions.find((each) => (each as { partition: string }).partition === 'main-0') as { fillPermille: number })
    .fillPermille;
}
