/** The command line against a real cluster: its own processes, sockets and data folder. */
import assert from 'node:assert/strict';
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { after, before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { findNatsServer } from '../cluster/log/nats-binary.ts';
import { isAlive, type ProcessIdentity } from './process-identity.ts';
import type { RunState } from './run-file.ts';

const TROUPE = fileURLToPath(new URL('./troupe.js', import.meta.url));
const DEADLINE_MS = 30_000;

type StageLine = { readonly stage: string; readonly [name: string]: unknown };
type Result = { readonly code: number; readonly out: string; readonly err: string };

const base = mkdtempSync(join(tmpdir(), 'troupe-cli-'));
const data = join(base, 'data');
// A home of its own, so that nothing of this machine is used by accident.
const environment = { ...process.env, TROUPE_DATA: data, HOME: base, NATS_SERVER: (await findNatsServer()).path };

let up: Up;

/** A `troupe up` in the background. */
class Up {
  readonly stages: StageLine[] = [];
  readonly child: ChildProcess;
  readonly ended: Promise<number | null>;

  constructor(...words: string[]) {
    const all = [
      TROUPE,
      'up',
      '--json',
      '--port',
      '0',
      '--main-partitions',
      '2',
      '--exchange-partitions',
      '2',
      ...words,
    ];
    this.child = spawn(process.execPath, all, { env: environment, stdio: ['ignore', 'pipe', 'inherit'] });
    if (this.child.stdout)
      createInterface({ input: this.child.stdout }).on('line', (line) => this.stages.push(JSON.parse(line)));
    this.ended = once(this.child, 'exit').then(([code]) => code);
  }

  async until(name: string, from = 0): Promise<StageLine> {
    return waitFor(`stage ${name}`, () => {
      const found = this.stages.slice(from).find(({ stage }) => stage === name);
      if (!found && this.child.exitCode !== null) throw new Error(`troupe up ended with ${this.child.exitCode}`);
      return found;
    });
  }
}

async function waitFor<T>(what: string, get: () => T | undefined | false): Promise<T> {
  const deadline = Date.now() + DEADLINE_MS;
  for (;;) {
    const value = get();
    if (value !== undefined && value !== false) return value;
    if (Date.now() > deadline) throw new Error(`${what} did not come`);
    await sleep(10);
  }
}

function troupe(...words: string[]): Promise<Result> {
  return new Promise((resolve) => {
    execFile(process.execPath, [TROUPE, ...words], { env: environment }, (error, out, err) => {
      resolve({ code: error ? Number(error.code ?? 1) : 0, out, err });
    });
  });
}

async function json(...words: string[]): Promise<Record<string, unknown>> {
  const { code, out, err } = await troupe(...words, '--json');
  assert.equal(code, 0, err);
  return JSON.parse(out) as Record<string, unknown>;
}

const runState = () => JSON.parse(readFileSync(join(data, 'run.json'), 'utf8')) as RunState;
const goneOf = (processes: readonly ProcessIdentity[]) => () => processes.every((identity) => !isAlive(identity));

before(async () => {
  up = new Up('--demo-rate', '100');
  await up.until('ready');
});

after(async () => {
  if (up.child.exitCode === null) up.child.kill('SIGTERM');
  await up.ended;
  rmSync(base, { recursive: true, force: true });
});

test('up tells what it is, what can be lost, and where it is', async () => {
  const names = up.stages.map(({ stage }) => stage);
  for (const name of ['versions', 'folder', 'nats', 'host', 'edge', 'demo', 'ready'])
    assert.ok(names.includes(name), name);
  const versions = await up.until('versions');
  assert.match(String(versions.websocketSha256), /^[0-9a-f]{64}$/);
  assert.match(String((await up.until('nats')).canBeLost), /power failure/);
  for (const name of ['run.json', 'secret', 'format.json'])
    assert.equal(statSync(join(data, name)).mode & 0o777, 0o600, name);
  const { url } = runState();
  assert.equal((await fetch(`${runState().operationsUrl}/readyz`)).status, 200);
  assert.equal((await up.until('ready')).url, url);
});

test('a second up on the folder is refused, and says by whom and what to do', async () => {
  const { code, err } = await troupe('up');
  assert.equal(code, 1);
  assert.match(err, new RegExp(`already runs on .*process ${up.child.pid}`));
  assert.match(err, new RegExp(`kill ${up.child.pid}`));
});

test('a taken port is refused before anything is made', async () => {
  const other = join(base, 'other');
  const { code, err } = await troupe('up', '--data', other, '--port', new URL(runState().url).port);
  assert.equal(code, 1);
  assert.match(err, /port \d+ of 127.0.0.1 is taken/);
  assert.ok(!existsSync(other));
});

test('send, query, inspect, actors, status', async () => {
  assert.deepEqual(await json('send', 'counter:cli', 'add', '{"amount": 3, "note": "x"}'), { value: 3 });
  assert.deepEqual(await json('query', 'counter:cli', 'value'), { value: 3, changes: 1, recent: [3] });
  const found = await json('inspect', 'counter:cli');
  assert.deepEqual([found.known, found.state], [true, [3, 1, [3]]]);
  assert.deepEqual((await json('actors', 'counter')).actors, ['counter:cli']);
  const { partitions } = await json('status');
  assert.deepEqual(
    (partitions as { state: string }[]).map(({ state }) => state),
    ['live', 'live', 'live', 'live'],
  );
});

test('a binary command from JSON', async () => {
  await json('send', 'book:CLI/A', 'setPhase', '{"phase": "continuous"}');
  const order = { orderId: 1, priceTicks: 100, quantityLots: 5, side: 'bid', orderType: 'limit', timeInForce: 'day' };
  assert.equal((await json('send', 'book:CLI/A', 'enter', JSON.stringify(order))).status, 'resting');
  assert.equal((await json('query', 'book:CLI/A', 'l1')).bidPriceTicks, 100);
});

test('mistakes are told by name, with what there is', async () => {
  const cases: [words: string[], expected: RegExp][] = [
    [['send', 'counter', 'add'], /An actor is kind:key/],
    [['send', 'nokind:a', 'add'], /Kinds: .*counter/],
    [['send', 'counter:a', 'nocommand'], /It has: add, /],
    [['query', 'counter:a', 'noquery'], /It has: value/],
    [['send', 'counter:a', 'add', '{amount: 3}'], /not JSON/],
    [['send', 'counter:a', 'add', '{"amount": 3}'], /note: the field is missing/],
    [['send', 'counter:a', 'move', '{"to": "b", "amount": 5}'], /The counter holds less than that/],
    [['query', 'counter:a', 'value', '--server', 'ftp://x'], /not the address of a server/],
    [['query', 'counter:a', 'value', '--server', 'http://127.0.0.1:9'], /does not answer/],
    [['status', '--token', 'wrong'], /name the data folder|token/i],
    [['tail', 'main-99'], /main-0 to main-1/],
    [['replay', 'counter:a', '--at', '999999'], /the log ends at/],
    [['accept-loss', 'main-0'], /--yes/],
    [['accept-loss', 'main-0', '--yes'], /not halted/],
    [['up', '--main-partitions', '3'], /already runs|was made with 2/],
    [['up', '--port', 'x'], /a whole number from 0 to 65535/],
    [['token', '--role', 'system', '--sub', 'a'], /No token gives the role/],
    [['staus'], /Did you mean status/],
  ];
  const results = await Promise.all(cases.map(([words]) => troupe(...words)));
  for (const [index, { code, err }] of results.entries()) {
    assert.equal(code, 1, cases[index]?.[0].join(' '));
    assert.match(err, cases[index]?.[1] as RegExp);
    assert.doesNotMatch(err, /\n {4}at /, 'no stack for a mistake');
  }
});

test('every command explains itself', async () => {
  const names = [
    'up',
    'status',
    'actors',
    'inspect',
    'query',
    'send',
    'tail',
    'replay',
    'accept-loss',
    'token',
    'market replay',
  ];
  const results = await Promise.all(names.map((name) => troupe(...name.split(' '), '--help')));
  for (const [index, { code, out }] of results.entries()) {
    assert.equal(code, 0);
    assert.match(out, new RegExp(`Usage: troupe ${names[index]}`));
  }
  assert.match((await troupe('--version')).out, /^\d+\.\d+\.\d+/);
});

test('a token of ours is accepted and gives no more than its roles', async () => {
  const { token } = await json('token', '--role', 'viewer', '--sub', 'someone', '--ttl', '1m');
  const refused = await troupe('send', 'counter:a', 'add', '{"amount": 1, "note": ""}', '--token', String(token));
  assert.match(refused.err, /role of this token does not allow/);
});

test("tail shows a topic's events and a partition's records", async () => {
  const child = spawn(process.execPath, [TROUPE, 'tail', 'counter:tail/history', '--from', '0', '--json'], {
    env: environment,
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const lines: { offset: number; value: unknown }[] = [];
  createInterface({ input: child.stdout }).on('line', (line) => lines.push(JSON.parse(line)));
  await json('send', 'counter:tail', 'addOnce', '{"amount": 4, "note": "n"}');
  await waitFor('the event', () => lines.length === 1);
  assert.deepEqual(lines[0]?.value, { amount: 4, value: 4 });
  child.kill('SIGINT');
  assert.deepEqual(await once(child, 'exit'), [0, null]);
  const { partition } = await json('inspect', 'counter:tail');
  const { out } = await troupe('tail', String(partition), '--no-follow', '--from', '1', '--json');
  const records = out
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line));
  assert.equal(records[0].type, 'epoch');
  assert.ok(
    records.some(({ actor, command, body }) => actor === 'counter:tail' && command === 'addOnce' && body.amount === 4),
  );
});

test('replay gives the state and the hash of the running one, and earlier states', async () => {
  const live = await json('inspect', 'counter:cli');
  const folded = await json('replay', 'counter:cli');
  assert.deepEqual([folded.state, folded.actorHash], [live.state, live.hash]);
  const before = await json('replay', 'counter:cli', '--at', '1');
  assert.deepEqual([before.known, before.sequence], [false, 1]);
});

const day = join(process.env.TROUPE_TEST_DATA ?? '../shared/data', 'exchange', 'sse_600519_20230207_');
const skip = existsSync(`${day}commands.csv.gz`) ? false : 'TROUPE_TEST_DATA: the exchange data is not there';

test('the real day through the command line is exact, and a used book is refused', { skip }, async () => {
  const words = ['market', 'replay', `${day}commands.csv.gz`, '--verify', `${day}expected_trades.csv.gz`];
  const verdict = await json(...words, '--books', `${day}snapshots.csv.gz`);
  assert.deepEqual(
    [verdict.exact, verdict.commands, verdict.tradesEqual, verdict.booksEqual],
    [true, 58_432, 18_685, 4_926],
  );
  assert.ok(Number(verdict.indicativesEqual) >= 186);
  assert.match((await troupe(...words)).err, /was used before.*\n.*--symbol/);
});

test('processes that are killed come back, and clients hardly notice', async () => {
  for (const name of ['host', 'edge', 'nats'] as const) {
    const from = up.stages.length;
    const pid =
      name === 'nats'
        ? Number(readFileSync(join(data, 'nats', 'nats-server.pid'), 'utf8'))
        : runState().children[name]?.pid;
    process.kill(Number(pid), 'SIGKILL');
    await up.until('died', from);
    const { value } = await json('send', 'counter:killed', 'add', '{"amount": 1, "note": ""}');
    assert.ok(Number(value) >= 1, name);
    await up.until('restarted', from);
  }
  assert.equal((await json('query', 'counter:killed', 'value')).value, 3);
});

test('kill -9 of up ends all of it; the next start recovers; offline replay agrees', async () => {
  const live = await json('inspect', 'counter:cli');
  const { children } = runState();
  up.child.kill('SIGKILL');
  await up.ended;
  await waitFor('the end of the children', goneOf(Object.values(children)));
  const folded = await json('replay', 'counter:cli');
  assert.deepEqual([folded.state, folded.actorHash], [live.state, live.hash]);
  up = new Up('--no-demo');
  await up.until('ready');
  const host = await up.until('host');
  assert.ok(Number(host.recoveredMessages) > 0);
  assert.equal((await json('inspect', 'counter:cli')).hash, live.hash);
});

test('a signal ends it cleanly, and nothing is left', async () => {
  const { children } = runState();
  up.child.kill('SIGINT');
  assert.equal(await up.ended, 0);
  assert.ok(goneOf(Object.values(children))());
  for (const name of ['run.json', 'lock']) assert.ok(!existsSync(join(data, name)), name);
  assert.equal(up.stages.at(-1)?.stage, 'stopped');
});
