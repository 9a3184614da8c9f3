import assert from 'node:assert/strict';
import test from 'node:test';
import { judge, parseTap } from './test-report.mjs';

const tap = `TAP version 13
# Subtest: dist/cluster/log/log.test.js
    # Subtest: inner
    ok 1 - inner # SKIP TROUPE_TEST_DATA is not there
      ---
      duration_ms: 1
      ...
    1..1
ok 1 - dist/cluster/log/log.test.js
ok 2 - namespaces # SKIP not allowed here
not ok 3 - broken
1..3
# tests 4
# suites 0
# pass 1
# fail 1
# cancelled 0
# skipped 2
# todo 0
# duration_ms 12.5
`;

test('test report: reads totals, skips and closing lines', () => {
  const report = parseTap(tap);
  assert.equal(report.totals.tests, 4);
  assert.equal(report.totals.fail, 1);
  assert.deepEqual(report.skips, [
    { name: 'inner', reason: 'TROUPE_TEST_DATA is not there' },
    { name: 'namespaces', reason: 'not allowed here' },
  ]);
  assert.equal(report.summary[0], '# tests 4');
  assert.equal(report.summary.at(-1), '# duration_ms 12.5');
});

test('test report: a run must end well, run something, and use the data that is there', () => {
  const good = { totals: { tests: 1, pass: 1, fail: 0, cancelled: 0 }, skips: [], summary: [] };
  const skips = [{ name: 'real day', reason: 'needs TROUPE_TEST_DATA' }];
  assert.deepEqual(judge(good, { exitCode: 0, dataIsThere: true }), []);
  assert.deepEqual(judge({ ...good, skips }, { exitCode: 0, dataIsThere: false }), []);
  assert.match(String(judge({ ...good, skips }, { exitCode: 0, dataIsThere: true })), /real day/);
  assert.match(String(judge(good, { exitCode: 7, dataIsThere: true })), /ended with 7/);
  assert.match(String(judge(good, { exitCode: null, dataIsThere: true })), /a signal/);
  assert.match(String(judge(parseTap(tap), { exitCode: 1, dataIsThere: false })), /^1 failed/);
  assert.match(String(judge(parseTap(''), { exitCode: 0, dataIsThere: false })), /No test ran/);
});
