import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { shapeOf } from '../../protocol/shape.ts';
import { adder, greeted, randomOf, startCluster, TestClient, type TestCluster, TestHost, until } from './test-edge.ts';

describe('commands', () => {
  let cluster: TestCluster;
  before(async () => {
    cluster = await startCluster({ commandsPerSecond: 1_000_000 });
  });
  after(() => cluster.stop());

  test('a command is folded and answered', async () => {
    const client = await greeted(cluster);
    client.send([2, 1, 1, 'adder:a', 'add', [5, 'five']], [2, 2, 1, 'adder:a', 'add', [7, 'seven']]);
    assert.deepEqual(await client.find(2, 1), [2, 1, [5]]);
    assert.deepEqual(await client.find(2, 2), [2, 2, [12]]);
    client.end();
  });

  test('a binary command carries its layout in a bin', async () => {
    const client = await greeted(cluster);
    const body = Buffer.from(shapeOf(adder.commands.exact.fields, { binary: true }).encode({ amount: 300, code: 'x' }));
    client.send([2, 1, 1, 'adder:exact', 'exact', body], [2, 2, 1, 'adder:exact', 'exact', [300, 'x']]);
    assert.deepEqual(await client.find(2, 1), [2, 1, [300]]);
    assert.equal((await client.find(5, 2))[2], 'invalid_field');
    client.end();
  });

  test('what is wrong with a command is answered by name, and the connection goes on', async () => {
    const client = await greeted(cluster);
    const cases: [string, unknown[]][] = [
      ['unknown_kind', ['nobody:a', 'add', [1, '']]],
      ['invalid_reference', ['adder', 'add', [1, '']]],
      ['invalid_reference', ['adder:', 'add', [1, '']]],
      ['invalid_reference', [`adder:${'k'.repeat(129)}`, 'add', [1, '']]],
      ['invalid_reference', ['adder:\u0001', 'add', [1, '']]],
      ['unknown_command', ['adder:a', 'subtract', []]],
      ['forbidden', ['adder:a', 'rule', []]],
      ['invalid_field', ['adder:a', 'add', ['1', '']]],
      ['invalid_field', ['adder:a', 'add', [1]]],
      ['invalid_field', ['adder:a', 'add', { amount: 1 }]],
      ['invalid_field', ['adder:a', 'add', [1_000_001, '']]],
      ['never', ['adder:a', 'refuse', []]],
    ];
    for (const [index, [name, [ref, command, body]]] of cases.entries()) {
      const number = index + 1;
      client.send([2, number, number, ref, command, body]);
      assert.equal((await client.find(5, number))[2], name, `case ${index}`);
    }
    client.send([2, 100, 100, 'adder:still', 'add', [1, '']]);
    assert.deepEqual(await client.find(2, 100), [2, 100, [1]]);
    client.end();
  });

  test('a wrong number or window is refused', async () => {
    const client = await greeted(cluster);
    client.send([2, 300, 1, 'adder:w', 'add', [1, '']]);
    assert.equal((await client.find(5, 300))[2], 'too_many_in_flight');
    client.send([2, 10, 10, 'adder:w', 'add', [1, '']]);
    await client.find(2, 10);
    client.send([2, 9, 9, 'adder:w', 'add', [1, '']], [2, 11, 12, 'adder:w', 'add', [1, '']]);
    assert.equal((await client.find(5, 9))[2], 'sequence_passed');
    assert.equal((await client.find(5, 11))[2], 'bad_request');
    client.end();
  });

  test('a repeated number is executed once, also on another connection of the session', async () => {
    const first = await greeted(cluster, 'twice');
    const { session } = (await first.find(1))[1] as { session: string };
    first.send([2, 1, 1, 'adder:twice', 'add', [5, '']]);
    await first.find(2, 1);
    first.send([2, 1, 1, 'adder:twice', 'add', [5, '']]);
    await until('second reply', () => first.messages.filter(([type]) => type === 2).length === 2);
    const second = await greeted(cluster, 'twice', { session });
    assert.equal(((await second.find(1))[1] as { resumed: boolean }).resumed, true);
    assert.equal((await first.close()).code, 3001);
    second.send([2, 1, 1, 'adder:twice', 'add', [5, '']], [2, 2, 2, 'adder:twice', 'add', [1, '']]);
    assert.deepEqual(await second.find(2, 1), [2, 1, [5]]);
    assert.deepEqual(await second.find(2, 2), [2, 2, [6]]);
    second.end();
  });

  test('64 messages in one are answered, 65 end the connection', async () => {
    const client = await greeted(cluster);
    const commands = Array.from({ length: 65 }, (_, i) => [2, i + 1, 1, 'adder:many', 'add', [1, '']]);
    client.send(...commands.slice(0, 64));
    await client.find(2, 64);
    client.send(...commands);
    assert.equal((await client.find(7, 0))[2], 'protocol_error');
    assert.equal((await client.close()).code, 3501);
  });

  test('random commands of many connections all get their own answers', async () => {
    const seed = (Date.now() ^ process.pid) >>> 0;
    const random = randomOf(seed);
    const clients = await Promise.all(Array.from({ length: 8 }, (_, i) => greeted(cluster, `many${i}`)));
    const sums = new Map<string, number>();
    for (let number = 1; number <= 200; number++) {
      for (const client of clients) {
        const ref = `adder:r${random(20)}`;
        const amount = random(1_000);
        sums.set(ref, (sums.get(ref) ?? 0) + amount);
        client.send([2, number, Math.max(1, number - 200), ref, 'add', [amount, 'n'.repeat(random(190))]]);
      }
    }
    for (const client of clients) {
      await until(`200 replies, seed ${seed}`, () => client.messages.filter(([type]) => type === 2).length === 200);
    }
    const actors = [...cluster.hosts.values()].flatMap(({ actors: all }) => [...all]);
    for (const [ref, sum] of sums)
      assert.equal(actors.find(([name]) => name === ref)?.[1].state.value, sum, `${ref}, seed ${seed}`);
    for (const client of clients) client.end();
  });
});

