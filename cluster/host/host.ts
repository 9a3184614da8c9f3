/**
 * A host: the owner of partitions. It starts them a few at a time, answers queries, tells everyone how they are, and stops them
 * with a last checkpoint.
 */
import type { Logger } from 'pino';
import type { Registry } from 'prom-client';
import type { ActorDefinition } from '../../actors/definition.ts';
import { isProtocolError, ProtocolError } from '../../protocol/errors.ts';
import type { Bus } from '../bus/bus.ts';
import { decodeQuery, encodeAnswer, encodeHeartbeat } from '../bus/messages.ts';
import { heartbeatOf, queriesOf } from '../bus/subjects.ts';
import type { Checkpoints } from '../checkpoint/checkpoint.ts';
import type { Clock } from '../log/clock.ts';
import type { PartitionLog } from '../log/log.ts';
import { allPartitions } from '../placement/partition-of.ts';
import type { EffectWorker } from './effect-service.ts';
import { HostMetrics } from './host-metrics.ts';
import { compileKinds, type Kinds } from './kinds.ts';
import { Partition, type PartitionSettings } from './partition.ts';
import { checkGroups } from './random.ts';

export const HEARTBEAT_MS = 250; // Edges call an owner missing after two seconds without one.
const SHORTEST_TICK_MS = 5;
const STARTED_AT_ONCE = 8; // More would only wait for the same disk and log server.

export const DEFAULT_PARTITION_SETTINGS = {
  traps: false,
  sessionHorizonMs: 24 * 3_600_000, // A client that was away for a day begins a new session.
  checkpointCommands: 50_000, // Folded again in about a tenth of a second.
  checkpointMs: 5_000, // Bounds what a quiet partition folds again.
  maxActiveActors: 20_000, // With 64 partitions and a kilobyte each: a gigabyte.
  logMarginMessages: 100_000, // What `troupe replay` can go back to; given up when the log is half full.
} as const;

export type HostParts = {
  readonly settings: PartitionSettings;
  /** Names of the partitions to own; default all. */
  readonly partitions?: readonly string[];
  readonly definitions: readonly ActorDefinition[];
  readonly bus: Bus;
  readonly clock: Clock;
  readonly checkpoints: Checkpoints;
  readonly logger: Logger;
  readonly registry: Registry;
  readonly effects: EffectWorker;
  readonly openLog: (partition: string) => Promise<PartitionLog>;
  readonly pause: () => Promise<void>;
};

export class Host {
  readonly #parts: HostParts;
  readonly #kinds: Kinds;
  readonly #metrics: HostMetrics;
  readonly #partitions = new Map<string, Partition>();
  readonly #ends: (() => void)[] = [];
  #cancelBeat: (() => void) | undefined;
  #cancelSecond: (() => void) | undefined;
  #stopped = false;
  #tended = 0;

  /** Errors: TypeError for kinds or groups that do not fit together. */
  constructor(parts: HostParts) {
    this.#parts = parts;
    checkGroups(Object.keys(parts.settings.groups));
    this.#kinds = compileKinds(parts.definitions);
    this.#metrics = new HostMetrics(parts.registry);
    for (const name of parts.partitions ?? allPartitions(parts.settings.groups)) this.#addPartition(name);
  }

  get kinds(): Kinds {
    return this.#kinds;
  }

  partition(name: string): Partition | undefined {
    return this.#partitions.get(name);
  }

  /** Takes over all partitions; resolves when each is live or halted. */
  async start(): Promise<void> {
    this.#beat();
    const waiting = [...this.#partitions.values()];
    const worker = async () => {
      for (let next = waiting.shift(); next; next = waiting.shift()) await next.start();
    };
    await Promise.all(Array.from({ length: STARTED_AT_ONCE }, worker));
    this.#eachSecond();
  }

  /** Stops with a last checkpoint of each partition; `checkpoint` false: as after a crash. */
  async stop(checkpoint = true): Promise<void> {
    this.#stopped = true;
    this.#cancelBeat?.();
    this.#cancelSecond?.();
    for (const end of this.#ends) end();
    await Promise.all([...this.#partitions.values()].map((partition) => partition.stop(checkpoint)));
  }

  /** Replaces a partition by a fresh one, for example after an operator accepted a loss. */
  async restart(name: string): Promise<Partition> {
    await this.#partitions.get(name)?.stop(false);
    const partition = this.#makePartition(name);
    this.#partitions.set(name, partition);
    await partition.start();
    this.#tellState(); // Edges refuse its commands until they hear that it works again.
    return partition;
  }

  /** To be called when the bus was away. */
  repeatHeads(): void {
    for (const partition of this.all) partition.repeatHeads();
  }

  /** Recoveries, states and figures of all partitions. */
  get all(): readonly Partition[] {
    return [...this.#partitions.values()];
  }

  #addPartition(name: string): void {
    this.#partitions.set(name, this.#makePartition(name));
    const { bus } = this.#parts;
    this.#ends.push(bus.subscribe(queriesOf(name), (bytes, replyTo) => void this.#answer(name, bytes, replyTo)));
  }

  #makePartition(name: string): Partition {
    return new Partition({ ...this.#parts, partition: name, kinds: this.#kinds, metrics: this.#metrics });
  }

  async #answer(name: string, bytes: Uint8Array, replyTo: string | undefined): Promise<void> {
    if (replyTo === undefined) return;
    const partition = this.#partitions.get(name) as Partition;
    try {
      const body = await partition.query(decodeQuery(bytes));
      const answer = encodeAnswer({ ok: true, body, epoch: partition.epoch, sequence: partition.fold.head.sequence });
      this.#metrics.queries.inc({ result: 'answered' });
      this.#parts.bus.publish(replyTo, answer);
    } catch (error) {
      const refusal = isProtocolError(error) ? error : this.#unexpected(name, error);
      this.#metrics.queries.inc({ result: refusal.code });
      const { code, message } = refusal;
      this.#parts.bus.publish(replyTo, encodeAnswer({ ok: false, error: code, message, retryAfterMs: undefined }));
    }
  }

  #unexpected(partition: string, error: unknown): ProtocolError {
    this.#parts.logger.error({ partition, err: error }, 'query failed');
    return new ProtocolError('internal', 'the query failed');
  }

  #beat(): void {
    if (this.#stopped) return;
    this.#tellState();
    this.#cancelBeat = this.#parts.clock.after(HEARTBEAT_MS, () => this.#beat());
  }

  #tellState(): void {
    const { bus, settings } = this.#parts;
    const beats = this.all.map((partition) => partition.beat());
    bus.publish(
      heartbeatOf(settings.node),
      encodeHeartbeat({ node: settings.node, at: Date.now(), partitions: beats }),
    );
    for (const state of ['live', 'recovering', 'halted'] as const) {
      this.#metrics.partitions.set({ state }, beats.filter((beat) => beat.state === state).length);
    }
  }

  /** Each partition once a second, one after the other: all at once would hold every command up for their sum. */
  #eachSecond(): void {
    if (this.#stopped) return;
    const count = Math.max(1, this.#partitions.size);
    const tickMs = Math.max(SHORTEST_TICK_MS, 1_000 / count);
    for (let left = Math.ceil((count * tickMs) / 1_000); left > 0; left--) this.#tendNext();
    this.#cancelSecond = this.#parts.clock.after(tickMs, () => this.#eachSecond());
  }

  #tendNext(): void {
    const partition = this.all[this.#tended++ % Math.max(1, this.#partitions.size)];
    partition?.eachSecond().catch((error) => {
      this.#parts.logger.warn({ partition: partition.name, err: error }, 'log state');
    });
  }
}
