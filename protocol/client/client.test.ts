import assert from 'node:assert/strict';
import { test } from 'node:test';
import { pack, scan, unpack } from '../msgpack.ts';
import type { Client, ConnectOptions, StateListener, TroupeError } from './client.ts';
import { connect } from './client.ts';
import { CounterActor, counter } from './counter-kind.ts';
import type { EdgeSettings } from './edge-double.ts';
import { EdgeDouble } from './edge-double.ts';
import { VirtualNetwork } from './virtual-network.ts';
import { VirtualTime } from './virtual-time.ts';

const SEED = 20_230_207;

type Stage = {
  time: VirtualTime;
  actor: CounterActor;
  edge: EdgeDouble;
  network: VirtualNetwork;
  client: Client;
  states: string[];
  reasons: (string | undefined)[];
};

function stage(options: Partial<ConnectOptions> = {}, settings: Partial<EdgeSettings> = {}, seed = SEED): Stage {
  const time = new VirtualTime(seed);
  const actor = new CounterActor();
  const edge = new EdgeDouble(actor, { now: () => time.now(), ...settings });
  const network = new VirtualNetwork(time, edge);
  const fixed = { url: 'ws://edge', token: 'valid', platform: time, WebSocket: network.socketClass };
  const client = connect({ ...fixed, ...options });
  const states: string[] = [];
  const reasons: (string | undefined)[] = [];
  client.onState((state, reason) => {
    states.push(state);
    reasons.push(reason?.code);
  });
  return { time, actor, edge, network, client, states, reasons };
}

type Settled<T> = { value?: T; error?: TroupeError; settled: number };

/** Watches a promise without handling it twice; `settled` counts, so that it could be seen to happen more than once. */
function watch<T>(promise: Promise<T>): Settled<T> {
  const seen: Settled<T> = { settled: 0 };
  promise.then(
    (value) => {
      seen.value = value;
      seen.settled++;
    },
    (error: TroupeError) => {
      seen.error = error;
      seen.settled++;
    },
  );
  return seen;
}

async function outcome<T>({ time }: Stage, promise: Promise<T>, limitMs = 120_000): Promise<Settled<T>> {
  const seen = watch(promise);
  assert.ok(await time.until(() => seen.settled > 0, limitMs), 'did not settle');
  return seen;
}

async function open(on: Stage): Promise<void> {
  assert.ok(await on.time.until(() => on.client.state === 'open', 60_000), 'did not open');
}

function messagesIn(bytes: Uint8Array): unknown[][] {
  const messages: unknown[][] = [];
  for (let at = 0; at < bytes.length; ) {
    const end = scan(bytes, at);
    messages.push(unpack(bytes, at, end) as unknown[]);
    at = end;
  }
  return messages;
}

const sentBy = (on: Stage): unknown[][] => on.network.sockets.flatMap((socket) => socket.sent.flatMap(messagesIn));
const sentOfType = (on: Stage, type: number): unknown[][] => sentBy(on).filter((message) => message[0] === type);
const actorOf = (on: Stage) => on.client.actor(counter, 'a');
const mostExecutions = (on: Stage): number => Math.max(0, ...on.edge.executions.values());

function finish(on: Stage): void {
  on.client.close();
  assert.deepEqual(on.edge.violations, []);
  assert.ok(mostExecutions(on) <= 1, 'a number was executed twice');
}

test('a command is answered by its reply, a refusal by its name', async () => {
  const on = stage();
  assert.deepEqual((await outcome(on, actorOf(on).command('add', { amount: 5 }))).value, { total: 5 });
  const { error } = await outcome(on, actorOf(on).command('add', { amount: 999_999 }));
  assert.equal(error?.code, 'too_much');
  assert.equal(error?.message, 'no room');
  assert.equal(error?.retryable, false);
  assert.equal(on.network.newest?.protocol, 'troupe.v1.msgpack');
  finish(on);
});

test('fields are checked before anything is sent', async () => {
  const on = stage();
  const { error } = await outcome(on, actorOf(on).command('add', { amount: -5 }));
  assert.equal(error?.code, 'invalid_field');
  assert.match(error?.message ?? '', /amount/);
  assert.equal(sentOfType(on, 2).length, 0);
  finish(on);
});

test('a key that no actor can have is refused at once', () => {
  const on = stage();
  for (const key of ['', 'x'.repeat(129), 'a\nb', '\ud800']) {
    assert.throws(() => on.client.actor(counter, key), { code: 'invalid_reference' });
  }
  assert.equal(on.client.actor(counter, 'ü'.repeat(64)).ref, `counter:${'ü'.repeat(64)}`);
  finish(on);
});

