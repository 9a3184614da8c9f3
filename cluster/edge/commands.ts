/**
 * The way of a command through the edge: checked, written into its partition's next frame, kept until it is answered. This is
 * the hot path: no closure, and nothing allocated per command beyond its entry in the sender's window.
 *
 * Guarantees: a command that was taken is in the frames and stays pending until an answer with its slot and number comes; it
 * is sent again when the partition gets a new owner or generation, or when no answer came for long. The fold drops repeats.
 */

import type { ErrorName } from '../../protocol/errors.ts';
import { RECORD_BINARY, recordLength, writeRecord } from '../../protocol/record.ts';
import {
  DROPPED,
  decodeHeartbeat,
  FAILED,
  type PartitionBeat,
  type ReplyHeader,
  readReplyBatch,
} from '../bus/messages.ts';
import type { EdgeCommand, Target } from './catalogue.ts';
import { type CoarseClock, TICK_MS } from './coarse-clock.ts';
import type { EdgeCounters } from './counters.ts';
import type { Partition, RecordPublisher } from './partition.ts';
import type { Asker, Pending } from './pending.ts';
import type { EdgeSettings } from './settings.ts';

const MAX_RESENT_PER_SWEEP = 2_000; // Per partition and sweep: an overdue backlog must not double the load at once.
const RESEND_TICKS = 1_000 / TICK_MS; // A client that repeats a number sooner is impatient, not cut off.

/** Who sends: what is written into the record beside the command. */
export type Sender = { readonly principalBytes: Uint8Array; readonly session: Uint8Array };

/** Opens (or opens anew) the way into a partition's log. `generation` undefined: the newest known. */
export type OpenPublisher = (
  partition: string,
  generation: number | undefined,
  failed: (reason: Error) => void,
) => Promise<{ readonly generation: number; readonly publisher: RecordPublisher }>;

const FULL = /no space left|quota exceeded/i; // ENOSPC and EDQUOT, as nats-server words them.
const NO_BYTES: Uint8Array = new Uint8Array(0);

/** Reused for every record. */
const record = {
  flags: 0,
  ref: NO_BYTES,
  principal: NO_BYTES,
  commandId: 0,
  number: 0,
  low: 0,
  slot: 0,
  session: NO_BYTES,
  body: NO_BYTES,
};

export class Commands {
  readonly #settings: EdgeSettings;
  readonly #incarnation: number;
  readonly #partitions: ReadonlyMap<string, Partition>;
  readonly #clock: CoarseClock;
  readonly #counters: EdgeCounters;
  readonly #openPublisher: OpenPublisher;
  readonly #problem: (message: string, error: unknown) => void;
  readonly #askers = new Map<number, Asker>();
  logProblem: { readonly name: ErrorName; readonly reason: string } | undefined;
  #slots = 0;
  #stopped = false;
  /** Of the reply batch that is being read. */
  #header: ReplyHeader | undefined;

  constructor(options: {
    settings: EdgeSettings;
    incarnation: number;
    partitions: ReadonlyMap<string, Partition>;
    clock: CoarseClock;
    counters: EdgeCounters;
    openPublisher: OpenPublisher;
    /** Told to whoever logs. */
    problem: (message: string, error: unknown) => void;
  }) {
    this.#settings = options.settings;
    this.#incarnation = options.incarnation;
    this.#partitions = options.partitions;
    this.#clock = options.clock;
    this.#counters = options.counters;
    this.#openPublisher = options.openPublisher;
    this.#problem = options.problem;
  }

