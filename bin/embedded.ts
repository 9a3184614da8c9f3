/**
 * A whole cluster on this machine: nats-server, host, edge and demo market as children of this process. What dies is started
 * again; all end with this process, however it ends; a folder is used by one cluster at a time.
 */
import { existsSync, readFileSync } from 'node:fs';
import { type AddressInfo, connect, createServer } from 'node:net';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Logger } from 'pino';
import { issueToken, readOrMakeSecret } from '../cluster/edge/tokens.ts';
import { findNatsServer, type NatsBinary } from '../cluster/log/nats-binary.ts';
import type { Durability, NatsServer } from '../cluster/log/nats-server.ts';
import type { Groups } from '../cluster/placement/partition-of.ts';
import type { Options } from '../config/options.ts';
import {
  type DataFolder,
  type Environment,
  groupsOf,
  locateDataFolder,
  optionsOf,
  prepareDataFolder,
} from './data-folder.ts';
import { Failure } from './failure.ts';
import { lockFolder } from './folder-lock.ts';
import { hasRoom, NatsProcess, storeBytes } from './nats-process.ts';
import type { ProcessIdentity } from './process-identity.ts';
import { type RoleName, RoleProcess } from './role-process.ts';
import type { DemoRoleSettings } from './roles/demo-role.ts';
import type { EdgeReport, EdgeRoleSettings, LogProblem } from './roles/edge-role.ts';
import type { HostReport, HostRoleSettings } from './roles/host-role.ts';
import { fileLogger } from './roles/role.ts';
import { endLeftOvers, type RunState, removeRunState, writeRunState } from './run-file.ts';
import { troupeVersion, websocketBinary } from './versions.ts';

/** What happens, as it happens; `troupe up` prints it. */
export type Stage =
  | {
      readonly stage: 'versions';
      readonly troupe: string;
      readonly node: string;
      readonly natsServer: string;
      readonly natsPath: string;
      readonly websocketBinary: string;
      readonly websocketSha256: string;
    }
  | { readonly stage: 'folder'; readonly path: string; readonly isNew: boolean; readonly ended: readonly string[] }
  | {
      readonly stage: 'nats';
      readonly url: string;
      readonly pid: number;
      readonly durability: Durability;
      readonly canBeLost: string;
      readonly tookMs: number;
    }
  | ({ readonly stage: 'host'; readonly pid: number; readonly tookMs: number } & HostReport)
  | {
      readonly stage: 'edge';
      readonly pid: number;
      readonly url: string;
      readonly operationsUrl: string;
      readonly tookMs: number;
    }
  | { readonly stage: 'demo'; readonly pid: number; readonly commandsPerSecond: number; readonly seed: number }
  | { readonly stage: 'ready'; readonly url: string; readonly tookMs: number }
  | { readonly stage: 'died'; readonly process: ProcessName; readonly reason: string; readonly restartMs: number }
  | { readonly stage: 'restarted'; readonly process: ProcessName; readonly pid: number; readonly report?: unknown }
  | { readonly stage: 'log_problem'; readonly reason: string }
  | { readonly stage: 'log_well' }
  | { readonly stage: 'gave_up'; readonly process: ProcessName; readonly reason: string }
  | { readonly stage: 'stopping' | 'stopped' };

export type ProcessName = RoleName | 'nats';

export type RunningCluster = {
  /** `http://127.0.0.1:port`. */
  readonly url: string;
  /** Of /healthz, /readyz and /metrics. It changes when the edge is started again, unless its port was chosen. */
  readonly operationsUrl: string;
  readonly folder: DataFolder;
  /** Process number, or undefined while it is down. */
  pidOf(name: ProcessName): number | undefined;
  /** A token of this cluster with these roles. */
  token(roles: readonly string[], principal?: string): Promise<string>;
  /** Settles when a part was given up: the cluster is of no use then, and was stopped. */
  readonly gaveUp: Promise<string>;
  /** Edge drains, host takes its checkpoints, nats-server ends. */
  stop(): Promise<void>;
  /** Ends everything at once, as a crash does. */
  kill(): void;
};

export type ClusterHooks = {
  readonly environment?: Environment;
  readonly onStage?: (stage: Stage) => void;
  /** Addresses of modules whose kinds host and edge serve beside the shipped ones: kinds that misbehave, for tests. */
  readonly testKinds?: readonly string[];
};

export const HOST_NODE = 'h1';
const EDGE_ID = 'e1';
const DRAIN_MS = 2_000; // On one machine clients notice within milliseconds.
const PROBE_TIMEOUT_MS = 1_000; // The loopback answers in microseconds.
const TOKEN_LIFE_MS = 3_600_000;
const WRITE_AGAIN_MS = 1_000; // After a full disk refused the run file.

