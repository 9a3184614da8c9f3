/**
 * Says yes or no to the sources: types, lint and format, dead code, layer rules, determinism of the actors. Everything
 * runs even after a failure; each part prints its findings as it ends, then one line per part. `npm test` is the other
 * half.
 */
import { spawn } from 'node:child_process';
import { project } from './places.mjs';
import { runScript } from './refusal.mjs';

/**
 * @typedef {object} Part
 * @property {string} name
 * @property {string[][]} commands one after the other, until one fails; the words after `node`
 */

/** @type {Part[]} The longest first. */
const parts = [
  {
    name: 'types, layer rules, determinism',
    commands: [['bin/prepare/setup.mjs', '--build'], ['dist/config/checks/check-sources.js']],
  },
  {
    name: 'types of the scripts',
    commands: [['node_modules/typescript/bin/tsc', '-p', 'config/tsconfig.scripts.json']],
  },
  {
    name: 'lint and format',
    commands: [['node_modules/@biomejs/biome/bin/biome', 'check', '--config-path=config', '--error-on-warnings', '.']],
  },
  {
    name: 'dead code and dependencies',
    commands: [['node_modules/knip/bin/knip.js', '--config', 'config/knip.json', '--no-progress']],
  },
];

await runScript(async () => {
  const outcomes = await Promise.all(parts.map(runPart));
  for (const { name, passed, seconds } of outcomes) {
    console.log(`${passed ? 'passed' : 'FAILED'}  ${name} (${seconds.toFixed(1)} s)`);
  }
  if (outcomes.some(({ passed }) => !passed)) process.exitCode = 1;
});

/** @param {Part} part */
async function runPart({ name, commands }) {
  const start = performance.now();
  let passed = true;
  for (const words of commands) {
    const { status, output } = await runNode(words);
    if (status === 0) continue;
    console.log(`--- ${name}\n${output.trimEnd()}\n`);
    passed = false;
    break;
  }
  return { name, passed, seconds: (performance.now() - start) / 1000 };
}

/**
 * @param {string[]} words
 * @returns {Promise<{ status: number | null, output: string }>}
 */
function runNode(words) {
  const child = spawn(process.execPath, words, { cwd: project, stdio: ['ignore', 'pipe', 'pipe'] });
  let output = '';
  const gather = (/** @type {string} */ text) => {
    output += text;
  };
  for (const stream of [child.stdout, child.stderr]) stream.setEncoding('utf8').on('data', gather);
  return new Promise((ended, failed) => {
    child.once('error', failed).once('close', (status) => ended({ status, output }));
  });
}
