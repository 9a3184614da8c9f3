import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { checkpointLaws, historyChanges } from './checkpoint.laws.ts';
import { LmdbCheckpoints } from './lmdb-checkpoints.ts';

checkpointLaws('lmdb', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'troupe-checkpoint-'));
  const opened = [new LmdbCheckpoints(folder)];
  return {
    checkpoints: opened[0]!,
    restart: async () => {
      await opened.at(-1)!.close();
      opened.push(new LmdbCheckpoints(folder));
      return opened.at(-1)!;
    },
    remove: async () => {
      for (const checkpoints of opened) await checkpoints.close();
      rmSync(folder, { recursive: true, force: true });
    },
  };
});

async function withFolder(use: (folder: string) => Promise<void>): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'troupe-checkpoint-'));
  try {
    await use(folder);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

test('lmdb: nobody else may read the folder or the files', () =>
  withFolder(async (folder) => {
    const checkpoints = new LmdbCheckpoints(join(folder, 'partitions'));
    await checkpoints.open('main-0');
    assert.equal(statSync(join(folder, 'partitions')).mode & 0o777, 0o700);
    assert.equal(statSync(join(folder, 'partitions', 'main-0')).mode & 0o777, 0o700);
    assert.equal(statSync(join(folder, 'partitions', 'main-0', 'data.mdb')).mode & 0o777, 0o600);
    await checkpoints.close();
  }));

test('lmdb: a folder that cannot be made is storage_failed', () =>
  withFolder(async (folder) => {
    writeFileSync(join(folder, 'file'), '');
    const checkpoints = new LmdbCheckpoints(join(folder, 'file'));
    await assert.rejects(checkpoints.open('main-0'), { code: 'storage_failed' });
    await checkpoints.close();
  }));

test('lmdb: 64 partitions in one process, committing at once', () =>
  withFolder(async (folder) => {
    const checkpoints = new LmdbCheckpoints(folder);
    const names = Array.from({ length: 64 }, (_, i) => `main-${i}`);
    const stores = await Promise.all(names.map((name) => checkpoints.open(name)));
    await Promise.all(stores.map((store, seed) => store.commit(historyChanges(seed, 1))));
    await Promise.all(stores.map((store, seed) => store.commit(historyChanges(seed, 2))));
    for (const store of stores) assert.equal(store.count('meta'), 1);
    await checkpoints.close();
  }));

test('lmdb: closing twice, and with commits under way, ends', () =>
  withFolder(async (folder) => {
    const checkpoints = new LmdbCheckpoints(folder);
    const store = await checkpoints.open('main-0');
    const commit = store.commit(historyChanges(1, 1));
    await Promise.all([checkpoints.close(), commit]);
    await checkpoints.close();
    await assert.rejects(checkpoints.open('main-0'), /closed/);
  }));