const CAN_BE_LOST: Readonly<Record<Durability, string>> = {
  os:
    'A reply means: in the log, written to the operating system. Killed processes lose nothing; a power failure or a crash of the ' +
    'kernel can lose the replies of about the last 100 ms, which is noticed at the next start. One disk, one copy.',
  disk:
    'A reply means: in the log, fsynced. Killed processes and power failures lose nothing, as far as the disk keeps what it ' +
    'confirmed. One disk, one copy.',
};

/**
 * Starts a cluster and waits until it is ready. Options that are not given come from the folder and from the defaults.
 * Errors: OptionError, Failure, `log_outdated_server`; nothing is left running then.
 */
export async function startCluster(flags: Partial<Options>, hooks: ClusterHooks = {}): Promise<RunningCluster> {
  const environment = hooks.environment ?? {};
  const folder = locateDataFolder(flags, environment);
  const options = optionsOf(folder, flags, environment);
  const binary = await findNatsServer();
  await demandFreePort('--port', options.port);
  await demandFreePort('--operations-port', options.operationsPort);
  const isNew = !existsSync(folder.formatFile);
  if (!isNew) await demandRoom(folder.path);
  prepareDataFolder(folder, options);
  const unlock = lockFolder(folder);
  const cluster = new Embedded(folder, options, binary, hooks, unlock);
  try {
    await cluster.start(isNew);
    return cluster;
  } catch (error) {
    await cluster.stop();
    throw error;
  }
}

class Embedded implements RunningCluster {
  readonly folder: DataFolder;
  readonly gaveUp: Promise<string>;
  readonly #options: Options;
  readonly #groups: Groups;
  readonly #onStage: (stage: Stage) => void;
  readonly #unlock: () => void;
  readonly #binary: NatsBinary;
  readonly #testKinds: readonly string[];
  readonly #logger: Logger;
  readonly #nats: NatsProcess;
  readonly #roles = new Map<RoleName, RoleProcess>();
  readonly #children = new Map<string, ProcessIdentity>();
  readonly #startedAt = new Date();
  #giveUp: (reason: string) => void = () => undefined;
  #natsAddress: RunState['nats'];
  #port: number;
  #operationsPort = 0;
  #isReady = false;
  #logProblem: string | undefined;
  #writeAgain: NodeJS.Timeout | undefined;
  #stopped: Promise<void> | undefined;

