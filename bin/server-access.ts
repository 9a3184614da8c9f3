/**
 * How a command reaches a server and proves who it is: `--server`, TROUPE_SERVER, what runs on the data folder, or the default
 * port; `--token`, TROUPE_TOKEN, or a token signed with the data folder's secret when the server is on this machine.
 */
import { existsSync } from 'node:fs';
import { type Command, Option } from 'commander';
import WebSocket from 'ws';
import type { ActorDefinition } from '../actors/definition.ts';
import { issueToken, readOrMakeSecret } from '../cluster/edge/tokens.ts';
import { OPTIONS, variableOf } from '../config/options.ts';
import { type Client, type ConnectOptions, connect, type SocketClass } from '../protocol/client/client.ts';
import { loadKinds } from './all-kinds.ts';
import { type DataFolder, isRecord, locateDataFolder, parseJson } from './data-folder.ts';
import { Failure } from './failure.ts';
import { holderOf } from './folder-lock.ts';
import { type RunState, readRunState } from './run-file.ts';

export type AccessFlags = {
  readonly data?: string;
  readonly server?: string;
  readonly token?: string;
  readonly json?: boolean;
};

export type Access = {
  readonly url: string;
  readonly folder: DataFolder;
  /** What runs on the data folder, if anything does. */
  readonly running: RunState | undefined;
  token(): Promise<string>;
};

const TOKEN_LIFE_MS = 3_600_000; // Longer runs ask again.
const HTTP_TIMEOUT_MS = 15_000; // A status of a busy cluster takes milliseconds, one in a takeover seconds.
const PATIENCE_MS = 10_000; // An edge that is known to run may just be starting again.
const PRINCIPAL = 'cli';

/** The options that all commands share which talk to a server. */
export function addAccessOptions(command: Command): Command {
  return addDataOption(command)
    .addOption(new Option('--server <url>', 'the server (default: what runs on the data folder)').env('TROUPE_SERVER'))
    .addOption(
      new Option('--token <token>', "proves who you are (default: signed with the data folder's secret)").env(
        'TROUPE_TOKEN',
      ),
    )
    .option('--json', 'print JSON');
}

export function addDataOption(command: Command): Command {
  return command.option('--data <folder>', `${OPTIONS.data.about} (${variableOf(OPTIONS.data)})`);
}

/** What runs on a folder now. */
export function runningOn(folder: DataFolder): RunState | undefined {
  return holderOf(folder) && readRunState(folder);
}

/** Errors: Failure, OptionError. Nothing is asked of the server yet. */
export function accessOf(flags: AccessFlags): Access {
  const folder = locateDataFolder(flags, process.env);
  const running = runningOn(folder);
  const url = serverUrl(flags.server ?? (running?.url || `http://127.0.0.1:${OPTIONS.port.fallback}`));
  return { url, folder, running, token: () => tokenFor(flags, url, folder) };
}

function serverUrl(text: string): string {
  const withScheme = /^[a-z]+:\/\//i.test(text) ? text : `http://${text}`;
  const url = URL.canParse(withScheme) ? new URL(withScheme) : undefined;
  if (url && /^https?:$/.test(url.protocol)) return url.origin;
  throw new Failure(
    `"${text}" is not the address of a server`,
    ['Example: --server http://127.0.0.1:7070'],
    'invalid_option',
  );
}

async function tokenFor(flags: AccessFlags, url: string, folder: DataFolder): Promise<string> {
  if (flags.token) return flags.token;
  const { hostname } = new URL(url);
  if (/^(127\.|localhost$|\[::1\]$)/.test(hostname) && existsSync(folder.secretFile)) return localToken(folder);
  const advice = [
    'Give one with --token or TROUPE_TOKEN.',
    'On the machine of the cluster: --data FOLDER, or troupe token --role operator --sub NAME',
  ];
  throw new Failure(`a token for ${url} is needed`, advice, 'unauthorized');
}

/** The owner of the folder may do everything that clients may. */
async function localToken(folder: DataFolder): Promise<string> {
  const roles = rolesOf(await loadKinds());
  return issueToken(readOrMakeSecret(folder.secretFile), { principal: PRINCIPAL, roles, lifeMs: TOKEN_LIFE_MS });
}

function rolesOf(kinds: readonly ActorDefinition[]): string[] {
  const specs = kinds.flatMap(({ commands, queries, topics }) =>
    [commands, queries, topics].flatMap((each) => Object.values(each)),
  );
  const roles = new Set(specs.flatMap(({ roles: named }) => named ?? []));
  roles.delete('system');
  return [...roles.add('operator')];
}

/** Asks the operators' interface. Errors: Failure with the server's name for what is wrong. */
export async function askOperations(access: Access, path: string): Promise<unknown> {
  const headers = { authorization: `Bearer ${await access.token()}` };
  const response = await fetch(`${access.url}/v1/ops/${path}`, {
    headers,
    signal: AbortSignal.timeout(HTTP_TIMEOUT_MS),
  }).catch((error) => {
    throw notReached(access, error);
  });
  const value = parseJson(await response.text());
  if (response.ok) return value;
  const told = isRecord(value) && isRecord(value.error) ? value.error : {};
  throw new Failure(
    String(told.message ?? `status ${response.status}`),
    adviceFor(String(told.code), access),
    String(told.code ?? 'failed'),
  );
}

function adviceFor(code: string, access: Access): string[] {
  if (code === 'unauthorized' || code === 'token_expired') {
    return [
      `The token is not one of ${access.url}.`,
      'Name the data folder of that cluster with --data, or give a token with --token.',
    ];
  }
  if (code === 'unknown_kind') return ['troupe actors   shows what there is'];
  return [];
}

export function notReached(access: Access, cause: unknown): Failure {
  const reason =
    cause instanceof Error && cause.cause instanceof Error
      ? cause.cause.message
      : String((cause as Error).message ?? cause);
  const advice =
    access.running?.url === access.url
      ? [`It should run as process ${access.running.pid}; its logs: ${access.folder.logs}`]
      : [
          `Start a cluster with: troupe up   (data folder: ${access.folder.path})`,
          'Or name a server with --server, another folder with --data.',
        ];
  return new Failure(`${access.url} does not answer (${reason})`, advice, 'disconnected');
}

export type ConnectFlags = Partial<Pick<ConnectOptions, 'platform' | 'requestTimeoutMs'>>;

/** A client that is connected. Errors: Failure when the server does not answer, TroupeError when it refuses. */
export async function connectClient(access: Access, options: ConnectFlags = {}): Promise<Client> {
  await access.token(); // Whoever has none is told so, and not that nobody answers.
  const client = connect({
    url: `${access.url.replace(/^http/, 'ws')}/v1/socket`,
    token: () => access.token(),
    WebSocket: WebSocket as unknown as SocketClass,
    clientName: 'troupe cli',
    ...options,
  });
  const patientUntil = performance.now() + (access.running?.url === access.url ? PATIENCE_MS : 0);
  const failed = new Promise<never>((_, reject) => {
    client.onState((state, reason) => {
      if (state === 'connecting' && reason && performance.now() > patientUntil) reject(notReached(access, reason));
    });
  });
  try {
    await Promise.race([client.ready(), failed]);
    return client;
  } catch (error) {
    client.close();
    throw error;
  }
}
