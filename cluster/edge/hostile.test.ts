/** What hostile or broken clients send over real sockets: each ends in a named error, and a well-behaved client notices nothing. */
import assert from 'node:assert/strict';
import { connect, type Socket } from 'node:net';
import { after, afterEach, before, beforeEach, describe, test } from 'node:test';
import { MAX_MESSAGES, SUBPROTOCOL } from '../../protocol/message.ts';
import { pack } from '../../protocol/msgpack.ts';
import { greeted, randomOf, startCluster, TestClient, type TestCluster, until } from './test-edge.ts';

const LIMIT = 16 * 1024;

describe('hostile clients', () => {
  let cluster: TestCluster;
  let healthy: TestClient;
  let number = 0;

  before(async () => {
    cluster = await startCluster(
      {
        maxPayloadBytes: LIMIT,
        helloTimeoutMs: 300,
        clockToleranceMs: 0,
        commandsPerSecond: 2_000,
        maxQueuedBytes: 256 * 1024,
        stallTimeoutMs: 300,
      },
      1,
    );
  });
  beforeEach(async () => {
    healthy = await greeted(cluster, 'healthy');
  });
  /** Whatever happened: the other connection goes on. */
  afterEach(async () => {
    number++;
    healthy.send([2, number, number, 'adder:healthy', 'add', [1, '']]);
    assert.deepEqual(await healthy.find(2, number), [2, number, [number]]);
    healthy.end();
  });
  after(() => cluster.stop());

  test('nothing sent', async () => {
    const client = await new TestClient(cluster.port).open();
    assert.equal((await client.find(7, 0))[2], 'hello_timeout');
    assert.equal((await client.close()).code, 3502);
  });

  test('something before hello', async () => {
    const client = await new TestClient(cluster.port).open();
    client.send([2, 1, 1, 'adder:a', 'add', [1, '']]);
    assert.equal((await client.find(7, 0))[2], 'protocol_error');
    assert.equal((await client.close()).code, 3501);
  });

  test('a second hello', async () => {
    const client = await greeted(cluster);
    client.send([1, { v: 1, token: await cluster.token('u1') }]);
    assert.equal((await client.find(7, 0))[2], 'protocol_error');
    assert.equal((await client.close()).code, 3501);
  });

  test('bad tokens', async () => {
    const expired = await cluster.token('u1', ['user'], -10_000);
    const good = await cluster.token('u1');
    const cases: [unknown, string, number][] = [
      ['', 'unauthorized', 3500],
      ['a.b.c', 'unauthorized', 3500],
      [`${good.slice(0, -4)}AAAA`, 'unauthorized', 3500],
      [`${Buffer.from('{"alg":"none"}').toString('base64url')}.${good.split('.')[1]}.`, 'unauthorized', 3500],
      ['x'.repeat(9_000), 'unauthorized', 3500],
      [17, 'unauthorized', 3500],
      [expired, 'token_expired', 3005],
      [await cluster.token(''), 'unauthorized', 3500],
      [await cluster.token('p'.repeat(129)), 'unauthorized', 3500],
      [await cluster.token('a\u0000b'), 'unauthorized', 3500],
    ];
    for (const [token, name, code] of cases) {
      const client = await new TestClient(cluster.port).open();
      client.send([1, { v: 1, token }]);
      assert.equal((await client.find(7, 0))[2], name);
      assert.equal((await client.close()).code, code);
    }
  });

  test('a token that expires in mid-life', async () => {
    const client = await greeted(cluster, 'short', { lifeMs: 1_000 });
    assert.equal((await client.find(7, 0))[2], 'token_expired');
    assert.equal((await client.close()).code, 3005);
  });

  test('the role system in a token gives nothing', async () => {
    const client = await greeted(cluster, 'sneaky', { roles: ['system'] });
    client.send([2, 1, 1, 'adder:a', 'add', [1, '']]);
    assert.equal((await client.find(5, 1))[2], 'forbidden');
    client.end();
  });

  test('bytes that are no message', async () => {
    const wrong = [
      'c1',
      '90',
      '9100',
      '92',
      'dd7fffffff02',
      '9f',
      '81a161',
      'd9ff61',
      '9602',
      '9602c0c0c0c0c0',
      '96020101a3616263c1',
      'a0',
      '94ff01a0a0',
      'c7010000',
    ];
    for (const hex of wrong) {
      const client = await greeted(cluster);
      client.socket.send(Buffer.from(hex, 'hex'));
      const [, about, name] = await client.find(7);
      const isKnown = ['malformed_message', 'protocol_error', 'unknown_type'].includes(name as string);
      assert.ok(about === 0 && isKnown, `${hex}: ${name}`);
      if (name !== 'unknown_type') assert.equal((await client.close()).code, 3501);
      client.end();
    }
  });

  test('text in place of binary', async () => {
    const client = await greeted(cluster);
    client.socket.send('hello');
    assert.equal((await client.find(7, 0))[2], 'protocol_error');
    assert.equal((await client.close()).code, 3501);
  });

  test('an unknown type', async () => {
    const client = await greeted(cluster);
    client.send([99, 1, 2], [6]);
    assert.equal((await client.find(7, 0))[2], 'unknown_type');
    await client.find(6);
    client.end();
  });

  test('deep nesting', async () => {
    const client = await greeted(cluster);
    const deep = Buffer.concat([
      Buffer.from([0x96, 2, 1, 1]),
      pack('adder:a'),
      pack('add'),
      Buffer.alloc(8_000, 0x91),
      Buffer.from([1]),
    ]);
    client.socket.send(deep);
    assert.equal((await client.find(5, 1))[2], 'invalid_field');
    const hello = await new TestClient(cluster.port).open();
    hello.socket.send(Buffer.concat([Buffer.from([0x92, 1]), Buffer.alloc(8_000, 0x91), Buffer.from([1])]));
    assert.equal((await hello.find(7, 0))[2], 'too_deep');
    assert.equal((await hello.close()).code, 3501);
    client.send([4, 7, 'adder:a', 'sum', JSON.parse(`${'['.repeat(40)}${']'.repeat(40)}`)]);
    assert.equal((await client.find(7, 7))[2], 'too_deep');
    client.end();
  });

  test('prototype keys', async () => {
    const client = await new TestClient(cluster.port).open();
    client.socket.send(Buffer.from('920181a95f5f70726f746f5f5f01', 'hex'));
    assert.equal((await client.find(7, 0))[2], 'malformed_message');
  });

  test('unknown things are refused under the number of the request', async () => {
    const client = await greeted(cluster);
    const cases: [unknown[], string][] = [
      [[3, 1, 'nobody:a', 'sum', []], 'unknown_kind'],
      [[3, 2, 'adder:a', 'nothing', []], 'unknown_query'],
      [[3, 3, 'adder:a', '~snapshot', ['sum']], 'unknown_query'],
      [[3, 4, 'adder:a', 'repeat', [-1]], 'invalid_field'],
      [[3, 5, 'adder:a', 'repeat', 'x'], 'invalid_field'],
      [[3, 6, 'adder:a', 'sum', [], -3], 'bad_request'],
      [[3, 7, 17, 'sum', []], 'bad_request'],
      [[4, 8, 'adder:a', 'nothing', {}], 'unknown_topic'],
      [[4, 9, 'adder:a', 'sum', { rate: 0 }], 'bad_request'],
      [[5, 10, 'adder:a', 'nothing'], 'unknown_topic'],
      [[7, 11, 'no token'], 'unauthorized'],
      [[7, 12, await cluster.token('somebody else')], 'unauthorized'],
      [[3, 13, 'adder:a'], 'bad_request'],
    ];
    for (const [message, name] of cases) {
      client.send(message);
      assert.equal((await client.find(7, message[1] as number))[2], name, JSON.stringify(message));
    }
    client.end();
  });

  test('an oversized payload: to twice the limit an error, above it the end', async () => {
    const client = await greeted(cluster);
    client.send([2, 1, 1, 'adder:a', 'big', [Buffer.alloc(LIMIT - 200)]]);
    await client.find(2, 1);
    client.send([2, 2, 1, 'adder:a', 'big', [Buffer.alloc(LIMIT)]]);
    assert.equal((await client.find(5, 2))[2], 'payload_too_large');
    client.send([2, 3, 1, 'adder:a', 'add', [1, 'n'.repeat(2 * LIMIT - 100)]], [2, 4, 1, 'adder:a', 'add', [1, '']]);
    assert.equal((await client.find(5, 3))[2], 'payload_too_large');
    await client.find(2, 4);
    client.send([3, 5, 'adder:a', 'repeat', ['x'.repeat(LIMIT)]]);
    assert.equal((await client.find(7, 5))[2], 'payload_too_large');
    const before = await cluster.metric('troupe_edge_oversized_total');
    client.send([2, 5, 1, 'adder:a', 'big', [Buffer.alloc(2 * LIMIT)]]);
    assert.equal((await client.close()).code, 1006);
    assert.equal(await cluster.metric('troupe_edge_oversized_total'), before + 1);
  });

  test('a flood of commands', async () => {
    const client = await greeted(cluster, 'flood');
    let sent = 0;
    while (client.closed === undefined && sent < 3_000) {
      client.send(
        ...Array.from({ length: MAX_MESSAGES }, (_, i) => [
          2,
          sent * MAX_MESSAGES + i + 1,
          sent * MAX_MESSAGES + 1,
          'adder:flood',
          'add',
          [1, ''],
        ]),
      );
      if (sent++ % 10 === 0) await new Promise((resolve) => setImmediate(resolve));
    }
    assert.ok(client.messages.some(([type, , name]) => type === 5 && name === 'rate_limited'));
    assert.ok([3013, 3008].includes((await client.close()).code));
  });

  test('a flood of queries whose answers are never read', async () => {
    const client = await greeted(cluster, 'deaf');
    client.socket.pause();
    const before = await cluster.metric('troupe_edge_closes{code="3008"}');
    for (let i = 1; i < 5_000; i++) {
      client.send([3, i, 'adder:a', 'repeat', [1_000]]);
      if (i % 50 === 0) await new Promise((resolve) => setImmediate(resolve));
    }
    await until('slow_reader', async () => (await cluster.metric('troupe_edge_closes{code="3008"}')) === before + 1);
    client.end();
  });

  test('silence after the welcome', async () => {
    const quiet = await startCluster({ heartbeatMs: 100 }, 1);
    const client = await greeted(quiet);
    assert.equal((await client.find(7, 0))[2], 'heartbeat_missed');
    assert.equal((await client.close()).code, 3012);
    await quiet.stop();
  });

  test('one byte at a time', async () => {
    const socket = await rawWebsocket(cluster.port);
    const hello = pack([1, { v: 1, token: await cluster.token('slow') }]);
    const command = pack([2, 1, 1, 'adder:bytes', 'add', [3, '']]);
    const received: Buffer[] = [];
    socket.on('data', (data) => received.push(data));
    socket.setNoDelay(true);
    for (const byte of Buffer.concat([maskedFrame(hello), maskedFrame(command)])) {
      await new Promise<void>((resolve) => socket.write(Uint8Array.of(byte), () => resolve()));
    }
    await until('the reply', () => Buffer.concat(received).includes(Buffer.from([0x93, 2, 1, 0x91, 3])));
    socket.destroy();
  });

  test('fragments of one byte', async () => {
    const socket = await rawWebsocket(cluster.port);
    const received: Buffer[] = [];
    socket.on('data', (data) => received.push(data));
    const hello = Uint8Array.from(pack([1, { v: 1, token: await cluster.token('pieces') }]));
    const frames = [...hello].map((byte, i) =>
      maskedFrame(Uint8Array.of(byte), i === 0 ? 2 : 0, i === hello.length - 1),
    );
    socket.write(Buffer.concat(frames));
    await until('the welcome', () => Buffer.concat(received).includes('sessionHorizonMs'));
    socket.destroy();
  });

  test('random bytes, after and in place of the handshake', async () => {
    const seed = (Date.now() ^ process.pid) >>> 0;
    const random = randomOf(seed);
    for (let i = 0; i < 40; i++) {
      const client = await greeted(cluster, 'random');
      const message = Buffer.from(Array.from({ length: 1 + random(60) }, () => random(256)));
      if (random(2)) message[0] = 0x91 + random(6);
      if (random(2) && message.length > 1) message[1] = random(11);
      client.socket.send(message);
      client.send([6]);
      await until(
        `an answer to ${message.toString('hex')}, seed ${seed}`,
        () => client.closed !== undefined || client.messages.length > 1,
      );
      client.end();
    }
    for (let i = 0; i < 20; i++) {
      const socket = connect(cluster.port, '127.0.0.1');
      socket.on('error', () => undefined);
      socket.write(Buffer.from(Array.from({ length: 1 + random(200) }, () => random(256))));
      socket.write('\r\n\r\n');
      await until(
        `the end, seed ${seed}`,
        () => socket.closed || socket.bytesRead > 0 || socket.readyState !== 'opening',
      );
      socket.destroy();
    }
  });
});

/** A client frame with an empty mask. */
function maskedFrame(payload: Uint8Array, opcode = 2, isLast = true): Buffer {
  const length =
    payload.length < 126 ? [0x80 | payload.length] : [0x80 | 126, payload.length >> 8, payload.length & 255];
  return Buffer.concat([Buffer.from([(isLast ? 0x80 : 0) | opcode, ...length, 0, 0, 0, 0]), payload]);
}

/** A socket behind its upgrade, whose header lines came byte by byte (a request line in pieces is refused with 505 by uWebSockets.js). */
async function rawWebsocket(port: number): Promise<Socket> {
  const socket = connect(port, '127.0.0.1');
  let head = '';
  const read = (data: Buffer) => {
    head += data.toString('latin1');
  };
  socket.on('data', read);
  socket.write('GET /v1/socket HTTP/1.1\r\n');
  const request = `Host: 127.0.0.1:${port}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Protocol: ${SUBPROTOCOL}\r\n\r\n`;
  for (const character of request) await new Promise<void>((resolve) => socket.write(character, () => resolve()));
  await until('101', () => head.includes('\r\n\r\n'));
  assert.match(head, /^HTTP\/1.1 101/);
  socket.off('data', read);
  return socket;
}
