import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, test } from 'node:test';
import { type DataFolder, locateDataFolder } from './data-folder.ts';
import { holderOf, lockFolder } from './folder-lock.ts';
import { identityOf } from './process-identity.ts';

const CONTENDERS = 6;

let folder: DataFolder;

beforeEach(() => {
  folder = locateDataFolder({ data: mkdtempSync(join(tmpdir(), 'troupe-lock-')) }, {});
});

afterEach(() => rmSync(folder.path, { recursive: true, force: true }));

/** Locks the folder in another process, which says how it went and then waits to be killed. */
function contender() {
  const [lock, data] = [new URL('./folder-lock.js', import.meta.url), new URL('./data-folder.js', import.meta.url)];
  const program = `
    const { lockFolder } = await import(${JSON.stringify(lock.href)});
    const { locateDataFolder } = await import(${JSON.stringify(data.href)});
    try { lockFolder(locateDataFolder({ data: ${JSON.stringify(folder.path)} }, {})); console.log('locked'); }
    catch (error) { console.log('refused ' + error.message); }
    setInterval(() => {}, 1000);`;
  return spawn(process.execPath, ['--input-type=module', '-e', program], { stdio: ['ignore', 'pipe', 'inherit'] });
}

async function saidBy(child: ReturnType<typeof contender>): Promise<string> {
  const [said] = await once(child.stdout, 'data');
  return String(said).trim();
}

async function kill(child: ReturnType<typeof contender>): Promise<void> {
  const gone = once(child, 'exit');
  child.kill('SIGKILL');
  await gone;
}

test('one holder at a time; it is named; after the release the next one may', () => {
  const release = lockFolder(folder);
  assert.equal(holderOf(folder)?.pid, process.pid);
  assert.throws(() => lockFolder(folder), new RegExp(`already runs on .* \\(process ${process.pid}\\)`));
  release();
  assert.equal(holderOf(folder), undefined);
  lockFolder(folder)();
});

test('the lock of a killed process is taken over', async () => {
  const child = contender();
  assert.equal(await saidBy(child), 'locked');
  assert.throws(() => lockFolder(folder), new RegExp(`process ${child.pid}`));
  await kill(child);
  assert.ok(existsSync(folder.lockFile));
  lockFolder(folder)();
});

test('a process number that was given to another process is no holder', () => {
  const self = identityOf(process.pid);
  writeFileSync(folder.lockFile, JSON.stringify({ ...self, startTicks: (self?.startTicks ?? 0) - 1 }));
  lockFolder(folder)();
  writeFileSync(folder.lockFile, 'half a fi');
  lockFolder(folder)();
});

test('of many who find a stale lock one wins', async () => {
  writeFileSync(folder.lockFile, JSON.stringify({ ...identityOf(process.pid), startTicks: 1 }));
  const children = Array.from({ length: CONTENDERS }, contender);
  const said = await Promise.all(children.map(saidBy));
  await Promise.all(children.map(kill));
  assert.equal(said.filter((word) => word === 'locked').length, 1, said.join('\n'));
});
