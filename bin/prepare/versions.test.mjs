import assert from 'node:assert/strict';
import test from 'node:test';
import { compareVersions, isAtLeast } from './versions.mjs';

test('versions: compared by number, not by text', () => {
  assert.ok(isAtLeast('2.15.1', '2.15.1'));
  assert.ok(isAtLeast('v2.15.10', '2.15.9'));
  assert.ok(isAtLeast('3.0.0', '2.15.1'));
  assert.ok(isAtLeast('2.36', '2.34'));
  assert.ok(!isAtLeast('2.9.25', '2.15.1'));
  assert.ok(!isAtLeast('2.15.0', '2.15.1'));
});

test('versions: a pre-release comes before its release', () => {
  assert.ok(!isAtLeast('2.15.1-RC.1', '2.15.1'));
  assert.ok(isAtLeast('2.16.0-RC.1', '2.15.1'));
});

test('versions: what is no version is never enough', () => {
  for (const text of [undefined, '', 'newest', '2', '2.15.1 (built yesterday)']) assert.ok(!isAtLeast(text, '0.0.0'));
});

test('versions: sorts oldest first', () => {
  const sorted = ['2.16.0', '2.15.10', '2.15.2', '2.16.0-beta'].sort(compareVersions);
  assert.deepEqual(sorted, ['2.15.2', '2.15.10', '2.16.0-beta', '2.16.0']);
});
