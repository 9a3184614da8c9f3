/**
 * The data folder: everything that a cluster of this machine keeps, readable by its owner only.
 *
 *   format.json   what it is, and what was fixed when it was made
 *   troupe.json   options, written by people; may be missing
 *   secret        signs tokens (0600)
 *   lock          who runs on it
 *   run.json      addresses and processes while it runs (0600)
 *   nats/ partitions/ logs/
 */
import { chmodSync, mkdirSync, readdirSync, readFileSync, renameSync, statSync, writeFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { isAbsolute, join, resolve } from 'node:path';
import type { Groups } from '../cluster/placement/partition-of.ts';
import { OPTIONS, type Options, readOption, readOptions } from '../config/options.ts';
import { Failure } from './failure.ts';

/** Of the folder's layout and of all that lies in it. A release reads its own and refuses others. */
export const FOLDER_FORMAT = 1;

export type FolderFormat = {
  readonly format: number;
  readonly createdAt: string;
  readonly groups: Groups;
  readonly logBytes: number;
};

export type DataFolder = {
  readonly path: string;
  readonly formatFile: string;
  readonly secretFile: string;
  readonly lockFile: string;
  readonly runFile: string;
  readonly nats: string;
  readonly partitions: string;
  readonly logs: string;
};

export type Environment = Readonly<Record<string, string | undefined>>;
export type Flags = Readonly<Record<string, unknown>>;

/** What may lie in a folder that was not used yet. */
const PERMITTED_BEFORE = new Set(['troupe.json', 'secret', 'nats', 'partitions', 'logs']);

/** `--data`, TROUPE_DATA, `$XDG_DATA_HOME/troupe` or `~/.local/share/troupe`. Nothing is made or checked. */
export function locateDataFolder(flags: Flags, environment: Environment): DataFolder {
  const given = readOption('data', flags, environment, {});
  return folderAt(given === '' ? defaultPath(environment) : resolve(given));
}

function defaultPath(environment: Environment): string {
  const { XDG_DATA_HOME: configured = '', HOME: home = '' } = environment;
  if (isAbsolute(configured)) return join(configured, 'troupe'); // The standard says: ignore relative ones.
  return join(home || homedir(), '.local', 'share', 'troupe');
}

function folderAt(path: string): DataFolder {
  const within = (name: string) => join(path, name);
  return {
    path,
    formatFile: within('format.json'),
    secretFile: within('secret'),
    lockFile: within('lock'),
    runFile: within('run.json'),
    nats: within('nats'),
    partitions: within('partitions'),
    logs: within('logs'),
  };
}

/**
 * The options of a folder: flag, environment, `troupe.json`, then what the folder was made with, then the default.
 * Errors: OptionError; Failure when an option differs from what was fixed, or the folder is not one of this release.
 */
export function optionsOf(folder: DataFolder, flags: Flags, environment: Environment): Options {
  const format = readFormat(folder);
  const fixed = format ? fixedOptions(format) : {};
  const options = readOptions(flags, environment, { ...fixed, ...readOptionsFile(folder) });
  for (const [name, value] of Object.entries(fixed) as [keyof typeof fixed, number][]) {
    if (options[name] === value) continue;
    const { flag } = OPTIONS[name];
    throw new Failure(
      `--${flag} is ${options[name]}, but ${folder.path} was made with ${value}`,
      [`Leave the option out, or choose another folder with --data: a cluster keeps its ${flag} for life.`],
      'fixed_option',
    );
  }
  return options;
}

function fixedOptions({
  groups,
  logBytes,
}: FolderFormat): Pick<Options, 'mainPartitions' | 'exchangePartitions' | 'logBytes'> {
  return { mainPartitions: groups.main ?? 0, exchangePartitions: groups.exchange ?? 0, logBytes };
}

export function groupsOf({ mainPartitions, exchangePartitions }: Options): Groups {
  return { exchange: exchangePartitions, main: mainPartitions };
}

function readOptionsFile(folder: DataFolder): Flags {
  const file = join(folder.path, 'troupe.json');
  const text = readIfThere(file);
  if (text === undefined) return {};
  const value = parseJson(text);
  if (isRecord(value)) return value;
  throw new Failure(
    `${file} is not a JSON object`,
    ['Example: {"port": 7071, "durability": "disk"}'],
    'invalid_option',
  );
}

/** What the folder is; undefined for one that was never used. Errors: Failure. */
export function readFormat({ formatFile, path }: DataFolder): FolderFormat | undefined {
  const text = readIfThere(formatFile);
  if (text === undefined) return undefined;
  const value = parseJson(text);
  if (!isRecord(value) || !Number.isInteger(value.format)) throw damaged(formatFile);
  if (value.format !== FOLDER_FORMAT) {
    const advice = ['Use the release of Troupe that made it, or another folder with --data.'];
    throw new Failure(
      `${path} has format ${value.format}; this release knows ${FOLDER_FORMAT}`,
      advice,
      'unsupported_version',
    );
  }
  if (!isRecord(value.groups) || !Number.isInteger(value.logBytes)) throw damaged(formatFile);
  return value as unknown as FolderFormat;
}

function damaged(file: string): Failure {
  return new Failure(
    `${file} is damaged`,
    ['Restore it from a copy: it says how many partitions the folder has.'],
    'damaged_folder',
  );
}

/**
 * Makes the folder, or checks one that is there.
 * Errors: Failure when it holds something else, may be read by others, or is of another release.
 */
export function prepareDataFolder(folder: DataFolder, options: Options): FolderFormat {
  const known = readFormat(folder);
  if (known) {
    demandPrivate(folder.path);
    makeWithin(folder);
    return known;
  }
  mkdirSync(folder.path, { recursive: true, mode: 0o700 });
  const foreign = readdirSync(folder.path).filter((name) => !PERMITTED_BEFORE.has(name) && !name.startsWith('lock'));
  if (foreign.length > 0) {
    const advice = ['Choose an empty folder, or one that does not exist yet, with --data.'];
    throw new Failure(
      `${folder.path} is not a data folder of Troupe: it holds ${foreign.slice(0, 3).join(', ')}`,
      advice,
      'foreign_folder',
    );
  }
  chmodSync(folder.path, 0o700);
  makeWithin(folder);
  const format = {
    format: FOLDER_FORMAT,
    createdAt: new Date().toISOString(),
    groups: groupsOf(options),
    logBytes: options.logBytes,
  };
  writePrivately(folder.formatFile, `${JSON.stringify(format, null, 2)}\n`);
  return format;
}

function makeWithin({ nats, partitions, logs }: DataFolder): void {
  for (const folder of [nats, partitions, logs]) mkdirSync(folder, { recursive: true, mode: 0o700 });
}

function demandPrivate(path: string): void {
  if ((statSync(path).mode & 0o077) === 0) return;
  throw new Failure(`${path} may be read by others`, [`It holds secrets: chmod 700 ${path}`], 'open_folder');
}

/** Replaces a file in one step, with mode 0600. */
export function writePrivately(file: string, text: string): void {
  const fresh = `${file}.${process.pid}.new`;
  writeFileSync(fresh, text, { mode: 0o600 });
  renameSync(fresh, file);
}

export function readIfThere(file: string): string | undefined {
  try {
    return readFileSync(file, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw new Failure(`${file} cannot be read: ${(error as Error).message}`, [], 'unreadable');
  }
}

export function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

export function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
