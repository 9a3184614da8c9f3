/** Finds a nats-server that is new enough on this machine. */
import { execFile } from 'node:child_process';
import { access, constants, readdir, readFile } from 'node:fs/promises';
import { homedir } from 'node:os';
import { basename, delimiter, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { ProtocolError } from '../../protocol/errors.ts';
import { isOlder, OLDEST_SERVER } from './nats-connection.ts';

const run = promisify(execFile);
const CACHE_DEPTH = 4; // Folders below the cache folder that are looked into.
const VERSION_TIMEOUT_MS = 10_000; // The first start of a cold binary on a slow disk.

export type NatsBinary = { readonly path: string; readonly version: string };

/**
 * The first that is new enough of: NATS_SERVER, the path in `dist/.nats-server` (written at set-up), Troupe's folder in
 * the user's cache, PATH. A NATS_SERVER that is set is the only one tried.
 * Errors: `log_outdated_server`, saying what was found and what to do.
 */
export async function findNatsServer(
  environment: NodeJS.ProcessEnv = process.env,
  root: string = packageRoot(),
): Promise<NatsBinary> {
  const tried: string[] = [];
  for await (const path of candidates(environment, root)) {
    const version = await versionOf(path);
    if (version !== undefined && !isOlder(version, OLDEST_SERVER)) return { path, version };
    tried.push(`${path} (${version ?? 'does not run'})`);
  }
  const found = tried.length === 0 ? 'none was found' : `found: ${tried.join(', ')}`;
  const advice = 'Run bin/setup, or set NATS_SERVER to the path of one.';
  throw new ProtocolError(
    'log_outdated_server',
    `nats-server ${OLDEST_SERVER} or later is needed; ${found}. ${advice}`,
  );
}

async function* candidates(environment: NodeJS.ProcessEnv, root: string): AsyncGenerator<string> {
  const chosen = environment.NATS_SERVER;
  if (chosen) return void (yield chosen);
  const written = await readText(join(root, 'dist', '.nats-server'));
  if (written) yield written;
  const cache = environment.XDG_CACHE_HOME || join(environment.HOME || homedir(), '.cache');
  yield* executablesBelow(join(cache, 'troupe'), CACHE_DEPTH);
  for (const folder of (environment.PATH ?? '').split(delimiter)) {
    const path = join(folder, 'nats-server');
    if (folder !== '' && (await isExecutable(path))) yield path;
  }
}

/** The folder that holds the package; compiled files lie one level deeper than sources. */
function packageRoot(): string {
  const above = join(dirname(fileURLToPath(import.meta.url)), '..', '..');
  return basename(above) === 'dist' ? dirname(above) : above;
}

async function readText(path: string): Promise<string | undefined> {
  return readFile(path, 'utf8').then(
    (text) => text.trim(),
    () => undefined,
  );
}

async function* executablesBelow(folder: string, depth: number): AsyncGenerator<string> {
  const entries = await readdir(folder, { withFileTypes: true }).catch(() => []);
  for (const entry of entries.sort((a, b) => (a.name < b.name ? 1 : -1))) {
    const path = join(folder, entry.name);
    if (entry.isDirectory() && depth > 0) yield* executablesBelow(path, depth - 1);
    else if (entry.name === 'nats-server' && (await isExecutable(path))) yield path;
  }
}

function isExecutable(path: string): Promise<boolean> {
  return access(path, constants.X_OK).then(
    () => true,
    () => false,
  );
}

/** `2.15.1` of `nats-server: v2.15.1`; undefined if it cannot be run. */
async function versionOf(path: string): Promise<string | undefined> {
  try {
    const { stdout } = await run(path, ['--version'], { timeout: VERSION_TIMEOUT_MS });
    return /v?(\d+\.\d+\.\d+\S*)/.exec(stdout)?.[1];
  } catch {
    return undefined;
  }
}
