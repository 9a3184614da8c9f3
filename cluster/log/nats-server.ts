/**
 * A nats-server as a child of this process: on free ports of the loopback interface, with its own data folder (0700), a
 * password that only the folder's owner can read, and a life tied to ours. Where the system can do so (Linux, setpriv) the
 * kernel kills it with the thread that started it; elsewhere, and whenever that failed, the next start on the same folder
 * recognises it by its pid file and ends it first.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { accessSync, constants, readFileSync } from 'node:fs';
import { chmod, mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { basename, join, resolve } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { findNatsServer } from './nats-binary.ts';

/** `os`: acknowledged before fsync, which follows within 100 ms. `disk`: an fsync before each acknowledgement. */
export type Durability = 'os' | 'disk';

export type NatsServerOptions = {
  /** Default: findNatsServer(). */
  readonly binary?: string;
  /** Made if missing. Streams lie in `jetstream` within; the rest can be removed while the server is down. */
  readonly dataDir: string;
  readonly durability: Durability;
  /** Default: a free one. A server that is to be reached again by its clients is restarted on the port it had. */
  readonly port?: number;
  /** What all streams together may reserve by their byte limits; default: three quarters of the free disk. */
  readonly maxFileStoreBytes?: number;
  /** Per stream. */
  readonly maxConsumers?: number;
  /** Given each line that the server writes. */
  readonly log?: (line: string) => void;
};

export type NatsServer = {
  /** `nats://127.0.0.1:port`. */
  readonly url: string;
  readonly user: string;
  readonly password: string;
  readonly pid: number;
  readonly port: number;
  /** `http://127.0.0.1:port`, for `/healthz` and `/varz`. */
  readonly monitorUrl: string;
  /** Resolves when the process has ended, whoever ended it. */
  readonly exited: Promise<{ readonly code: number | null; readonly signal: NodeJS.Signals | null }>;
  /** Ends it cleanly. */
  stop(): Promise<void>;
  /** Ends it as kill -9 does. */
  kill(): Promise<void>;
};

const START_TIMEOUT_MS = 30_000; // 60,000 messages of 32 KiB were recovered in 1.2 s; slow disks take longer.
const STOP_TIMEOUT_MS = 10_000; // Then SIGKILL: the store is made for it.
const POLL_MS = 10;
const MAX_CONSUMERS = 5_000; // Per stream; the default of 1,000 could be used up by readers that died in a storm.
const USER = 'troupe';

/** Starts a server and waits until it is healthy. Errors: `log_outdated_server`; Error with the server's last lines. */
export async function startNatsServer(options: NatsServerOptions): Promise<NatsServer> {
  const folder = resolve(options.dataDir);
  await mkdir(folder, { recursive: true, mode: 0o700 });
  await endLeftOver(folder);
  const binary = options.binary ?? (await findNatsServer()).path;
  const password = await passwordOf(folder);
  await writeConfig(folder, options, password);
  await writeFile(ownerFile(folder), String(process.pid), { mode: 0o600 });
  const child = spawnTied(binary, ['-c', configFile(folder)]);
  const server = new RunningServer(child, folder, binary, password, options.log ?? (() => undefined));
  await server.waitUntilHealthy();
  return server.face;
}

/** What the running server says its durability is. */
export async function reportedDurability(monitorUrl: string): Promise<Durability> {
  const varz = (await (await fetch(`${monitorUrl}/varz`)).json()) as {
    jetstream?: { config?: { sync_always?: boolean } };
  };
  return varz.jetstream?.config?.sync_always === true ? 'disk' : 'os';
}

function configFile(folder: string): string {
  return join(folder, 'nats-server.conf');
}

function pidFile(folder: string): string {
  return join(folder, 'nats-server.pid');
}

/** Who started the server: told apart from whoever inherits it when that process dies. */
function ownerFile(folder: string): string {
  return join(folder, 'nats-server.owner');
}

/** Made once and kept, so that clients that outlive the server can come back. */
async function passwordOf(folder: string): Promise<string> {
  const file = join(folder, 'nats-password');
  const fresh = randomBytes(24).toString('base64url');
  await writeFile(file, fresh, { mode: 0o600, flag: 'wx' }).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== 'EEXIST') throw error;
  });
  return (await readFile(file, 'utf8')).trim();
}

async function writeConfig(folder: string, options: NatsServerOptions, password: string): Promise<void> {
  await writeFile(configFile(folder), configText(folder, options, password), { mode: 0o600 });
  await chmod(configFile(folder), 0o600);
}

function configText(folder: string, options: NatsServerOptions, password: string): string {
  const text = (value: string) => JSON.stringify(value);
  return [
    `server_name: ${text('troupe')}`,
    `listen: ${text(`127.0.0.1:${options.port ?? -1}`)}`,
    `http: ${text('127.0.0.1:-1')}`,
    `ports_file_dir: ${text(folder)}`,
    `pid_file: ${text(pidFile(folder))}`,
    'max_payload: 1MB',
    `authorization { user: ${text(USER)}, password: ${text(password)} }`,
    'jetstream {',
    `  store_dir: ${text(folder)}`, // The server makes `jetstream` within.
    `  sync_interval: ${options.durability === 'disk' ? 'always' : text('100ms')}`,
    ...(options.maxFileStoreBytes ? [`  max_file_store: ${options.maxFileStoreBytes}`] : []),
    `  limits { default_max_consumers: ${options.maxConsumers ?? MAX_CONSUMERS} }`,
    '}',
    '',
  ].join('\n');
}