test('a binary command travels as bytes', async () => {
  const on = stage();
  assert.deepEqual((await outcome(on, actorOf(on).command('jump', { amount: 7, side: 'down' }))).value, {});
  assert.ok(sentOfType(on, 2)[0]?.[5] instanceof Uint8Array);
  finish(on);
});

test('a query is answered, also one whose reply is a single field', async () => {
  const on = stage();
  await outcome(on, actorOf(on).command('add', { amount: 5 }));
  assert.equal((await outcome(on, actorOf(on).query('total', {}))).value, 5);
  assert.deepEqual((await outcome(on, actorOf(on).query('history', { count: 3 }))).value, { totals: [5] });
  finish(on);
});

test('a query asks for what the last reply of its actor showed', async () => {
  const on = stage();
  const handle = actorOf(on);
  await outcome(on, handle.query('total', {}));
  assert.equal(on.actor.asked, undefined);
  await outcome(on, handle.command('add', { amount: 5 }));
  await outcome(on, handle.query('total', {}));
  assert.equal(on.actor.asked, 1);
  await outcome(on, handle.query('total', {}, { minSequence: 70_000 }));
  assert.equal(on.actor.asked, 70_000);
  finish(on);
});

test('commands of one turn go out as one message of at most 64', async () => {
  const on = stage();
  await open(on);
  const before = on.network.newest?.sent.length ?? 0;
  const replies = Array.from({ length: 100 }, () => actorOf(on).command('add', { amount: 1 }));
  await outcome(on, Promise.all(replies));
  const sizes = on.network.newest?.sent.slice(before).map((bytes) => messagesIn(bytes).length);
  assert.deepEqual(sizes, [64, 36]);
  finish(on);
});

test('with batch: false each command is a message', async () => {
  const on = stage({ batch: false });
  await open(on);
  const before = on.network.newest?.sent.length ?? 0;
  await outcome(on, Promise.all([1, 2, 3].map((amount) => actorOf(on).command('add', { amount }))));
  assert.equal((on.network.newest?.sent.length ?? 0) - before, 3);
  finish(on);
});

test('256 commands are in flight, more wait, and too many are refused', async () => {
  const on = stage({ maxQueued: 50 });
  await open(on);
  on.actor.before = () => undefined;
  const all = Array.from({ length: 307 }, () => watch(actorOf(on).command('add', { amount: 1 })));
  await on.time.pass(1_000);
  assert.equal(sentOfType(on, 2).length, 256);
  assert.equal(all.filter(({ error }) => error?.code === 'too_many_in_flight').length, 1);
  on.actor.before = () => null;
  assert.ok(await on.time.until(() => all.every(({ settled }) => settled === 1), 20_000));
  assert.equal(on.actor.total, 306);
  finish(on);
});

test('the smaller window of the edge is kept', async () => {
  const on = stage({}, { maxInFlight: 4 });
  on.actor.before = () => undefined;
  for (let i = 0; i < 10; i++) watch(actorOf(on).command('add', { amount: 1 }));
  await on.time.pass(1_000);
  assert.equal(sentOfType(on, 2).length, 4);
  finish(on);
});

test('low names the lowest number without an answer', async () => {
  const on = stage();
  await open(on);
  on.actor.before = ({ number }) => (number === 2 ? undefined : null);
  for (let i = 0; i < 4; i++) {
    watch(actorOf(on).command('add', { amount: 1 }));
    await on.time.pass(100);
  }
  assert.deepEqual(
    sentOfType(on, 2).map((message) => [message[1], message[2]]),
    [
      [1, 1],
      [2, 2],
      [3, 2],
      [4, 2],
    ],
  );
  finish(on);
});

test('a lost reply is asked for again under the same number', async () => {
  const on = stage({ attemptTimeoutMs: 3_000 });
  await open(on);
  let lost = 0;
  const { deliver } = on.network.newest ?? assert.fail();
  const socket = on.network.newest ?? assert.fail();
  socket.deliver = (bytes) =>
    messagesIn(bytes).some(([type]) => type === 2) && lost++ < 2 ? undefined : deliver.call(socket, bytes);
  const { value } = await outcome(on, actorOf(on).command('add', { amount: 5 }));
  assert.deepEqual(value, { total: 5 });
  assert.deepEqual(
    sentOfType(on, 2).map((message) => message[1]),
    [1, 1, 1],
  );
  assert.equal(on.actor.total, 5);
  finish(on);
});

