/** The client over real sockets: the npm package `ws` on both sides, and the platform's own WebSocket where it has one. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { test } from 'node:test';
import { WebSocket, WebSocketServer } from 'ws';
import { pack } from '../msgpack.ts';
import type { Client, SocketClass } from './client.ts';
import { connect } from './client.ts';
import { CounterActor, counter } from './counter-kind.ts';
import { EdgeDouble } from './edge-double.ts';

const QUICK = { baseMs: 5, capMs: 50, healthyMs: 1_000 };

type Running = { actor: CounterActor; edge: EdgeDouble; server: WebSocketServer; url: string; stop(): Promise<void> };

async function serve(): Promise<Running> {
  const actor = new CounterActor();
  const edge = new EdgeDouble(actor, { now: () => Date.now() });
  const server = new WebSocketServer({ port: 0, host: '127.0.0.1', perMessageDeflate: false });
  server.on('connection', (socket) => {
    const connected = edge.connect({
      send: (bytes) => socket.send(bytes),
      close: (code, reason) => socket.close(code, reason),
    });
    socket.on('message', (data: Buffer) => connected.receive(data));
    socket.on('close', () => connected.closed());
  });
  await once(server, 'listening');
  const url = `ws://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const stop = async (): Promise<void> => {
    for (const socket of server.clients) socket.terminate();
    server.close();
    await once(server, 'close');
  };
  return { actor, edge, server, url, stop };
}

async function within<T>(promise: Promise<T>, limitMs: number): Promise<T> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`not within ${limitMs} ms`)), limitMs);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

async function useClient(running: Running, client: Client): Promise<void> {
  const handle = client.actor(counter, 'a');
  await within(client.ready(), 5_000);
  const totals = await within(
    Promise.all(Array.from({ length: 500 }, () => handle.command('add', { amount: 1 }))),
    10_000,
  );
  assert.deepEqual(
    totals.map(({ total }) => total),
    Array.from({ length: 500 }, (_, i) => i + 1),
  );
  await assert.rejects(handle.command('add', { amount: 999_999 }), { name: 'TroupeError', code: 'too_much' });
  assert.equal(await handle.query('total', {}), 500);
  const event = new Promise<[number, number]>((resolve) => {
    handle.subscribe('added', { from: 0, onEvent: ({ amount }, offset) => resolve([amount, offset]) });
  });
  running.edge.publish('counter:a', 'added', pack([7]));
  assert.deepEqual(await within(event, 5_000), [7, 1]);
}

test('commands, refusals, queries and events over the npm package ws', async () => {
  const running = await serve();
  const client = connect({ url: running.url, token: 'valid', WebSocket });
  try {
    await useClient(running, client);
    assert.deepEqual(running.edge.violations, []);
  } finally {
    client.close();
    await running.stop();
  }
});

const own = (globalThis as { WebSocket?: SocketClass }).WebSocket;
test("the same over the platform's own WebSocket", { skip: own ? false : 'this Node has none' }, async () => {
  const running = await serve();
  const client = connect({ url: running.url, token: 'valid' });
  try {
    await useClient(running, client);
  } finally {
    client.close();
    await running.stop();
  }
});

test('sockets that are torn down again and again lose and repeat nothing', async () => {
  const running = await serve();
  const client = connect({ url: running.url, token: 'valid', WebSocket, backoff: QUICK, attemptTimeoutMs: 500 });
  try {
    const handle = client.actor(counter, 'a');
    const seen: number[] = [];
    handle.subscribe('added', {
      from: 0,
      onEvent: (_, offset) => seen.push(offset),
      onGap: () => assert.fail('a gap'),
    });
    for (let round = 1; round <= 20; round++) {
      const replies = Promise.all(Array.from({ length: 50 }, () => handle.command('add', { amount: 1 })));
      running.edge.publish('counter:a', 'added', pack([round]));
      if (round % 2 === 0) for (const socket of running.server.clients) socket.terminate();
      await within(replies, 10_000);
    }
    assert.equal(running.actor.total, 1_000);
    assert.equal(Math.max(...running.edge.executions.values()), 1);
    await waitFor(() => seen.length >= 20, 10_000);
    assert.deepEqual(
      seen,
      Array.from({ length: 20 }, (_, i) => i + 1),
    );
    assert.deepEqual(running.edge.violations, []);
  } finally {
    client.close();
    await running.stop();
  }
});

async function waitFor(done: () => boolean, limitMs: number): Promise<void> {
  const endMs = performance.now() + limitMs;
  while (!done()) {
    assert.ok(performance.now() < endMs, `not within ${limitMs} ms`);
    await new Promise((resolve) => setImmediate(resolve));
  }
}

test('a server that is not there is told as the reason while the client goes on trying', async () => {
  const gone = await serve();
  const { url } = gone;
  await gone.stop();
  const client = connect({ url, token: 'valid', WebSocket, backoff: QUICK });
  try {
    const reason = await within(new Promise((resolve) => client.onState((_, error) => resolve(error?.code))), 5_000);
    assert.equal(reason, 'disconnected');
    assert.equal(client.state, 'connecting');
  } finally {
    client.close();
  }
});

test('without a WebSocket class the error says what to do', { skip: own ? 'this Node has one' : false }, () => {
  assert.throws(() => connect({ url: 'ws://127.0.0.1:1', token: 'valid' }), /npm package ws/);
});

test('an address that is none ends the client', async () => {
  const client = connect({ url: 'nonsense', token: 'valid', WebSocket });
  await assert.rejects(client.ready());
  assert.equal(client.state, 'closed');
});
