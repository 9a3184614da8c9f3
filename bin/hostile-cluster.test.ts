/**
 * One hostile act after another against one running cluster, with everything real: each ends in its named error, and a
 * client that does nothing wrong in the same partitions sees no error, no command lost and none done twice.
 */
import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, afterEach, before, describe, test } from 'node:test';
import { crc32 } from 'node:zlib';
import { TestClient, until } from '../cluster/edge/test-edge.ts';
import { issueToken, readOrMakeSecret } from '../cluster/edge/tokens.ts';
import { rogue } from '../cluster/host/test-kinds.ts';
import type { NatsLink } from '../cluster/log/nats-connection.ts';
import type { Client } from '../protocol/client/client.ts';
import { encodeFrame, FRAME_COMMANDS } from '../protocol/frame.ts';
import { type RunningCluster, type Stage, startCluster } from './embedded.ts';
import {
  clientOf,
  hostOperationsOf,
  keyIn,
  killAndWait,
  metricOf,
  natsOf,
  readiness,
  SteadyClient,
} from './test-cluster.ts';

const LIMIT = 16 * 1024;
const PARTITIONS = 2;
const NATS_KILLS = 4;
/** Two actors of one placement key, and one elsewhere. */
const HERE = keyIn('main-0', PARTITIONS, 'here');
const BESIDE = `${HERE}/b`;
const ELSEWHERE = keyIn('main-1', PARTITIONS, 'there');