test('a late refusal of a former attempt does not lengthen the wait', async () => {
  const on = stage({ attemptTimeoutMs: 1_000_000 });
  await open(on);
  on.actor.before = ({ attempt }) => (attempt === 1 ? { error: 'overloaded' } : null);
  const waiting = watch(actorOf(on).command('add', { amount: 1 }));
  await on.time.pass(15);
  for (let i = 0; i < 20; i++) on.edge.broadcast([5, 1, 'overloaded', '', 60_000]);
  await on.time.pass(500);
  assert.equal(waiting.value?.total, 1);
  finish(on);
});

test('a reply that comes twice is taken once, also when its slot is in use again', async () => {
  const on = stage();
  await open(on);
  const socket = on.network.newest ?? assert.fail();
  const { deliver } = socket;
  const kept: Uint8Array[] = [];
  socket.deliver = (bytes) => {
    kept.push(bytes);
    deliver.call(socket, bytes);
    deliver.call(socket, bytes);
  };
  for (let i = 1; i <= 300; i++)
    assert.deepEqual((await outcome(on, actorOf(on).command('add', { amount: 1 }))).value, { total: i });
  on.actor.before = () => undefined;
  const waiting = watch(actorOf(on).command('add', { amount: 1 }));
  for (const bytes of kept) deliver.call(socket, bytes);
  await on.time.pass(500);
  assert.equal(waiting.settled, 0);
  finish(on);
});

test('a passing error is retried under the same number, not before the time that the server asks for', async () => {
  const on = stage();
  await open(on);
  const at: number[] = [];
  on.actor.before = ({ attempt }) => {
    at.push(on.time.now());
    return attempt <= 3 ? { error: 'overloaded', retryAfterMs: 2_000 } : null;
  };
  assert.deepEqual((await outcome(on, actorOf(on).command('add', { amount: 5 }))).value, { total: 5 });
  assert.equal(at.length, 4);
  for (let i = 1; i < at.length; i++) assert.ok((at[i] ?? 0) - (at[i - 1] ?? 0) >= 2_000);
  assert.deepEqual(new Set(sentOfType(on, 2).map((message) => message[1])), new Set([1]));
  finish(on);
});

test('an error that stays is surfaced at the deadline, or at once where waiting for it is useless', async () => {
  const on = stage({ requestTimeoutMs: 8_000 });
  await open(on);
  on.actor.before = () => ({ error: 'log_unavailable' });
  const began = on.time.now();
  const late = await outcome(on, actorOf(on).command('add', { amount: 5 }));
  assert.equal(late.error?.code, 'log_unavailable');
  assert.ok(on.time.now() - began > 3_000 && on.time.now() - began <= 8_100);
  on.actor.before = () => ({ error: 'overloaded', retryAfterMs: 60_000 });
  const soon = on.time.now();
  const early = await outcome(on, actorOf(on).command('add', { amount: 5 }));
  assert.equal(early.error?.retryAfterMs, 60_000);
  assert.ok(on.time.now() - soon < 100);
  finish(on);
});

test('without any answer the deadline says timeout, without a connection disconnected', async () => {
  const on = stage({ requestTimeoutMs: 8_000 });
  await open(on);
  on.actor.before = () => undefined;
  assert.equal((await outcome(on, actorOf(on).command('add', { amount: 5 }))).error?.code, 'timeout');
  on.network.reachable = false;
  on.network.newest?.cut();
  assert.equal((await outcome(on, actorOf(on).command('add', { amount: 5 }))).error?.code, 'disconnected');
  assert.equal((await outcome(on, actorOf(on).query('total', {}))).error?.code, 'disconnected');
  on.actor.before = () => null;
  on.network.reachable = true;
  await open(on);
  assert.equal((await outcome(on, actorOf(on).command('add', { amount: 1 }))).value?.total, 1);
  finish(on);
});

