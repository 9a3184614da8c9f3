/**
 * Runs the tests: every `*.test.ts` (from dist/) and every `*.test.mjs`, or those whose path contains one of the words
 * given. Options that start with `--` go to Node's test runner.
 *
 * Tests find in their environment: NATS_SERVER; CHROMIUM where one can be had and a chosen test asks for it;
 * TROUPE_TEST_DATA where the data lies (`../shared/data` unless it is set).
 *
 * Fails when a test fails, when nothing ran, and when a test of real data is skipped although the data is there. Such a
 * test's skip message contains the word TROUPE_TEST_DATA. The last lines printed are the runner's summary.
 */
import { spawn } from 'node:child_process';
import { existsSync, readFileSync, rmSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join, resolve } from 'node:path';
import { provideChromium } from './chromium.mjs';
import { cacheFolder, project } from './places.mjs';
import { Refusal, runScript } from './refusal.mjs';
import { listSources } from './sources.mjs';
import { judge, parseTap } from './test-report.mjs';

/** A test that takes longer hangs. The longest, the real day with crashes, gets several times its need. */
const timeoutMs = 20 * 60_000;

/** Each file has a process of its own, and many start servers: more at once than cores only spoils their timing. */
const concurrency = Math.min(4, availableParallelism());

const results = join(project, 'dist', '.test-results.tap');

await runScript(async () => {
  const words = process.argv.slice(2);
  const files = chooseFiles(words.filter((word) => !word.startsWith('--')));
  const environment = testEnvironment(files);
  rmSync(results, { force: true });
  const options = words.filter((word) => word.startsWith('--'));
  const exitCode = await runNode([...runnerOptions(), ...options, ...files], environment);
  const report = parseTap(existsSync(results) ? readFileSync(results, 'utf8') : '');
  const complaints = judge(report, { exitCode, dataIsThere: environment.TROUPE_TEST_DATA !== undefined });
  for (const complaint of complaints) console.log(`test: ${complaint}`);
  console.log(report.summary.join('\n'));
  if (complaints.length > 0) process.exitCode = 1;
});

/**
 * @param {string[]} words
 * @returns {string[]} paths from the project's folder, as Node is to run them
 */
function chooseFiles(words) {
  const all = listSources().filter((path) => /\.test\.(ts|mjs)$/.test(path));
  const wanted = words.map((word) => word.replace(/^dist\//, '').replace(/\.js$/, '.ts'));
  const chosen = all.filter((path) => wanted.length === 0 || wanted.some((word) => path.includes(word)));
  if (chosen.length === 0) throw new Refusal(`No test file's path contains ${wanted.join(' or ')}.`);
  return chosen.map((path) => (path.endsWith('.ts') ? join('dist', path.replace(/\.ts$/, '.js')) : path));
}

/**
 * @param {string[]} files
 * @returns {NodeJS.ProcessEnv}
 */
function testEnvironment(files) {
  const environment = { ...process.env };
  const data = environment.TROUPE_TEST_DATA || resolve(project, '..', 'shared', 'data');
  if (existsSync(data)) environment.TROUPE_TEST_DATA = resolve(data);
  else delete environment.TROUPE_TEST_DATA;
  const natsServer = join(project, 'dist', '.nats-server');
  if (existsSync(natsServer)) environment.NATS_SERVER = readFileSync(natsServer, 'utf8').trim();
  if (files.some(asksForChromium)) environment.CHROMIUM = chromiumOrNothing();
  return environment;
}

/** @param {string} file */
function asksForChromium(file) {
  return file.endsWith('.js') && readFileSync(join(project, file), 'utf8').includes('CHROMIUM');
}

/** @returns {string} an empty text where none can be had: those tests are then skipped */
function chromiumOrNothing() {
  try {
    return provideChromium({ environment: process.env, cache: cacheFolder(), log: console.error });
  } catch (error) {
    if (!(error instanceof Refusal)) throw error;
    console.error(error.message);
    return '';
  }
}

/** @returns {string[]} */
function runnerOptions() {
  return [
    '--test',
    '--enable-source-maps',
    `--test-concurrency=${concurrency}`,
    `--test-timeout=${timeoutMs}`,
    '--test-reporter=spec',
    '--test-reporter-destination=stdout',
    '--test-reporter=tap',
    `--test-reporter-destination=${results}`,
  ];
}

/**
 * @param {string[]} words
 * @param {NodeJS.ProcessEnv} environment
 * @returns {Promise<number | null>}
 */
function runNode(words, environment) {
  const child = spawn(process.execPath, words, { cwd: project, env: environment, stdio: ['ignore', 1, 2] });
  for (const signal of /** @type {const} */ (['SIGINT', 'SIGTERM'])) process.on(signal, () => child.kill(signal));
  return new Promise((ended, failed) => child.once('error', failed).once('close', ended));
}
