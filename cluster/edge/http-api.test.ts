import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { request as httpRequest } from 'node:http';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { startCluster, type TestCluster, until } from './test-edge.ts';

describe('HTTP', () => {
  let cluster: TestCluster;
  let folder: string;
  let base: string;
  let headers: Record<string, string>;

  before(async () => {
    folder = mkdtempSync(join(tmpdir(), 'troupe-console-'));
    mkdirSync(join(folder, 'page'));
    writeFileSync(join(folder, 'index.html'), '<!doctype html><title>Console</title>');
    writeFileSync(join(folder, 'page', 'main.js'), 'export {};');
    writeFileSync(join(folder, '.secret'), 'no');
    writeFileSync(join(folder, '..', `${folder.split('/').at(-1)}.txt`), 'outside');
    cluster = await startCluster({
      consoleFolder: folder,
      developmentTokens: true,
      maxBodyBytes: 4_096,
      maxPayloadBytes: 2_048,
      bodyTimeoutMs: 200,
      commandTimeoutMs: 300,
      commandsPerSecondPerUser: 200,
    });
    base = `http://127.0.0.1:${cluster.port}`;
    headers = { authorization: `Bearer ${await cluster.token('web', ['user'])}`, 'content-type': 'application/json' };
  });
  after(async () => {
    rmSync(folder, { recursive: true });
    rmSync(`${folder}.txt`);
    await cluster.stop();
  });

  const post = (path: string, body: unknown, extra: Record<string, string> = {}) =>
    fetch(`${base}${path}`, {
      method: 'POST',
      headers: { ...headers, ...extra },
      body: typeof body === 'string' ? body : JSON.stringify(body),
    });
  const get = (path: string, extra: Record<string, string> = {}) =>
    fetch(`${base}${path}`, { headers: { ...headers, ...extra } });

  const failing = async (response: Response, status: number, code: string) => {
    const { error } = (await response.json()) as { error: { code: string; message: string; field?: string } };
    assert.deepEqual([response.status, error.code], [status, code]);
    assert.ok(error.message.length > 0);
    return error;
  };

  test('a command and a query', async () => {
    const response = await post('/v1/adder/web/add', { amount: 5, note: '' });
    assert.deepEqual([response.status, await response.json()], [200, { value: 5 }]);
    assert.match(response.headers.get('idempotency-key') ?? '', /^[0-9a-f-]{36}$/);
    assert.deepEqual(await (await get('/v1/adder/web/sum')).json(), { value: 5, seen: 1 });
    assert.deepEqual(await (await get('/v1/adder/web/repeat?times=3')).json(), [5, 5, 5]);
    assert.deepEqual(await (await post('/v1/adder/web/exact', { amount: 7, code: 'x' })).json(), { value: 12 });
    assert.equal((await post('/v1/adder/a%2Fb%20c/add', { amount: 1, note: '' })).status, 200);
  });

  test('the same key and body is executed once', async () => {
    const body = { amount: 3, note: '' };
    const first = await post('/v1/adder/once/add', body, { 'idempotency-key': 'k1' });
    const again = await Promise.all([1, 2, 3].map(() => post('/v1/adder/once/add', body, { 'idempotency-key': 'k1' })));
    for (const response of [first, ...again]) assert.deepEqual(await response.json(), { value: 3 });
    assert.deepEqual(await (await post('/v1/adder/once/add', body, { 'idempotency-key': 'k2' })).json(), { value: 6 });
  });

  test('errors have the status and name of the registry', async () => {
    const anonymous = await fetch(`${base}/v1/adder/a/sum`);
    await failing(anonymous, 401, 'unauthorized');
    await failing(await get('/v1/adder/a/sum', { authorization: 'Bearer x' }), 401, 'unauthorized');
    await failing(await get('/v1/adder/a/sum', { authorization: 'Basic x' }), 401, 'unauthorized');
    await failing(await post('/v1/adder/a/rule', {}), 403, 'forbidden');
    await failing(await post('/v1/nobody/a/add', {}), 404, 'unknown_kind');
    await failing(await post('/v1/adder/a/subtract', {}), 404, 'unknown_command');
    await failing(await get('/v1/adder/a/nothing'), 404, 'unknown_query');
    await failing(await get('/v1/adder'), 404, 'not_found');
    await failing(await get('/nothing.html'), 404, 'not_found');
    await failing(await post('/v1/adder/%00/add', { amount: 1, note: '' }), 400, 'invalid_reference');
    await failing(await post('/v1/adder/%E0%A4%A/add', { amount: 1, note: '' }), 400, 'invalid_reference');
    await failing(await post('/v1/adder/a/add', '{"amount":'), 400, 'bad_request');
    await failing(await post('/v1/adder/a/refuse', {}), 422, 'never');
    await failing(await get('/v1/adder/a/repeat?times=x'), 400, 'invalid_field');
    await failing(await get('/v1/adder/a/repeat?times=1&times=2'), 400, 'invalid_field');
    const error = await failing(await post('/v1/adder/a/add', { amount: 'x', note: '' }), 400, 'invalid_field');
    assert.equal(error.field, 'amount');
    const media = await post('/v1/adder/a/add', 'amount=1', { 'content-type': 'application/x-www-form-urlencoded' });
    assert.equal(media.status, 415);
    const method = await fetch(`${base}/v1/adder/a/add`, { method: 'DELETE', headers });
    assert.equal(method.headers.get('allow'), 'POST');
    await failing(method, 405, 'method_not_allowed');
    await failing(await post('/v1/openapi.json', {}), 405, 'method_not_allowed');
    await failing(
      await post('/v1/adder/a/add', { amount: 1, note: '' }, { 'idempotency-key': 'k'.repeat(129) }),
      400,
      'bad_request',
    );
  });

  test('large and slow bodies', async () => {
    await failing(await post('/v1/adder/a/big', { data: 'A'.repeat(5_000) }), 413, 'payload_too_large');
    await failing(await post('/v1/adder/a/big', { data: 'A'.repeat(3_000) }), 413, 'payload_too_large');
    const chunked = await new Promise<number | undefined>((resolve, reject) => {
      const sending = httpRequest(
        `${base}/v1/adder/a/add`,
        { method: 'POST', headers: { ...headers, 'transfer-encoding': 'chunked' } },
        (response) => {
          resolve(response.statusCode);
          response.resume();
        },
      );
      sending.on('error', reject);
      for (let i = 0; i < 5; i++) sending.write('x'.repeat(1_000));
    });
    assert.equal(chunked, 413);
    const socket = connect(cluster.port, '127.0.0.1');
    let answer = '';
    socket.on('data', (data) => {
      answer += data.toString();
    });
    socket.write('POST /v1/adder/a/add HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{"a');
    await until('408', () => answer.startsWith('HTTP/1.1 408'));
    socket.destroy();
  });

  test('a request that goes away, or is never answered by its partition', async () => {
    for (const host of cluster.hosts.values()) host.muted = true;
    const aborted = new AbortController();
    const gone = fetch(`${base}/v1/adder/gone/add`, {
      method: 'POST',
      headers,
      body: '{"amount":1,"note":""}',
      signal: aborted.signal,
    });
    await new Promise((resolve) => setTimeout(resolve, 20));
    aborted.abort();
    await assert.rejects(gone);
    await failing(await post('/v1/adder/late/add', { amount: 1, note: '' }), 504, 'timeout');
    for (const host of cluster.hosts.values()) {
      host.muted = false;
      host.epoch++;
      host.heartbeat();
    }
    assert.equal((await post('/v1/adder/late/add', { amount: 1, note: '' })).status, 200);
  });

  test('over a rate or load there is Retry-After', async () => {
    const other = { authorization: `Bearer ${await cluster.token('greedy')}` };
    const responses = await Promise.all(Array.from({ length: 300 }, () => get('/v1/adder/a/sum', other)));
    const limited = responses.filter(({ status }) => status === 429);
    assert.ok(limited.length > 0 && limited.length < 150, `${limited.length} of 300 were limited`);
    assert.equal(limited[0]?.headers.get('retry-after'), '1');
    for (const host of cluster.hosts.values()) {
      host.outboxBytes = 1 << 30;
      host.heartbeat();
    }
    await new Promise((resolve) => setImmediate(resolve));
    const busy = await post('/v1/adder/a/add', { amount: 1, note: '' });
    assert.equal(busy.headers.get('retry-after'), '1');
    await failing(busy, 503, 'overloaded');
    for (const host of cluster.hosts.values()) {
      host.outboxBytes = 0;
      host.heartbeat();
    }
  });

  test('the description agrees with the routes', async () => {
    const document = (await (await fetch(`${base}/v1/openapi.json`)).json()) as {
      paths: Record<string, Record<string, unknown>>;
    };
    const methods = Object.entries(document.paths).flatMap(([path, item]) =>
      Object.keys(item)
        .filter((name) => name !== 'parameters')
        .map((method) => [method.toUpperCase(), path] as const),
    );
    assert.ok(methods.length >= 8);
    for (const [method, path] of methods) {
      const response = await fetch(base + path.replace('{key}', 'x'), {
        method,
        headers,
        ...(method === 'POST' && { body: '{}' }),
      });
      assert.ok(![404, 405].includes(response.status), `${method} ${path}: ${response.status}`);
      await response.arrayBuffer();
    }
  });

  test('files of the console, and nothing else', async () => {
    const page = await fetch(`${base}/`);
    assert.equal(await page.text(), '<!doctype html><title>Console</title>');
    assert.match(page.headers.get('content-security-policy') ?? '', /default-src 'self'/);
    assert.equal(page.headers.get('content-type'), 'text/html; charset=utf-8');
    const tag = page.headers.get('etag') as string;
    assert.equal((await fetch(`${base}/`, { headers: { 'if-none-match': tag } })).status, 304);
    assert.equal((await fetch(`${base}/page/main.js`)).headers.get('content-type'), 'text/javascript; charset=utf-8');
    const outside = `${folder.split('/').at(-1)}.txt`;
    for (const path of [
      '/.secret',
      `/../${outside}`,
      `/%2e%2e/${outside}`,
      `/page/../../${outside}`,
      '/page',
      '//etc/passwd',
      '/page/..%2f.secret',
    ]) {
      assert.equal(await rawStatus(cluster.port, path), 404, path);
    }
    const head = await fetch(`${base}/`, { method: 'HEAD' });
    assert.deepEqual([head.status, head.headers.get('content-length'), await head.text()], [200, '37', '']);
  });

  test('development tokens go to local browsers only', async () => {
    const { token } = (await (await fetch(`${base}/v1/dev/token`)).json()) as { token: string };
    const claims = JSON.parse(Buffer.from(token.split('.')[1] as string, 'base64url').toString());
    assert.deepEqual([claims.sub, claims.roles], ['viewer', ['viewer']]);
    assert.equal(await rawStatus(cluster.port, '/v1/dev/token', 'rebound.example'), 403);
    assert.equal(await rawStatus(cluster.port, '/v1/dev/token', 'localhost', 'Origin: http://evil.example\r\n'), 403);
    const other = await startCluster();
    assert.equal(await rawStatus(other.port, '/v1/dev/token'), 404);
    await other.stop();
  });

  test('operators see partitions and actors; others do not', async () => {
    const operator = { authorization: `Bearer ${await cluster.token('op', ['operator'])}` };
    await failing(await get('/v1/ops/status'), 403, 'forbidden');
    await failing(await fetch(`${base}/v1/ops/status`), 401, 'unauthorized');
    const { partitions } = (await (await get('/v1/ops/status', operator)).json()) as {
      partitions: { partition: string; state: string }[];
    };
    assert.deepEqual(
      partitions.map(({ partition, state }) => [partition, state]),
      [
        ['main-0', 'live'],
        ['main-1', 'live'],
      ],
    );
    const { actors } = (await (await get('/v1/ops/actors?kind=adder', operator)).json()) as { actors: string[] };
    assert.ok(actors.includes('adder:web'));
    const actor = (await (await get('/v1/ops/inspect/adder/web', operator)).json()) as { actor: string };
    assert.equal(actor.actor, 'adder:web');
    await failing(await get('/v1/ops/actors?limit=0', operator), 400, 'bad_request');
    await failing(await get('/v1/ops/nothing', operator), 404, 'not_found');
  });

  test('the operations port tells health, readiness and metrics', async () => {
    const operations = `http://127.0.0.1:${cluster.operationsPort}`;
    assert.equal(await (await fetch(`${operations}/healthz`)).text(), 'ok\n');
    assert.equal((await fetch(`${operations}/readyz`)).status, 200);
    const metrics = await (await fetch(`${operations}/metrics`)).text();
    assert.match(metrics, /^troupe_edge_commands_total \d+$/m);
    assert.match(metrics, /^troupe_edge_partition_pending_records\{partition="main-0"\} \d+$/m);
    assert.equal((await fetch(`${operations}/nothing`)).status, 404);
    assert.equal((await fetch(operations, { method: 'POST' })).status, 405);
  });
});

/** Status of a GET whose path is sent as it is: fetch would tidy it up. */
async function rawStatus(port: number, path: string, host = `127.0.0.1:${port}`, headers = ''): Promise<number> {
  const socket = connect(port, '127.0.0.1');
  let answer = '';
  socket.on('data', (data) => {
    answer += data.toString();
  });
  socket.write(`GET ${path} HTTP/1.1\r\nHost: ${host}\r\n${headers}\r\n`);
  await until('an answer', () => answer.includes('\r\n'));
  socket.destroy();
  return Number(answer.split(' ')[1]);
}
