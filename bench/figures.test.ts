import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Measurement, reaches, show, spreadOf } from './figures.ts';

test('the median is the middle run, or lies between the two', () => {
  assert.deepEqual(spreadOf([3, 1, 2]), { median: 2, least: 1, most: 3, runs: [3, 1, 2] });
  assert.equal(spreadOf([4, 1, 2, 3]).median, 2.5);
  assert.equal(spreadOf([7]).median, 7);
});

const measurement: Measurement = {
  name: 'some',
  settings: { runs: 3 },
  figures: { rate: spreadOf([90, 100, 110]), delay: 7 },
  targets: [],
  checks: [{ name: 'nothing was lost', passed: false, detail: '1 of 2' }],
};

test('a target is reached by the median', () => {
  assert.equal(reaches(measurement, { figure: 'rate', atLeast: 100 }), true);
  assert.equal(reaches(measurement, { figure: 'rate', atLeast: 101 }), false);
  assert.equal(reaches(measurement, { figure: 'delay', atMost: 7 }), true);
  assert.equal(reaches(measurement, { figure: 'delay', atMost: 6 }), false);
  assert.equal(reaches(measurement, { figure: 'missing', atLeast: 0 }), false);
});

test('what fell short and what is wrong is shown', () => {
  const text = show({ ...measurement, targets: [{ figure: 'rate', atLeast: 200 }] });
  assert.match(text, /rate +100 {3}\(90 \.\. 110, 3 runs\)/);
  assert.match(text, /SHORT: rate at least 200 \(50 % of it\)/);
  assert.match(text, /WRONG: nothing was lost \(1 of 2\)/);
});
