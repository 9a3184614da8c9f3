import assert from 'node:assert/strict';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { type TestContext, test } from 'node:test';
import type { WebhookRequest } from '../../actors/definition.ts';
import { VirtualClock } from '../log/clock.ts';
import { type WebhookOptions, type WebhookResult, WebhookWorker } from './webhook-worker.ts';

const LIMIT = { timeout: 20_000 }; // A test that hangs says which.

type Seen = { method: string; path: string; headers: IncomingMessage['headers']; body: string };
type Answer = (request: Seen, response: ServerResponse) => void;
type Receiver = { readonly seen: Seen[]; readonly server: Server; at(path?: string): WebhookRequest };

/** A real HTTP server that notes what it gets. */
async function receiver(t: TestContext, answer: Answer): Promise<Receiver> {
  const seen: Seen[] = [];
  const server = createServer(async (request, response) => {
    let body = '';
    for await (const part of request.setEncoding('utf8')) body += part;
    const note = { method: request.method!, path: request.url!, headers: request.headers, body };
    seen.push(note);
    answer(note, response);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.after(() => {
    server.closeAllConnections();
    return new Promise((resolve) => server.close(resolve));
  });
  const { port } = server.address() as AddressInfo;
  return { seen, server, at: (path = '/hook') => ({ url: `http://127.0.0.1:${port}${path}`, body: '{"n":1}' }) };
}

function makeWorker(t: TestContext, options: WebhookOptions = {}): { worker: WebhookWorker; clock: VirtualClock } {
  const clock = new VirtualClock();
  const worker = new WebhookWorker({ clock, random: () => 0.5, ...options });
  t.after(() => worker.stop());
  return { worker, clock };
}

async function until(condition: () => boolean, what: string): Promise<void> {
  const deadline = Date.now() + 10_000;
  while (!condition()) {
    assert.ok(Date.now() < deadline, `waited too long for ${what}`);
    await new Promise((resolve) => setImmediate(resolve));
  }
}

/** Lets virtual time pass only while nothing is on its way, until the result is there. */
async function finish(
  worker: WebhookWorker,
  clock: VirtualClock,
  result: Promise<WebhookResult>,
): Promise<WebhookResult> {
  let found: WebhookResult | undefined;
  void result.then((value) => {
    found = value;
  });
  while (found === undefined) {
    await until(() => found !== undefined || worker.load.running === 0, 'an answer');
    await clock.advance(1_000);
  }
  return found;
}

test('a webhook is sent once with its id as Idempotency-Key, and its answer comes back', LIMIT, async (t) => {
  const { seen, at } = await receiver(t, (_, response) => response.writeHead(201).end('made'));
  const { worker } = makeWorker(t);
  const request: WebhookRequest = {
    ...at('/a?b=c'),
    method: 'PUT',
    headers: { 'X-Shop': '7', 'Idempotency-Key': 'forged', host: 'elsewhere', 'Content-Length': '3', expect: 'more' },
  };
  const result = await worker.run({ id: 'effect-1', request });
  assert.deepEqual(result, { outcome: 'done', status: 201, body: 'made', attempts: 1 });
  assert.equal(seen.length, 1);
  const [{ method, path, headers, body }] = seen as [Seen];
  assert.deepEqual([method, path, body], ['PUT', '/a?b=c', '{"n":1}']);
  assert.equal(headers['idempotency-key'], 'effect-1');
  assert.equal(headers['x-shop'], '7');
  assert.equal(headers['content-type'], 'application/json');
  assert.match(headers.host!, /^127/);
});

test('refusals are final: other 4xx, redirects', LIMIT, async (t) => {
  const statuses = [400, 401, 404, 409, 410, 422, 301, 307];
  const { seen, at } = await receiver(t, ({ path }, response) => {
    response.writeHead(Number(path.slice(1)), { location: '/200' }).end('no');
  });
  const { worker } = makeWorker(t);
  for (const status of statuses) {
    const result = await worker.run({ id: `e${status}`, request: at(`/${status}`) });
    assert.deepEqual(result, { outcome: 'failed', status, body: 'no', attempts: 1 });
  }
  assert.equal(seen.length, statuses.length);
});

test('429, 408, 425 and 5xx are tried again under the same key until it works', LIMIT, async (t) => {
  const statuses = [429, 500, 503, 408, 425, 200];
  const { seen, at } = await receiver(t, (_, response) => response.writeHead(statuses[seen.length - 1]!).end());
  const { worker, clock } = makeWorker(t);
  const result = await finish(worker, clock, worker.run({ id: 'same', request: at() }));
  assert.deepEqual(result, { outcome: 'done', status: 200, body: '', attempts: 6 });
  assert.deepEqual(new Set(seen.map(({ headers }) => headers['idempotency-key'])), new Set(['same']));
});

test('after the last attempt it is a dead letter with the last answer', LIMIT, async (t) => {
  const { seen, at } = await receiver(t, (_, response) => response.writeHead(503).end(`down ${seen.length}`));
  const { worker, clock } = makeWorker(t);
  const result = await finish(worker, clock, worker.run({ id: 'e', request: at() }));
  assert.deepEqual(result, { outcome: 'failed', status: 503, body: 'down 8', attempts: 8 });
  assert.deepEqual(worker.load, { running: 0, ready: 0, waiting: 0 });
});

test('waits are full jitter over a doubling, bounded delay', LIMIT, async (t) => {
  const { seen, at } = await receiver(t, (_, response) => response.writeHead(500).end());
  const limits = { firstDelayMs: 1_000, maxDelayMs: 4_000, maxAttempts: 5 };
  const { worker, clock } = makeWorker(t, { limits, random: () => 0.5 });
  const result = worker.run({ id: 'e', request: at() });
  for (const [attempt, delayMs] of [500, 1_000, 2_000, 2_000].entries()) {
    await until(() => worker.load.waiting === 1, `attempt ${attempt + 1} to end`);
    await clock.advance(delayMs - 1);
    assert.equal(seen.length, attempt + 1);
    await clock.advance(1);
    await until(() => seen.length === attempt + 2, `attempt ${attempt + 2}`);
  }
  assert.equal((await result).attempts, 5);
});

test('Retry-After is honoured, in seconds and as a date, and bounded', LIMIT, async (t) => {
  const date = new Date('2026-01-01T00:00:00Z');
  const headers: Record<string, string>[] = [
    { 'retry-after': '7' },
    { date: date.toUTCString(), 'retry-after': new Date(date.getTime() + 9_000).toUTCString() },
    { 'retry-after': '86400' },
    { 'retry-after': 'soon' },
  ];
  const { seen, at } = await receiver(t, (_, response) => {
    response.writeHead(seen.length > headers.length ? 200 : 429, headers[seen.length - 1]).end();
  });
  const { worker, clock } = makeWorker(t, { random: () => 0 });
  const result = worker.run({ id: 'e', request: at() });
  for (const [attempt, waitMs] of [7_000, 9_000, 300_000, 0].entries()) {
    await until(() => worker.load.waiting === 1, 'the attempt to end');
    if (waitMs > 0) await clock.advance(waitMs - 1);
    assert.equal(seen.length, attempt + 1);
    await clock.advance(1);
    await until(() => seen.length === attempt + 2, 'the next attempt');
  }
  assert.equal((await result).status, 200);
});

test('a receiver that never answers, or stops amid its answer, is left after the time-out', LIMIT, async (t) => {
  const { seen, at } = await receiver(t, ({ path }, response) => {
    if (path === '/half') response.writeHead(200).write('half');
  });
  const { worker, clock } = makeWorker(t, { limits: { maxAttempts: 1 } });
  const results = ['/silent', '/half'].map((path) => worker.run({ id: path, request: at(path) }));
  await until(() => seen.length === 2, 'both requests');
  await clock.advance(9_999);
  assert.equal(worker.load.running, 2);
  await clock.advance(1);
  for (const result of await Promise.all(results)) {
    assert.deepEqual(result, { outcome: 'failed', status: 0, body: 'no answer within 10000 ms', attempts: 1 });
  }
});

test('a receiver that is down or breaks the connection is tried again', LIMIT, async (t) => {
  const broken = await receiver(t, (_, response) => response.destroy());
  const { worker, clock } = makeWorker(t, { limits: { maxAttempts: 3 } });
  const result = await finish(worker, clock, worker.run({ id: 'e', request: broken.at() }));
  assert.deepEqual([result.outcome, result.status, result.attempts], ['failed', 0, 3]);
  assert.equal(broken.seen.length, 3);
  const request = broken.at();
  broken.server.closeAllConnections();
  await new Promise((resolve) => broken.server.close(resolve));
  const refused = await finish(worker, clock, worker.run({ id: 'f', request }));
  assert.deepEqual([refused.outcome, refused.status, refused.attempts], ['failed', 0, 3]);
  assert.match(refused.body, /ECONNREFUSED/);
});

test('the answer is cut at 4 KiB of UTF-8, never within a character, and the rest is not read', LIMIT, async (t) => {
  const { at } = await receiver(t, ({ path }, response) => {
    if (path === '/endless') {
      const pour = (): void => void (response.write('x'.repeat(64 * 1024)) ? setImmediate(pour) : 0);
      response.on('drain', pour).on('close', () => response.removeListener('drain', pour));
      pour();
    } else response.end(path === '/euro' ? `a${'€'.repeat(5_000)}` : Buffer.alloc(Number(path.split('/')[2]), 0xff));
  });
  const { worker } = makeWorker(t);
  const bodyOf = async (path: string): Promise<string> => (await worker.run({ id: path, request: at(path) })).body;
  assert.equal(await bodyOf('/endless'), 'x'.repeat(4_096));
  assert.equal(await bodyOf('/euro'), `a${'€'.repeat(1_365)}`);
  for (const bytes of [2_000, 4_096]) {
    const garbage = await bodyOf(`/garbage/${bytes}`);
    assert.match(garbage, /^\uFFFD+$/);
    assert.ok(Buffer.byteLength(garbage) <= 4_096);
  }
});

test('what cannot be sent fails at once, without a request', LIMIT, async (t) => {
  const { seen, at } = await receiver(t, (_, response) => response.end());
  const { worker } = makeWorker(t);
  const port = new URL(at().url).port;
  const wrong: Partial<WebhookRequest>[] = [
    { url: 'ftp://127.0.0.1/x' },
    { url: 'file:///secret' },
    { url: 'not an address' },
    { url: `http://user:secret@127.0.0.1:${port}/` },
    { headers: { 'bad name': 'x' } },
    { headers: { 'x-split': 'a\r\nb: c' } },
    { method: 'GET' as 'POST' },
  ];
  for (const change of wrong) {
    const result = await worker.run({ id: 'e', request: { ...at(), ...change } });
    assert.deepEqual([result.outcome, result.status, result.attempts], ['failed', 0, 0], JSON.stringify(change));
    assert.doesNotMatch(result.body, /user:/);
  }
  assert.equal(seen.length, 0);
});

test('at most so many at once, in all and per host; a host that hangs leaves room for others', LIMIT, async (t) => {
  let open = 0;
  let most = 0;
  const held: ServerResponse[] = [];
  const hanging = await receiver(t, (_, response) => {
    open++;
    most = Math.max(most, open);
    held.push(response);
  });
  const quick = await receiver(t, (_, response) => response.end('quick'));
  const { worker } = makeWorker(t, { limits: { maxConcurrent: 5, maxConcurrentPerHost: 3 } });
  const slow = Array.from({ length: 20 }, (_, i) => worker.run({ id: `slow${i}`, request: hanging.at() }));
  const fast = Array.from({ length: 20 }, (_, i) => worker.run({ id: `fast${i}`, request: quick.at() }));
  for (const { body } of await Promise.all(fast)) assert.equal(body, 'quick');
  await until(() => open === 3, 'the hanging host to be full');
  assert.deepEqual(worker.load, { running: 3, ready: 17, waiting: 0 });
  let answered = 0;
  while (answered < slow.length) {
    await until(() => held.length > 0, 'the next request');
    open--;
    answered++;
    held.shift()!.end();
  }
  await Promise.all(slow);
  assert.equal(most, 3);
});

test('after stop nothing settles, nothing is sent, and connections end', LIMIT, async (t) => {
  const { seen, at } = await receiver(
    t,
    ({ path }, response) => void (path === '/503' && response.writeHead(503).end()),
  );
  const { worker: hanging } = makeWorker(t, { limits: { maxAttempts: 1 } });
  const { worker: retrying, clock } = makeWorker(t);
  let settled = 0;
  const run = (worker: WebhookWorker, path: string): void => {
    void worker.run({ id: path, request: at(path) }).then(() => {
      settled++;
    });
  };
  run(hanging, '/hang');
  run(retrying, '/503');
  await until(() => seen.length === 2 && retrying.load.waiting === 1, 'one hanging, one waiting');
  for (const worker of [hanging, retrying]) {
    worker.stop();
    run(worker, '/late');
  }
  await until(() => hanging.load.running === 0, 'the request to be ended');
  await clock.advance(1_000_000);
  assert.equal(settled, 0);
  assert.equal(seen.length, 2);
});
