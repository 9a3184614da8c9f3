/** The nats-server of an embedded cluster: started again on the port that it had when it dies, since its clients wait there. */
import { setTimeout as sleep } from 'node:timers/promises';
import { type Durability, type NatsServer, startNatsServer } from '../cluster/log/nats-server.ts';
import { allPartitions, type Groups } from '../cluster/placement/partition-of.ts';

const SPARE_GENERATIONS = 16; // Losses that can be accepted before an old generation's log has to be removed.
const STORE_RESERVE_BYTES = 64 * 1024 * 1024; // The buckets of keys and values.

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
};

const MAX_FAILED_STARTS = 5;
const RESTART_MIN_MS = 20;
const RESTART_MAX_MS = 2_000;

export class NatsProcess {
  readonly #options: NatsProcessOptions;
  #server: NatsServer | undefined;
  #port: number | undefined;
  #stopping = false;

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
    return server;
  }

  async stop(): Promise<void> {
    this.#stopping = true;
    await this.#server?.stop();
  }

  async kill(): Promise<void> {
    this.#stopping = true;
    await this.#server?.kill();
  }

  async #died(reason: string): Promise<void> {
    this.#server = undefined;
    if (this.#stopping) return;
    this.#options.onDeath(reason);
    for (let failures = 0; !this.#stopping; ) {
      try {
        return this.#options.onReady(await this.start());
      } catch (error) {
        if (++failures === MAX_FAILED_STARTS) return this.#options.onGivenUp((error as Error).message);
        await sleep(Math.min(RESTART_MAX_MS, RESTART_MIN_MS * 4 ** failures));
      }
    }
  }
}
