/**
 * The log in memory, for tests and simulation: time is injected, and every fault that the real log can have is a switch.
 * A MemoryServer stands for the nats-server and its disk; any number of MemoryLogs are clients of it.
 */
import { ProtocolError } from '../../protocol/errors.ts';
import type { Clock } from './clock.ts';
import type { Ack, Log, LogSettings, LogState, PartitionLog, Reader, Stored } from './log.ts';
import { differs, MAX_DATA_BYTES, newerOwns, sameMessage, streamName, subjectOf } from './log.ts';

/** What JetStream's file store adds to each message, so that a full log is full at the same place here. */
const MESSAGE_OVERHEAD_BYTES = 30;
/** Messages handed over per turn: a replay in memory must not starve timers. */
const MESSAGES_PER_TURN = 256;

export type MemoryServerOptions = {
  /** Microseconds since 1970 (default: the system's clock). */
  readonly nowUs?: () => number;
  /** Needed for latencies only. */
  readonly clock?: Clock;
  /** From append to ack, and from store to delivery (default 0: a microtask later). */
  readonly ackLatencyMs?: number;
  readonly deliveryLatencyMs?: number;
};

export class MemoryServer {
  readonly streams = new Map<string, MemoryStream>();
  readonly options: MemoryServerOptions;
  #down = false;
  #created = 0;
  #saved = new Map<string, StreamContent>();

  constructor(options: MemoryServerOptions = {}) {
    this.options = options;
  }

  get isDown(): boolean {
    return this.#down;
  }

  nowUs(): number {
    return this.options.nowUs?.() ?? Date.now() * 1000;
  }

  /** Fault: nothing answers and nothing is delivered until `up`. */
  down(): void {
    this.#down = true;
  }

  /** Readers find their place again, as they do after a restart. */
  up(): void {
    this.#down = false;
    for (const stream of this.streams.values()) stream.resumeReaders();
  }

  /** Keeps what is stored now, for `restore`: together they cut off what comes in between. */
  save(): void {
    this.#saved = new Map([...this.streams].map(([name, stream]) => [name, stream.content()]));
  }

  /** Fault: the disk as it was at `save`. Streams made since are gone. Readers notice at the next `up`. */
  restore(): void {
    for (const [name, stream] of this.streams) {
      const content = this.#saved.get(name);
      if (content) stream.replaceContent(content);
      else this.streams.delete(name);
    }
  }

  /** The stream of an opened generation, to pull its fault switches. */
  stream(partition: string, generation: number): MemoryStream {
    const stream = this.streams.get(streamName(partition, generation));
    if (!stream) throw new RangeError(`no stream for ${partition}, generation ${generation}`);
    return stream;
  }

  openStream(partition: string, generation: number, settings: LogSettings): MemoryStream {
    if (this.#down) throw unavailable();
    const name = streamName(partition, generation);
    const siblings = [...this.streams.values()].filter((stream) => stream.partition === partition);
    const existing = this.streams.get(name);
    if (existing) existing.check(settings);
    const newer = siblings.find((stream) => stream.generation > generation);
    if (!existing && newer) throw newerOwns(partition, newer.name);
    if (!newer) for (const older of siblings) older.retired = older.generation < generation;
    const stream = existing ?? new MemoryStream(this, partition, generation, settings, `memory ${++this.#created}`);
    this.streams.set(name, stream);
    return stream;
  }
}

function unavailable(): ProtocolError {
  return new ProtocolError('log_unavailable');
}

type StreamContent = { readonly messages: readonly Stored[]; readonly first: number; readonly bytes: number };

/** One stream with its fault switches. */
export class MemoryStream {
  readonly server: MemoryServer;
  readonly partition: string;
  readonly generation: number;
  readonly name: string;
  readonly createdAt: string;
  settings: LogSettings;
  /** A newer generation owns the subjects. */
  retired = false;
  /** Fault: so many next appends are stored, but their ack is `log_unavailable`. */
  loseAcks = 0;
  /** Fault: so many next appends are stored twice. */
  duplicates = 0;
  /** Fault: so many next appends fail with `log_unavailable` and are stored only by `releaseHeld`, later and last. */
  holdAppends = 0;
  /** Fault: so many next appends fail with `log_unavailable` and are never stored. */
  dropAppends = 0;
  #messages: Stored[] = [];
  #first = 1;
  #bytes = 0;
  #lastOn = new Map<string, Stored>();
  #held: { subject: string; data: Uint8Array }[] = [];
  #deliveryHeld = false;
  readonly readers = new Set<MemoryReader>();