/** With setpriv the kernel sends SIGKILL when the thread that spawned dies, however it dies. setpriv becomes the server. */
function spawnTied(binary: string, args: string[]): ChildProcess {
  const setpriv = process.platform === 'linux' ? ['/usr/bin/setpriv', '/bin/setpriv'].find(isExecutable) : undefined;
  const [command, all] = setpriv ? [setpriv, ['--pdeathsig', 'KILL', '--', binary, ...args]] : [binary, args];
  // A group of its own: control-C at a terminal is ours to handle.
  return spawn(command, all, { stdio: ['ignore', 'pipe', 'pipe'], detached: true });
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

/** Ends a server that outlived its parent on this folder. Errors: Error if its parent still lives. */
async function endLeftOver(folder: string): Promise<void> {
  const pid = Number(await readFile(pidFile(folder), 'utf8').catch(() => ''));
  if (!pid || !isServerOf(pid, folder)) return;
  const owner = Number(await readFile(ownerFile(folder), 'utf8').catch(() => ''));
  if (parentOf(pid) === owner) throw new Error(`nats-server ${pid} of process ${owner} already runs on ${folder}`);
  process.kill(pid, 'SIGTERM');
  const deadline = Date.now() + STOP_TIMEOUT_MS;
  while (isServerOf(pid, folder)) {
    if (Date.now() > deadline) process.kill(pid, 'SIGKILL');
    await sleep(POLL_MS);
  }
}

/** Whether this very process is a nats-server on this folder: process numbers are used again. */
function isServerOf(pid: number, folder: string): boolean {
  return (
    readProcess(pid, 'cmdline').split('\0').includes(configFile(folder)) &&
    readProcess(pid, 'stat').split(' ')[2] !== 'Z'
  );
}

function parentOf(pid: number): number {
  return Number(readProcess(pid, 'stat').split(' ')[3]);
}

function readProcess(pid: number, file: 'cmdline' | 'stat'): string {
  try {
    return readFileSync(`/proc/${pid}/${file}`, 'utf8');
  } catch {
    return '';
  }
}

class RunningServer {
  readonly #child: ChildProcess;
  readonly #folder: string;
  readonly #portsFile: string;
  readonly #password: string;
  readonly #lastLines: string[] = [];
  readonly #exited: NatsServer['exited'];
  #ended = false;
  #urls = { nats: '', monitor: '' };

  constructor(child: ChildProcess, folder: string, binary: string, password: string, log: (line: string) => void) {
    this.#child = child;
    this.#folder = folder;
    this.#password = password;
    this.#portsFile = join(folder, `${basename(binary)}_${child.pid}.ports`);
    this.#exited = new Promise((settle) => {
      child.once('error', (error) => {
        this.#lastLines.push(error.message);
        this.#ended = true;
        settle({ code: null, signal: null });
      });
      child.once('exit', (code, signal) => {
        this.#ended = true;
        settle({ code, signal });
      });
    });
    for (const stream of [child.stdout, child.stderr]) {
      if (stream) createInterface({ input: stream }).on('line', (line) => this.#line(line, log));
    }
  }

  get face(): NatsServer {
    return {
      url: this.#urls.nats,
      user: USER,
      password: this.#password,
      pid: this.#child.pid ?? 0,
      port: Number(new URL(this.#urls.nats).port),
      monitorUrl: this.#urls.monitor,
      exited: this.#exited,
      stop: () => this.#end('SIGTERM'),
      kill: () => this.#end('SIGKILL'),
    };
  }

  async waitUntilHealthy(): Promise<void> {
    const deadline = Date.now() + START_TIMEOUT_MS;
    while (!(await this.#isHealthy())) {
      if (this.#ended || Date.now() > deadline) {
        await this.#end('SIGKILL');
        throw new Error(`nats-server did not start on ${this.#folder}:\n${this.#lastLines.join('\n')}`);
      }
      await sleep(POLL_MS);
    }
  }

  async #isHealthy(): Promise<boolean> {
    if (this.#ended) return false;
    if (this.#urls.monitor === '' && !(await this.#readPorts())) return false;
    return fetch(`${this.#urls.monitor}/healthz`, { signal: AbortSignal.timeout(1_000) }).then(
      (response) => response.ok,
      () => false,
    );
  }

  /** The server writes the file after it listens; until then it is missing or half there. */
  async #readPorts(): Promise<boolean> {
    try {
      const ports = JSON.parse(await readFile(this.#portsFile, 'utf8')) as { nats?: string[]; monitoring?: string[] };
      this.#urls = { nats: ports.nats?.[0] ?? '', monitor: ports.monitoring?.[0] ?? '' };
      return this.#urls.nats !== '' && this.#urls.monitor !== '';
    } catch {
      return false;
    }
  }

  async #end(signal: NodeJS.Signals): Promise<void> {
    if (!this.#ended) this.#child.kill(signal);
    const timer = setTimeout(() => this.#child.kill('SIGKILL'), STOP_TIMEOUT_MS);
    await this.#exited;
    clearTimeout(timer);
    for (const file of [this.#portsFile, pidFile(this.#folder)]) await rm(file, { force: true });
  }

  #line(line: string, log: (line: string) => void): void {
    this.#lastLines.push(line);
    if (this.#lastLines.length > 20) this.#lastLines.shift();
    log(line);
  }
}