test('the script gives the same replies whatever message the connection is cut at', async () => {
  const script = async (cutAt: number) => {
    const on = stage({ attemptTimeoutMs: 1_000 });
    const events: number[] = [];
    on.network.cutBefore = (count) => count === cutAt;
    const handle = actorOf(on);
    const subscription = handle.subscribe('added', { from: 0, onEvent: ({ amount }) => events.push(amount) });
    const totals: number[] = [];
    for (const amount of [1, 20, 300]) {
      const replies = await outcome(
        on,
        Promise.all([handle.command('add', { amount }), handle.command('add', { amount })]),
      );
      totals.push(...(replies.value ?? []).map(({ total }) => total));
      on.edge.publish('counter:a', 'added', pack([amount]));
      const history = await outcome(on, handle.query('history', { count: 100 }));
      assert.deepEqual(history.value?.totals, on.actor.amounts);
    }
    assert.ok(await on.time.until(() => events.length === 3, 60_000), `events ${events}, cut at ${cutAt}`);
    assert.equal(subscription.offset, 3);
    finish(on);
    assert.deepEqual(
      totals.toSorted((a, b) => a - b),
      [1, 2, 22, 42, 342, 642],
      `cut at ${cutAt}`,
    );
    assert.deepEqual(events, [1, 20, 300], `cut at ${cutAt}`);
    return on.network.passed;
  };
  const messages = await script(0);
  assert.ok(messages > 15);
  for (let cutAt = 1; cutAt <= messages; cutAt++) await script(cutAt);
});

test('property: with random cuts, refusals and lost replies, every command settles once and runs at most once', async (context) => {
  context.diagnostic('seeds 1 to 60');
  for (let seed = 1; seed <= 60; seed++) await randomRun(seed);
});

async function randomRun(seed: number): Promise<void> {
  const on = stage(
    { attemptTimeoutMs: 500, requestTimeoutMs: 20_000, maxInFlight: 16, backoff: { baseMs: 50, capMs: 500 } },
    {},
    seed,
  );
  const { time, network, actor } = on;
  const chance = (share: number): boolean => time.random() < share;
  network.cutBefore = () => chance(0.03);
  actor.before = () =>
    chance(0.05) ? undefined : chance(0.1) ? { error: 'overloaded' } : chance(0.02) ? { error: 'no_owner' } : null;
  const all: Settled<{ total: number }>[] = [];
  for (let round = 0; round < 40; round++) {
    for (let i = Math.floor(time.random() * 8); i >= 0; i--) all.push(watch(actorOf(on).command('add', { amount: 1 })));
    network.latencyMs = 1 + time.random() * 50;
    await time.pass(time.random() * 200);
  }
  assert.ok(await time.until(() => all.every(({ settled }) => settled > 0), 60_000), `seed ${seed}: unsettled`);
  const totals = all.flatMap(({ value }) => (value ? [value.total] : []));
  assert.equal(new Set(totals).size, totals.length, `seed ${seed}: one execution answered two commands`);
  assert.ok(
    totals.length <= actor.total && actor.total <= all.length,
    `seed ${seed}: executed ${actor.total} of ${all.length}`,
  );
  assert.ok(all.every(({ settled }) => settled === 1));
  assert.ok(totals.length > all.length * 0.9, `seed ${seed}: only ${totals.length} of ${all.length} succeeded`);
  finish(on);
  await time.pass(60_000);
  assert.equal(time.pending, 0, `seed ${seed}: timers are left`);
}

test('a reconnect waits a random time, keeps the session and says so', async () => {
  const on = stage();
  await open(on);
  on.network.newest?.cut();
  assert.equal(on.client.state, 'reconnecting');
  await open(on);
  assert.equal(sentOfType(on, 1).length, 2);
  const [, hello] = sentOfType(on, 1)[1] ?? assert.fail();
  assert.equal((hello as { session: string }).session, on.client.welcome?.session);
  assert.equal(on.client.welcome?.resumed, true);
  assert.deepEqual(on.states, ['open', 'reconnecting', 'open']);
  assert.deepEqual(on.reasons, [undefined, 'disconnected', undefined]);
  finish(on);
});

test('what was in flight is sent again at once on the next connection', async () => {
  const on = stage({ attemptTimeoutMs: 1_000_000, requestTimeoutMs: 1_000_000 });
  await open(on);
  on.actor.before = ({ attempt }) => (attempt === 1 ? undefined : null);
  const command = watch(actorOf(on).command('add', { amount: 1 }));
  await on.time.pass(100);
  on.network.cutBefore = (_, direction, bytes) => direction === 'up' && messagesIn(bytes).some(([type]) => type === 3);
  const query = watch(actorOf(on).query('total', {}));
  await on.time.pass(100);
  on.network.cutBefore = () => false;
  await on.time.pass(5_000);
  assert.deepEqual([command.value?.total, query.settled, query.error], [1, 1, undefined]);
  finish(on);
});

test('a socket that was given up has no say any more', async () => {
  const on = stage();
  await open(on);
  const [former] = on.network.sockets;
  on.client.reconnect();
  await open(on);
  former?.deliver(Uint8Array.of(0xc1));
  former?.onclose?.({ code: 3500 } as never);
  assert.equal(on.client.state, 'open');
  assert.equal(on.network.sockets.length, 2);
  finish(on);
});

