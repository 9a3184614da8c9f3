/**
 * Finds a Chromium for the tests of the web console, or fetches Debian's without root.
 *
 * The order: `CHROMIUM`, the PATH, the cache, Debian's package with those libraries that the machine lacks. A fetched
 * one is started by a small script that points the loader and the font library into its folder. Chromium is wanted by
 * tests only: where it cannot be had, they are skipped and say why.
 */
import { spawnSync } from 'node:child_process';
import { chmodSync, existsSync, mkdtempSync, readdirSync, renameSync, writeFileSync } from 'node:fs';
import { delimiter, dirname, join } from 'node:path';
import { debianMirror, machineSources, PrivateApt } from './debian.mjs';
import { withDownloadFolder } from './places.mjs';
import { Refusal } from './refusal.mjs';
import { listFiles } from './sources.mjs';

const names = ['chromium', 'chromium-browser', 'google-chrome', 'google-chrome-stable'];

/**
 * @param {{ environment: NodeJS.ProcessEnv, cache: string, log: (line: string) => void }} settings
 * @returns {string} the path of a Chromium that runs here
 */
export function provideChromium({ environment, cache, log }) {
  const named = environment.CHROMIUM;
  if (named !== undefined && named !== '') return checkNamed(named);
  return findInstalled(environment) ?? findCached(cache) ?? fetchInto(cache, log);
}

/**
 * @param {string} path
 * @returns {string}
 */
function checkNamed(path) {
  if (runs(path)) return path;
  throw new Refusal(`CHROMIUM names ${path}, which does not answer --version like a Chromium.`);
}

/**
 * @param {NodeJS.ProcessEnv} environment
 * @returns {string | undefined}
 */
function findInstalled(environment) {
  const folders = (environment.PATH ?? '').split(delimiter).filter((folder) => folder !== '');
  return names
    .flatMap((name) => folders.map((folder) => join(folder, name)))
    .find((path) => existsSync(path) && runs(path));
}

/**
 * @param {string} cache
 * @returns {string | undefined}
 */
function findCached(cache) {
  return readdirSync(cache)
    .filter((name) => name.startsWith('chromium-'))
    .map((name) => join(cache, name, 'chromium'))
    .find((path) => existsSync(path) && runs(path));
}

/**
 * @param {string} cache
 * @param {(line: string) => void} log
 * @returns {string}
 */
function fetchInto(cache, log) {
  const sources = machineSources();
  const mirror = debianMirror(sources);
  if (mirror === undefined)
    throw new Refusal(instructions('this machine has no Debian mirror set up to fetch it from'));
  log(`fetching Chromium from Debian into ${cache}`);
  // The security archive carries the same package, often newer; its suites belong to the same release.
  const wanted = sources.filter((source) => /\/debian(-security)?\/?$/.test(source.uri));
  try {
    return withDownloadFolder(cache, (folder) => {
      const apt = new PrivateApt(folder, wanted, { installed: 'machine' });
      apt.update();
      apt.downloadWithDependencies('chromium', 'fonts-dejavu-core'); // Without a font pages have no text.
      apt.unpack(join(folder, 'unpacked'));
      return keep(join(folder, 'unpacked'), cache);
    });
  } catch (error) {
    if (error instanceof Refusal) throw error;
    throw new Refusal(
      instructions(`fetching Debian's package did not work:\n${/** @type {Error} */ (error).message}\n`),
    );
  }
}

/**
 * Checks an unpacked Chromium and moves it to its place in one step.
 * @param {string} unpacked
 * @param {string} cache
 * @returns {string}
 */
function keep(unpacked, cache) {
  const starter = join(unpacked, 'chromium');
  writeFileSync(join(unpacked, 'fonts.conf'), fontSettings);
  writeFileSync(starter, starterScript(unpacked));
  chmodSync(starter, 0o755);
  if (!runs(starter)) throw new Refusal(instructions("Debian's package does not run here"));
  const place = mkdtempSync(join(cache, 'chromium-'));
  renameSync(unpacked, place); // An empty folder may be replaced by a rename.
  return join(place, 'chromium');
}

/**
 * @param {string} unpacked
 * @returns {string} a script that starts the Chromium beside it with the libraries and fonts beside it
 */
function starterScript(unpacked) {
  const libraries = listFiles(join(unpacked, 'usr', 'lib')).filter((path) => /\.so(\.\d+)*$/.test(path));
  const folders = [...new Set(libraries.map((path) => `$here/usr/lib/${dirname(path)}`))].sort();
  return [
    '#!/bin/sh',
    'here=$(dirname -- "$(readlink -f -- "$0")")',
    `export LD_LIBRARY_PATH="${folders.join(':')}:$LD_LIBRARY_PATH" FONTCONFIG_FILE="$here/fonts.conf"`,
    'exec "$here/usr/lib/chromium/chromium" "$@"',
    '',
  ].join('\n');
}

const fontSettings = `<?xml version="1.0"?>
<!DOCTYPE fontconfig SYSTEM "fonts.dtd">
<fontconfig>
  <dir prefix="relative">usr/share/fonts</dir>
  <dir>/usr/share/fonts</dir>
  <cachedir prefix="xdg">fontconfig</cachedir>
  <alias><family>sans-serif</family><prefer><family>DejaVu Sans</family></prefer></alias>
  <alias><family>monospace</family><prefer><family>DejaVu Sans Mono</family></prefer></alias>
</fontconfig>
`;

/** @param {string} path */
function runs(path) {
  const { status, stdout } = spawnSync(path, ['--version'], { encoding: 'utf8', timeout: 30_000 });
  return status === 0 && /^(Chromium|Google Chrome) \d/m.test(stdout);
}

/**
 * @param {string} reason
 * @returns {string}
 */
function instructions(reason) {
  return [
    `The tests of the web console need Chromium, and ${reason}`,
    "Install your distribution's package `chromium`, or set CHROMIUM=/path/to/chromium.",
  ].join('\n');
}
