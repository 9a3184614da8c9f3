/**
 * The bytes of the bus's messages (format). Reply and event batches are written and read in place, without an allocation
 * per entry; the rest is MessagePack. A reader refuses a damaged batch as a whole, before it gave out any entry.
 */
import { Packr } from 'msgpackr';
import { ProtocolError } from '../../protocol/errors.ts';

const packr = new Packr({ useRecords: false, copyBuffers: true, int64AsType: 'number' });
const encoder = new TextEncoder();
const decoder = new TextDecoder();

const BATCH_VERSION = 1;
const REPLY_MAGIC = 0x31505254; // 'TRP1'
const REPLY_HEADER = 40; // Bytes before the partition's name.
const REPLY_ENTRY = 16; // Bytes before an entry's own.
const EVENT_HEADER = 24;
const EVENT_ENTRY = 4;
const FIRST_BUFFER_BYTES = 4 * 1024; // Most batches of a quiet partition fit; the buffer then grows by doubling.
const KEPT_BUFFER_BYTES = 1024 * 1024; // A larger buffer (one huge batch) is let go instead of being kept for ever.
const HIGH_WORD = 0x1_0000_0000;

/** What the bytes of a reply entry are. */
export const REPLY = 0;
export const FAILED = 1;
/** A duplicate whose answer is no longer kept, below the client's own low mark: the edge forgets the command. */
export const DROPPED = 2;

export type ReplyHeader = {
  readonly partition: string;
  /** Incarnation of the edge that the replies are for. */
  readonly incarnation: number;
  readonly epoch: number;
  /** Age of the newest folded record when it was folded. */
  readonly lagMs: number;
  /** Bytes of the log by its limit, times 1,000. */
  readonly fillPermille: number;
  readonly outboxBytes: number;
  /** Stream sequence folded last. */
  readonly sequence: number;
};

/** A buffer that grows by doubling. Writers below share its way of giving bytes away. */
class GrowingBuffer {
  bytes = new Uint8Array(FIRST_BUFFER_BYTES);
  view = new DataView(this.bytes.buffer);
  length = 0;

  reserve(more: number): void {
    const needed = this.length + more;
    if (needed <= this.bytes.length) return;
    let size = this.bytes.length * 2;
    while (size < needed) size *= 2;
    const grown = new Uint8Array(size);
    grown.set(this.bytes.subarray(0, this.length));
    this.#use(grown);
  }

  /** An exact copy, since a bus may keep what it was given until it flushes. The buffer is empty afterwards. */
  take(): Uint8Array {
    const taken = this.bytes.slice(0, this.length);
    if (this.bytes.length > KEPT_BUFFER_BYTES) this.#use(new Uint8Array(FIRST_BUFFER_BYTES));
    this.length = 0;
    return taken;
  }

  #use(bytes: Uint8Array<ArrayBuffer>): void {
    this.bytes = bytes;
    this.view = new DataView(bytes.buffer);
  }
}

/** Collects the replies of one partition for one edge. `begin`, any number of `append`, `take`; then again. */
export class ReplyBatchWriter {
  readonly #buffer = new GrowingBuffer();
  #count = 0;

  get count(): number {
    return this.#count;
  }

  /** Bytes so far, header included. */
  get length(): number {
    return this.#buffer.length;
  }

  /** Starts a batch. Figures that are known only at the end may be given to `take`. */
  begin(header: ReplyHeader): void {
    const name = encoder.encode(header.partition);
    const buffer = this.#buffer;
    buffer.length = 0;
    this.#count = 0;
    buffer.reserve(REPLY_HEADER + name.length);
    buffer.view.setUint32(0, REPLY_MAGIC, true);
    buffer.bytes[4] = BATCH_VERSION;
    buffer.bytes[5] = name.length;
    buffer.view.setUint16(6, 0, true);
    writeSafe(buffer.view, 8, header.incarnation);
    buffer.view.setUint32(16, header.epoch, true);
    buffer.view.setUint32(20, Math.max(0, Math.min(header.lagMs, 0xffff_ffff)), true);
    buffer.view.setUint16(24, Math.min(header.fillPermille, 0xffff), true);
    buffer.view.setUint16(26, 0, true);
    buffer.view.setUint32(28, Math.min(header.outboxBytes, 0xffff_ffff), true);
    writeSafe(buffer.view, 32, header.sequence);
    buffer.bytes.set(name, REPLY_HEADER);
    buffer.length = REPLY_HEADER + name.length;
  }