describe('a cluster among hostile clients', { timeout: 120_000 }, () => {
  const folder = mkdtempSync(join(tmpdir(), 'troupe-hostile-'));
  const stages: Stage[] = [];
  let cluster: RunningCluster;
  let steady: SteadyClient;
  let client: Client;
  let link: NatsLink;
  let token: string;

  before(async () => {
    const sizes = { mainPartitions: PARTITIONS, exchangePartitions: 1 };
    const limits = { maxPayloadBytes: LIMIT, commandsPerSecond: 3_000, checkpointMs: 500, checkpointCommands: 500 };
    cluster = await startCluster(
      { data: folder, port: 0, demo: false, traps: true, ...sizes, ...limits },
      {
        onStage: (stage) => stages.push(stage),
        testKinds: [new URL('../cluster/host/test-kinds.js', import.meta.url).href],
      },
    );
    token = await cluster.token(['user', 'operator'], 'hostile');
    client = clientOf(cluster.url, token);
    const keys = [keyIn('main-0', PARTITIONS), keyIn('main-1', PARTITIONS)];
    steady = new SteadyClient(clientOf(cluster.url, await cluster.token(['user'], 'steady')), keys);
    link = await natsOf(cluster, readFileSync(join(cluster.folder.nats, 'nats-password'), 'utf8').trim());
    await steady.goesOn();
  });

  /** Whatever happened: the others go on, and traffic is welcome. */
  afterEach(async () => {
    await steady.goesOn();
    await until('/readyz', async () => (await readiness(cluster.operationsUrl)).text === 'ready\n');
  });

  after(async () => {
    client?.close();
    steady?.close();
    await link?.close();
    await cluster?.stop();
    rmSync(folder, { recursive: true, force: true });
  });

  const actor = (key: string) => client.actor(rogue, key);
  const metric = (name: string) => metricOf(cluster.operationsUrl, name);
  const skips = () => metricOf(hostOperationsOf(stages), 'troupe_host_skips_total');
  const greeted = async (bearer = token) => {
    const socket = await new TestClient(Number(new URL(cluster.url).port)).open();
    socket.send([1, { v: 1, token: bearer }]);
    return socket;
  };
  const welcomed = async () => {
    const socket = await greeted();
    await socket.find(1);
    return socket;
  };
  const inspect = async (key: string) => {
    const headers = { authorization: `Bearer ${token}` };
    const response = await fetch(`${cluster.url}/v1/ops/inspect/rogue/${encodeURIComponent(key)}`, { headers });
    return (await response.json()) as { state: unknown; hash: string; epoch: number };
  };

  test('handlers that throw, refuse too late, read the clock or answer nonsense', async () => {
    await actor(HERE).command('add', { amount: 5 });
    const before = await skips();
    const names = ['changeThenThrow', 'changeThenRefuse', 'readClock', 'wrongReply'] as const;
    for (const name of names) await assert.rejects(actor(HERE).command(name, {}), { code: 'internal' }, name);
    assert.equal(await actor(HERE).query('value', {}), 5);
    assert.equal(await skips(), before + names.length);
  });

  test('a handler that throws inside call', async () => {
    await actor(BESIDE).command('add', { amount: 7 });
    await assert.rejects(actor(HERE).command('callThrow', { to: BESIDE }), { code: 'internal' });
    assert.deepEqual([await actor(HERE).query('value', {}), await actor(BESIDE).query('value', {})], [5, 7]);
    assert.deepEqual(await actor(HERE).command('callAdd', { to: BESIDE, amount: 1 }), { value: 8 });
  });

  test('a handler that throws in a timer', async () => {
    const before = await skips();
    await actor(HERE).command('throwLater', { delayMs: 1 });
    await until('the skip', async () => (await skips()) === before + 1, 20_000);
    assert.deepEqual(await actor(HERE).command('add', { amount: 1 }), { value: 7 });
  });

  test('a handler that throws in the receiver of a send', async () => {
    await actor(ELSEWHERE).command('add', { amount: 3 });
    const before = await skips();
    await actor(HERE).command('sendThrow', { to: ELSEWHERE });
    await until('the skip', async () => (await skips()) === before + 1, 20_000);
    assert.equal(await actor(ELSEWHERE).query('value', {}), 3);
  });

  test('after kill -9 and recovery everything is as it was', async () => {
    const keys = [HERE, BESIDE, ELSEWHERE];
    const live = await Promise.all(keys.map(inspect));
    await killAndWait(cluster, 'host');
    for (const [i, key] of keys.entries()) {
      await until('a new owner', async () => (await inspect(key)).epoch > (live[i]?.epoch ?? 0), 20_000);
      const { state, hash } = await inspect(key);
      assert.deepEqual({ state, hash }, { state: live[i]?.state, hash: live[i]?.hash });
    }
    assert.deepEqual(await actor(HERE).command('add', { amount: 1 }), { value: 8 });
  });

  test('malformed frames in the log, as a broken edge would write them', async () => {
    const before = await metricOf(hostOperationsOf(stages), 'troupe_host_malformed_frames_total');
    const identity = { incarnation: 1, frameNumber: 1, generation: 1 };
    const nonsense = encodeFrame(FRAME_COMMANDS, identity, [new Uint8Array(60).fill(7)], crc32);
    const damaged = encodeFrame(FRAME_COMMANDS, { ...identity, frameNumber: 2 }, [new Uint8Array(60)], crc32);
    damaged[60] = 1; // The checksum is not of this.
    const frames = [new Uint8Array(0), Buffer.from('nonsense'), Buffer.alloc(100_000, 0xff), damaged, nonsense];
    for (const frame of frames) link.connection.publish('p.main-0.cmd.e9', frame);
    const isCounted = async () =>
      (await metricOf(hostOperationsOf(stages), 'troupe_host_malformed_frames_total')) === before + frames.length;
    await until('all counted', isCounted, 20_000);
  });

  test('an oversized payload', async () => {
    const socket = await welcomed();
    const oversized = await metric('troupe_edge_oversized_total');
    socket.send([2, 1, 1, 'counter:o', 'add', [1, 'n'.repeat(LIMIT)]], [2, 2, 1, 'counter:o', 'add', [1, '']]);
    assert.equal((await socket.find(5, 1))[2], 'payload_too_large');
    await socket.find(2, 2);
    socket.send([2, 3, 3, 'counter:o', 'add', [1, 'n'.repeat(2 * LIMIT)]]);
    assert.equal((await socket.close()).code, 1006);
    assert.equal(await metric('troupe_edge_oversized_total'), oversized + 1);
    const post = (note: string) =>
      fetch(`${cluster.url}/v1/counter/o/add`, {
        method: 'POST',
        headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json' },
        body: JSON.stringify({ amount: 1, note }),
      });
    const response = await post('n'.repeat(256 * 1024));
    assert.equal(response.status, 413);
    assert.equal(((await response.json()) as { error: { code: string } }).error.code, 'payload_too_large');
    assert.equal((await post('')).status, 200);
  });

  test('deep nesting, wrong types, unknown things', async () => {
    const socket = await welcomed();
    const deep = JSON.parse(`${'['.repeat(40)}${']'.repeat(40)}`);
    const cases: [message: unknown[], type: number, name: string][] = [
      [[4, 1, 'counter:a', 'value', deep], 7, 'too_deep'],
      [[2, 1, 1, 'counter:a', 'add', [deep, '']], 5, 'invalid_field'],
      [[2, 2, 1, 'counter:a', 'add', ['1', '']], 5, 'invalid_field'],
      [[2, 3, 1, 'counter:a', 'add', [1]], 5, 'invalid_field'],
      [[2, 4, 1, 'counter:a', 'add', 1], 5, 'invalid_field'],
      [[2, 5, 1, 'counter:a', 'nothing', []], 5, 'unknown_command'],
      [[2, 6, 1, 'nobody:a', 'add', []], 5, 'unknown_kind'],
      [[2, 7, 1, 'counter', 'add', []], 5, 'invalid_reference'],
      [[2, 8, 1, 'counter:a', 'due', [1]], 5, 'forbidden'],
    ];
    for (const [message, type, name] of cases) {
      socket.send(message);
      assert.equal((await socket.find(type, message[1] as number))[2], name, JSON.stringify(message).slice(0, 80));
    }
    socket.end();
    const broken = await welcomed();
    broken.socket.send(Buffer.from('c1c1c1', 'hex'));
    assert.equal((await broken.find(7, 0))[2], 'malformed_message');
    assert.equal((await broken.close()).code, 3501);
  });

  test('an expired token', async () => {
    const secret = readOrMakeSecret(cluster.folder.secretFile);
    const expired = await issueToken(secret, { principal: 'late', roles: ['user'], lifeMs: -3_600_000 });
    const socket = await greeted(expired);
    assert.equal((await socket.find(7, 0))[2], 'token_expired');
    assert.equal((await socket.close()).code, 3005);
    const headers = { authorization: `Bearer ${expired}` };
    assert.equal((await fetch(`${cluster.url}/v1/counter/a/value`, { headers })).status, 401);
  });

  test('a flood', async () => {
    const refusals = 'troupe_edge_refusals{error="rate_limited"}';
    const before = await metric(refusals);
    const socket = await welcomed();
    for (let number = 1; socket.closed === undefined && number < 200_000; number += 64) {
      socket.send(...Array.from({ length: 64 }, (_, i) => [2, number + i, number, 'counter:f', 'add', [1, '']]));
      if (number % 640 === 1) await new Promise((resolve) => setImmediate(resolve));
    }
    assert.ok(socket.messages.some(([type, , name]) => type === 5 && name === 'rate_limited'));
    assert.ok([3013, 3008].includes((await socket.close()).code));
    assert.ok((await metric(refusals)) > before);
  });

  test('a reader that never reads', async () => {
    const closes = 'troupe_edge_closes{code="3008"}';
    const before = await metric(closes);
    const socket = await welcomed();
    socket.socket.pause();
    for (let i = 1; (await metric(closes)) === before; i += 50) {
      assert.ok(i < 20_000, 'it is closed at last');
      socket.send(...Array.from({ length: 50 }, (_, j) => [3, i + j, `rogue:${HERE}`, 'long', [50_000]]));
    }
    socket.end();
  });

  test('nats-server killed under load', async () => {
    for (let kill = 0; kill < NATS_KILLS; kill++) {
      await killAndWait(cluster, 'nats');
      await steady.goesOn(5);
    }
  });

  test('the edge killed, and the host and nats-server at once', async () => {
    await killAndWait(cluster, 'edge');
    await steady.goesOn(5);
    await Promise.all([killAndWait(cluster, 'host'), killAndWait(cluster, 'nats')]);
  });

  test('at the end the counters hold what was acknowledged, and nothing of it twice', async (t) => {
    await steady.finish();
    t.diagnostic(`${steady.total} commands of the steady client`);
  });
});
