/**
 * LMDB checkpoints on a machine that fails: kill -9 at random moments and before each write of a commit, and a disk that fills.
 * The process that suffers is this file again, told by TROUPE_SUFFER what to do. (A kill keeps what the kernel has already
 * taken: the loss of power is not tested here. That the flush precedes the answer is, by the order of system calls.)
 */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import {
  closeSync,
  fstatSync,
  ftruncateSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { assertHistory, fullDiskLaw, historyChanges, historyNumber } from './checkpoint.laws.ts';
import { LmdbCheckpoints } from './lmdb-checkpoints.ts';

const THIS_FILE = fileURLToPath(import.meta.url);
const PARTITION = 'main-0';
const KILLS = 12; // Each costs the start of a process; the seed makes any of them replayable.
const TMPFS_BYTES = 8 * 1024 * 1024; // Small enough to fill in a blink, big enough for what the law commits.
const SHORT_BYTES = 100_000; // Left on the full disk: LMDB's write is cut short, which it reports as EIO, not ENOSPC.

/** Goes on with the history, at most `commits` of it, and says each number once it is acknowledged. */
async function commitHistory(folder: string, seed: number, commits: number): Promise<void> {
  const checkpoints = new LmdbCheckpoints(folder);
  const store = await checkpoints.open(PARTITION);
  const first = historyNumber(store);
  writeSync(1, `${first}\n`);
  for (let n = first + 1; n <= first + commits; n++) {
    await store.commit(historyChanges(seed, n));
    writeSync(1, `${n}\n`);
  }
  await checkpoints.close();
}

/** Runs in a mount namespace of its own, on a small file system. */
async function fillDisk(folder: string): Promise<void> {
  const checkpoints = new LmdbCheckpoints(join(folder, 'partitions'));
  const ballast = join(folder, 'ballast');
  await fullDiskLaw(checkpoints, { fill: () => writeUntilFull(ballast), free: () => rmSync(ballast) });
  writeUntilFull(ballast);
  await assert.rejects(checkpoints.open('main-1'), { code: 'storage_full' });
  rmSync(ballast);
  await (await checkpoints.open('main-1')).commit(historyChanges(1, 1));
  await checkpoints.close();
  writeSync(1, 'kept\n');
}

function writeUntilFull(path: string): void {
  const file = openSync(path, 'w');
  const block = new Uint8Array(4_096);
  try {
    for (;;) writeSync(file, block);
  } catch (error) {
    assert.equal((error as NodeJS.ErrnoException).code, 'ENOSPC');
  } finally {
    ftruncateSync(file, fstatSync(file).size - SHORT_BYTES);
    closeSync(file);
  }
}

type Suffering = { readonly child: ChildProcess; readonly ended: Promise<unknown>; last(): number };

function suffer(command: string, args: readonly string[], settings: Record<string, string>): Suffering {
  const { NODE_TEST_CONTEXT: _, ...environment } = process.env;
  const child = spawn(command, args, { env: { ...environment, ...settings }, stdio: ['ignore', 'pipe', 'inherit'] });
  let last = -1;
  createInterface({ input: child.stdout! }).on('line', (line) => {
    last = Number(line);
  });
  return { child, ended: once(child, 'close'), last: () => last };
}

async function until(condition: () => boolean, what: string): Promise<void> {
  const deadline = Date.now() + 20_000;
  while (!condition()) {
    assert.ok(Date.now() < deadline, `waited too long for ${what}`);
    await new Promise((resolve) => setImmediate(resolve));
  }
}

async function assertStored(folder: string, seed: number, acknowledged: number): Promise<number> {
  const checkpoints = new LmdbCheckpoints(folder);
  const store = await checkpoints.open(PARTITION);
  await assertHistory(store, seed, acknowledged);
  const number = historyNumber(store);
  await checkpoints.close();
  return number;
}

function crashTests(): void {
  test('lmdb: kill -9 at random moments of commits leaves the old or the new checkpoint, whole', {
    timeout: 120_000,
  }, async (t) => {
    const folder = mkdtempSync(join(tmpdir(), 'troupe-crash-'));
    const seed = Math.floor(Math.random() * 2 ** 31);
    t.diagnostic(`seed ${seed}`);
    try {
      let stored = 0;
      let kept = 0;
      for (let kill = 0; kill < KILLS; kill++) {
        const { child, ended, last } = suffer(process.execPath, [THIS_FILE], {
          TROUPE_SUFFER: 'commit',
          TROUPE_FOLDER: folder,
          TROUPE_SEED: `${seed}`,
          TROUPE_COMMITS: '1000',
        });
        const target = stored + 2 + ((seed >>> kill) & 7);
        await until(() => last() >= target, `commit ${target}`);
        const moment = performance.now() + (((seed >>> kill) % 29) / 29) * 6;
        while (performance.now() < moment); // Finer than a timer: a commit takes a few milliseconds.
        child.kill('SIGKILL');
        await ended;
        stored = await assertStored(folder, seed, last());
        if (stored > last()) kept++;
      }
      t.diagnostic(`${stored} commits, ${KILLS} kills, ${kept} between commit and answer`);
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  });

  test('lmdb: a crash before each write and each flush of a commit', { timeout: 120_000 }, async (t) => {
    if (spawnSync('strace', ['-qq', '-o', '/dev/null', 'true']).status !== 0) return t.skip('strace cannot trace here');
    const folder = mkdtempSync(join(tmpdir(), 'troupe-crash-'));
    const seed = 11;
    try {
      let stored = await firstCommits(folder, seed);
      const outcomes: string[] = [];
      for (const call of ['writev', 'pwrite64', 'fdatasync']) {
        for (let when = 1; when <= 4; when++) {
          const inject = [
            '-f',
            '-qq',
            '-e',
            `trace=${call}`,
            '-e',
            `inject=${call}:signal=KILL:when=${when}`,
            '-o',
            '/dev/null',
          ];
          const { ended, last } = suffer('strace', [...inject, process.execPath, THIS_FILE], {
            TROUPE_SUFFER: 'commit',
            TROUPE_FOLDER: folder,
            TROUPE_SEED: `${seed}`,
            TROUPE_COMMITS: '3',
          });
          await ended;
          assert.ok(last() >= stored, `${call} ${when}: the process did not begin`);
          const before = stored;
          stored = await assertStored(folder, seed, last());
          outcomes.push(`${call} ${when}: ${before} + ${stored - before}`);
          assert.ok(when > 1 || stored - before < 3, `${call} was not hit: ${outcomes}`);
        }
      }
      t.diagnostic(outcomes.join('; '));
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  });

  test('lmdb: a commit is answered only after data, flush and meta page', { timeout: 60_000 }, async (t) => {
    if (spawnSync('strace', ['-qq', '-o', '/dev/null', 'true']).status !== 0) return t.skip('strace cannot trace here');
    const folder = mkdtempSync(join(tmpdir(), 'troupe-crash-'));
    try {
      const trace = join(folder, 'trace');
      const { ended } = suffer(
        'strace',
        ['-f', '-qq', '-e', 'trace=pwrite64,writev,fdatasync,write,openat', '-o', trace, process.execPath, THIS_FILE],
        { TROUPE_SUFFER: 'commit', TROUPE_FOLDER: folder, TROUPE_SEED: '3', TROUPE_COMMITS: '5' },
      );
      await ended;
      assertFlushedBeforeAnswer(readFileSync(trace, 'utf8'));
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  });

  test('lmdb: a disk that fills and frees again', { timeout: 60_000 }, async (t) => {
    const folder = mkdtempSync(join(tmpdir(), 'troupe-full-'));
    try {
      const mount = `mount -t tmpfs -o size=${TMPFS_BYTES} tmpfs "$TROUPE_FOLDER"`;
      const settings = { TROUPE_SUFFER: 'fill', TROUPE_FOLDER: join(folder, 'disk') };
      mkdirSync(settings.TROUPE_FOLDER);
      const environment: NodeJS.ProcessEnv = { ...process.env, ...settings };
      const possible = spawnSync('unshare', ['-Urm', 'sh', '-c', mount], { env: environment });
      if (possible.status !== 0) return t.skip('no mount namespaces here');
      const { NODE_TEST_CONTEXT: _, ...childEnvironment } = environment;
      const command = `${mount} && exec "${process.execPath}" "${THIS_FILE}"`;
      const { status, stdout, stderr } = spawnSync('unshare', ['-Urm', 'sh', '-c', command], {
        env: childEnvironment,
        timeout: 50_000,
        encoding: 'utf8',
      });
      assert.equal(`${status} ${stdout}`, '0 kept\n', stderr);
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  });
}

async function firstCommits(folder: string, seed: number): Promise<number> {
  const checkpoints = new LmdbCheckpoints(folder);
  const store = await checkpoints.open(PARTITION);
  for (let n = 1; n <= 3; n++) await store.commit(historyChanges(seed, n));
  await checkpoints.close();
  return 3;
}

/** Between the answers n and n + 1 (writes to descriptor 1) lie data pages, then a flush, then the meta page (128 bytes, O_DSYNC). */
function assertFlushedBeforeAnswer(trace: string): void {
  const steps = trace.split('\n').map(stepOf).join('');
  const commits = steps.split('A').slice(1, -1);
  assert.ok(commits.length >= 3, `${commits.length} commits traced`);
  for (const commit of commits) assert.match(commit, /^D+FM$/, steps);
  assert.match(trace, /data\.mdb", O_WRONLY\|O_DSYNC/);
}

function stepOf(line: string): string {
  if (/ write\(1, /.test(line)) return 'A';
  if (/ fdatasync\(.*= 0$/.test(line) || /fdatasync resumed.*= 0$/.test(line)) return 'F';
  if (/ pwrite64\(.*, 128, \d+/.test(line)) return 'M';
  return / (writev|pwrite64)\(/.test(line) ? 'D' : '';
}

const { TROUPE_SUFFER, TROUPE_FOLDER, TROUPE_SEED, TROUPE_COMMITS } = process.env;
if (TROUPE_SUFFER === 'commit') await commitHistory(TROUPE_FOLDER!, Number(TROUPE_SEED), Number(TROUPE_COMMITS));
else if (TROUPE_SUFFER === 'fill') await fillDisk(TROUPE_FOLDER!);
else crashTests();
