/**
 * Debian packages without root: apt with a configuration of our own (its state, lists and cache in a temporary folder)
 * fetches from the mirror that this machine itself is set up with, and `dpkg -x` unpacks. Signatures are checked by apt
 * with the machine's own keys; nothing of the system is changed.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

/**
 * @typedef {object} Source one archive that apt is set up with
 * @property {string} uri
 * @property {string[]} suites
 * @property {string | undefined} signedBy the field's text as it stands, a path or a key block
 */

/** For one run of apt: a slow mirror is waited for, a dead one is not. */
const aptTimeoutMs = 10 * 60_000;

/**
 * The sources in the text of one `.sources` file (deb822), without those that are switched off or hold no binaries.
 * @param {string} text
 * @returns {Source[]}
 */
export function parseSources(text) {
  return text
    .replace(/^#.*\n?/gm, '')
    .split(/\n\s*\n/)
    .map(parseFields)
    .filter((fields) => fields.get('enabled') !== 'no' && words(fields.get('types')).includes('deb'))
    .flatMap((fields) =>
      words(fields.get('uris')).map((uri) => ({
        uri,
        suites: words(fields.get('suites')),
        signedBy: fields.get('signed-by'),
      })),
    );
}

/**
 * The sources in the text of one `.list` file (`deb [options] uri suite component...`).
 * @param {string} text
 * @returns {Source[]}
 */
export function parseList(text) {
  /** @type {Source[]} */
  const sources = [];
  for (const line of text.split('\n')) {
    const match = /^\s*deb\s+(?:\[([^\]]*)\]\s+)?(\S+)\s+(\S+)/.exec(line);
    if (match === null) continue;
    const [, options = '', uri = '', suite = ''] = match;
    sources.push({ uri, suites: [suite], signedBy: /(?:^|\s)signed-by=(\S+)/.exec(options)?.[1] });
  }
  return sources;
}

/**
 * The machine's Debian mirror among its sources: the one whose address ends in `/debian`, as every Debian mirror's does
 * (Ubuntu's end in `/ubuntu`, third parties' in anything).
 * @param {Source[]} sources
 * @returns {Source | undefined}
 */
export function debianMirror(sources) {
  return sources.find((source) => /\/debian\/?$/.test(source.uri));
}

/** @returns {Source[]} everything this machine's apt is set up with; none where there is no apt */
export function machineSources() {
  const folder = '/etc/apt/sources.list.d';
  const parts = existsSync(folder) ? readdirSync(folder).sort() : [];
  const deb822 = parts.filter((name) => name.endsWith('.sources')).map((name) => join(folder, name));
  const lists = parts.filter((name) => name.endsWith('.list')).map((name) => join(folder, name));
  if (existsSync('/etc/apt/sources.list')) lists.push('/etc/apt/sources.list');
  return [
    ...deb822.flatMap((path) => parseSources(readFileSync(path, 'utf8'))),
    ...lists.flatMap((path) => parseList(readFileSync(path, 'utf8'))),
  ];
}

/** An apt of our own in `folder`, for `sources` only. */
export class PrivateApt {
  /** @type {string} */ #folder;
  /** @type {string[]} */ #options;

