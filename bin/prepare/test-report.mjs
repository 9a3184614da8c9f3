/** Reads what Node's test runner reports in TAP, and says whether the run is good enough. */

/**
 * @typedef {object} TestReport
 * @property {Record<string, number>} totals by the runner's names: tests, pass, fail, cancelled, skipped, ...
 * @property {{ name: string, reason: string }[]} skips
 * @property {string[]} summary the runner's closing lines (`# tests 12`)
 */

/**
 * @param {string} tap
 * @returns {TestReport}
 */
export function parseTap(tap) {
  /** @type {TestReport} */
  const report = { totals: {}, skips: [], summary: [] };
  for (const line of tap.split('\n')) {
    const skip = /^\s*ok \d+ - (.*?) # SKIP ?(.*)$/.exec(line);
    if (skip !== null) report.skips.push({ name: String(skip[1]), reason: String(skip[2]) });
    const total = /^# (tests|suites|pass|fail|cancelled|skipped|todo|duration_ms) ([\d.]+)$/.exec(line);
    if (total === null) continue;
    report.totals[String(total[1])] = Number(total[2]);
    report.summary.push(line);
  }
  return report;
}

/**
 * What is wrong with a run, one line each; nothing when it is good.
 * @param {TestReport} report
 * @param {{ exitCode: number | null, dataIsThere: boolean }} run
 * @returns {string[]}
 */
export function judge({ totals, skips }, { exitCode, dataIsThere }) {
  const complaints = [];
  const failed = (totals.fail ?? 0) + (totals.cancelled ?? 0);
  if (failed > 0) complaints.push(`${failed} failed or were cancelled.`);
  else if (exitCode !== 0) complaints.push(`The runner ended with ${exitCode ?? 'a signal'}.`);
  if ((totals.pass ?? 0) === 0) complaints.push('No test ran.');
  const dataSkips = dataIsThere ? skips.filter(({ reason }) => reason.includes('TROUPE_TEST_DATA')) : [];
  for (const { name } of dataSkips) complaints.push(`Skipped although TROUPE_TEST_DATA is there: ${name}`);
  return complaints;
}
