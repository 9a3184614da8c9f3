/**
 * What leaves for the clients. Messages gather per connection during a tick and are written once at its end, as one websocket
 * message of at most MAX_MESSAGE_BYTES (a single larger one travels alone). A connection whose network is behind keeps its own
 * queue, counted in bytes; one that lets it grow past the limit, or takes nothing for too long, is closed with a code that says
 * "come back". Nothing is ever left out silently.
 */
import { FROM_EDGE } from '../../protocol/message.ts';
import { MsgpackWriter } from '../../protocol/msgpack-writer.ts';
import { writeError, writeFailed } from '../../protocol/server-messages.ts';
import type { CoarseClock } from './coarse-clock.ts';
import { CLOSED, type Connection } from './connection.ts';
import type { EdgeCounters } from './counters.ts';
import { BUFFERED, DROPPED } from './transport.ts';

const MAX_MESSAGE_BYTES = 256 * 1024; // Of one websocket message to a client: what clients must be ready to take at once.
const MAX_SPARE_BUFFERS = 256; // Kept for reuse: one for each connection that is busy in the same tick.
const MAX_SPARE_BYTES = 16 * 1024; // A buffer that grew beyond is let go.
const RESUME_BELOW_BYTES = 16 * 1024; // Writing goes on when so little waits in the socket's own buffer.
const MAX_NUMBER_BYTES = 20; // Header, type and two numbers of a message, at their longest.

const { reply: REPLY, failed: FAILED } = FROM_EDGE;

export type OutgoingHandlers = {
  /** It fell too far behind, or takes nothing. */
  slow(connection: Connection): void;
};

export class Outgoing {
  readonly #maxQueuedBytes: number;
  readonly #clock: CoarseClock;
  readonly #counters: EdgeCounters;
  readonly #handlers: OutgoingHandlers;
  /** Called before the writes of a tick: what gathers elsewhere joins them. */
  beforeFlush: () => void = () => undefined;
  readonly #scratch = new MsgpackWriter();
  readonly #spare: MsgpackWriter[] = [];
  readonly #blocked = new Set<Connection>();
  #dirty: Connection[] = [];
  #flushing: Connection[] = [];
  #asked = false;

  constructor(maxQueuedBytes: number, clock: CoarseClock, counters: EdgeCounters, handlers: OutgoingHandlers) {
    this.#maxQueuedBytes = maxQueuedBytes;
    this.#clock = clock;
    this.#counters = counters;
    this.#handlers = handlers;
  }

  get blockedConnections(): number {
    return this.#blocked.size;
  }

  /** [2, number, body]: the body is bytes [start, end). */
  reply(connection: Connection, number: number, bytes: Uint8Array, start: number, end: number): void {
    const writer = this.#room(connection, MAX_NUMBER_BYTES + end - start);
    if (!writer) return;
    const before = writer.offset;
    writer.array(3);
    writer.byte(REPLY);
    writer.int(number);
    copyInto(writer, bytes, start, end);
    connection.queuedBytes += writer.offset - before;
  }

  /** [5, number, name, message, retryAfterMs]: [start, end) is the array of the last three. */
  refusal(connection: Connection, number: number, bytes: Uint8Array, start: number, end: number): void {
    this.#counters.refused('by_actor');
    if (bytes[start] !== 0x93)
      return this.failed(connection, number, 'internal', 'the answer of the host is damaged', undefined);
    const writer = this.#room(connection, MAX_NUMBER_BYTES + end - start);
    if (!writer) return;
    const before = writer.offset;
    writer.array(5);
    writer.byte(FAILED);
    writer.int(number);
    copyInto(writer, bytes, start + 1, end);
    connection.queuedBytes += writer.offset - before;
  }

  /** A command was not taken. */
  failed(
    connection: Connection,
    number: number,
    name: string,
    message: string,
    retryAfterMs: number | undefined,
  ): void {
    this.#counters.refused(name);
    this.message(connection, (writer) => writeFailed(writer, number, name, message, retryAfterMs));
  }

  /** A request was refused; 0 is the connection itself. */
  error(
    connection: Connection,
    request: number,
    name: string,
    message: string,
    retryAfterMs: number | undefined,
  ): void {
    this.#counters.refused(name);
    this.message(connection, (writer) => writeError(writer, request, name, message, retryAfterMs));
  }

  /** Any message of the protocol's writers; for all that is not hot. */
  message(connection: Connection, write: (writer: MsgpackWriter) => void): void {
    const scratch = this.#scratch;
    scratch.reset();
    write(scratch);
    const room = this.#room(connection, scratch.offset);
    if (!room) return;
    room.raw(scratch.view());
    connection.queuedBytes += scratch.offset;
  }

