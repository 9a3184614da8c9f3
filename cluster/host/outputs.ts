/**
 * What one message of the log brought forth: replies for its edge, events by topic, and signs that there are new sends,
 * effects or timers. It leaves the host only when the message is folded whole, and never before it is known to be in the log.
 */
import { crc32 } from 'node:zlib';
import { ReplyBatchWriter } from '../bus/messages.ts';

export type TopicEvents = {
  readonly ref: string;
  readonly topic: string;
  readonly firstOffset: number;
  readonly events: Uint8Array[];
};

export class Outputs {
  sequence = 0;
  edge = '';
  incarnation = 0;
  readonly #writer = new ReplyBatchWriter();
  readonly #partition: string;
  readonly #headerBytes: number;
  #begun = false;
  #full: Uint8Array[] = [];
  /** By `ref/topic`. */
  readonly events = new Map<string, TopicEvents>();
  /** Something was added to the outbox, to the effects, or a timer was set. */
  sends = false;
  effects = false;
  timers = false;

  constructor(partition: string) {
    this.#partition = partition;
    this.#headerBytes = REPLY_HEADER_BYTES + Buffer.byteLength(partition);
  }

  begin(sequence: number, edge: string, incarnation: number): void {
    this.sequence = sequence;
    this.edge = edge;
    this.incarnation = incarnation;
    this.events.clear();
    this.sends = this.effects = this.timers = this.#begun = false;
  }

  reply(slot: number, number: number, status: number, bytes: Uint8Array): void {
    if (this.#begun && this.#writer.length + bytes.length > MAX_BATCH_BYTES) {
      this.#full.push(this.#writer.take());
      this.#begun = false;
    }
    if (!this.#begun) this.#beginReplies();
    this.#writer.append(slot, number, status, bytes);
  }

  event(ref: string, topic: string, offset: number, bytes: Uint8Array): void {
    const name = `${ref}/${topic}`;
    const found = this.events.get(name);
    if (found) found.events.push(bytes);
    else this.events.set(name, { ref, topic, firstOffset: offset, events: [bytes] });
  }

  /** The batches of replies; their headers still want the owner's figures (see stampReplyBatch). */
  takeReplies(): readonly Uint8Array[] {
    if (!this.#begun) return NONE;
    const batches = [...this.#full, this.#writer.take()];
    this.#full = [];
    this.#begun = false;
    return batches;
  }

  /** Continues a rolling hash over the replies (without the header, which no fold determines) and the events. */
  hash(seed: number, replies: readonly Uint8Array[]): number {
    let hash = seed;
    for (const batch of replies) hash = crc32(batch.subarray(this.#headerBytes), hash);
    for (const { events } of this.events.values()) for (const event of events) hash = crc32(event, hash);
    return hash;
  }

  #beginReplies(): void {
    this.#begun = true;
    this.#writer.begin({
      partition: this.#partition,
      incarnation: this.incarnation,
      epoch: 0,
      lagMs: 0,
      fillPermille: 0,
      outboxBytes: 0,
      sequence: this.sequence,
    });
  }
}

const NONE: readonly Uint8Array[] = [];

/** Replies or events in one message of the bus: with the largest single one it stays below the server's limit of 1 MiB. */
export const MAX_BATCH_BYTES = 256 * 1024;
/** One reply, event or answer of a query. */
export const MAX_OUTPUT_BYTES = 512 * 1024;

const REPLY_HEADER_BYTES = 40; // Before the partition's name, see cluster/bus/messages.ts.
