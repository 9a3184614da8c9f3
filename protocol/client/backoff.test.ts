import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Backoff, fullJitter, RECONNECT } from './backoff.ts';

const almostOne = () => 1 - Number.EPSILON;

test('the bound of the wait doubles from the base up to the cap', () => {
  const bounds = [0, 1, 2, 5, 6, 7, 1_000].map((failures) => Math.round(fullJitter(RECONNECT, failures, almostOne)));
  assert.deepEqual(bounds, [500, 1_000, 2_000, 16_000, 30_000, 30_000, 30_000]);
});

test('the wait is any part of the bound, also none', () => {
  assert.equal(
    fullJitter(RECONNECT, 5, () => 0),
    0,
  );
});

test('a connection that held only shortly does not reset the count, a healthy one does', () => {
  const backoff = new Backoff(RECONNECT, almostOne);
  backoff.failed(0);
  backoff.opened(1_000);
  assert.equal(Math.round(backoff.failed(30_999)), 1_000);
  backoff.opened(40_000);
  assert.equal(Math.round(backoff.failed(70_000)), 500);
});

test('an attempt that never opened counts as a failure, whatever was before', () => {
  const backoff = new Backoff(RECONNECT, almostOne);
  backoff.opened(0);
  backoff.failed(60_000);
  assert.equal(Math.round(backoff.failed(200_000)), 1_000);
});
