import assert from 'node:assert/strict';
import { test } from 'node:test';
import { HISTORY_SECONDS, RateMeter } from './rate-meter.ts';

test('the rate is the mean of the last three whole seconds', () => {
  const meter = new RateMeter();
  for (let second = 0; second < 5; second++) meter.add(30, second * 1_000 + 500);
  assert.equal(meter.perSecond(5_000), 30);
  assert.equal(meter.perSecond(6_999), 20);
  assert.equal(meter.perSecond(8_000), 0);
});

test('the running second does not count yet', () => {
  const meter = new RateMeter();
  meter.add(90, 10_000);
  assert.equal(meter.perSecond(10_999), 0);
  assert.equal(meter.perSecond(11_000), 30);
});

test('the history covers a minute and forgets what is older, also after a long rest', () => {
  const meter = new RateMeter();
  meter.add(7, 500);
  assert.equal(meter.history(60_000)[0], 7);
  assert.equal(meter.history(60_000).length, HISTORY_SECONDS);
  assert.deepEqual(new Set(meter.history(61_000)), new Set([0]));
  meter.add(5, 1_000_000);
  assert.equal(meter.history(1_001_000).at(-1), 5);
});