  constructor(
    folder: DataFolder,
    options: Options,
    binary: NatsBinary,
    { onStage, testKinds = [] }: ClusterHooks,
    unlock: () => void,
  ) {
    this.folder = folder;
    this.#options = options;
    this.#groups = groupsOf(options);
    this.#binary = binary;
    this.#testKinds = testKinds;
    this.#unlock = unlock;
    this.#port = options.port;
    this.#natsAddress = { url: '', monitorUrl: '', user: '', passwordFile: join(folder.nats, 'nats-password') };
    this.#logger = fileLogger('troupe', { folder: folder.logs, level: options.logLevel });
    this.#onStage = (stage) => {
      this.#logger.info(stage, stage.stage);
      onStage?.(stage);
    };
    this.gaveUp = new Promise((resolve) => {
      this.#giveUp = resolve;
    });
    this.#nats = this.#natsProcess();
  }

  get url(): string {
    return `http://127.0.0.1:${this.#port}`;
  }

  get operationsUrl(): string {
    return `http://127.0.0.1:${this.#operationsPort}`;
  }

  pidOf(name: ProcessName): number | undefined {
    return name === 'nats' ? this.#nats.server?.pid : this.#roles.get(name)?.pid;
  }

  token(roles: readonly string[], principal = 'operator'): Promise<string> {
    return issueToken(readOrMakeSecret(this.folder.secretFile), { principal, roles, lifeMs: TOKEN_LIFE_MS });
  }

  async start(isNew: boolean): Promise<void> {
    const began = performance.now();
    if (this.#port === 0) this.#port = await freePort();
    this.#tellVersions();
    readOrMakeSecret(this.folder.secretFile);
    const ended = await endLeftOvers(this.folder);
    this.#onStage({ stage: 'folder', path: this.folder.path, isNew, ended });
    await this.#startNats();
    const host = this.#addRole('host', () => this.#hostSettings());
    const edge = this.#addRole(
      'edge',
      () => this.#edgeSettings(),
      (report) => this.#edgeListens(report as EdgeReport),
    );
    await Promise.all([this.#startHost(host), this.#startEdge(edge)]);
    if (this.#options.demo) await this.#startDemo();
    this.#isReady = true;
    this.#onStage({ stage: 'ready', url: this.url, tookMs: since(began) });
  }

  stop(): Promise<void> {
    this.#stopped ??= this.#stopAll();
    return this.#stopped;
  }

  kill(): void {
    for (const role of this.#roles.values()) role.kill();
    void this.#nats.kill();
    this.#unlock();
  }

  async #stopAll(): Promise<void> {
    if (this.#isReady) this.#onStage({ stage: 'stopping' });
    for (const name of ['demo', 'edge', 'host'] as const) await this.#roles.get(name)?.stop();
    await this.#nats.stop();
    clearTimeout(this.#writeAgain);
    removeRunState(this.folder);
    this.#unlock();
    if (this.#isReady) this.#onStage({ stage: 'stopped' });
  }

  #tellVersions(): void {
    const { name, sha256 } = websocketBinary();
    this.#onStage({
      stage: 'versions',
      troupe: troupeVersion(),
      node: process.version,
      natsServer: this.#binary.version,
      natsPath: this.#binary.path,
      websocketBinary: name,
      websocketSha256: sha256,
    });
  }

  #natsProcess(): NatsProcess {
    const { logBytes, durability } = this.#options;
    return new NatsProcess({
      binary: this.#binary.path,
      folder: this.folder.nats,
      durability: durability as Durability,
      maxFileStoreBytes: storeBytes(this.#groups, logBytes),
      log: (line) => this.#logger.info({ process: 'nats' }, line),
      onDeath: (reason) => this.#onStage({ stage: 'died', process: 'nats', reason, restartMs: 0 }),
      onReady: (server) => {
        this.#natsRuns(server);
        this.#onStage({ stage: 'restarted', process: 'nats', pid: server.pid });
      },
      onGivenUp: (reason) => void this.#giveUpOn('nats', reason),
      onProblem: (reason) => this.#logHasProblem(reason),
    });
  }

  /** The edge refuses commands meanwhile, and says why. */
  #logHasProblem(reason: string | undefined): void {
    this.#logProblem = reason;
    this.#roles.get('edge')?.tell({ type: 'log_problem', reason } satisfies LogProblem);
    this.#onStage(reason === undefined ? { stage: 'log_well' } : { stage: 'log_problem', reason });
  }

  async #startNats(): Promise<void> {
    const began = performance.now();
    const server = await this.#nats.start();
    this.#natsRuns(server);
    const durability = this.#options.durability as Durability;
    const { url, pid } = server;
    this.#onStage({ stage: 'nats', url, pid, durability, canBeLost: CAN_BE_LOST[durability], tookMs: since(began) });
  }

  #natsRuns({ url, monitorUrl, user }: NatsServer): void {
    this.#natsAddress = { ...this.#natsAddress, url, monitorUrl, user };
    this.#writeRunState();
  }

  async #startHost(host: RoleProcess): Promise<void> {
    const began = performance.now();
    const report = (await host.start()) as HostReport;
    this.#onStage({ stage: 'host', pid: host.pid ?? 0, tookMs: since(began), ...report });
  }

  async #startEdge(edge: RoleProcess): Promise<void> {
    const began = performance.now();
    await edge.start();
    this.#onStage({
      stage: 'edge',
      pid: edge.pid ?? 0,
      url: this.url,
      operationsUrl: this.operationsUrl,
      tookMs: since(began),
    });
  }

  async #startDemo(): Promise<void> {
    const demo = this.#addRole('demo', () => this.#demoSettings());
    await demo.start();
    const { demoRate: commandsPerSecond, seed } = this.#options;
    this.#onStage({ stage: 'demo', pid: demo.pid ?? 0, commandsPerSecond, seed });
  }

  #addRole(
    name: RoleName,
    settings: () => unknown,
    onReport: (report: unknown) => void = () => undefined,
  ): RoleProcess {
    let starts = 0;
    const role = new RoleProcess({
      name,
      settings,
      logFolder: this.folder.logs,
      onProcess: (identity) => this.#childChanged(name, identity),
      onReady: (report) => {
        onReport(report);
        if (starts++ > 0) this.#onStage({ stage: 'restarted', process: name, pid: role.pid ?? 0, report });
      },
      onDeath: (reason, restartMs) => this.#onStage({ stage: 'died', process: name, reason, restartMs }),
      onGivenUp: (reason) => void this.#giveUpOn(name, reason),
    });
    this.#roles.set(name, role);
    return role;
  }

  /** Before the child has anything to do: a parent killed right after must not leave an unknown one behind. */
  #childChanged(name: RoleName, identity: ProcessIdentity | undefined): void {
    if (identity) this.#children.set(name, identity);
    else this.#children.delete(name);
    this.#writeRunState();
  }

  #edgeListens({ port, operationsPort }: EdgeReport): void {
    this.#port = port;
    this.#operationsPort = operationsPort;
    this.#writeRunState();
  }

  /** A demo that cannot run harms nobody; without any of the others there is no cluster. */
  async #giveUpOn(process: ProcessName, reason: string): Promise<void> {
    this.#onStage({ stage: 'gave_up', process, reason });
    if (process === 'demo') return;
    await this.stop();
    this.#giveUp(reason);
  }

  /** A disk that is full keeps the old file; it is brought up to date once there is room. */
  #writeRunState(): void {
    clearTimeout(this.#writeAgain);
    try {
      this.#writeRunStateNow();
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOSPC' || !this.#isReady) throw error;
      this.#writeAgain = setTimeout(() => this.#writeRunState(), WRITE_AGAIN_MS).unref();
    }
  }

  #writeRunStateNow(): void {
    const isListening = this.#operationsPort !== 0;
    writeRunState(this.folder, {
      pid: process.pid,
      startedAt: this.#startedAt.toISOString(),
      url: isListening ? this.url : '',
      operationsUrl: isListening ? this.operationsUrl : '',
      nats: this.#natsAddress,
      hostNode: HOST_NODE,
      edgeNode: EDGE_ID,
      children: Object.fromEntries(this.#children),
    });
  }

  #natsOptions(): { servers: string; user: string; password: string } {
    const { url, user, passwordFile } = this.#natsAddress;
    return { servers: url, user, password: readFileSync(passwordFile, 'utf8').trim() };
  }

  #hostSettings(): HostRoleSettings {
    const { traps, sessionHorizonMs, checkpointCommands, checkpointMs, maxActiveActors, logMarginMessages } =
      this.#options;
    return {
      nats: this.#natsOptions(),
      dataFolder: this.folder.partitions,
      logBytes: this.#options.logBytes,
      partition: {
        node: HOST_NODE,
        groups: this.#groups,
        traps,
        sessionHorizonMs,
        checkpointCommands,
        checkpointMs,
        maxActiveActors,
        logMarginMessages,
      },
      testKinds: this.#testKinds,
      log: { folder: this.folder.logs, level: this.#options.logLevel },
    };
  }

  #edgeSettings(): EdgeRoleSettings {
    const { operationsPort, maxPayloadBytes, maxConnections, commandsPerSecond, sessionHorizonMs, logLevel, logBytes } =
      this.#options;
    return {
      nats: this.#natsOptions(),
      groups: this.#groups,
      logBytes,
      edge: {
        id: EDGE_ID,
        node: EDGE_ID,
        host: '127.0.0.1',
        port: this.#port,
        operationsPort,
        maxPayloadBytes,
        maxConnections,
        maxConnectionsPerAddress: maxConnections, // All clients of one machine have one address.
        commandsPerSecond,
        commandsPerSecondPerUser: Math.min(2 * commandsPerSecond, 10_000_000),
        sessionHorizonMs,
        drainMs: DRAIN_MS,
        developmentTokens: true,
        consoleFolder: consoleFolder(),
      },
      secretFile: this.folder.secretFile,
      testKinds: this.#testKinds,
      logProblem: this.#logProblem,
      log: { folder: this.folder.logs, level: logLevel },
    };
  }

  #demoSettings(): DemoRoleSettings {
    const { demoRate, seed, logLevel } = this.#options;
    return {
      url: this.url,
      secretFile: this.folder.secretFile,
      commandsPerSecond: demoRate,
      seed,
      log: { folder: this.folder.logs, level: logLevel },
    };
  }
}