  /** Whole messages that many connections share: kept by reference until written, never changed. */
  shared(connection: Connection, messages: Uint8Array): void {
    if (!this.#take(connection, messages.length)) return;
    this.#seal(connection);
    if (connection.parts) connection.parts.push(messages);
    else connection.parts = [messages];
    connection.queuedBytes += messages.length;
  }

  /** Writes what is queued now, instead of at the end of the tick. */
  flushNow(connection: Connection): void {
    if (!connection.blocked) this.#write(connection);
  }

  /** The transport says that the network took bytes. */
  drained(connection: Connection): void {
    const { socket } = connection;
    if (!connection.blocked || !socket || socket.bufferedBytes() > RESUME_BELOW_BYTES) {
      connection.blockedTick = this.#clock.tick; // Slow, but it moves.
      return;
    }
    connection.blocked = false;
    this.#blocked.delete(connection);
    this.#write(connection);
  }

  /** Connections that took nothing since before `tick` are slow. */
  sweep(stalledBefore: number): void {
    for (const connection of this.#blocked)
      if (connection.blockedTick <= stalledBefore) this.#handlers.slow(connection);
  }

  /** Lets go what a closed connection holds. */
  forget(connection: Connection): void {
    if (connection.buffer) this.#release(connection.buffer);
    connection.buffer = undefined;
    connection.parts = undefined;
    connection.queuedBytes = 0;
    connection.blocked = false;
    this.#blocked.delete(connection);
  }

  /** Whether `bytes` more may be queued. A connection beyond its limit is closed. */
  #take(connection: Connection, bytes: number): boolean {
    if (connection.phase === CLOSED || connection.socket === undefined) return false;
    if (connection.queuedBytes > 0 && connection.queuedBytes + bytes > MAX_MESSAGE_BYTES && !connection.blocked)
      this.#write(connection);
    if (connection.queuedBytes > 0 && connection.queuedBytes + bytes > this.#maxQueuedBytes) {
      this.#handlers.slow(connection);
      return false;
    }
    if (!connection.dirty && !connection.blocked) this.#mark(connection);
    return true;
  }

  /** The buffer to write at most `bytes` into; undefined when nothing may be sent any more. */
  #room(connection: Connection, bytes: number): MsgpackWriter | undefined {
    if (!this.#take(connection, bytes)) return undefined;
    if (connection.buffer && connection.buffer.offset + bytes > MAX_MESSAGE_BYTES) this.#seal(connection);
    let writer = connection.buffer;
    if (!writer) {
      writer = this.#spare.pop() ?? new MsgpackWriter();
      writer.reset();
      connection.buffer = writer;
    }
    writer.reserve(bytes);
    return writer;
  }

  #seal(connection: Connection): void {
    const { buffer } = connection;
    if (!buffer) return;
    if (connection.parts) connection.parts.push(buffer.copy());
    else connection.parts = [buffer.copy()];
    this.#release(buffer);
    connection.buffer = undefined;
  }

  #release(writer: MsgpackWriter): void {
    if (writer.bytes.length <= MAX_SPARE_BYTES && this.#spare.length < MAX_SPARE_BUFFERS) this.#spare.push(writer);
  }

  #mark(connection: Connection): void {
    connection.dirty = true;
    this.#dirty.push(connection);
    this.askFlush();
  }

  /** Asks for a flush at the end of this tick. */
  askFlush(): void {
    if (this.#asked) return;
    this.#asked = true;
    setImmediate(this.#flush);
  }

  readonly #flush = (): void => {
    this.beforeFlush();
    this.#asked = false;
    const connections = this.#dirty;
    this.#dirty = this.#flushing;
    this.#flushing = connections;
    for (const connection of connections) {
      connection.dirty = false;
      if (!connection.blocked) this.#write(connection);
      else this.#seal(connection);
    }
    connections.length = 0;
  };

  /** One write: the buffer alone, a shared part alone, or all of them corked. */
  #write(connection: Connection): void {
    const { socket, parts, buffer } = connection;
    if (!socket || connection.queuedBytes === 0) return;
    this.#counters.writes++;
    this.#counters.bytesSent += connection.queuedBytes;
    if (!parts && buffer) return this.#writeBuffer(connection, buffer);
    this.#seal(connection);
    const sealed = connection.parts ?? [];
    connection.parts = undefined;
    const [only] = sealed;
    if (only && sealed.length === 1) {
      connection.queuedBytes = 0;
      return this.#wrote(connection, socket.send(only));
    }
    this.#writeParts(connection, sealed);
  }

  #writeBuffer(connection: Connection, buffer: MsgpackWriter): void {
    connection.queuedBytes = 0;
    connection.buffer = undefined;
    const result = connection.socket?.send(buffer.view()) ?? DROPPED;
    this.#release(buffer);
    this.#wrote(connection, result);
  }

  /** A dropped message would be a hole in the stream, and must not happen: nothing is sent after BUFFERED. */
  #wrote(connection: Connection, result: number): void {
    if (result === BUFFERED) this.#block(connection);
    else if (result === DROPPED && !connection.socket?.closed) this.#handlers.slow(connection);
  }

  #writeParts(connection: Connection, parts: Uint8Array[]): void {
    const { socket } = connection;
    if (!socket) return;
    const taken = socket.sendAll(parts);
    let left = 0;
    for (let i = taken; i < parts.length; i++) left += (parts[i] as Uint8Array).length;
    connection.queuedBytes = left;
    this.#counters.bytesSent -= left;
    if (left > 0) connection.parts = parts.slice(taken);
    if (left > 0 || socket.bufferedBytes() > 0) this.#block(connection);
  }

  #block(connection: Connection): void {
    if (connection.phase === CLOSED) return;
    connection.blocked = true;
    connection.blockedTick = this.#clock.tick;
    this.#blocked.add(connection);
  }
}

/** Bodies are mostly short: below 64 bytes a loop beats `set` with its subarray. */
function copyInto(writer: MsgpackWriter, bytes: Uint8Array, start: number, end: number): void {
  const target = writer.bytes;
  let at = writer.offset;
  if (end - start > 64) {
    target.set(bytes.subarray(start, end), at);
    at += end - start;
  } else {
    for (let i = start; i < end; i++) target[at++] = bytes[i] as number;
  }
  writer.offset = at;
}
