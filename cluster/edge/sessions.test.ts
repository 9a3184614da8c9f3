import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { newSession, sessionOf, sessionToken } from './session-token.ts';
import { edgeSettings } from './settings.ts';
import { greeted, startCluster, TestClient, type TestCluster, until } from './test-edge.ts';
import { issueToken, readOrMakeSecret, TokenVerifier } from './tokens.ts';

describe('sessions', () => {
  let cluster: TestCluster;
  before(async () => {
    cluster = await startCluster({ node: 'edge-one' });
  });
  after(() => cluster.stop());

  test('the welcome says what a client must know', async () => {
    const client = await greeted(cluster, 'ann');
    const welcome = (await client.find(1))[1] as Record<string, unknown>;
    assert.deepEqual(
      {
        ...welcome,
        session: typeof welcome.session,
        now: typeof welcome.now,
        tokenExpiresAt: typeof welcome.tokenExpiresAt,
      },
      {
        v: 1,
        session: 'string',
        principal: 'ann',
        node: 'edge-one',
        now: 'number',
        heartbeatMs: 25_000,
        maxPayloadBytes: 65_536,
        maxInFlight: 256,
        tokenExpiresAt: 'number',
        resumed: false,
        sessionHorizonMs: 86_400_000,
      },
    );
    client.end();
  });

  test('what is sent right behind the hello is answered behind the welcome', async () => {
    const client = await new TestClient(cluster.port).open();
    client.send([1, { v: 1, token: await cluster.token('early') }], [2, 1, 1, 'adder:early', 'add', [1, '']]);
    client.send([2, 2, 1, 'adder:early', 'add', [1, '']]);
    await client.find(2, 2);
    assert.deepEqual(
      client.messages.map(([type]) => type),
      [1, 2, 2],
    );
    client.end();
  });

  test('a session is resumed by its own principal only, and a forged one becomes a new session', async () => {
    const first = await greeted(cluster, 'bob');
    const { session } = (await first.find(1))[1] as { session: string };
    first.end();
    const resumed = await greeted(cluster, 'bob', { session });
    assert.deepEqual(((await resumed.find(1))[1] as { resumed: boolean; session: string }).session, session);
    const other = await greeted(cluster, 'eve', { session });
    const theirs = (await other.find(1))[1] as { resumed: boolean; session: string };
    assert.equal(theirs.resumed, false);
    assert.notEqual(theirs.session, session);
    const forged = await greeted(cluster, 'bob', {
      session: `${session.startsWith('A') ? 'B' : 'A'}${session.slice(1)}`,
    });
    assert.equal(((await forged.find(1))[1] as { resumed: boolean }).resumed, false);
    assert.equal(resumed.closed, undefined);
    for (const client of [resumed, other, forged]) client.end();
  });

  test('renew gives a new session when nothing is in flight', async () => {
    const client = await greeted(cluster, 'renewer');
    const { session } = (await client.find(1))[1] as { session: string };
    for (const host of cluster.hosts.values()) host.muted = true;
    client.send([2, 5, 5, 'adder:renew', 'add', [1, '']], [8, 1]);
    assert.equal((await client.find(7, 1))[2], 'too_many_in_flight');
    for (const host of cluster.hosts.values()) {
      host.muted = false;
      host.epoch++;
      host.heartbeat();
    }
    await client.find(2, 5);
    client.send([8, 2], [2, 1, 1, 'adder:renew', 'add', [1, '']]);
    const answer = (await client.find(3, 2))[2] as { session: string };
    assert.notEqual(answer.session, session);
    assert.deepEqual(await client.find(2, 1), [2, 1, [2]]);
    client.end();
  });

  test('a token is refreshed in band', async () => {
    const client = await greeted(cluster, 'fresh');
    client.send([7, 1, await cluster.token('fresh', ['user', 'admin'])], [6]);
    const { tokenExpiresAt } = (await client.find(3, 1))[2] as { tokenExpiresAt: number };
    assert.ok(tokenExpiresAt > Date.now());
    client.send([2, 1, 1, 'adder:a', 'rule', []]);
    await client.find(2, 1);
    client.end();
  });

  test('a drain says goaway, lets replies out, refuses newcomers and closes with 3001', async () => {
    const draining = await startCluster({ drainMs: 400 }, 1);
    const clients = await Promise.all(['a', 'b', 'c'].map((name) => greeted(draining, name)));
    const [first] = clients as [TestClient];
    const host = draining.hosts.get('main-0');
    assert.ok(host);
    host.muted = true;
    first.send([2, 1, 1, 'adder:drain', 'add', [1, '']]);
    await until('folded', () => host.folded === 1);
    const drained = draining.edge.drain();
    for (const client of clients) assert.equal(((await client.find(8))[1] as { afterMs: number }).afterMs, 400);
    assert.equal((await fetch(`http://127.0.0.1:${draining.operationsPort}/readyz`)).status, 503);
    await assert.rejects(fetch(`http://127.0.0.1:${draining.port}/v1/openapi.json`));
    host.muted = false;
    host.epoch++;
    host.heartbeat();
    await first.find(2, 1);
    for (const client of clients) assert.equal((await client.close()).code, 3001);
    await drained;
    await draining.stop();
  });
});