/** The console's files lie beside this one in the build. */
function consoleFolder(): string | undefined {
  const folder = fileURLToPath(new URL('./console', import.meta.url));
  return existsSync(join(folder, 'index.html')) ? folder : undefined;
}

function since(began: number): number {
  return Math.round(performance.now() - began);
}

/** Whether anybody listens. Binding it ourselves would fail for a minute after a run whose clients were still connected. */
function answers(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ port, host: '127.0.0.1' });
    const settle = (listening: boolean) => () => {
      socket.destroy();
      resolve(listening);
    };
    socket.once('connect', settle(true)).once('error', settle(false)).setTimeout(PROBE_TIMEOUT_MS, settle(false));
  });
}

/**
 * Chosen here and not by the edge: a websocket server that let the system choose marks its sockets so that a killed edge's
 * connections keep the port from its successor for a minute.
 */
function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer().once('error', reject);
    server.listen(0, '127.0.0.1', () => {
      const { port } = server.address() as AddressInfo;
      server.close(() => resolve(port));
    });
  });
}

async function demandRoom(path: string): Promise<void> {
  if (await hasRoom(path)) return;
  throw new Failure(`the disk of ${path} is full`, ['Make room on it first: nothing was started.'], 'storage_full');
}

/** A taken port is a person's mistake: said at once, and not by a child that is started again and again. */
async function demandFreePort(flag: '--port' | '--operations-port', port: number): Promise<void> {
  if (port === 0) return;
  if (!(await answers(port))) return;
  throw new Failure(
    `port ${port} of 127.0.0.1 is taken`,
    [`Choose another one with ${flag} N, or a free one with ${flag} 0.`],
    'port_taken',
  );
}