test('failed attempts come at growing distances within the cap', async () => {
  const on = stage();
  on.network.reachable = false;
  await on.time.pass(600_000);
  const attempts = on.network.sockets.length;
  assert.ok(attempts > 30 && attempts < 90, `${attempts} attempts in 10 minutes`);
  assert.equal(on.client.state, 'connecting');
  assert.equal(on.reasons[0], 'disconnected');
  finish(on);
});

test('a welcome that does not come in time is waited for on another connection', async () => {
  const on = stage({ connectTimeoutMs: 4_000 });
  on.network.silent = true;
  await on.time.pass(4_500);
  assert.equal(on.network.sockets[0]?.closedWith, 3502);
  on.network.silent = false;
  await open(on);
  finish(on);
});

for (const [code, name] of [
  [3500, 'unauthorized'],
  [3501, 'protocol_error'],
  [3502, 'hello_timeout'],
  [3504, 'too_many_connections'],
] as const) {
  test(`close code ${code} is final`, async () => {
    const on = stage();
    await open(on);
    on.actor.before = () => undefined;
    const waiting = watch(actorOf(on).command('add', { amount: 1 }));
    await on.time.pass(100);
    on.network.newest?.end(code);
    await on.time.pass(60_000);
    assert.equal(on.client.state, 'closed');
    assert.equal(waiting.error?.code, name);
    assert.equal(on.network.sockets.length, 1);
    assert.equal((await outcome(on, actorOf(on).command('add', { amount: 1 }))).error?.code, name);
    await assert.rejects(on.client.ready(), { code: name });
    assert.equal(on.time.pending, 0);
  });
}

for (const code of [1000, 1001, 1006, 1011, 1012, 1013, 3001, 3008, 3012, 3013]) {
  test(`close code ${code} means: come back`, async () => {
    const on = stage();
    await open(on);
    on.network.newest?.end(code);
    assert.equal(on.client.state, 'reconnecting');
    await open(on);
    finish(on);
  });
}

test('an expired token is replaced where a function gives tokens, and final where it is a text', async () => {
  const refuseToken = (token: string) => (token === 'old' ? 'token_expired' : undefined);
  const tokens = ['old', 'new'];
  const on = stage({ token: async () => tokens.shift() ?? 'newer' }, { refuseToken });
  await open(on);
  assert.deepEqual(on.edge.tokens, ['old', 'new']);
  finish(on);
  const other = stage({ token: 'old' }, { refuseToken });
  await other.time.pass(60_000);
  assert.equal(other.client.state, 'closed');
  assert.deepEqual(other.reasons, ['token_expired']);
});

test('a token function that fails is asked again, one that refuses ends the client', async () => {
  let calls = 0;
  const on = stage({
    token: async () => {
      if (++calls < 3) throw new Error('no network');
      return 'valid';
    },
  });
  await open(on);
  assert.equal(calls, 3);
  finish(on);
  const signedOut = stage({
    token: async () => {
      throw new (await import('./client.ts')).TroupeError('unauthorized', 'signed out');
    },
  });
  await signedOut.time.pass(10_000);
  assert.deepEqual([signedOut.client.state, signedOut.reasons.at(-1)], ['closed', 'unauthorized']);
});

test('a token is replaced on the connection before it expires', async () => {
  let count = 0;
  const on = stage({ token: async () => `token ${++count}` }, { tokenLifeMs: 100_000 });
  await on.time.pass(350_000);
  assert.equal(on.network.sockets.length, 1);
  assert.ok(count >= 4 && count <= 5, `${count} tokens in 350 s`);
  assert.deepEqual(on.edge.tokens.slice(0, 2), ['token 1', 'token 2']);
  finish(on);
});

test('goaway: what is in flight is finished, then a connection is made within the time, without an error', async () => {
  const on = stage();
  await open(on);
  on.actor.before = ({ number, attempt }) => (number === 1 && attempt === 1 ? undefined : null);
  const slow = watch(actorOf(on).command('add', { amount: 1 }));
  await on.time.pass(50);
  const began = on.time.now();
  on.edge.broadcast([8, { afterMs: 10_000, reason: 'drain' }]);
  assert.ok(await on.time.until(() => on.network.sockets.length === 2, 30_000));
  assert.ok(on.time.now() - began <= 10_000);
  assert.equal(on.network.sockets[0]?.closedWith, 1000);
  const quick = await outcome(on, actorOf(on).command('add', { amount: 1 }), 2_000);
  assert.equal(quick.error, undefined);
  assert.ok(await on.time.until(() => slow.settled === 1, 10_000));
  assert.equal(on.actor.total, 2);
  finish(on);
});