describe('commands and their partition', () => {
  let cluster: TestCluster;
  let host: TestHost;
  before(async () => {
    cluster = await startCluster({ maxUnansweredRecords: 20, resendAfterMs: 200 }, 1);
    host = cluster.hosts.get('main-0') as TestHost;
  });
  after(() => cluster.stop());

  test('a new owner is sent everything unanswered, and gives the first answers', async () => {
    const client = await greeted(cluster, 'owner');
    host.muted = true;
    const folded = host.folded;
    for (let number = 1; number <= 10; number++) client.send([2, number, 1, 'adder:o', 'add', [1, '']]);
    await until('folded', () => host.folded === folded + 10);
    assert.equal(
      client.messages.some(([type]) => type === 2),
      false,
    );
    host.muted = false;
    host.epoch++;
    host.heartbeat();
    for (let number = 1; number <= 10; number++) assert.deepEqual(await client.find(2, number), [2, number, [number]]);
    assert.equal(host.folded, folded + 10);
    assert.ok(host.repeated >= 10);
    assert.equal(await cluster.metric('troupe_edge_owners_seen_total'), 1);
    client.end();
  });

  test('answers lost on the bus are asked for again', async () => {
    const client = await greeted(cluster, 'lost');
    host.muted = true;
    const folded = host.folded;
    client.send([2, 1, 1, 'adder:lost', 'add', [3, '']]);
    await until('folded', () => host.folded === folded + 1);
    host.muted = false;
    assert.deepEqual(await client.find(2, 1), [2, 1, [3]]);
    assert.equal(host.folded, folded + 1);
    client.end();
  });

  test('unanswered commands, lag, fill and a halt push back by name', async () => {
    const client = await greeted(cluster, 'push');
    host.muted = true;
    for (let number = 1; number <= 21; number++) client.send([2, number, 1, 'adder:p', 'add', [1, '']]);
    const refused = await client.find(5, 21);
    assert.equal(refused[2], 'overloaded');
    assert.ok((refused[4] as number) > 0);
    host.muted = false;
    host.epoch++;
    host.heartbeat();
    await client.find(2, 20);
    const cases: [Partial<TestHost>, Partial<TestHost>, string][] = [
      [{ fillPermille: 900 }, { fillPermille: 100 }, 'log_full'],
      [{ lagMs: 60_000 }, { lagMs: 1 }, 'overloaded'],
      [{ outboxBytes: 1 << 30 }, { outboxBytes: 0 }, 'overloaded'],
      [{ state: 'halted' }, { state: 'live' }, 'partition_halted'],
    ];
    let number = 30;
    for (const [bad, good, name] of cases) {
      Object.assign(host, bad);
      host.heartbeat();
      await new Promise((resolve) => setImmediate(resolve));
      client.send([2, ++number, number, 'adder:p', 'add', [1, '']]);
      assert.equal((await client.find(5, number))[2], name);
      Object.assign(host, good);
      host.heartbeat();
      client.send([2, ++number, number, 'adder:p', 'add', [1, '']]);
      await client.find(2, number);
    }
    client.end();
  });

  test('while the log is away commands are taken, and answered when it is back', async () => {
    const client = await greeted(cluster, 'away');
    cluster.log.server.down();
    client.send([2, 1, 1, 'adder:away', 'add', [4, '']]);
    client.send([3, 1, 'adder:away', 'sum', []]);
    await client.find(3, 1);
    cluster.log.server.up();
    assert.deepEqual(await client.find(2, 1), [2, 1, [4]]);
    client.end();
  });

  test('a new generation is opened, and what was unanswered goes into it', async () => {
    const renewed = await startCluster({}, 1);
    const old = renewed.hosts.get('main-0') as TestHost;
    const client = await greeted(renewed, 'generation');
    old.muted = true;
    client.send([2, 1, 1, 'adder:g', 'add', [4, '']]);
    await until('folded', () => old.folded === 1);
    old.stop();
    const host = new TestHost(renewed.bus, 'main-0');
    host.generation = 2;
    host.epoch = 2;
    const log = await renewed.log.open('main-0', 2, { maxBytes: 1 << 28, replicas: 1 });
    const reader = log.read(
      1,
      ({ sequence, data }) => host.fold(sequence, data),
      (error) => assert.fail(error),
    );
    host.heartbeat();
    assert.deepEqual(await client.find(2, 1), [2, 1, [4]]);
    client.send([2, 2, 2, 'adder:g', 'add', [1, '']]);
    assert.deepEqual(await client.find(2, 2), [2, 2, [5]]);
    reader.stop();
    host.stop();
    client.end();
    await renewed.stop();
  });

  test('rates are limited by session', async () => {
    const slow = await startCluster({ commandsPerSecond: 5 }, 1);
    const client = await greeted(slow);
    for (let number = 1; number <= 8; number++) client.send([2, number, 1, 'adder:r', 'add', [1, '']]);
    const refused = await client.find(5, 8);
    assert.equal(refused[2], 'rate_limited');
    await client.find(2, 5);
    await until('refilled', async () => {
      client.send([2, 9, 9, 'adder:r', 'add', [1, '']]);
      return client.messages.some(([type, number]) => type === 2 && number === 9);
    });
    client.end();
    await slow.stop();
  });
});

test('a subprotocol that is not known is refused before the upgrade', async () => {
  const cluster = await startCluster({ origins: ['https://good.example'], maxConnectionsPerAddress: 2 });
  const wrong = await new TestClient(cluster.port, { protocol: 'other' }).open();
  assert.equal((await wrong.close()).code, 1006);
  const evil = await new TestClient(cluster.port, { headers: { origin: 'https://evil.example' } }).open();
  await evil.close();
  const good = await new TestClient(cluster.port, { headers: { origin: 'https://good.example' } }).open();
  const own = await new TestClient(cluster.port, { headers: { origin: `http://127.0.0.1:${cluster.port}` } }).open();
  assert.equal(good.closed ?? own.closed, undefined);
  const third = await new TestClient(cluster.port).open();
  await third.close();
  assert.equal(await cluster.metric('troupe_edge_refusals{error="too_many_connections"}'), 1);
  good.end();
  own.end();
  await cluster.stop();
});
