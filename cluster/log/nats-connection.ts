/**
 * A connection to NATS as Troupe needs it: it never gives up reconnecting, refuses servers that are too old, and says
 * whether it is up. The client itself silently drops what is published while it is down, so everyone who publishes
 * something that matters asks `isUp` first and counts everything outstanding as lost in `onDown`.
 */
import { connect, type NatsConnection } from 'nats';
import { ProtocolError } from '../../protocol/errors.ts';

/** Older ones lose acknowledged writes even with `sync_interval: always`, or silently ignore what safety needs. */
export const OLDEST_SERVER = '2.15.1';
/** JetStream's API level of 2.15.1. */
const OLDEST_API_LEVEL = 5;
const RECONNECT_WAIT_MS = 100; // The default of 2 s would be the longest part of most outages.
const RECONNECT_JITTER_MS = 50; // Spreads the nodes of a cluster when a server comes back.
const PING_INTERVAL_MS = 5_000; // A peer that vanished without a word is noticed within 15 s; the default takes 6 minutes.
const MAX_PINGS_OUT = 2;
const CONNECT_TIMEOUT_MS = 5_000; // One dial; the whole of `connectToNats` is bounded by it as well, per server.

export type NatsOptions = {
  /** `nats://host:port`, one or several of one cluster. */
  readonly servers: string | readonly string[];
  /** Shown in the server's connection list. */
  readonly name: string;
  readonly user?: string;
  readonly password?: string;
};

/** What the server says of itself, for the start-up lines and for checks. */
export type ServerFacts = {
  readonly version: string;
  readonly apiLevel: number;
  readonly serverName: string;
  readonly cluster: string | undefined;
  readonly maxPayloadBytes: number;
};

export class NatsLink {
  readonly connection: NatsConnection;
  #up = true;
  readonly #onDown = new Set<() => void>();
  readonly #onUp = new Set<() => void>();

  constructor(connection: NatsConnection) {
    this.connection = connection;
    void this.#follow();
  }

  get isUp(): boolean {
    return this.#up && !this.connection.isClosed();
  }

  get facts(): ServerFacts {
    return factsOf(this.connection);
  }

  /** Returns the end of it. */
  onDown(run: () => void): () => void {
    this.#onDown.add(run);
    return () => this.#onDown.delete(run);
  }

  /** Returns the end of it. */
  onUp(run: () => void): () => void {
    this.#onUp.add(run);
    return () => this.#onUp.delete(run);
  }

  async close(): Promise<void> {
    this.#goDown();
    await this.connection.close();
  }

  async #follow(): Promise<void> {
    for await (const status of this.connection.status()) {
      if (status.type === 'disconnect' || status.type === 'close') this.#goDown();
      if (status.type === 'reconnect') this.#goUp();
    }
    this.#goDown();
  }

  #goDown(): void {
    if (!this.#up) return;
    this.#up = false;
    for (const run of this.#onDown) run();
  }

  #goUp(): void {
    if (this.#up || this.connection.isClosed()) return;
    this.#up = true;
    for (const run of this.#onUp) run();
  }
}

/**
 * Connects, and checks the server's age.
 * Errors: `log_unavailable` (nobody answers), `unauthorized`, `log_outdated_server`.
 */
export async function connectToNats(options: NatsOptions): Promise<NatsLink> {
  const connection = await dial(options);
  const facts = factsOf(connection);
  if (isOutdated(facts)) {
    await connection.close();
    const detail = `nats-server ${facts.version} (API level ${facts.apiLevel}) answers; ${OLDEST_SERVER} or later is needed`;
    throw new ProtocolError('log_outdated_server', detail);
  }
  return new NatsLink(connection);
}

async function dial(options: NatsOptions): Promise<NatsConnection> {
  try {
    return await connect({
      servers: typeof options.servers === 'string' ? options.servers : [...options.servers],
      name: options.name,
      ...(options.user !== undefined && { user: options.user, pass: options.password ?? '' }),
      maxReconnectAttempts: -1,
      reconnectTimeWait: RECONNECT_WAIT_MS,
      reconnectJitter: RECONNECT_JITTER_MS,
      pingInterval: PING_INTERVAL_MS,
      maxPingOut: MAX_PINGS_OUT,
      timeout: CONNECT_TIMEOUT_MS,
      noAsyncTraces: true, // Otherwise every request makes an Error object for its stack.
      ignoreAuthErrorAbort: true, // A server that restarts may refuse for a moment; giving up would need a restart of ours.
    });
  } catch (error) {
    const text = error instanceof Error ? `${error.name}: ${error.message}` : String(error);
    throw new ProtocolError(
      /authori[sz]ation/i.test(text) ? 'unauthorized' : 'log_unavailable',
      `no connection to NATS: ${text}`,
    );
  }
}

function factsOf(connection: NatsConnection): ServerFacts {
  const info = connection.info;
  return {
    version: info?.version ?? '0.0.0',
    apiLevel: info?.api_lvl ?? 0,
    serverName: info?.server_name ?? '',
    cluster: info?.cluster,
    maxPayloadBytes: info?.max_payload ?? 0,
  };
}

/** Whether the server lacks what safety needs. */
export function isOutdated(facts: { readonly version: string; readonly apiLevel: number }): boolean {
  return isOlder(facts.version, OLDEST_SERVER) || facts.apiLevel < OLDEST_API_LEVEL;
}

/** Compares versions by their three numbers. A pre-release of a version counts as older than it. */
export function isOlder(version: string, than: string): boolean {
  const [one, other] = [numbersOf(version), numbersOf(than)];
  for (let i = 0; i < 3; i++) {
    const difference = (one[i] ?? 0) - (other[i] ?? 0);
    if (difference !== 0) return difference < 0;
  }
  return version.includes('-') && !than.includes('-');
}

function numbersOf(version: string): number[] {
  return version.replace(/^v/, '').split(/[.+-]/).slice(0, 3).map(Number);
}