  constructor(server: MemoryServer, partition: string, generation: number, settings: LogSettings, createdAt: string) {
    this.server = server;
    this.partition = partition;
    this.generation = generation;
    this.name = streamName(partition, generation);
    this.settings = settings;
    this.createdAt = createdAt;
  }

  get first(): number {
    return this.#first;
  }

  get last(): number {
    return this.#first + this.#messages.length - 1;
  }

  get bytes(): number {
    return this.#bytes;
  }

  /** Fault: deliveries wait until `releaseDelivery`. */
  holdDelivery(): void {
    this.#deliveryHeld = true;
  }

  releaseDelivery(): void {
    this.#deliveryHeld = false;
    this.#wakeReaders();
  }

  get deliveryHeld(): boolean {
    return this.#deliveryHeld || this.server.isDown;
  }

  /** Fault: the held appends arrive now, late (a zombie's writes, an overtaken frame). */
  releaseHeld(): void {
    for (const { subject, data } of this.#held.splice(0)) this.#store(subject, data);
  }

  /** Fault: all above `sequence` is lost, as after a power failure. */
  cutTail(sequence: number): void {
    const kept = this.#messages.slice(0, Math.max(0, sequence - this.#first + 1));
    this.replaceContent({ messages: kept, first: this.#first, bytes: sizeOf(kept) });
    this.resumeReaders();
  }

  /** Fault: the messages from `sequence` on become others with the same sequences. */
  rewriteTail(sequence: number): void {
    const changed = this.#messages.map((message) =>
      message.sequence < sequence
        ? message
        : { ...message, timeUs: message.timeUs + 1, data: message.data.map((b) => b ^ 1) },
    );
    this.replaceContent({ messages: changed, first: this.#first, bytes: this.#bytes });
    this.resumeReaders();
  }

  content(): StreamContent {
    return { messages: [...this.#messages], first: this.#first, bytes: this.#bytes };
  }

  replaceContent(content: StreamContent): void {
    this.#messages = [...content.messages];
    this.#first = content.first;
    this.#bytes = content.bytes;
    this.#lastOn = new Map(this.#messages.map((message) => [message.subject, message]));
  }

  check(settings: LogSettings): void {
    if (this.settings.maxBytes !== settings.maxBytes) {
      throw differs(this.name, 'max_bytes', this.settings.maxBytes, settings.maxBytes);
    }
    if (this.settings.replicas !== settings.replicas) {
      throw differs(this.name, 'num_replicas', this.settings.replicas, settings.replicas);
    }
  }

  append(subject: string, data: Uint8Array, expectLastOnSubject: number | undefined): Ack {
    if (this.server.isDown || this.#takes('dropAppends')) throw unavailable();
    if (this.#takes('holdAppends')) {
      this.#held.push({ subject, data: data.slice() });
      throw unavailable();
    }
    if (this.retired) throw new ProtocolError('log_misconfigured', `${this.name} was retired by a newer generation`);
    const lastOnSubject = this.lastOn(subject)?.sequence ?? 0;
    if (expectLastOnSubject !== undefined && expectLastOnSubject !== lastOnSubject) {
      throw new ProtocolError('wrong_last_sequence', `the last sequence on ${subject} is ${lastOnSubject}`);
    }
    const ack = this.#store(subject, data.slice());
    if (this.#takes('duplicates')) this.#store(subject, data.slice());
    if (this.#takes('loseAcks')) throw unavailable();
    return ack;
  }

  lastOn(subject: string): Stored | undefined {
    const message = this.#lastOn.get(subject);
    return message && message.sequence >= this.#first ? message : undefined;
  }

  get(sequence: number): Stored | undefined {
    return this.#messages[sequence - this.#first];
  }

  trim(before: number): void {
    if (before > this.last + 1) throw new RangeError(`cannot trim to ${before}: the last sequence is ${this.last}`);
    if (before <= this.#first) return;
    const removed = this.#messages.splice(0, before - this.#first);
    this.#bytes -= sizeOf(removed);
    this.#first = before;
  }

  resumeReaders(): void {
    for (const reader of this.readers) reader.resume();
  }

  #takes(fault: 'loseAcks' | 'duplicates' | 'holdAppends' | 'dropAppends'): boolean {
    if (this[fault] === 0) return false;
    this[fault]--;
    return true;
  }

  #store(subject: string, data: Uint8Array): Ack {
    const message: Stored = { sequence: this.last + 1, timeUs: this.server.nowUs(), subject, data };
    const bytes = messageBytes(message);
    if (this.#bytes + bytes > this.settings.maxBytes) throw new ProtocolError('log_full');
    this.#messages.push(message);
    this.#bytes += bytes;
    this.#lastOn.set(subject, message);
    this.#wakeReaders();
    return { sequence: message.sequence };
  }

  #wakeReaders(): void {
    for (const reader of this.readers) reader.wake();
  }
}

function messageBytes(message: Stored): number {
  return MESSAGE_OVERHEAD_BYTES + message.subject.length + message.data.length;
}

function sizeOf(messages: readonly Stored[]): number {
  return messages.reduce((sum, message) => sum + messageBytes(message), 0);
}

class MemoryReader implements Reader {
  #position: number;
  #lastGiven: Stored | undefined;
  #scheduled = false;
  #stopped = false;
  readonly #stream: MemoryStream;
  readonly #handler: (message: Stored) => void;
  readonly #onProblem: (error: ProtocolError) => void;

  constructor(
    stream: MemoryStream,
    from: number,
    handler: (message: Stored) => void,
    onProblem: (error: ProtocolError) => void,
  ) {
    this.#stream = stream;
    this.#position = from - 1;
    this.#handler = handler;
    this.#onProblem = onProblem;
    stream.readers.add(this);
    defer(() => this.resume());
  }

  get position(): number {
    return this.#position;
  }

  stop(): void {
    this.#stopped = true;
    this.#stream.readers.delete(this);
  }

  /** Checks that the log still is what was read, then goes on. */
  resume(): void {
    if (this.#stopped || this.#stream.server.isDown) return;
    const problem = this.#problem();
    if (problem) this.#fail(problem);
    else this.wake();
  }

  wake(): void {
    if (this.#scheduled || this.#stopped) return;
    this.#scheduled = true;
    const { clock, deliveryLatencyMs } = this.#stream.server.options;
    if (clock && deliveryLatencyMs) clock.after(deliveryLatencyMs, () => this.#deliver());
    else defer(() => this.#deliver());
  }

  #problem(): ProtocolError | undefined {
    const { name, first, last, server } = this.#stream;
    if (server.streams.get(name) !== this.#stream) return new ProtocolError('log_loss', `${name} is gone`);
    if (last < this.#position)
      return new ProtocolError('log_loss', `${name} ends at ${last}, position is ${this.#position}`);
    if (first > this.#position + 1) {
      return new ProtocolError('log_trimmed', `${name} begins at ${first}, wanted is ${this.#position + 1}`);
    }
    const now = this.#lastGiven && this.#stream.get(this.#lastGiven.sequence);
    if (now && this.#lastGiven && !sameMessage(now, this.#lastGiven)) {
      return new ProtocolError('log_loss', `${name}: message ${now.sequence} is not the one that was read`);
    }
    return undefined;
  }

  #fail(problem: ProtocolError): void {
    this.stop();
    this.#onProblem(problem);
  }

  #deliver(): void {
    this.#scheduled = false;
    for (let count = 0; count < MESSAGES_PER_TURN; count++) {
      if (this.#stopped || this.#stream.deliveryHeld) return;
      if (this.#stream.first > this.#position + 1) return this.resume();
      const message = this.#stream.get(this.#position + 1);
      if (!message) return;
      this.#position = message.sequence;
      this.#lastGiven = message;
      this.#handler(message);
    }
    setImmediate(() => this.wake());
  }
}

function defer(run: () => void): void {
  queueMicrotask(run);
}

export class MemoryPartitionLog implements PartitionLog {
  readonly partition: string;
  readonly generation: number;
  readonly stream: string;
  readonly #stream: MemoryStream;
  readonly #client: MemoryLog;

  constructor(stream: MemoryStream, client: MemoryLog) {
    this.partition = stream.partition;
    this.generation = stream.generation;
    this.stream = stream.name;
    this.#stream = stream;
    this.#client = client;
  }

  async append(token: string, data: Uint8Array, expectLastOnSubject?: number): Promise<Ack> {
    this.#client.demandOpen();
    if (data.length > MAX_DATA_BYTES) throw new ProtocolError('payload_too_large');
    const { clock, ackLatencyMs } = this.#stream.server.options;
    try {
      return this.#stream.append(subjectOf(this.partition, token), data, expectLastOnSubject);
    } finally {
      if (clock && ackLatencyMs) await new Promise<void>((resolve) => void clock.after(ackLatencyMs, resolve));
    }
  }

  async lastOn(token: string): Promise<Stored | undefined> {
    this.#demandReachable();
    return this.#stream.lastOn(subjectOf(this.partition, token));
  }

  async get(sequence: number): Promise<Stored | undefined> {
    this.#demandReachable();
    return this.#stream.get(sequence);
  }

  async state(): Promise<LogState> {
    this.#demandReachable();
    if (this.#stream.server.streams.get(this.stream) !== this.#stream)
      throw new ProtocolError('log_loss', 'the stream is gone');
    const { first, last, bytes, settings, createdAt } = this.#stream;
    return { first, last, bytes, maxBytes: settings.maxBytes, createdAt };
  }

  read(from: number, handler: (message: Stored) => void, onProblem: (error: ProtocolError) => void): Reader {
    const reader = new MemoryReader(this.#stream, from, handler, onProblem);
    this.#client.readers.add(reader);
    return reader;
  }

  async trim(before: number): Promise<void> {
    this.#demandReachable();
    this.#stream.trim(before);
  }

  #demandReachable(): void {
    this.#client.demandOpen();
    if (this.#stream.server.isDown) throw unavailable();
  }
}

export class MemoryLog implements Log {
  readonly server: MemoryServer;
  readonly readers = new Set<Reader>();
  #closed = false;

  /** Clients of one server share its streams. */
  constructor(server: MemoryServer = new MemoryServer()) {
    this.server = server;
  }

  async open(partition: string, generation: number, settings: LogSettings): Promise<PartitionLog> {
    this.demandOpen();
    return new MemoryPartitionLog(this.server.openStream(partition, generation, settings), this);
  }

  async remove(partition: string, generation: number): Promise<void> {
    this.demandOpen();
    if (this.server.isDown) throw unavailable();
    const name = streamName(partition, generation);
    const stream = this.server.streams.get(name);
    this.server.streams.delete(name);
    stream?.resumeReaders();
  }

  async close(): Promise<void> {
    this.#closed = true;
    for (const reader of this.readers) reader.stop();
  }

  demandOpen(): void {
    if (this.#closed) throw unavailable();
  }
}
