import assert from 'node:assert/strict';
import { test } from 'node:test';
import { assertHistory, checkpointLaws, fullDiskLaw, historyChanges, historyNumber } from './checkpoint.laws.ts';
import { MemoryCheckpoints } from './memory-checkpoints.ts';

checkpointLaws('memory', async () => {
  const checkpoints = new MemoryCheckpoints();
  const restart = async (): Promise<MemoryCheckpoints> => {
    await checkpoints.close();
    return checkpoints;
  };
  return { checkpoints, restart, remove: () => checkpoints.close() };
});

test('memory: a disk that fills and frees again', async () => {
  const checkpoints = new MemoryCheckpoints();
  await fullDiskLaw(checkpoints, {
    fill: () => checkpoints.fillDisk('main-0', Number.POSITIVE_INFINITY),
    free: () => checkpoints.fillDisk('main-0', 0),
  });
});

for (const point of ['before-commit', 'after-commit'] as const) {
  test(`memory: a crash ${point} leaves the old or the new checkpoint, and the commit never settles`, async () => {
    const checkpoints = new MemoryCheckpoints();
    const seed = 7;
    let store = await checkpoints.open('main-0');
    await store.commit(historyChanges(seed, 1));
    let settled = false;
    const settle = (): void => {
      settled = true;
    };
    await new Promise<void>((crashed) => {
      checkpoints.crashAt('main-0', point, crashed);
      store.commit(historyChanges(seed, 2)).then(settle, settle);
    });
    assert.throws(() => store.count('row'), /closed/);
    store = await checkpoints.open('main-0');
    await assertHistory(store, seed, 1);
    assert.equal(historyNumber(store), point === 'before-commit' ? 1 : 2);
    assert.equal(settled, false);
    await store.commit(historyChanges(seed, point === 'before-commit' ? 2 : 3));
    await checkpoints.close();
  });
}