  /**
   * @param {string} folder
   * @param {Source[]} sources
   * @param {{ installed: 'nothing' | 'machine' }} settings whether dependencies count as met by what the machine has
   */
  constructor(folder, sources, { installed }) {
    this.#folder = folder;
    for (const part of ['lists/partial', 'cache/archives/partial', 'etc', 'packages']) {
      mkdirSync(join(folder, part), { recursive: true });
    }
    writeFileSync(join(folder, 'status'), '');
    writeFileSync(join(folder, 'etc', 'private.sources'), sources.map(formatSource).join('\n'));
    this.#options = [
      `Dir::State=${folder}`,
      `Dir::State::Lists=${folder}/lists`,
      `Dir::State::status=${installed === 'machine' ? '/var/lib/dpkg/status' : `${folder}/status`}`,
      `Dir::Cache=${folder}/cache`,
      'Dir::Etc::SourceList=/dev/null',
      `Dir::Etc::SourceParts=${folder}/etc`,
      'Dir::Etc::PreferencesParts=/dev/null',
      'APT::Sandbox::User=', // Root would hand the download to a user who cannot enter our folder.
      'Debug::NoLocking=1',
      'Acquire::Languages=none',
      'Acquire::Retries=2',
      'Acquire::http::Timeout=20',
      'Acquire::https::Timeout=20',
    ].flatMap((option) => ['-o', option]);
  }

  /** Fetches the lists. */
  update() {
    this.#apt(['update', '--error-on=any']);
  }

  /**
   * Fetches one package without its dependencies.
   * @param {string} name
   */
  download(name) {
    this.#apt(['download', name]);
  }

  /**
   * Fetches packages and those of their dependencies that the machine lacks.
   * @param {string[]} names
   */
  downloadWithDependencies(...names) {
    this.#apt(['install', '--download-only', '--yes', '--no-install-recommends', ...names]);
  }

  /**
   * Unpacks everything fetched into one folder.
   * @param {string} target
   * @returns {number} how many packages that were
   */
  unpack(target) {
    const folders = [join(this.#folder, 'packages'), join(this.#folder, 'cache', 'archives')];
    const packages = folders.flatMap((folder) =>
      readdirSync(folder)
        .filter((name) => name.endsWith('.deb'))
        .map((name) => join(folder, name)),
    );
    for (const path of packages) run('dpkg', ['-x', path, target], this.#folder);
    return packages.length;
  }

  /** @param {string[]} words */
  #apt(words) {
    run('apt-get', ['-q', ...this.#options, ...words], join(this.#folder, 'packages'));
  }
}

/**
 * @param {string} command
 * @param {string[]} words
 * @param {string} folder
 */
function run(command, words, folder) {
  const result = spawnSync(command, words, {
    cwd: folder,
    encoding: 'utf8',
    timeout: aptTimeoutMs,
    env: { ...process.env, LC_ALL: 'C', DEBIAN_FRONTEND: 'noninteractive' },
  });
  if (result.error !== undefined) throw new Error(`${command} did not run: ${result.error.message}`);
  if (result.status !== 0) throw new Error(`${command} failed: ${complaints(`${result.stdout}\n${result.stderr}`)}`);
}

/**
 * @param {string} output of apt or dpkg
 * @returns {string} its complaints, or its last lines where none is marked as one
 */
function complaints(output) {
  const lines = output.trim().split('\n');
  const marked = lines.filter((line) => /^(E|dpkg[^:]*): /.test(line));
  return (marked.length > 0 ? marked : lines).slice(-4).join('\n');
}

/**
 * @param {Source} source
 * @returns {string}
 */
function formatSource({ uri, suites, signedBy }) {
  const lines = ['Types: deb', `URIs: ${uri}`, `Suites: ${suites.join(' ')}`, 'Components: main'];
  if (signedBy !== undefined) lines.push(`Signed-By: ${signedBy}`);
  return `${lines.join('\n')}\n`;
}

/**
 * @param {string} stanza
 * @returns {Map<string, string>} by lower-case name; a field's continuation lines stay as they are
 */
function parseFields(stanza) {
  /** @type {Map<string, string>} */
  const fields = new Map();
  let name = '';
  for (const line of stanza.split('\n')) {
    const match = /^([A-Za-z][A-Za-z-]*):\s*(.*)$/.exec(line);
    if (match !== null) {
      name = String(match[1]).toLowerCase();
      fields.set(name, String(match[2]).trimEnd());
    } else if (/^\s+\S/.test(line) && name !== '') {
      fields.set(name, `${fields.get(name)}\n${line}`);
    }
  }
  return fields;
}

/** @param {string | undefined} text */
function words(text) {
  return (text ?? '').split(/\s+/).filter((word) => word !== '');
}