  /** Copies `bytes[start, end)` in as one entry. A batch holds at most MAX_REPLIES entries. */
  append(slot: number, number: number, status: number, bytes: Uint8Array, start = 0, end = bytes.length): void {
    const buffer = this.#buffer;
    const length = end - start;
    if (this.#count === MAX_REPLIES) throw new RangeError('the reply batch is full: take() it first');
    buffer.reserve(REPLY_ENTRY + length);
    const at = buffer.length;
    buffer.view.setUint32(at, slot, true);
    buffer.view.setUint32(at + 4, number, true);
    buffer.view.setUint32(at + 8, status, true);
    buffer.view.setUint32(at + 12, length, true);
    copyBytes(buffer.bytes, at + REPLY_ENTRY, bytes, start, end);
    buffer.length = at + REPLY_ENTRY + length;
    this.#count++;
  }

  /** Ends the batch and gives its bytes away; the writer is ready for `begin`. */
  take(): Uint8Array {
    this.#buffer.view.setUint16(6, this.#count, true);
    this.#count = 0;
    return this.#buffer.take();
  }
}

/** Entries of one reply batch at most: what its 16-bit count holds. */
const MAX_REPLIES = 0xffff;

export type OnReply = (
  bytes: Uint8Array,
  slot: number,
  number: number,
  status: number,
  start: number,
  end: number,
) => void;

/** Reads a reply batch: the header once, then every entry. Errors: `malformed_message`, `unsupported_version`. */
export function readReplyBatch(bytes: Uint8Array, onHeader: (header: ReplyHeader) => void, onEntry: OnReply): void {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (bytes.length < REPLY_HEADER || view.getUint32(0, true) !== REPLY_MAGIC) damaged('reply batch');
  if (bytes[4] !== BATCH_VERSION) throw new ProtocolError('unsupported_version', `reply batch of version ${bytes[4]}`);
  const count = view.getUint16(6, true);
  const first = REPLY_HEADER + (bytes[5] ?? 0);
  checkEntries(view, first, count, REPLY_ENTRY, 12);
  onHeader({
    partition: decoder.decode(bytes.subarray(REPLY_HEADER, first)),
    incarnation: readSafe(view, 8),
    epoch: view.getUint32(16, true),
    lagMs: view.getUint32(20, true),
    fillPermille: view.getUint16(24, true),
    outboxBytes: view.getUint32(28, true),
    sequence: readSafe(view, 32),
  });
  for (let i = 0, at = first; i < count; i++) {
    const start = at + REPLY_ENTRY;
    const end = start + view.getUint32(at + 12, true);
    onEntry(bytes, view.getUint32(at, true), view.getUint32(at + 4, true), view.getUint8(at + 8), start, end);
    at = end;
  }
}

/** `firstOffset` is the offset of the batch's first event; the others follow densely. */
export type EventHeader = {
  readonly generation: number;
  readonly epoch: number;
  readonly firstOffset: number;
  readonly count: number;
};

/** Collects consecutive events of one topic. `begin`, any number of `append`, `take`; then again. */
export class EventBatchWriter {
  readonly #buffer = new GrowingBuffer();
  #count = 0;

  get count(): number {
    return this.#count;
  }

  /** Bytes so far, header included. */
  get length(): number {
    return this.#buffer.length;
  }

  begin(generation: number, epoch: number, firstOffset: number): void {
    const buffer = this.#buffer;
    buffer.length = 0;
    this.#count = 0;
    buffer.reserve(EVENT_HEADER);
    buffer.view.setUint32(0, generation, true);
    buffer.view.setUint32(4, epoch, true);
    writeSafe(buffer.view, 8, firstOffset);
    buffer.view.setUint32(20, 0, true);
    buffer.length = EVENT_HEADER;
  }

  append(bytes: Uint8Array, start = 0, end = bytes.length): void {
    const buffer = this.#buffer;
    const length = end - start;
    buffer.reserve(EVENT_ENTRY + length);
    buffer.view.setUint32(buffer.length, length, true);
    copyBytes(buffer.bytes, buffer.length + EVENT_ENTRY, bytes, start, end);
    buffer.length += EVENT_ENTRY + length;
    this.#count++;
  }