test('goaway: what is begun while leaving waits for the next connection', async () => {
  const on = stage();
  await open(on);
  on.actor.before = ({ number, attempt }) => (number === 1 && attempt === 1 ? undefined : null);
  watch(actorOf(on).command('add', { amount: 1 }));
  await on.time.pass(50);
  on.edge.broadcast([8, { afterMs: 0, reason: 'drain' }]);
  await on.time.pass(100);
  const begun = watch(actorOf(on).command('add', { amount: 2 }));
  await on.time.pass(500);
  assert.deepEqual([on.network.sockets.length, begun.settled, sentOfType(on, 2).length], [1, 0, 1]);
  assert.ok(await on.time.until(() => begun.settled === 1, 2_000));
  assert.equal(begun.value?.total, 3);
  finish(on);
});

test('goaway moves a crowd at different times', async () => {
  const moments = new Set<number>();
  for (let seed = 1; seed <= 20; seed++) {
    const on = stage({}, {}, seed);
    await open(on);
    const began = on.time.now();
    on.edge.broadcast([8, { afterMs: 60_000, reason: 'drain' }]);
    assert.ok(await on.time.until(() => on.network.sockets.length === 2, 60_000), `seed ${seed}`);
    moments.add(Math.floor((on.time.now() - began) / 1_000));
    finish(on);
  }
  assert.ok(moments.size >= 10, `only ${moments.size} different seconds`);
});

test('an idle connection is kept by pings, a dead one is given up and made anew', async () => {
  const on = stage({}, { heartbeatMs: 20_000 });
  await open(on);
  await on.time.pass(200_000);
  const pings = sentOfType(on, 6).length;
  assert.ok(pings >= 9 && pings <= 16, `${pings} pings in 200 s`);
  assert.equal(on.network.sockets.length, 1);
  on.network.silent = true;
  const began = on.time.now();
  assert.ok(await on.time.until(() => on.client.state === 'reconnecting', 60_000));
  assert.ok(on.time.now() - began <= 40_000);
  assert.equal(on.reasons.at(-1), 'heartbeat_missed');
  assert.equal(on.network.sockets[0]?.closedWith, 3012);
  on.network.silent = false;
  await open(on);
  finish(on);
});

test("the edge's ping is answered, and two who answer do not echo for ever", async () => {
  const on = stage({}, { heartbeatMs: 20_000 });
  await open(on);
  await on.time.pass(14_000);
  const before = sentOfType(on, 6).length;
  on.edge.broadcast([6]);
  await on.time.pass(500);
  assert.ok(sentOfType(on, 6).length - before <= 1);
  finish(on);
});

test('session_expired: the only attempt is made again in a new session', async () => {
  const on = stage();
  await outcome(on, actorOf(on).command('add', { amount: 1 }));
  on.edge.expireSessions();
  const both = await outcome(on, Promise.all([1, 2].map((amount) => actorOf(on).command('add', { amount }))));
  assert.equal(both.error, undefined);
  assert.equal(on.actor.total, 4);
  assert.equal(sentOfType(on, 8).length, 1);
  assert.deepEqual(on.actor.amounts, [1, 1, 2]);
  finish(on);
});

test('session_expired: a command that may have been executed surfaces it', async () => {
  const on = stage({ attemptTimeoutMs: 1_000 });
  await open(on);
  on.actor.before = () => undefined;
  const waiting = watch(actorOf(on).command('add', { amount: 1 }));
  await on.time.pass(500);
  on.edge.expireSessions();
  on.actor.before = () => null;
  await on.time.pass(2_000);
  assert.equal(waiting.error?.code, 'session_expired');
  assert.equal(on.actor.total, 0);
  assert.equal((await outcome(on, actorOf(on).command('add', { amount: 1 }))).value?.total, 1);
  finish(on);
});

test('a reconnect into a new session repeats only what was certainly not executed', async () => {
  let resumes = true;
  const on = stage({}, { resumes: () => resumes });
  await open(on);
  on.actor.before = ({ attempt }) => (attempt === 1 ? { error: 'overloaded', retryAfterMs: 5_000 } : null);
  const refused = watch(actorOf(on).command('add', { amount: 1 }));
  await on.time.pass(50);
  on.actor.before = () => undefined;
  const unknown = watch(actorOf(on).command('add', { amount: 1 }));
  await on.time.pass(50);
  on.actor.before = () => null;
  resumes = false;
  on.network.newest?.cut();
  assert.ok(await on.time.until(() => refused.settled + unknown.settled === 2, 20_000));
  assert.equal(refused.value?.total, 1);
  assert.equal(unknown.error?.code, 'session_expired');
  finish(on);
});

