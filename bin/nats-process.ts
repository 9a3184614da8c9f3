/**
 * The nats-server of an embedded cluster: started again on the port that it had when it dies, since its clients wait there. A
 * stream whose disk was full takes nothing until the server is started anew, which happens as soon as there is room.
 */
import { statfs } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Durability, type NatsServer, startNatsServer } from '../cluster/log/nats-server.ts';
import { allPartitions, type Groups } from '../cluster/placement/partition-of.ts';

const SPARE_GENERATIONS = 16; // Losses that can be accepted before an old generation's log has to be removed.
const ROOM_BYTES = 4 * 1024 * 1024; // With less, the server's next block would soon be refused again.
const STORE_RESERVE_BYTES = 64 * 1024 * 1024; // The buckets of keys and values.

/** Whether the disk of a folder can take what a nats-server writes at its start and soon after. */
export async function hasRoom(folder: string): Promise<boolean> {
  const { bavail, bsize } = await statfs(folder);
  return bavail * bsize >= ROOM_BYTES;
}

/** What all streams of a cluster may reserve together. */
export function storeBytes(groups: Groups, logBytes: number): number {
  return (allPartitions(groups).length + SPARE_GENERATIONS) * logBytes + STORE_RESERVE_BYTES;
}

export type NatsProcessOptions = {
  readonly binary: string;
  readonly folder: string;
  readonly durability: Durability;
  readonly maxFileStoreBytes: number;
  readonly log: (line: string) => void;
  readonly onDeath: (reason: string) => void;
  readonly onReady: (server: NatsServer) => void;
  readonly onGivenUp: (reason: string) => void;
  /** The server is there and does not store, and why; undefined: it does again. */
  readonly onProblem: (reason: string | undefined) => void;
};

const MAX_FAILED_STARTS = 5;
const RESTART_MIN_MS = 20;
const RESTART_MAX_MS = 2_000;
const WATCH_MS = 1_000; // How late a frozen stream is noticed, and that there is room again.
const WATCH_TIMEOUT_MS = 5_000; // A loaded server answers in milliseconds; one that takes longer may just be busy.
const CURE_MAX_MS = 60_000; // Between restarts of a server that stays unwell although there is room.

export class NatsProcess {
  readonly #options: NatsProcessOptions;
  #server: NatsServer | undefined;
  #port: number | undefined;
  #stopping = false;
  #problem: string | undefined;
  #cures = 0;
  #curedMs = Number.NEGATIVE_INFINITY;
  #watch: NodeJS.Timeout | undefined;

  constructor(options: NatsProcessOptions) {
    this.#options = options;
  }

  get server(): NatsServer | undefined {
    return this.#server;
  }

  /** Errors: those of startNatsServer. */
  async start(): Promise<NatsServer> {
    const { binary, folder, durability, maxFileStoreBytes, log } = this.#options;
    const port = this.#port === undefined ? {} : { port: this.#port };
    const server = await startNatsServer({ binary, dataDir: folder, durability, maxFileStoreBytes, log, ...port });
    this.#server = server;
    this.#port = server.port;
    void server.exited.then(({ code, signal }) => this.#died(`ended with ${signal ?? code}`));
    if (this.#stopping) await server.stop();
    else this.#watchSoon();
    this.#tell(undefined);
    return server;
  }

  async stop(): Promise<void> {
    this.#stopping = true;
    clearTimeout(this.#watch);
    await this.#server?.stop();
  }

  async kill(): Promise<void> {
    this.#stopping = true;
    clearTimeout(this.#watch);
    await this.#server?.kill();
  }

  async #died(reason: string): Promise<void> {
    this.#server = undefined;
    if (this.#stopping) return;
    this.#options.onDeath(reason);
    for (let failures = 0; !this.#stopping; ) {
      try {
        await this.#waitForRoom();
        if (this.#stopping) return;
        return this.#options.onReady(await this.start());
      } catch (error) {
        if (++failures === MAX_FAILED_STARTS) return this.#options.onGivenUp((error as Error).message);
        await sleep(Math.min(RESTART_MAX_MS, RESTART_MIN_MS * 4 ** failures));
      }
    }
  }
  /** A server that starts on a full disk cannot even write down its ports. */
  async #waitForRoom(): Promise<void> {
    while (!this.#stopping && !(await hasRoom(this.#options.folder))) {
      this.#tell('no space left on device');
      await sleep(WATCH_MS);
    }
  }

  #watchSoon(): void {
    clearTimeout(this.#watch);
    this.#watch = setTimeout(() => void this.#look(), WATCH_MS).unref();
  }

  async #look(): Promise<void> {
    const server = this.#server;
    if (!server) return; // Its death is noticed elsewhere, and the next one is watched again.
    const problem = await problemOf(server);
    if (this.#server !== server || this.#stopping) return;
    this.#tell(problem);
    if (problem === undefined) this.#cures = 0;
    else if (this.#mayCure() && (await hasRoom(this.#options.folder))) return this.#cure(server);
    this.#watchSoon();
  }

  /** The more often in vain, the less often. */
  #mayCure(): boolean {
    return performance.now() - this.#curedMs >= Math.min(CURE_MAX_MS, WATCH_MS * 2 ** this.#cures);
  }

  async #cure(server: NatsServer): Promise<void> {
    this.#cures++;
    this.#curedMs = performance.now();
    await server.stop();
  }

  #tell(problem: string | undefined): void {
    if (problem === this.#problem) return;
    this.#problem = problem;
    this.#options.onProblem(problem);
  }
}

/** What the server says is wrong with its store. One that does not answer says nothing. */
async function problemOf({ monitorUrl }: NatsServer): Promise<string | undefined> {
  try {
    const response = await fetch(`${monitorUrl}/healthz`, { signal: AbortSignal.timeout(WATCH_TIMEOUT_MS) });
    if (response.ok) return undefined;
    const { error = `status ${response.status}` } = (await response.json()) as { error?: string };
    return error;
  } catch {
    return undefined;
  }
}
