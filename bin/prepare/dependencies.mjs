/**
 * The packages of package.json and the lock file, in node_modules. Done again only when one of these files, npm's
 * settings or the Node binary changed.
 *
 * `npm install --no-save` and not `npm ci`: the lock file names only the optional packages (native binaries) of the
 * platform on which it was written, which `npm ci` takes for an error; `--no-save` keeps the lock file as it is, and its
 * checksums are enforced either way. No package's install script is run: all native parts come as packages of their own.
 */
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { accessSync, constants, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { project } from './places.mjs';
import { Refusal } from './refusal.mjs';

const stamp = join(project, 'node_modules', '.troupe-dependencies');

/** npm's own patience without a network is more than five minutes. */
const retries = ['--fetch-retries=2', '--fetch-retry-mintimeout=1000', '--fetch-retry-maxtimeout=5000'];

export function dependenciesAreCurrent() {
  return existsSync(stamp) && readFileSync(stamp, 'utf8') === wishFingerprint();
}

/** @param {(line: string) => void} log */
export function installDependencies(log) {
  log('installing dependencies');
  mkdirSync(join(project, 'node_modules'), { recursive: true });
  const quiet = ['--no-audit', '--no-fund', '--loglevel=error'];
  const words = ['install', '--no-save', '--ignore-scripts', '--include=dev', ...quiet, ...retries];
  const npm = npmCommand();
  const result = spawnSync(npm.command, [...npm.words, ...words, ...npmCache()], {
    cwd: project,
    // What an outer `npm start -- ...` was told concerns our script, not this inner npm.
    env: { ...process.env, NODE_ENV: '', npm_config_json: '', npm_config_global: '' },
    stdio: ['ignore', 2, 2],
  });
  if (result.error !== undefined) throw new Refusal(`npm could not be started: ${result.error.message}`);
  if (result.status !== 0) {
    throw new Refusal(
      'npm could not install the dependencies (its reason stands above). Is the package registry reachable?',
    );
  }
  writeFileSync(stamp, wishFingerprint());
}

/** @returns {string} */
function wishFingerprint() {
  const hash = createHash('sha256').update(`${process.platform} ${process.arch} ${process.versions.modules}\n`);
  for (const name of ['package-lock.json', '.npmrc']) hash.update(readFileSync(join(project, name)));
  const wish = JSON.parse(readFileSync(join(project, 'package.json'), 'utf8'));
  return hash.update(JSON.stringify([wish.dependencies, wish.devDependencies])).digest('hex');
}

/** @returns {{ command: string, words: string[] }} the npm that runs us, else the one in the PATH */
function npmCommand() {
  const script = process.env.npm_execpath;
  const isNpm = script !== undefined && /npm-cli\.c?js$/.test(script) && existsSync(script);
  return isNpm ? { command: process.execPath, words: [script] } : { command: 'npm', words: [] };
}

/** @returns {string[]} a cache inside the clone where npm's usual one, in the home folder, cannot be written */
function npmCache() {
  if (process.env.npm_config_cache !== undefined && canWrite(process.env.npm_config_cache)) return [];
  if (canWrite(homeFolder())) return [];
  return ['--cache', join(project, 'node_modules', '.cache', 'npm')];
}

/** @returns {string} */
function homeFolder() {
  try {
    return process.env.HOME || homedir();
  } catch {
    return '';
  }
}

/** @param {string} folder */
function canWrite(folder) {
  try {
    accessSync(folder, constants.W_OK | constants.X_OK);
    return true;
  } catch {
    return false;
  }
}
