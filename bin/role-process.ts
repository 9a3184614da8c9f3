/**
 * A role as a child process: started with its settings, and started again when it dies, after a growing pause. Whoever dies
 * again and again before it is ready is given up, with what it said last.
 */
import { type ChildProcess, fork } from 'node:child_process';
import { closeSync, mkdirSync, openSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { identityOf, type ProcessIdentity } from './process-identity.ts';
import type { RoleMessage } from './roles/role.ts';

export type RoleName = 'host' | 'edge' | 'demo';

export type RoleOptions = {
  readonly name: RoleName;
  /** Asked at each start: ports that were chosen once stay. */
  readonly settings: () => unknown;
  /** What the process writes to its standard output and error goes to `<folder>/<name>.out`. */
  readonly logFolder: string;
  /** Called after the process is there and before it gets anything to do; undefined: it is gone. */
  readonly onProcess: (identity: ProcessIdentity | undefined) => void;
  readonly onReady: (report: unknown) => void;
  /** It died and will be started again. */
  readonly onDeath: (reason: string, restartMs: number) => void;
  /** It died and will not be started again. */
  readonly onGivenUp: (reason: string) => void;
};

const MAX_FAILED_STARTS = 5; // In a row: it cannot start, and the next attempt would end alike.
const WAITS_FOR = /^(log_unavailable|log_full|storage_full|timeout)\b/; // What a start may wait for, once the cluster ran.
const MAX_DEATHS = 60; // Within the time below: it starts and dies, for hours if nobody looks.
const DEATHS_WITHIN_MS = 10 * 60_000;
const RESTART_MIN_MS = 20;
const RESTART_MAX_MS = 5_000;
const STOP_TIMEOUT_MS = 20_000; // A drain and a last checkpoint take a few seconds; then SIGKILL.

/** An edge holds much that lives long and little that is young: a small young generation halves the memory of idle connections. */
const NODE_FLAGS: Readonly<Record<RoleName, string[]>> = {
  host: ['--enable-source-maps'],
  edge: ['--enable-source-maps', '--max-semi-space-size=8'],
  demo: ['--enable-source-maps'],
};

export class RoleProcess {
  readonly #options: RoleOptions;
  #child: ChildProcess | undefined;
  #timer: NodeJS.Timeout | undefined;
  #stopping = false;
  #deaths: number[] = [];
  /** In a row; being killed from outside is no fault of its own. */
  #failedStarts = 0;
  #lastReason = '';
  #settle: { resolve: (report: unknown) => void; reject: (error: Error) => void } | undefined;

  constructor(options: RoleOptions) {
    this.#options = options;
  }

  get pid(): number | undefined {
    return this.#child?.pid;
  }

  /** Resolves with the report once it is ready for the first time. Errors: Error when it was given up before. */
  start(): Promise<unknown> {
    return new Promise((resolve, reject) => {
      this.#settle = { resolve, reject };
      this.#spawn();
    });
  }

  /** Something that it should know, while it lives. */
  tell(message: unknown): void {
    if (this.#child?.connected) this.#child.send(message as object, () => undefined);
  }

  /** Asks it to finish, and waits until it is gone. */
  async stop(): Promise<void> {
    this.#stopping = true;
    clearTimeout(this.#timer);
    const child = this.#child;
    if (!child) return;
    const gone = new Promise((resolve) => child.once('exit', resolve));
    if (child.connected) child.send({ type: 'stop' });
    else child.kill('SIGTERM');
    const timer = setTimeout(() => child.kill('SIGKILL'), STOP_TIMEOUT_MS);
    await gone;
    clearTimeout(timer);
  }

  /** Ends it as kill -9 does, for good. */
  kill(): void {
    this.#stopping = true;
    clearTimeout(this.#timer);
    this.#child?.kill('SIGKILL');
  }

  #spawn(): void {
    const { name, logFolder, settings, onProcess } = this.#options;
    mkdirSync(logFolder, { recursive: true, mode: 0o700 });
    const output = openSync(join(logFolder, `${name}.out`), 'a', 0o600);
    const module = fileURLToPath(new URL(`./roles/${name}-role.js`, import.meta.url));
    // A group of its own: control-C at a terminal is the parent's to handle.
    const child = fork(module, [], {
      stdio: ['ignore', output, output, 'ipc'],
      detached: true,
      execArgv: NODE_FLAGS[name],
    });
    closeSync(output);
    this.#child = child;
    this.#lastReason = '';
    child.on('message', (message: RoleMessage) => this.#heard(message));
    child.once('error', (error) => this.#died(child, error.message, false));
    child.once('exit', (code, signal) => {
      const wasKilled = signal === 'SIGKILL' || signal === 'SIGTERM';
      this.#died(child, this.#lastReason || `ended with ${signal ?? code}`, wasKilled);
    });
    if (child.pid !== undefined) onProcess(identityOf(child.pid));
    child.send({ type: 'start', settings: settings() }, () => undefined); // A failure to send ends in `exit`.
  }

  #heard(message: RoleMessage): void {
    if (message.type === 'failed') {
      this.#lastReason = message.reason;
      return;
    }
    this.#failedStarts = 0;
    this.#settle?.resolve(message.report);
    this.#settle = undefined;
    this.#options.onReady(message.report);
  }

  #died(child: ChildProcess, reason: string, wasKilled: boolean): void {
    if (this.#child !== child) return;
    this.#child = undefined;
    this.#options.onProcess(undefined);
    if (this.#stopping) return;
    const now = Date.now();
    const mayPass = !this.#settle && WAITS_FOR.test(reason);
    if (!mayPass) this.#deaths = [...this.#deaths.filter((at) => at > now - DEATHS_WITHIN_MS), now];
    if (!wasKilled) this.#failedStarts++;
    const isHopeless = this.#failedStarts >= MAX_FAILED_STARTS || this.#deaths.length >= MAX_DEATHS;
    if (isHopeless && !mayPass) return this.#giveUp(reason);
    const waitMs = Math.min(RESTART_MAX_MS, RESTART_MIN_MS * 4 ** this.#failedStarts);
    this.#options.onDeath(reason, waitMs);
    this.#timer = setTimeout(() => this.#spawn(), waitMs);
  }

  #giveUp(reason: string): void {
    this.#stopping = true;
    const { name, logFolder } = this.#options;
    const error = new Error(`${name}: ${reason} (its output: ${join(logFolder, `${name}.out`)})`);
    if (this.#settle) this.#settle.reject(error);
    else this.#options.onGivenUp(error.message);
    this.#settle = undefined;
  }
}