  take(): Uint8Array {
    this.#buffer.view.setUint32(16, this.#count, true);
    this.#count = 0;
    return this.#buffer.take();
  }
}

export type OnEvent = (bytes: Uint8Array, offset: number, start: number, end: number) => void;

/** Reads an event batch: the header once, then every event. Errors: `malformed_message`. */
export function readEventBatch(bytes: Uint8Array, onHeader: (header: EventHeader) => void, onEvent: OnEvent): void {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (bytes.length < EVENT_HEADER) damaged('event batch');
  const count = view.getUint32(16, true);
  const firstOffset = readSafe(view, 8);
  checkEntries(view, EVENT_HEADER, count, EVENT_ENTRY, 0);
  onHeader({ generation: view.getUint32(0, true), epoch: view.getUint32(4, true), firstOffset, count });
  for (let i = 0, at = EVENT_HEADER; i < count; i++) {
    const start = at + EVENT_ENTRY;
    const end = start + view.getUint32(at, true);
    onEvent(bytes, firstOffset + i, start, end);
    at = end;
  }
}

/** Newest offsets of the topics of one partition that changed. */
export type Heads = {
  readonly epoch: number;
  readonly generation: number;
  readonly topics: readonly (readonly [ref: string, topic: string, offset: number])[];
};

export function encodeHeads({ epoch, generation, topics }: Heads): Uint8Array {
  return packed([epoch, generation, topics]);
}

export function decodeHeads(bytes: Uint8Array): Heads {
  const [epoch, generation, topics] = unpackList(bytes, 3, 'heads');
  if (!isCount(epoch) || !isCount(generation) || !Array.isArray(topics)) damaged('heads');
  for (const topic of topics) {
    if (!Array.isArray(topic) || typeof topic[0] !== 'string' || typeof topic[1] !== 'string' || !isCount(topic[2]))
      damaged('heads');
  }
  return { epoch, generation, topics };
}

/** A read of one actor (or of a partition: `ref` empty, `name` beginning with `~`). */
export type QueryRequest = {
  readonly ref: string;
  readonly name: string;
  readonly body: Uint8Array;
  readonly principal: string;
  readonly roles: readonly string[];
  /** The stream sequence that the answer must have seen. */
  readonly minSequence: number | undefined;
};

export function encodeQuery({ ref, name, body, principal, roles, minSequence }: QueryRequest): Uint8Array {
  return packed([ref, name, body, principal, roles, minSequence ?? null]);
}

export function decodeQuery(bytes: Uint8Array): QueryRequest {
  const [ref, name, body, principal, roles, minSequence] = unpackList(bytes, 6, 'query');
  if (typeof ref !== 'string' || typeof name !== 'string' || !(body instanceof Uint8Array)) damaged('query');
  if (typeof principal !== 'string' || !Array.isArray(roles) || !roles.every((role) => typeof role === 'string'))
    damaged('query');
  if (minSequence !== null && !isCount(minSequence)) damaged('query');
  return { ref, name, body, principal, roles, minSequence: minSequence ?? undefined };
}

/** An answer: `body` at (epoch, sequence), or a refusal. `error` is a name of the registry or of the kind's rejections. */
export type QueryAnswer =
  | { readonly ok: true; readonly body: Uint8Array; readonly epoch: number; readonly sequence: number }
  | ({ readonly ok: false } & Failure);

/** What a failed command's entry and a refused query carry. */
export type Failure = {
  readonly error: string;
  readonly message: string;
  readonly retryAfterMs: number | undefined;
};

export function encodeAnswer(answer: QueryAnswer): Uint8Array {
  if (answer.ok) return packed([0, answer.body, answer.epoch, answer.sequence]);
  return packed([1, answer.error, answer.message, answer.retryAfterMs ?? null]);
}

export function decodeAnswer(bytes: Uint8Array): QueryAnswer {
  const [kind, first, second, third] = unpackList(bytes, 4, 'answer');
  if (kind === 0 && first instanceof Uint8Array && isCount(second) && isCount(third)) {
    return { ok: true, body: first, epoch: second, sequence: third };
  }
  if (kind !== 1) damaged('answer');
  return { ok: false, ...asFailure(first, second, third) };
}

/** Bytes of a reply entry with status FAILED: [name, message, retryAfterMs | nil]. */
export function encodeFailure({ error, message, retryAfterMs }: Failure): Uint8Array {
  return packed([error, message, retryAfterMs ?? null]);
}

export function decodeFailure(bytes: Uint8Array): Failure {
  const [error, message, retryAfterMs] = unpackList(bytes, 3, 'failure');
  return asFailure(error, message, retryAfterMs);
}

function asFailure(error: unknown, message: unknown, retryAfterMs: unknown): Failure {
  if (typeof error !== 'string' || typeof message !== 'string') damaged('failure');
  if (retryAfterMs !== null && !isCount(retryAfterMs)) damaged('failure');
  return { error, message, retryAfterMs: retryAfterMs ?? undefined };
}

/** Body of `~events`: rows of a lossless topic after an offset. */
export type EventsRequest = { readonly topic: string; readonly after: number; readonly limit: number };
/** Its answer. `firstOffset` is the oldest offset still kept (head + 1 when none is). */
export type EventsPage = {
  readonly generation: number;
  readonly headOffset: number;
  readonly firstOffset: number;
  /** Consecutive, beginning at max(after + 1, firstOffset); at most `limit`. */
  readonly events: readonly Uint8Array[];
};

export function encodeEventsRequest({ topic, after, limit }: EventsRequest): Uint8Array {
  return packed([topic, after, limit]);
}

export function decodeEventsRequest(bytes: Uint8Array): EventsRequest {
  const [topic, after, limit] = unpackList(bytes, 3, '~events');
  if (typeof topic !== 'string' || !isCount(after) || !isCount(limit)) damaged('~events');
  return { topic, after, limit };
}

export function encodeEventsPage({ generation, headOffset, firstOffset, events }: EventsPage): Uint8Array {
  return packed([generation, headOffset, firstOffset, events]);
}

export function decodeEventsPage(bytes: Uint8Array): EventsPage {
  const [generation, headOffset, firstOffset, events] = unpackList(bytes, 4, '~events answer');
  if (!isCount(generation) || !isCount(headOffset) || !isCount(firstOffset)) damaged('~events answer');
  if (!Array.isArray(events) || !events.every((event) => event instanceof Uint8Array)) damaged('~events answer');
  return { generation, headOffset, firstOffset, events };
}

/** Body of `~snapshot`: the state of a lossy topic, by its snapshot query. */
export function encodeSnapshotRequest(topic: string): Uint8Array {
  return packed([topic]);
}

export function decodeSnapshotRequest(bytes: Uint8Array): string {
  const [topic] = unpackList(bytes, 1, '~snapshot');
  if (typeof topic !== 'string') damaged('~snapshot');
  return topic;
}

/** `body` is the snapshot query's reply in its positional form, true at `offset` of `generation`. */
export type TopicSnapshot = { readonly generation: number; readonly offset: number; readonly body: Uint8Array };

export function encodeSnapshot({ generation, offset, body }: TopicSnapshot): Uint8Array {
  return packed([generation, offset, body]);
}

export function decodeSnapshot(bytes: Uint8Array): TopicSnapshot {
  const [generation, offset, body] = unpackList(bytes, 3, '~snapshot answer');
  if (!isCount(generation) || !isCount(offset) || !(body instanceof Uint8Array)) damaged('~snapshot answer');
  return { generation, offset, body };
}

export type PartitionState = 'live' | 'recovering' | 'halted';

export type PartitionBeat = {
  readonly partition: string;
  readonly epoch: number;
  readonly state: PartitionState;
  /** Why a partition is halted, for people. */
  readonly reason: string | undefined;
  readonly lagMs: number;
  readonly fillPermille: number;
  readonly outboxBytes: number;
  readonly sequence: number;
  readonly generation: number;
};

/** A host's sign of life. `at` is its wall clock in milliseconds, for people only. */
export type Heartbeat = { readonly node: string; readonly at: number; readonly partitions: readonly PartitionBeat[] };

export function encodeHeartbeat({ node, at, partitions }: Heartbeat): Uint8Array {
  return packed({ node, at, partitions: partitions.map(beatToList) });
}

function beatToList(beat: PartitionBeat): unknown[] {
  const { partition, epoch, state, reason, lagMs, fillPermille, outboxBytes, sequence, generation } = beat;
  return [partition, epoch, state, reason ?? null, lagMs, fillPermille, outboxBytes, sequence, generation];
}

export function decodeHeartbeat(bytes: Uint8Array): Heartbeat {
  const value: unknown = unpackAny(bytes, 'heartbeat');
  if (typeof value !== 'object' || value === null) damaged('heartbeat');
  const { node, at, partitions } = value as { node?: unknown; at?: unknown; partitions?: unknown };
  if (typeof node !== 'string' || typeof at !== 'number' || !Array.isArray(partitions)) damaged('heartbeat');
  return { node, at, partitions: partitions.map(beatFromList) };
}

function beatFromList(value: unknown): PartitionBeat {
  if (!Array.isArray(value)) damaged('heartbeat');
  const [partition, epoch, state, reason, ...figures] = value as unknown[];
  if (typeof partition !== 'string' || !isCount(epoch) || !isState(state)) damaged('heartbeat');
  if (reason !== null && typeof reason !== 'string') damaged('heartbeat');
  const [lagMs, fillPermille, outboxBytes, sequence, generation] = figures;
  if (!isCount(lagMs) || !isCount(fillPermille) || !isCount(outboxBytes) || !isCount(sequence) || !isCount(generation))
    damaged('heartbeat');
  return {
    partition,
    epoch,
    state,
    reason: reason ?? undefined,
    lagMs,
    fillPermille,
    outboxBytes,
    sequence,
    generation,
  };
}

const isState = (value: unknown): value is PartitionState =>
  value === 'live' || value === 'recovering' || value === 'halted';

const isCount = (value: unknown): value is number => Number.isSafeInteger(value) && (value as number) >= 0;

function damaged(what: string): never {
  throw new ProtocolError('malformed_message', `${what}: lengths or fields do not agree`);
}

/** A copy of its own: msgpackr's pack gives a view of a shared pool, which a bus may hold on to. */
function packed(value: unknown): Uint8Array {
  return Uint8Array.prototype.slice.call(packr.pack(value));
}

function unpackAny(bytes: Uint8Array, what: string): unknown {
  try {
    return packr.unpack(bytes);
  } catch (error) {
    throw new ProtocolError('malformed_message', `${what}: ${error instanceof Error ? error.message : error}`);
  }
}

function unpackList(bytes: Uint8Array, length: number, what: string): unknown[] {
  const value = unpackAny(bytes, what);
  if (!Array.isArray(value) || value.length < length) damaged(what);
  return value;
}

/** Entries begin with a header of `headerBytes` that holds their own length at `lengthAt`; they must fill the batch. */
function checkEntries(view: DataView, first: number, count: number, headerBytes: number, lengthAt: number): void {
  let at = first;
  for (let i = 0; i < count; i++) {
    if (at + headerBytes > view.byteLength) damaged('batch');
    at += headerBytes + view.getUint32(at + lengthAt, true);
  }
  if (at !== view.byteLength) damaged('batch');
}

/** Bodies are mostly short: below 64 bytes a loop beats the call to `set` with its subarray. */
function copyBytes(target: Uint8Array, at: number, source: Uint8Array, start: number, end: number): void {
  if (end - start > 64) {
    target.set(source.subarray(start, end), at);
    return;
  }
  for (let i = start; i < end; i++) target[at++] = source[i] as number;
}

function writeSafe(view: DataView, at: number, value: number): void {
  view.setUint32(at, value % HIGH_WORD, true);
  view.setUint32(at + 4, Math.floor(value / HIGH_WORD), true);
}

function readSafe(view: DataView, at: number): number {
  return view.getUint32(at, true) + view.getUint32(at + 4, true) * HIGH_WORD;
}

/** The owner's figures of a reply batch, known only when it leaves. */
export type ReplyFigures = Pick<ReplyHeader, 'epoch' | 'lagMs' | 'fillPermille' | 'outboxBytes'>;

/** Writes the owner's figures into a batch that was taken before they were known. */
export function stampReplyBatch(batch: Uint8Array, { epoch, lagMs, fillPermille, outboxBytes }: ReplyFigures): void {
  const view = new DataView(batch.buffer, batch.byteOffset, batch.byteLength);
  view.setUint32(16, epoch, true);
  view.setUint32(20, Math.max(0, Math.min(Math.round(lagMs), 0xffff_ffff)), true);
  view.setUint16(24, Math.min(fillPermille, 0xffff), true);
  view.setUint32(28, Math.min(outboxBytes, 0xffff_ffff), true);
}
