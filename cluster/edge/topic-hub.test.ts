import assert from 'node:assert/strict';
import { after, before, beforeEach, describe, test } from 'node:test';
import { EventBatchWriter, encodeHeads } from '../bus/messages.ts';
import { headsOf, topicSubject } from '../bus/subjects.ts';
import {
  greeted,
  randomOf,
  startCluster,
  type TestClient,
  type TestCluster,
  type TestHost,
  until,
} from './test-edge.ts';

type Answer = { topicId: number; generation: number; offset: number; recovered: boolean; snapshot?: unknown };

/** What a client was given of a topic: [offset, body], from events and conflated messages. */
const given = (client: TestClient, type: number, topicId: number) =>
  client.messages
    .filter(([its, id]) => its === type && id === topicId)
    .map(([, , offset, body]) => [offset, body] as [number, unknown]);

const dense = (from: number, to: number) => Array.from({ length: to - from + 1 }, (_, i) => from + i);

describe('topics', () => {
  let cluster: TestCluster;
  let host: TestHost;
  let ref = 'adder:t0';
  let count = 0;
  let number = 0;
  let writer: TestClient;

  before(async () => {
    cluster = await startCluster({ maxSubscriptions: 3, maxRecoveredEvents: 400, maxQueuedBytes: 256 * 1024 }, 1);
    host = cluster.hosts.get('main-0') as TestHost;
    writer = await greeted(cluster, 'writer');
  });
  beforeEach(() => {
    ref = `adder:t${++count}`;
  });
  after(async () => {
    writer.end();
    await cluster.stop();
  });

  const add = async (times = 1, note = '') => {
    for (let i = 0; i < times; i++) {
      number++;
      writer.send([2, number, number, ref, 'add', [1, note]]);
      if (i === times - 1 || i % 200 === 199) await writer.find(2, number);
    }
  };

  const subscribe = async (client: TestClient, topic: string, options: object = {}, request = 1): Promise<Answer> => {
    client.send([4, request, ref, topic, options]);
    return (await client.find(3, request))[2] as Answer;
  };

  test('a lossy topic begins with its snapshot, and goes on without a hole', async () => {
    await add(3);
    const client = await greeted(cluster);
    const { topicId, ...rest } = await subscribe(client, 'sum');
    assert.deepEqual(rest, { generation: 1, offset: 3, recovered: false, snapshot: [3, 3] });
    await add(2);
    await until('two events', () => given(client, 4, topicId).length === 2);
    assert.deepEqual(given(client, 4, topicId), [
      [4, [4, 4]],
      [5, [5, 5]],
    ]);
    client.end();
  });

  test('a lossless topic begins at its head, or after the offset that was seen', async () => {
    await add(4, 'old');
    const client = await greeted(cluster);
    const now = await subscribe(client, 'notes');
    assert.deepEqual(now, { topicId: now.topicId, generation: 1, offset: 4, recovered: false });
    const behind = await greeted(cluster);
    const back = await subscribe(behind, 'notes', { from: 1, generation: 1 });
    assert.deepEqual([back.offset, back.recovered, back.topicId], [1, true, now.topicId]);
    await add(1, 'new');
    await until('the rest', () => given(behind, 4, back.topicId).length === 4);
    assert.deepEqual(given(behind, 4, back.topicId), [
      [2, [1, 'old']],
      [3, [1, 'old']],
      [4, [1, 'old']],
      [5, [1, 'new']],
    ]);
    assert.deepEqual(given(client, 4, now.topicId), [[5, [1, 'new']]]);
    client.end();
    behind.end();
  });

  test('no partial recovery: too much missed, another generation, or an offset of the future', async () => {
    await add(402);
    for (const options of [{ from: 1 }, { from: 401, generation: 9 }, { from: 403 }]) {
      const client = await greeted(cluster);
      const { offset, recovered } = await subscribe(client, 'notes', options);
      assert.deepEqual([offset, recovered], [402, false]);
      client.end();
    }
  });

  test('events that the bus lost are fetched, in order', async () => {
    await add(1);
    const client = await greeted(cluster);
    const { topicId: notes } = await subscribe(client, 'notes');
    const { topicId: sum } = await subscribe(client, 'sum', {}, 2);
    host.loseEvents = true;
    await add(5, 'lost');
    host.loseEvents = false;
    await add(2, 'seen');
    await until('all rows', () => given(client, 4, notes).length === 7);
    assert.deepEqual(
      given(client, 4, notes).map(([offset]) => offset),
      dense(2, 8),
    );
    await until('the newest state', () => given(client, 9, sum).length === 1 || given(client, 4, sum).length > 0);
    const [[offset, body] = []] = given(client, 9, sum);
    assert.ok((offset as number) >= 7);
    assert.deepEqual(body, [offset, offset]);
    client.end();
  });

  test('a lost tail is noticed by the heads', async () => {
    await add(1);
    const client = await greeted(cluster);
    const { topicId } = await subscribe(client, 'notes');
    host.loseEvents = true;
    await add(5, 'tail');
    host.loseEvents = false;
    assert.equal(given(client, 4, topicId).length, 0);
    host.heads();
    await until('the tail', () => given(client, 4, topicId).length === 5);
    await add(1);
    await until('what follows', () => given(client, 4, topicId).length === 6);
    assert.deepEqual(
      given(client, 4, topicId).map(([offset]) => offset),
      dense(2, 7),
    );
    client.end();
  });

  test('what was missed comes in pages', async () => {
    await add(390);
    const client = await greeted(cluster);
    const { topicId } = await subscribe(client, 'notes', { from: 0, generation: 1 });
    await until('what was there', () => given(client, 4, topicId).at(-1)?.[0] === 390);
    await add(10);
    await until('all', () => given(client, 4, topicId).at(-1)?.[0] === 400);
    assert.deepEqual(
      given(client, 4, topicId).map(([offset]) => offset),
      dense(1, 400),
    );
    client.end();
  });

  test('events that come while a page is on its way follow it, none twice', async () => {
    await add(3);
    const first = await greeted(cluster);
    await subscribe(first, 'notes');
    const client = await greeted(cluster);
    host.heldAnswers = [];
    client.send([4, 1, ref, 'notes', { from: 1 }]);
    await until('asked', () => host.heldAnswers?.length === 1);
    await add(4);
    host.releaseAnswers();
    const { topicId } = (await client.find(3, 1))[2] as Answer;
    await add(1);
    await until('all', () => given(client, 4, topicId).at(-1)?.[0] === 8);
    assert.deepEqual(
      given(client, 4, topicId).map(([offset]) => offset),
      dense(2, 8),
    );
    first.end();
    client.end();
  });

  test('events that come while a snapshot is on its way follow it, and a stale snapshot is fetched again', async () => {
    await add(3);
    const client = await greeted(cluster);
    host.heldAnswers = [];
    client.send([4, 1, ref, 'sum', {}]);
    await until('asked', () => host.heldAnswers?.length === 1);
    await add(2);
    host.releaseAnswers();
    const { topicId, offset } = (await client.find(3, 1))[2] as Answer;
    assert.equal(offset, 3);
    await until('what came meanwhile', () => given(client, 4, topicId).length === 2);

    const second = await greeted(cluster);
    await add(1);
    host.heldAnswers = [];
    second.send([4, 1, ref, 'sum', {}]);
    await until('asked again', () => host.heldAnswers?.length === 1);
    await add(1);
    host.loseEvents = true;
    await add(1);
    host.loseEvents = false;
    await add(1); // A gap: what was held before it does not help, and the snapshot on its way is too old.
    host.releaseAnswers();
    const answer = (await second.find(3, 1))[2] as Answer;
    await add(1);
    await until('the newest', () => given(second, 4, topicId).at(-1)?.[0] === 10);
    assert.deepEqual(
      given(second, 4, topicId).map(([its]) => its),
      dense(answer.offset + 1, 10),
    );
    client.end();
    second.end();
  });

  test('a snapshot newer than the events: they are not given again when they come', async () => {
    await add(1);
    const early = await greeted(cluster);
    const { topicId } = await subscribe(early, 'sum');
    host.loseEvents = true;
    await add(2);
    host.loseEvents = false;
    const late = await greeted(cluster);
    assert.equal((await subscribe(late, 'sum')).offset, 3);
    const batch = new EventBatchWriter();
    batch.begin(1, 1, 2);
    batch.append(Uint8Array.of(0x92, 2, 2));
    batch.append(Uint8Array.of(0x92, 3, 3));
    cluster.bus.publish(topicSubject(ref, 'sum'), batch.take());
    await add(1);
    await until('both', () => given(early, 4, topicId).length === 3 && given(late, 4, topicId).length > 0);
    assert.deepEqual(given(late, 4, topicId), [[4, [4, 4]]]);
    early.end();
    late.end();
  });

  test('repeated and older batches change nothing', async () => {
    await add(3);
    const client = await greeted(cluster);
    const { topicId } = await subscribe(client, 'sum');
    const batch = new EventBatchWriter();
    for (const [generation, first] of [
      [1, 2],
      [1, 3],
      [0, 4],
    ] as const) {
      batch.begin(generation, 0, first);
      batch.append(Uint8Array.of(0x92, 9, 9));
      cluster.bus.publish(topicSubject(ref, 'sum'), batch.take());
    }
    await add(1);
    await until('the event', () => given(client, 4, topicId).length > 0);
    assert.deepEqual(given(client, 4, topicId), [[4, [4, 4]]]);
    client.end();
  });

  test('a new generation ends a subscription by name', async () => {
    await add(1);
    const client = await greeted(cluster);
    const { topicId } = await subscribe(client, 'notes');
    cluster.bus.publish(headsOf('main-0'), encodeHeads({ epoch: 9, generation: 2, topics: [[ref, 'notes', 0]] }));
    assert.deepEqual((await client.find(10, topicId)).slice(0, 3), [10, topicId, 'moving']);
    client.end();
  });

  test('a connection that follows twice loses nothing and gets nothing twice', async () => {
    await add(2);
    const client = await greeted(cluster);
    const { topicId } = await subscribe(client, 'notes');
    await add(2);
    await subscribe(client, 'notes', {}, 2);
    await add(2);
    await subscribe(client, 'notes', { from: 0 }, 3);
    await until(
      'from the beginning',
      () => given(client, 4, topicId).at(-1)?.[0] === 6 && given(client, 4, topicId).length >= 10,
    );
    const offsets = given(client, 4, topicId).map(([offset]) => offset);
    assert.deepEqual(offsets, [...dense(3, 6), ...dense(1, 6)]);
    client.end();
  });

  test('after unsubscribe nothing comes, and the bus subscription ends with the last', async () => {
    await add(1);
    const client = await greeted(cluster);
    const { topicId } = await subscribe(client, 'notes');
    client.send([5, 2, ref, 'notes']);
    await client.find(3, 2);
    await add(1);
    assert.deepEqual(given(client, 4, topicId), []);
    await until('no topic is left', async () => (await cluster.metric('troupe_edge_topics')) === 0);
    client.end();
  });

  test('subscriptions have roles and a limit', async () => {
    const client = await greeted(cluster);
    client.send([4, 1, ref, 'secrets', {}], [4, 2, ref, 'nothing', {}], [4, 3, ref, 'sum', { from: -1 }]);
    assert.equal((await client.find(7, 1))[2], 'forbidden');
    assert.equal((await client.find(7, 2))[2], 'unknown_topic');
    assert.equal((await client.find(7, 3))[2], 'bad_request');
    for (let i = 0; i < 4; i++) client.send([4, 10 + i, `adder:limit${i}`, 'sum', {}]);
    assert.equal((await client.find(7, 13))[2], 'too_many_subscriptions');
    client.end();
  });

  test('a rate turns events into the newest state', async () => {
    await add(1);
    const client = await greeted(cluster);
    const { topicId } = await subscribe(client, 'sum', { rate: 5 });
    await add(300);
    await until('the newest', () => given(client, 9, topicId).at(-1)?.[0] === 301);
    assert.ok(given(client, 9, topicId).length < 20);
    assert.equal(given(client, 4, topicId).length, 0);
    client.end();
  });

  test('followers come and go while events are published: each sees a dense stream', async () => {
    const seed = (Date.now() ^ process.pid) >>> 0;
    const random = randomOf(seed);
    await add(1);
    const followers: { client: TestClient; answer: Answer }[] = [];
    const joining: Promise<unknown>[] = [];
    for (let i = 0; i < 120; i++) {
      host.loseEvents = random(6) === 0;
      await add(1 + random(3));
      if (i % 6 === 0) {
        const from = random(2) ? undefined : random(2);
        joining.push(
          greeted(cluster, `f${i}`).then(async (client) =>
            followers.push({ client, answer: await subscribe(client, 'notes', { from: from ?? null }) }),
          ),
        );
      }
    }
    host.loseEvents = false;
    await add(1);
    await Promise.all(joining);
    const head = host.actor(ref).notes.length;
    for (const { client, answer } of followers) {
      if (answer.offset === head) continue;
      await until(`all up to ${head}, seed ${seed}`, () => given(client, 4, answer.topicId).at(-1)?.[0] === head);
      assert.deepEqual(
        given(client, 4, answer.topicId).map(([offset]) => offset),
        dense(answer.offset + 1, head),
        `seed ${seed}`,
      );
    }
    for (const { client } of followers) client.end();
  });

  test('a reader that never reads: lossy topics are conflated, others are not disturbed', async () => {
    const healthy = await greeted(cluster);
    const slow = await greeted(cluster);
    const { topicId } = await subscribe(healthy, 'sum');
    await subscribe(slow, 'sum');
    slow.socket.pause();
    const before = await cluster.metric('troupe_edge_conflated_total');
    const batch = new EventBatchWriter();
    const wide = Buffer.concat([Buffer.from([0xc5, 0x40, 0]), Buffer.alloc(0x4000)]);
    const actor = host.actor(ref);
    for (let i = 0; i < 1_500; i++) {
      batch.begin(1, 1, ++actor.sumOffset);
      batch.append(wide);
      cluster.bus.publish(topicSubject(ref, 'sum'), batch.take());
      if (i % 20 === 0) await new Promise((resolve) => setImmediate(resolve));
    }
    await until('the healthy one has all', () => given(healthy, 4, topicId).at(-1)?.[0] === 1_500, 20_000);
    assert.equal(slow.closed, undefined);
    slow.socket.resume();
    await until('the slow one has the newest', () => given(slow, 9, topicId).at(-1)?.[0] === 1_500, 20_000);
    const offsets = given(slow, 4, topicId).map(([offset]) => offset);
    assert.deepEqual(offsets, dense(1, offsets.length));
    assert.ok((await cluster.metric('troupe_edge_conflated_total')) > before);
    healthy.end();
    slow.end();
  });

  test('a reader that never reads: a lossless topic closes it with a code to come back', async () => {
    const slow = await greeted(cluster);
    const { topicId, offset } = await subscribe(slow, 'notes');
    slow.socket.pause();
    const batch = new EventBatchWriter();
    const wide = Buffer.concat([Buffer.from([0xc5, 0x40, 0]), Buffer.alloc(0x4000)]);
    for (let i = 1; i <= 1_500; i++) {
      batch.begin(1, 1, offset + i);
      batch.append(wide);
      cluster.bus.publish(topicSubject(ref, 'notes'), batch.take());
      if (i % 20 === 0) await new Promise((resolve) => setImmediate(resolve));
    }
    await until('closed by the edge', async () => (await cluster.metric('troupe_edge_closes{code="3008"}')) === 1);
    slow.socket.resume();
    await until('gone', () => slow.closed !== undefined, 20_000);
    const offsets = given(slow, 4, topicId).map(([its]) => its);
    assert.deepEqual(offsets, dense(offset + 1, offset + offsets.length));
    assert.ok([3008, 1006].includes(slow.closed?.code as number));
  });
});
