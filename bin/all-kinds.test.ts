import assert from 'node:assert/strict';
import { test } from 'node:test';
import { loadKinds } from './all-kinds.ts';

test('the kinds of every folder are found, by name', async () => {
  const kinds = await loadKinds();
  const names = kinds.map(({ kind }) => kind);
  assert.deepEqual(names, [...names].sort());
  for (const name of ['book', 'counter']) assert.ok(names.includes(name), name);
  for (const { kind, handle, snapshot } of kinds) assert.ok(handle && snapshot.version >= 1, kind);
});
