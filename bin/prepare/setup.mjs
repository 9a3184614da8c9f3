/**
 * Prepares a clone so that it can be started and tested: platform check, dependencies, build, nats-server. Each step is
 * skipped when its result is current, so this runs before every `npm start` and `npm test`. Setups of one clone take
 * turns (a lock that the kernel drops with its process); setups of different clones share only the cache, which is
 * filled by renames.
 *
 * `dist/.nats-server` holds the path of the server to use; commands and tests read it when `NATS_SERVER` is not set.
 */
import { spawnSync } from 'node:child_process';
import { mkdirSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build, buildIsCurrent } from './build.mjs';
import { provideChromium } from './chromium.mjs';
import { dependenciesAreCurrent, installDependencies } from './dependencies.mjs';
import { provideNatsServer } from './nats-server.mjs';
import { cacheFolder, project } from './places.mjs';
import { refusalFor, thisPlatform } from './platform.mjs';
import { Refusal, runScript } from './refusal.mjs';

const usage = `Usage: bin/setup [OPTION]
Without an option: dependencies, build and nats-server, each only if needed.
  --dependencies        only the dependencies
  --build               only the dependencies and the build
  --print-nats-server   only nats-server; prints its path
  --print-chromium      only Chromium (for the tests of the console); prints its path
  --help                this text`;

await runScript(async () => {
  const option = process.argv[2] ?? '';
  if (option === '--help') return console.log(usage);
  const refused = refusalFor(thisPlatform());
  if (refused !== undefined) throw new Refusal(refused);
  if (option === '--print-nats-server') return console.log(natsServer());
  if (option === '--print-chromium') return console.log(chromium());
  if (option === '--dependencies') return prepareClone({ withBuild: false });
  if (option !== '' && option !== '--build') throw new Refusal(`Unknown option ${option}.\n${usage}`);
  await prepareClone({ withBuild: true });
  if (option === '') recordNatsServer(natsServer());
});

/** @param {{ withBuild: boolean }} wish */
async function prepareClone({ withBuild }) {
  if (dependenciesAreCurrent() && (!withBuild || buildIsCurrent())) return;
  if (process.env.TROUPE_SETUP_LOCKED !== project) return againUnderLock();
  if (!dependenciesAreCurrent()) installDependencies(log);
  if (withBuild && !buildIsCurrent()) await build(log);
}

/** Runs this script once more, holding the clone's lock; by its turn, another setup may have done the work. */
function againUnderLock() {
  mkdirSync(join(project, 'node_modules'), { recursive: true });
  const lock = join(project, 'node_modules', '.troupe-setup.lock');
  const words = [lock, process.execPath, fileURLToPath(import.meta.url), ...process.argv.slice(2)];
  const { status, error } = spawnSync('flock', words, {
    stdio: 'inherit',
    env: { ...process.env, TROUPE_SETUP_LOCKED: project },
  });
  if (error !== undefined) throw new Refusal(`The command flock (of util-linux) is needed: ${error.message}`);
  process.exit(status ?? 1);
}

function natsServer() {
  return provideNatsServer({ environment: process.env, cache: cacheFolder(), log });
}

function chromium() {
  return provideChromium({ environment: process.env, cache: cacheFolder(), log });
}

/** @param {string} path */
function recordNatsServer(path) {
  const file = join(project, 'dist', '.nats-server');
  mkdirSync(join(project, 'dist'), { recursive: true });
  writeFileSync(`${file}.${process.pid}`, `${path}\n`);
  renameSync(`${file}.${process.pid}`, file);
}

/** @param {string} line */
function log(line) {
  console.error(`setup: ${line}`);
}