test('a session is renewed in a quiet moment from half the horizon on, and by force later', async () => {
  const on = stage({}, { sessionHorizonMs: 100_000 });
  await outcome(on, actorOf(on).command('add', { amount: 1 }));
  await on.time.pass(40_000);
  await outcome(on, actorOf(on).command('add', { amount: 1 }));
  assert.equal(sentOfType(on, 8).length, 0);
  await on.time.pass(15_000);
  await outcome(on, actorOf(on).command('add', { amount: 1 }));
  assert.equal(sentOfType(on, 8).length, 1);
  // Never quiet: two commands overlap at any time.
  on.network.latencyMs = 30;
  let settled = 0;
  for (let i = 0; i < 2_000; i++) {
    actorOf(on)
      .command('add', { amount: 1 })
      .then(
        () => settled++,
        () => {},
      );
    await on.time.pass(40);
  }
  assert.equal(sentOfType(on, 8).length, 2);
  await on.time.pass(1_000);
  assert.equal(settled, 2_000);
  finish(on);
});

test('too large a body is refused here: the edge would close the connection', async () => {
  const on = stage({}, { maxPayloadBytes: 100 });
  const { error } = await outcome(on, actorOf(on).command('add', { amount: 1, note: 'x'.repeat(200) }));
  assert.equal(error?.code, 'payload_too_large');
  finish(on);
});

test('a lossless subscription gets every event once, through cuts and lost events', async () => {
  const on = stage();
  const seen: [number, number][] = [];
  actorOf(on).subscribe('added', {
    from: 0,
    onEvent: ({ amount }, offset) => seen.push([offset, amount]),
    onGap: () => assert.fail(),
  });
  await open(on);
  for (let i = 1; i <= 20; i++) {
    if (i % 7 === 0) on.network.newest?.cut();
    on.edge.publish('counter:a', 'added', pack([i]), { lose: i % 5 === 3 });
    await on.time.pass(300);
  }
  assert.ok(await on.time.until(() => seen.length >= 20, 60_000));
  await on.time.pass(1_000);
  assert.deepEqual(
    seen,
    Array.from({ length: 20 }, (_, i) => [i + 1, i + 1]),
  );
  finish(on);
});

test('a lossless subscription without a place begins at the newest event', async () => {
  const on = stage();
  on.edge.publish('counter:a', 'added', pack([1]));
  const seen: number[] = [];
  const subscription = actorOf(on).subscribe('added', { onEvent: ({ amount }) => seen.push(amount) });
  await on.time.pass(1_000);
  assert.equal(subscription.offset, 1);
  on.edge.publish('counter:a', 'added', pack([2]));
  await on.time.pass(1_000);
  assert.deepEqual(seen, [2]);
  finish(on);
});

test('events that are gone for good are told as a gap', async () => {
  const on = stage();
  for (let i = 1; i <= 5; i++) on.edge.publish('counter:a', 'added', pack([i]));
  const seen: unknown[] = [];
  actorOf(on).subscribe('added', {
    from: 0,
    onEvent: (_, offset) => seen.push(offset),
    onGap: (gap) => seen.push(gap),
  });
  await open(on);
  await on.time.pass(100);
  on.edge.newGeneration('counter:a', 'added');
  on.edge.publish('counter:a', 'added', pack([1]));
  on.network.newest?.cut();
  await open(on);
  await on.time.pass(100);
  on.edge.publish('counter:a', 'added', pack([1]));
  await on.time.pass(100);
  assert.deepEqual(seen, [1, 2, 3, 4, 5, { after: 5, next: 2 }, 2]);
  finish(on);
});

test('a lossy subscription begins with the state, and takes a conflated one in place of events', async () => {
  const on = stage();
  on.actor.total = 9;
  const seen: unknown[] = [];
  actorOf(on).subscribe('level', {
    onSnapshot: (total, offset) => seen.push(['state', total, offset]),
    onEvent: ({ total }, offset) => seen.push(['event', total, offset]),
  });
  await on.time.pass(100);
  on.edge.publish('counter:a', 'level', pack([10]));
  await on.time.pass(100);
  const [connected] = on.edge.connections;
  connected?.sayBody([9, 1, 5], pack(50));
  connected?.sayBody([4, 1, 4], pack([40]));
  connected?.sayBody([4, 1, 6], pack([60]));
  await on.time.pass(100);
  assert.deepEqual(seen, [
    ['state', 9, 0],
    ['event', 10, 1],
    ['state', 50, 5],
    ['event', 60, 6],
  ]);
  finish(on);
});