  /** A slot for somebody who may ask. Never given twice within this incarnation. */
  newSlot(): number {
    if (this.#slots === 0xffff_ffff)
      throw new Error('all slots of this incarnation are used: the edge must be started anew');
    return ++this.#slots;
  }

  /** Opens the logs of all partitions. Those that fail are tried again by the sweep. */
  async start(): Promise<void> {
    await Promise.all([...this.#partitions.values()].map((partition) => this.#open(partition, undefined)));
  }

  stop(): void {
    this.#stopped = true;
    for (const { publisher } of this.#partitions.values()) publisher?.stop();
  }

  /** Why the log stores nothing now; undefined: it does. What was taken before waits for it. */
  noteLogProblem(reason: string | undefined): void {
    const name = reason !== undefined && FULL.test(reason) ? 'storage_full' : 'log_unavailable';
    this.logProblem = reason === undefined ? undefined : { name, reason };
  }

  get pendingRecords(): number {
    let records = 0;
    for (const { pending } of this.#partitions.values()) records += pending.records;
    return records;
  }

  /**
   * Takes a command whose body, bytes [start, end), was checked. Returns why not, if so; nothing was sent then.
   * The asker's window has been checked, and this number is not in it.
   */
  submit(
    asker: Asker,
    sender: Sender,
    target: Target<Partition>,
    command: EdgeCommand,
    number: number,
    low: number,
    flags: number,
    bytes: Uint8Array,
    start: number,
    end: number,
  ): ErrorName | undefined {
    const { partition } = target;
    const refusal = partition.refusal(this.#settings) ?? this.logProblem?.name;
    if (refusal !== undefined) return refusal;
    const publisher = partition.publisher as RecordPublisher;
    const length = recordLength(target.refBytes.length, sender.principalBytes.length, end - start);
    const buffer = publisher.reserve(length);
    const at = publisher.offset;
    record.flags = command.binary ? flags | RECORD_BINARY : flags;
    record.ref = target.refBytes;
    record.principal = sender.principalBytes;
    record.commandId = command.id;
    record.number = number;
    record.low = low;
    record.slot = asker.slot;
    record.session = sender.session;
    record.body = bytes.subarray(start, end);
    writeRecord(buffer, at, record);
    publisher.commit();
    record.body = NO_BYTES;
    if (asker.inFlight === undefined) this.#askers.set(asker.slot, asker);
    partition.pending.add(asker, number, buffer, at, length, this.#clock.tick);
    this.#counters.commands++;
    return undefined;
  }

  /** The client sent a pending number again: after a while without an answer, so do we. */
  repeated(pending: Pending): void {
    if (this.#clock.tick - pending.sentTick >= RESEND_TICKS) this.#resend(pending);
  }

  /** `r.<edge>`. Errors: ProtocolError when the batch is damaged. */
  replies(bytes: Uint8Array): void {
    readReplyBatch(bytes, this.#onHeader, this.#onEntry);
    const header = this.#header;
    const partition = header && this.#partitions.get(header.partition);
    this.#header = undefined;
    if (!partition) return;
    if (partition.learn(header, this.#clock.tick)) this.#newOwner(partition);
  }

  readonly #onHeader = (header: ReplyHeader): void => {
    this.#header = header.incarnation === this.#incarnation ? header : undefined;
  };

  readonly #onEntry = (
    bytes: Uint8Array,
    slot: number,
    number: number,
    status: number,
    start: number,
    end: number,
  ): void => {
    if (this.#header === undefined) return; // Meant for an edge of this name that is no more.
    const asker = this.#askers.get(slot);
    const pending = asker?.inFlight?.get(number);
    if (!asker || !pending) {
      this.#counters.repliesRepeated++;
      return;
    }
    pending.list?.remove(pending);
    if (asker.inFlight === undefined) this.#askers.delete(slot);
    this.#counters.replies++;
    if (asker.gone || status === DROPPED) return;
    if (status === FAILED) asker.refused(number, bytes, start, end);
    else asker.replied(number, bytes, start, end);
  };

  /** `hb.<node>`. Errors: ProtocolError when it is damaged. */
  heartbeat(bytes: Uint8Array): void {
    for (const beat of decodeHeartbeat(bytes).partitions) this.#beat(beat);
  }

  #beat(beat: PartitionBeat): void {
    const partition = this.#partitions.get(beat.partition);
    if (!partition || beat.epoch < partition.epoch || beat.generation < partition.generation) return;
    partition.state = beat.state;
    partition.reason = beat.reason;
    partition.heardOf(beat.generation);
    const isNew = partition.learn(beat, this.#clock.tick);
    if (partition.generation !== 0 && beat.generation > partition.generation)
      void this.#open(partition, beat.generation);
    else if (isNew) this.#newOwner(partition);
  }

  /** Once a second: logs that could not be opened, and answers that are overdue. */
  sweep(): void {
    for (const partition of this.#partitions.values()) {
      if (partition.publisher === undefined) void this.#open(partition, undefined);
      else if (partition.state === 'live' && partition.pending.first) this.#resendOverdue(partition);
    }
  }

  #resendOverdue(partition: Partition): void {
    const oldest = this.#clock.tick - this.#settings.resendAfterMs / TICK_MS;
    for (let sent = 0; sent < MAX_RESENT_PER_SWEEP; sent++) {
      const pending = partition.pending.first;
      if (!pending || pending.sentTick > oldest || !this.#resend(pending, partition)) return;
    }
  }

  /** The old owner's replies may be lost with it. */
  #newOwner(partition: Partition): void {
    this.#counters.ownersSeen++;
    this.#resendAll(partition);
  }

  /** Everything unanswered is sent again, in the old order. */
  #resendAll(partition: Partition): void {
    for (let left = partition.pending.records; left > 0; left--) {
      const pending = partition.pending.first;
      if (!pending || !this.#resend(pending, partition)) return;
    }
  }

  /** Writes the record once more. Returns whether the publisher took it; if not, the sweep comes back to it. */
  #resend(pending: Pending, partition = this.#partitionOf(pending)): boolean {
    const publisher = partition?.publisher;
    if (!partition || !publisher?.accepting) return false;
    const buffer = publisher.reserve(pending.length);
    const at = publisher.offset;
    buffer.set(pending.buffer.subarray(pending.start, pending.start + pending.length), at);
    publisher.commit();
    partition.pending.moved(pending, buffer, at, this.#clock.tick);
    partition.resent++;
    this.#counters.resent++;
    return true;
  }

  #partitionOf(pending: Pending): Partition | undefined {
    for (const partition of this.#partitions.values()) if (partition.pending === pending.list) return partition;
    return undefined;
  }

  /** A new generation's log is empty: what was unanswered goes into it. */
  async #open(partition: Partition, generation: number | undefined): Promise<void> {
    await partition.open(async () => {
      const failed = (reason: Error): void => this.#lost(partition, reason);
      try {
        const opened = await this.#openPublisher(partition.name, generation, failed);
        if (this.#stopped || opened.generation <= partition.generation) {
          // Frames are counted once per incarnation and generation: a second publisher's would be taken for repeats.
          opened.publisher.stop();
          if (!this.#stopped) throw new Error(`no newer generation than ${partition.generation}: start the edge anew`);
          return;
        }
        partition.publisher?.stop();
        partition.publisher = opened.publisher;
        if (opened.generation > partition.generation) partition.sequence = 0; // Sequences begin anew.
        partition.generation = opened.generation;
        this.#resendAll(partition);
      } catch (error) {
        this.#problem(`the log of ${partition.name} cannot be opened now`, error);
      }
    });
  }

  #lost(partition: Partition, reason: Error): void {
    if (this.#stopped) return;
    this.#problem(`the log of ${partition.name} takes nothing any more`, reason);
    partition.publisher = undefined;
  }
}
