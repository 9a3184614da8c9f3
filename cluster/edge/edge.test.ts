/** The edge before the real host, used through the client SDK over real sockets; log, bus and disk are in memory. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { setImmediate as pause } from 'node:timers/promises';
import { pino } from 'pino';
import { Registry } from 'prom-client';
import { WebSocket } from 'ws';
import type { ActorDefinition } from '../../actors/definition.ts';
import { counter } from '../../actors/sample/counter.ts';
import { type Client, connect } from '../../protocol/client/client.ts';
import type { SocketClass } from '../../protocol/client/platform.ts';
import { MemoryBus } from '../bus/memory-bus.ts';
import { MemoryCheckpoints } from '../checkpoint/memory-checkpoints.ts';
import { DEFAULT_PARTITION_SETTINGS, Host } from '../host/host.ts';
import { systemClock } from '../log/clock.ts';
import { FramePublisher } from '../log/frame-publisher.ts';
import type { PartitionLog } from '../log/log.ts';
import { MemoryLog } from '../log/memory-log.ts';
import { createEdge, type Edge } from './edge.ts';
import { TEST_SECRETS, until } from './test-edge.ts';
import { issueToken } from './tokens.ts';
import { UwsTransport } from './uws-transport.ts';

const groups = { main: 2 };
const LOG_SETTINGS = { maxBytes: 1 << 26, replicas: 1 };

class Cluster {
  readonly bus = new MemoryBus();
  readonly log = new MemoryLog();
  readonly disk = new MemoryCheckpoints();
  readonly #logs = new Map<string, Promise<PartitionLog>>();
  host: Host | undefined;
  edge: Edge | undefined;
  port = 0;
  #incarnation = 0;

  #openLog = (partition: string): Promise<PartitionLog> => {
    const opened = this.#logs.get(partition) ?? this.log.open(partition, 1, LOG_SETTINGS);
    this.#logs.set(partition, opened);
    return opened;
  };

  async startHost(): Promise<void> {
    this.host = new Host({
      settings: { ...DEFAULT_PARTITION_SETTINGS, node: 'h1', groups, traps: false },
      definitions: [counter as unknown as ActorDefinition],
      bus: this.bus,
      clock: systemClock,
      checkpoints: this.disk,
      logger: pino({ level: 'silent' }),
      registry: new Registry(),
      effects: { run: async () => ({ outcome: 'done', status: 200, body: '', attempts: 1 }) },
      openLog: this.#openLog,
      pause: () => pause(),
    });
    await this.host.start();
  }

  async startEdge(): Promise<void> {
    const incarnation = ++this.#incarnation;
    this.edge = createEdge({
      settings: { id: 'e1', port: this.port, operationsPort: 0, drainMs: 100 },
      kinds: [counter as unknown as ActorDefinition],
      groups,
      bus: this.bus,
      incarnation,
      secrets: TEST_SECRETS,
      logger: pino({ level: 'silent' }),
      registry: new Registry(),
      transport: (settings, handlers) => new UwsTransport(settings, handlers),
      openPublisher: async (partition) => {
        const publisher = new FramePublisher({ log: await this.#openLog(partition), token: 'cmd.e1', incarnation });
        return { generation: 1, publisher };
      },
    });
    this.port = (await this.edge.start()).port;
  }

  client(principal: string): Client {
    return connect({
      url: `ws://127.0.0.1:${this.port}/v1/socket`,
      token: () => issueToken(TEST_SECRETS.tokens, { principal, roles: ['user'], lifeMs: 600_000 }),
      WebSocket: WebSocket as unknown as SocketClass,
      backoff: { baseMs: 10, capMs: 50 },
      attemptTimeoutMs: 300,
      requestTimeoutMs: 10_000,
    });
  }

  async stop(): Promise<void> {
    await this.edge?.stop();
    await this.host?.stop(false);
    await this.log.close();
  }
}

describe('client, edge and host', () => {
  const cluster = new Cluster();
  const clients: Client[] = [];
  const client = (principal: string): Client => {
    const made = cluster.client(principal);
    clients.push(made);
    return made;
  };

  before(async () => {
    await cluster.startHost();
    await cluster.startEdge();
  });
  after(async () => {
    for (const made of clients) made.close();
    await cluster.stop();
  });

  test('commands, refusals and queries', async () => {
    const actor = client('ann').actor(counter, 'first');
    assert.deepEqual(await actor.command('add', { amount: 5, note: '' }), { value: 5 });
    await assert.rejects(actor.command('move', { to: 'second', amount: 100 }), { code: 'too_little' });
    assert.deepEqual(await actor.query('value', {}), { value: 5, changes: 1, recent: [5] });
    await actor.command('move', { to: 'second', amount: 2 });
    const second = client('ann').actor(counter, 'second');
    await until('the send has arrived', async () => (await second.query('value', {})).value === 2);
  });

  test('subscriptions of both sorts see everything, in order', async () => {
    const mine = client('bob');
    const actor = mine.actor(counter, 'topics');
    const history: number[] = [];
    const states: number[] = [];
    const value = actor.subscribe('value', {
      onSnapshot: (state) => states.push(state.value),
      onEvent: (state) => states.push(state.value),
    });
    actor.subscribe('history', { from: 0, onEvent: (row) => history.push(row.value) });
    await until('subscribed', () => value.offset !== undefined);
    for (let i = 1; i <= 50; i++) await actor.command('addOnce', { amount: 1, note: `n${i}` });
    await until('all', () => history.length === 50 && states.at(-1) === 50);
    assert.deepEqual(
      history,
      Array.from({ length: 50 }, (_, i) => i + 1),
    );
    assert.deepEqual(
      states,
      [...new Set(states)].sort((a, b) => a - b),
    );
  });

  test('an owner that dies, and an edge that is started anew: each command once, each event once', async () => {
    const seed = (Date.now() ^ process.pid) >>> 0;
    const mine = client('carol');
    const actor = mine.actor(counter, 'exact');
    const rows: number[] = [];
    const gaps: unknown[] = [];
    actor.subscribe('history', { from: 0, onEvent: (row) => rows.push(row.value), onGap: (gap) => gaps.push(gap) });
    const commands: Promise<unknown>[] = [];
    for (let i = 1; i <= 600; i++) {
      commands.push(actor.command('addOnce', { amount: 1, note: `c${i}` }));
      if (i === 200 + (seed % 50)) await cluster.host?.stop(false).then(() => cluster.startHost());
      if (i === 400 + (seed % 50)) await cluster.edge?.stop().then(() => cluster.startEdge());
      if (i % 20 === 0) await pause();
    }
    await Promise.all(commands);
    assert.equal((await actor.query('value', {})).value, 600, `seed ${seed}`);
    await until(`all rows, seed ${seed}`, () => rows.length >= 600, 10_000);
    assert.deepEqual(
      rows,
      Array.from({ length: 600 }, (_, i) => i + 1),
    );
    assert.deepEqual(gaps, []);
  });

  test('HTTP is idempotent across a restart of the edge', async () => {
    const token = await issueToken(TEST_SECRETS.tokens, { principal: 'web', roles: ['user'], lifeMs: 60_000 });
    const post = async (amount: number) => {
      const headers = {
        authorization: `Bearer ${token}`,
        'content-type': 'application/json',
        'idempotency-key': 'same',
      };
      const response = await fetch(`http://127.0.0.1:${cluster.port}/v1/counter/web/add`, {
        method: 'POST',
        headers,
        body: JSON.stringify({ amount, note: '' }),
      });
      return [response.status, await response.json()] as [number, { error?: { code: string } }];
    };
    const first = await post(4);
    assert.deepEqual(first, [200, { value: 4 }]);
    await cluster.edge?.drain();
    await cluster.startEdge();
    assert.deepEqual(await post(4), first);
    const [status, { error }] = await post(5);
    assert.deepEqual([status, error?.code], [422, 'idempotency_mismatch']);
  });
});
