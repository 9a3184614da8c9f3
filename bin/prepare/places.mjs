/**
 * Where the preparing scripts keep things: the project's folder, and a cache that all clones of one user share.
 * The cache is only ever filled by atomic renames, so clones that prepare at the same time cannot harm each other.
 */
import { accessSync, constants, mkdirSync, mkdtempSync, readdirSync, rmSync, statSync } from 'node:fs';
import { homedir } from 'node:os';
import { isAbsolute, join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** Download folders whose process was killed are swept after this long. */
const abandonedAfterMs = 24 * 3_600_000;

/** The top of this clone. */
export const project = fileURLToPath(new URL('../..', import.meta.url)).replace(/\/$/, '');

/**
 * The cache, created: `$XDG_CACHE_HOME/troupe`, else `~/.cache/troupe`, else (no home, or not ours to write) a folder
 * of this clone.
 * @param {NodeJS.ProcessEnv} environment
 * @returns {string}
 */
export function cacheFolder(environment = process.env) {
  const wanted = userCache(environment);
  if (wanted !== undefined && makeWritable(join(wanted, 'troupe'))) return join(wanted, 'troupe');
  const own = join(project, 'node_modules', '.cache', 'troupe');
  mkdirSync(own, { recursive: true });
  return own;
}

/**
 * @param {NodeJS.ProcessEnv} environment
 * @returns {string | undefined}
 */
function userCache(environment) {
  const configured = environment.XDG_CACHE_HOME;
  if (configured !== undefined && isAbsolute(configured)) return configured; // The standard says: ignore relative ones.
  const home = environment.HOME || passwordFileHome();
  return home !== undefined && isAbsolute(home) ? join(home, '.cache') : undefined;
}

/** @returns {string | undefined} */
function passwordFileHome() {
  try {
    return homedir();
  } catch {
    return undefined; // A user id without an entry, as in many containers.
  }
}

/** @param {string} folder */
function makeWritable(folder) {
  try {
    mkdirSync(folder, { recursive: true });
    accessSync(folder, constants.W_OK | constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

/**
 * Runs `use` with a new folder inside the cache (so that a rename out of it is atomic) and removes the folder after it.
 * @template T
 * @param {string} cache
 * @param {(folder: string) => T} use
 * @returns {T}
 */
export function withDownloadFolder(cache, use) {
  sweepAbandoned(cache);
  const folder = mkdtempSync(join(cache, 'download-'));
  try {
    return use(folder);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** @param {string} cache */
function sweepAbandoned(cache) {
  for (const name of readdirSync(cache)) {
    if (!name.startsWith('download-')) continue;
    const path = join(cache, name);
    const changedMs = statSync(path, { throwIfNoEntry: false })?.mtimeMs ?? Date.now();
    if (Date.now() - changedMs > abandonedAfterMs) rmSync(path, { recursive: true, force: true });
  }
}
