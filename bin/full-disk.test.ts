/**
 * `troupe up` on a small file system that is filled while commands flow: clients are told `storage_full`, the operator why, no
 * part dies for good, and once there is space everything goes on by itself, with nothing lost and nothing done twice.
 */
import assert from 'node:assert/strict';
import { type ChildProcess, execFileSync, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { after, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { counter } from '../actors/sample/counter.ts';
import { TestClient, until } from '../cluster/edge/test-edge.ts';
import { issueToken, readOrMakeSecret } from '../cluster/edge/tokens.ts';
import { findNatsServer } from '../cluster/log/nats-binary.ts';
import type { Stage } from './embedded.ts';
import type { RunState } from './run-file.ts';
import { clientOf, keyIn, readiness, SteadyClient, statusOf } from './test-cluster.ts';

const TROUPE = fileURLToPath(new URL('./troupe.js', import.meta.url));
const DISK = '32m';
const PARTITIONS = 2;
const DEADLINE_MS = 30_000;

/** Where nobody may mount, nothing can be shown: not every container lets its users make namespaces. */
const mayMount =
  process.platform === 'linux' &&
  spawnSync('unshare', ['-Urm', 'sh', '-c', 'mount -t tmpfs tmpfs /mnt'], { stdio: 'ignore' }).status === 0;
const skip = mayMount ? false : 'unshare -Urm is not allowed here: no small file system can be made';

const base = mkdtempSync(join(tmpdir(), 'troupe-full-disk-'));
let up: ChildProcess | undefined;
const clients: { close(): void }[] = [];
after(async () => {
  for (const client of clients) client.close();
  if (up && up.exitCode === null) {
    up.kill('SIGTERM');
    await once(up, 'exit');
  }
  rmSync(base, { recursive: true, force: true });
});

test('a full disk is named, survived, and forgotten once there is space', { skip, timeout: 120_000 }, async () => {
  const stages: Stage[] = [];
  up = await startOnSmallDisk(stages);
  const stageOf = (name: Stage['stage'], from = 0) => stages.slice(from).find(({ stage }) => stage === name);
  await until('ready', () => stageOf('ready') !== undefined, DEADLINE_MS);
  const { url } = stageOf('ready') as Extract<Stage, { stage: 'ready' }>;

  // The file system is seen from here through the process that lives on it.
  const data = `/proc/${up.pid}/root${join(base, 'disk', 'data')}`;
  const runState = () => JSON.parse(readFileSync(join(data, 'run.json'), 'utf8')) as RunState;
  const secret = readOrMakeSecret(join(data, 'secret'));
  const token = await issueToken(secret, { principal: 'test', roles: ['user', 'operator'], lifeMs: 3_600_000 });
  const keys = [keyIn('main-0', PARTITIONS), keyIn('main-1', PARTITIONS)];
  const steady = new SteadyClient(clientOf(url, token, 100_000), keys);
  clients.push(steady);
  await steady.goesOn();

  const { operationsUrl } = runState();
  const ballast = join(data, 'ballast');
  fill(ballast);
  await until('the problem is told', () => stageOf('log_problem') !== undefined, DEADLINE_MS);
  const { status, text } = await readiness(operationsUrl);
  assert.deepEqual([status, text.split(':')[0]], [503, 'storage_full']);
  assert.match(text, /no space left on device/);

  await demandRefusal(url, token);
  const hasReason = async () =>
    (await statusOf(url, token)).some(({ reason = '' }) => /^checkpoints fail: storage_full/.test(reason));
  await until('the failing checkpoints', hasReason, DEADLINE_MS);

  const isReady = async () => (await readiness(runState().operationsUrl).catch(() => undefined))?.text === 'ready\n';
  const isWellAgain = async () => {
    const from = stages.length;
    const acknowledged = steady.total;
    rmSync(ballast);
    await until('all well', () => stageOf('log_well', from) !== undefined, DEADLINE_MS);
    await steady.goesOn(20, 60_000);
    assert.ok(steady.total > acknowledged);
    await until('ready again', isReady, DEADLINE_MS);
  };
  await isWellAgain();

  // Whatever dies on a full disk waits for space as well.
  const told = stages.length;
  fill(ballast);
  await until('the problem is told again', () => stageOf('log_problem', told) !== undefined, DEADLINE_MS);
  const { host, edge } = runState().children;
  const natsPid = Number(readFileSync(join(data, 'nats', 'nats-server.pid'), 'utf8'));
  const killed = stages.length;
  for (const pid of [natsPid, host?.pid, edge?.pid]) process.kill(pid ?? 0, 'SIGKILL');
  const deaths = () => new Set(stages.slice(killed).map((stage) => stage.stage === 'died' && stage.process));
  await until('three deaths', () => ['nats', 'host', 'edge'].every((name) => deaths().has(name as never)), DEADLINE_MS);
  await isWellAgain();
  await steady.finish();
  assert.equal(stageOf('gave_up'), undefined);

  // Ended on a full disk, it ends cleanly.
  fill(ballast);
  up.kill('SIGTERM');
  await once(up, 'exit');
  assert.equal(up.exitCode, 0);
});

async function demandRefusal(url: string, token: string): Promise<void> {
  const raw = await new TestClient(Number(new URL(url).port)).open();
  raw.send([1, { v: 1, token }], [2, 1, 1, `${counter.kind}:x`, 'add', [1, '']]);
  assert.equal((await raw.find(5, 1))[2], 'storage_full');
  raw.end();
}

/** `troupe up --json` in a mount namespace of its own; all its children live there too. */
async function startOnSmallDisk(stages: Stage[]): Promise<ChildProcess> {
  const disk = join(base, 'disk');
  execFileSync('mkdir', [disk]);
  const words = ['up', '--json', '--no-demo', '--port', '0', '--data', join(disk, 'data'), '--log-bytes', '8388608'];
  const sizes = ['--main-partitions', String(PARTITIONS), '--exchange-partitions', '1', '--checkpoint-ms', '300'];
  const script = `mount -t tmpfs -o size=${DISK} tmpfs ${disk} && exec "$0" "$@"`;
  const child = spawn('unshare', ['-Urm', 'sh', '-c', script, process.execPath, TROUPE, ...words, ...sizes], {
    env: { ...process.env, HOME: base, NATS_SERVER: (await findNatsServer()).path },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  createInterface({ input: child.stdout as NodeJS.ReadableStream }).on('line', (line) => stages.push(JSON.parse(line)));
  return child;
}

/** Writes until nothing more fits. */
function fill(path: string, flags = 'w'): void {
  const file = openSync(path, flags);
  try {
    for (let bytes = 64 * 1024; bytes >= 1; bytes /= 16) {
      try {
        for (;;) writeSync(file, new Uint8Array(bytes));
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'ENOSPC') throw error;
      }
    }
  } finally {
    closeSync(file);
  }
}
