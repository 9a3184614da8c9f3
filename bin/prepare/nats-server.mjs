/**
 * Finds a nats-server that is new enough, or fetches one without root.
 *
 * The order: `NATS_SERVER` (then it must be right), the PATH and the folders where Debian puts servers, the cache, and
 * Debian's newest package into the cache. Whatever is chosen has answered `--version` just now. Setup writes the choice
 * to `dist/.nats-server` (one line, the path); everything else reads `NATS_SERVER` or that file and never searches.
 */
import { spawnSync } from 'node:child_process';
import { chmodSync, existsSync, mkdirSync, readdirSync, renameSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { debianMirror, machineSources, PrivateApt } from './debian.mjs';
import { withDownloadFolder } from './places.mjs';
import { Refusal } from './refusal.mjs';
import { compareVersions, isAtLeast } from './versions.mjs';

/** Older ones ignore or refuse settings that the log's safety stands on. */
export const leastVersion = '2.15.1';

/** The Debian suite whose package is new enough; its server is linked statically and runs on older Debians too. */
const suite = 'forky';

/**
 * @param {{ environment: NodeJS.ProcessEnv, cache: string, log: (line: string) => void }} settings
 * @returns {string} the path of a nats-server that is new enough
 */
export function provideNatsServer({ environment, cache, log }) {
  const named = environment.NATS_SERVER;
  if (named !== undefined && named !== '') return checkNamed(named);
  return findInstalled(environment) ?? findCached(cache) ?? fetchInto(cache, log);
}

/**
 * @param {string} path
 * @returns {string}
 */
function checkNamed(path) {
  const version = versionOf(path);
  if (isAtLeast(version, leastVersion)) return path;
  const found = version === undefined ? 'does not answer --version like a nats-server' : `is ${version}`;
  throw new Refusal(`NATS_SERVER names ${path}, which ${found}. Troupe needs nats-server ${leastVersion} or later.`);
}

/**
 * @param {NodeJS.ProcessEnv} environment
 * @returns {string | undefined}
 */
function findInstalled(environment) {
  // Debian's package installs into /usr/sbin, which is not in the PATH of ordinary users.
  const folders = [...(environment.PATH ?? '').split(delimiter), '/usr/local/sbin', '/usr/sbin'];
  const candidates = folders.filter((folder) => folder !== '').map((folder) => join(folder, 'nats-server'));
  return candidates.find((path) => existsSync(path) && isAtLeast(versionOf(path), leastVersion));
}

/**
 * @param {string} cache
 * @returns {string | undefined}
 */
function findCached(cache) {
  const prefix = 'nats-server-';
  return readdirSync(cache)
    .filter((name) => name.startsWith(prefix) && isAtLeast(name.slice(prefix.length), leastVersion))
    .sort((left, right) => compareVersions(right.slice(prefix.length), left.slice(prefix.length)))
    .map((name) => join(cache, name, 'nats-server'))
    .find((path) => isAtLeast(versionOf(path), leastVersion));
}

/**
 * @param {string} cache
 * @param {(line: string) => void} log
 * @returns {string}
 */
function fetchInto(cache, log) {
  const mirror = debianMirror(machineSources());
  if (mirror === undefined)
    throw new Refusal(instructions('this machine has no Debian mirror set up to fetch it from'));
  log(`fetching nats-server from Debian (${suite}) into ${cache}`);
  try {
    return withDownloadFolder(cache, (folder) => {
      const apt = new PrivateApt(folder, [{ ...mirror, suites: [suite] }], { installed: 'nothing' });
      apt.update();
      apt.download('nats-server');
      apt.unpack(join(folder, 'unpacked'));
      return keep(join(folder, 'unpacked', 'usr', 'sbin', 'nats-server'), cache);
    });
  } catch (error) {
    if (error instanceof Refusal) throw error;
    throw new Refusal(
      instructions(`fetching Debian's package did not work:\n${/** @type {Error} */ (error).message}\n`),
    );
  }
}

/**
 * Moves a fetched server to its place in one step: others see all of it or nothing, and a broken one is replaced.
 * @param {string} path
 * @param {string} cache
 * @returns {string}
 */
function keep(path, cache) {
  const version = versionOf(path);
  if (version === undefined || !isAtLeast(version, leastVersion)) {
    throw new Refusal(
      instructions(`Debian's package holds ${version ?? 'no server that runs here'}, which is too old`),
    );
  }
  chmodSync(path, 0o755);
  const folder = join(cache, `nats-server-${version}`);
  mkdirSync(folder, { recursive: true });
  renameSync(path, join(folder, 'nats-server'));
  return join(folder, 'nats-server');
}

/**
 * @param {string} path
 * @returns {string | undefined} `2.15.1`; nothing if it is not a nats-server or does not run here
 */
function versionOf(path) {
  const { status, stdout } = spawnSync(path, ['--version'], { encoding: 'utf8', timeout: 10_000 });
  return status === 0 ? parseServerVersion(stdout) : undefined;
}

/**
 * @param {string} output of `nats-server --version`
 * @returns {string | undefined}
 */
export function parseServerVersion(output) {
  return /^nats-server: v(\d+\.\d+\.\d+\S*)\s*$/m.exec(output)?.[1];
}

/**
 * @param {string} reason
 * @returns {string}
 */
export function instructions(reason) {
  return [
    `Troupe needs nats-server ${leastVersion} or later, and ${reason}`,
    '',
    'Do one of these, then start again:',
    '  - Debian 12 or later: check that `apt-get update` works here (mirror, network, proxy).',
    '  - Ubuntu, Fedora, Arch and others: install the nats-server package of your distribution if it is that new,',
    `    or take the Linux binary of release v${leastVersion} or later from the NATS project (nats.io, Download).`,
    '  - With a Go toolchain: `go install github.com/nats-io/nats-server/v2@latest`.',
    'Then put it in your PATH, or set NATS_SERVER=/path/to/nats-server.',
  ].join('\n');
}