describe('tokens', () => {
  const secret = new Uint8Array(32).fill(1);

  test('a verified token is remembered, and still expires', async () => {
    const verifier = new TokenVerifier(secret, 0);
    const token = await issueToken(secret, { principal: 'x', roles: ['user', 'system'], lifeMs: 1_000 });
    const claims = await verifier.verify(token);
    assert.deepEqual([claims.principal, claims.roles], ['x', ['user']]);
    assert.equal(await verifier.verify(token), claims);
    await until('expired', () =>
      verifier.verify(token).then(
        () => false,
        ({ code }) => code === 'token_expired',
      ),
    );
  });

  test('the tolerance for clocks is added to the life', async () => {
    const token = await issueToken(secret, { principal: 'x', roles: [], lifeMs: -30_000 });
    await assert.rejects(new TokenVerifier(secret, 0).verify(token), { code: 'token_expired' });
    assert.equal((await new TokenVerifier(secret, 60_000).verify(token)).principal, 'x');
  });

  test('another secret, another algorithm, or no subject are unauthorized', async () => {
    const verifier = new TokenVerifier(secret, 0);
    const other = await issueToken(new Uint8Array(32).fill(2), { principal: 'x', roles: [], lifeMs: 10_000 });
    await assert.rejects(verifier.verify(other), { code: 'unauthorized' });
    const [, payload] = other.split('.');
    const none = `${Buffer.from('{"alg":"none"}').toString('base64url')}.${payload}.`;
    await assert.rejects(verifier.verify(none), { code: 'unauthorized' });
  });

  test('a secret is made once, for its owner only', () => {
    const folder = mkdtempSync(join(tmpdir(), 'troupe-secret-'));
    try {
      const file = join(folder, 'deep', 'secret');
      const made = readOrMakeSecret(file);
      assert.equal(made.length, 32);
      assert.equal(statSync(file).mode & 0o777, 0o600);
      assert.deepEqual(readOrMakeSecret(file), made);
      const open = join(folder, 'open');
      writeFileSync(open, Buffer.from(made).toString('base64url'), { mode: 0o644 });
      assert.throws(() => readOrMakeSecret(open), /chmod 600/);
    } finally {
      rmSync(folder, { recursive: true });
    }
  });

  test('a session token names its session to its principal only', () => {
    const session = newSession(1_700_000_000_000);
    const token = sessionToken(secret, session, 'ann');
    assert.deepEqual(sessionOf(secret, token, 'ann'), session);
    assert.equal(sessionOf(secret, token, 'bob'), undefined);
    assert.equal(sessionOf(new Uint8Array(32), token, 'ann'), undefined);
    assert.equal(sessionOf(secret, token.slice(1), 'ann'), undefined);
    assert.equal(new DataView(session.buffer).getBigUint64(0, true), 1_700_000_000_000n);
  });
});

test('settings out of bounds are named', () => {
  assert.throws(() => edgeSettings({ idleTimeoutSeconds: 5 }), /idleTimeoutSeconds: 8 to 960, not 5/);
  assert.throws(() => edgeSettings({ maxPayloadBytes: 1e9 }), /maxPayloadBytes/);
  assert.throws(() => edgeSettings({ id: 'E 1' }), /id: 1 to 16/);
});