test('an ended subscription comes back if the reason passes, else its owner is told', async () => {
  const on = stage();
  const ended: string[] = [];
  const seen: number[] = [];
  actorOf(on).subscribe('added', {
    from: 0,
    onEvent: ({ amount }) => seen.push(amount),
    onEnded: ({ code }) => ended.push(code),
  });
  await on.time.pass(100);
  on.edge.broadcast([10, 1, 'moving', '']);
  await on.time.pass(5_000);
  assert.equal(sentOfType(on, 4).length, 2);
  on.edge.publish('counter:a', 'added', pack([1]));
  await on.time.pass(100);
  assert.deepEqual([seen, ended], [[1], []]);
  on.edge.broadcast([10, 1, 'forbidden', '']);
  await on.time.pass(5_000);
  assert.deepEqual(ended, ['forbidden']);
  finish(on);
});

test('two subscriptions of one topic share what the edge sends, and the edge is told of the last end only', async () => {
  const on = stage();
  const seen: string[] = [];
  const first = actorOf(on).subscribe('added', { from: 0, onEvent: ({ amount }) => seen.push(`a${amount}`) });
  await on.time.pass(100);
  on.edge.publish('counter:a', 'added', pack([1]));
  await on.time.pass(100);
  const second = actorOf(on).subscribe('added', { from: 0, onEvent: ({ amount }) => seen.push(`b${amount}`) });
  first.unsubscribe();
  await on.time.pass(100);
  on.edge.publish('counter:a', 'added', pack([2]));
  await on.time.pass(100);
  assert.deepEqual(seen, ['a1', 'b1', 'b2']);
  assert.equal(sentOfType(on, 5).length, 0);
  second.unsubscribe();
  await on.time.pass(100);
  assert.equal(sentOfType(on, 5).length, 1);
  on.edge.publish('counter:a', 'added', pack([3]));
  await on.time.pass(100);
  assert.equal(seen.length, 3);
  finish(on);
});

test('close ends everything with the error closed, once', async () => {
  const on = stage();
  await open(on);
  on.actor.before = () => undefined;
  const ended: string[] = [];
  actorOf(on).subscribe('added', { onEvent: () => {}, onEnded: ({ code }) => ended.push(code) });
  const waiting = watch(actorOf(on).command('add', { amount: 1 }));
  await on.time.pass(100);
  on.client.close();
  on.client.close();
  await on.time.pass(100);
  assert.equal(waiting.error?.code, 'closed');
  assert.deepEqual(ended, ['closed']);
  assert.equal(on.states.filter((state) => state === 'closed').length, 1);
  assert.equal(on.time.pending, 0);
});

test('an idle client holds no timer but the heartbeat', async () => {
  const on = stage();
  await outcome(on, actorOf(on).command('add', { amount: 1 }));
  await on.time.pass(1_000);
  assert.equal(on.time.pending, 1);
  finish(on);
});

test('nonsense from the edge costs the connection, not the client', async () => {
  const on = stage();
  await open(on);
  on.network.newest?.deliver(Uint8Array.of(0xc1, 1, 2));
  assert.equal(on.network.newest?.closedWith, 3501);
  assert.equal((await outcome(on, actorOf(on).command('add', { amount: 1 }))).value?.total, 1);
  finish(on);
});

test('messages and elements of a newer edge are passed over', async () => {
  const on = stage();
  await open(on);
  on.edge.broadcast([99, 'later']);
  on.edge.broadcast([6, 'more', { here: true }]);
  assert.equal((await outcome(on, actorOf(on).command('add', { amount: 1 }))).value?.total, 1);
  assert.equal(on.network.sockets.length, 1);
  finish(on);
});

test('a listener may leave while it is called, and ready resolves', async () => {
  const on = stage();
  const calls: string[] = [];
  const listener: StateListener = (state) => {
    calls.push(state);
    off();
  };
  const off = on.client.onState(listener);
  assert.equal((await outcome(on, on.client.ready())).value?.principal, 'tester');
  on.network.newest?.cut();
  assert.deepEqual(calls, ['open']);
  finish(on);
});
