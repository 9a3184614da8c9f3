/**
 * Messages from edge to client: written by the edge, read by the client. Writers append to a buffer that is reused, so that
 * what goes out in one turn is one websocket message. The reader skips elements, keys and types that it does not know: a
 * newer edge may add them.
 */
import { writeText, writeTextMap } from './client-messages.ts';
import { FROM_EDGE, MessageReader, malformedMessage, PROTOCOL_VERSION } from './message.ts';
import { MAX_DEPTH, type ScanLimits, scan, unpack } from './msgpack.ts';
import { MsgpackCursor } from './msgpack-cursor.ts';
import type { MsgpackWriter } from './msgpack-writer.ts';

export type Welcome = {
  /** The signed session token, to be given in the next hello. */
  readonly session: string;
  readonly principal: string;
  readonly node: string;
  /** The edge's clock, in milliseconds since 1970. */
  readonly now: number;
  readonly heartbeatMs: number;
  readonly maxPayloadBytes: number;
  readonly maxInFlight: number;
  /** Milliseconds since 1970. */
  readonly tokenExpiresAt: number;
  /** Whether the session of the hello goes on; otherwise `session` is a new one. */
  readonly resumed: boolean;
  /** How long the cluster remembers an idle session's replies; undefined where the edge does not say. */
  readonly sessionHorizonMs?: number | undefined;
};

export type Subscribed = {
  readonly topicId: number;
  readonly generation: number;
  /** Of the last event before those that follow. */
  readonly offset: number;
  /** Whether the events since `from` follow, or the snapshot stands for them. False: they are no longer to be had. */
  readonly recovered: boolean;
  /** The body of the snapshot query's reply, of a lossy topic. */
  readonly snapshot?: Uint8Array | undefined;
};

export function writeWelcome(writer: MsgpackWriter, welcome: Welcome): void {
  writer.array(2);
  writer.int(FROM_EDGE.welcome);
  writeTextMap(writer, { v: PROTOCOL_VERSION, ...welcome });
}

/** Hot: one per command. */
export function writeReply(writer: MsgpackWriter, number: number, body: Uint8Array): void {
  writer.array(3);
  writer.int(FROM_EDGE.reply);
  writer.int(number);
  writer.raw(body);
}

/** `sequence`: of the log, that the answer was read at; undefined where it comes from no log. */
export function writeAnswer(writer: MsgpackWriter, request: number, body: Uint8Array, sequence?: number): void {
  startAnswer(writer, request, sequence === undefined ? 3 : 4);
  writer.raw(body);
  if (sequence !== undefined) writer.int(sequence);
}

/** The answer to subscribe. */
export function writeSubscribed(writer: MsgpackWriter, request: number, answer: Subscribed): void {
  const { topicId, generation, offset, recovered, snapshot } = answer;
  startAnswer(writer, request, 3);
  writer.map(snapshot === undefined ? 4 : 5);
  for (const [key, value] of [
    ['topicId', topicId],
    ['generation', generation],
    ['offset', offset],
  ] as const) {
    writer.text(key);
    writer.int(value);
  }
  writer.text('recovered');
  writer.bool(recovered);
  if (snapshot !== undefined) {
    writer.text('snapshot');
    writer.raw(snapshot);
  }
}

/** The answer to unsubscribe ({}), token ({tokenExpiresAt}) or renew ({session}). */
export function writeMapAnswer(
  writer: MsgpackWriter,
  request: number,
  map: { readonly [key: string]: string | number | boolean | undefined },
): void {
  startAnswer(writer, request, 3);
  writeTextMap(writer, map);
}

function startAnswer(writer: MsgpackWriter, request: number, elements: number): void {
  writer.array(elements);
  writer.int(FROM_EDGE.answer);
  writer.int(request);
}

/** Hot: one per event and edge, its bytes shared by all sockets. */
export function writeEvent(writer: MsgpackWriter, topicId: number, offset: number, body: Uint8Array): void {
  writeTopicBody(writer, FROM_EDGE.event, topicId, offset, body);
}

/** The newest state of a lossy topic, in place of all events up to `offset`. */
export function writeConflated(writer: MsgpackWriter, topicId: number, offset: number, body: Uint8Array): void {
  writeTopicBody(writer, FROM_EDGE.conflated, topicId, offset, body);
}

function writeTopicBody(writer: MsgpackWriter, type: number, topicId: number, offset: number, body: Uint8Array): void {
  writer.array(4);
  writer.int(type);
  writer.int(topicId);
  writer.int(offset);
  writer.raw(body);
}

/** The answer to a command that was refused or failed. */
export function writeFailed(
  writer: MsgpackWriter,
  number: number,
  name: string,
  message: string,
  retryAfterMs?: number,
): void {
  writeProblem(writer, FROM_EDGE.failed, number, name, message, retryAfterMs);
}

/** The answer to a request that failed; request 0 is about the connection. */
export function writeError(
  writer: MsgpackWriter,
  request: number,
  name: string,
  message: string,
  retryAfterMs?: number,
): void {
  writeProblem(writer, FROM_EDGE.error, request, name, message, retryAfterMs);
}

function writeProblem(
  writer: MsgpackWriter,
  type: number,
  about: number,
  name: string,
  message: string,
  retryAfterMs: number | undefined,
): void {
  writer.array(5);
  writer.int(type);
  writer.int(about);
  writeText(writer, name);
  writeText(writer, message);
  if (retryAfterMs === undefined) writer.nil();
  else writer.int(retryAfterMs);
}

export function writeGoaway(writer: MsgpackWriter, afterMs: number, reason: string): void {
  writer.array(2);
  writer.int(FROM_EDGE.goaway);
  writeTextMap(writer, { afterMs, reason });
}

/** The edge ends a subscription. */
export function writeEnded(writer: MsgpackWriter, topicId: number, name: string, message: string): void {
  writer.array(4);
  writer.int(FROM_EDGE.ended);
  writer.int(topicId);
  writeText(writer, name);
  writeText(writer, message);
}

const LIMITS_OF_SERVER: ScanLimits = {
  maxDepth: MAX_DEPTH + 1, // A snapshot lies inside the map of its answer.
  maxItems: 1_000_000, // The edge's own limits bound what it sends; this only keeps a broken one from taking all memory.
  maxBytes: 16 * 1024 * 1024, // Likewise.
};

/** Least elements of each type. */
const ELEMENTS: { readonly [type: number]: number } = {
  [FROM_EDGE.welcome]: 2,
  [FROM_EDGE.reply]: 3,
  [FROM_EDGE.answer]: 3,
  [FROM_EDGE.event]: 4,
  [FROM_EDGE.failed]: 4,
  [FROM_EDGE.ping]: 1,
  [FROM_EDGE.error]: 4,
  [FROM_EDGE.goaway]: 2,
  [FROM_EDGE.conflated]: 4,
  [FROM_EDGE.ended]: 4,
};

/** The client's cursor over an edge's messages. After `next()` the fields that the message's type has are set. */
export class ServerMessageReader extends MessageReader {
  /** Command number (reply, failed), request (answer, error) or topic id (event, conflated, ended). */
  about = 0;
  /** Of an event or conflated. */
  offset = 0;
  /** Of a reply, answer, event or conflated: the inline body, for Shape.decode(bytes, bodyStart, bodyEnd). */
  bodyStart = 0;
  bodyEnd = 0;

  constructor(limits: ScanLimits = LIMITS_OF_SERVER, maxMessages: number = Number.POSITIVE_INFINITY) {
    super(limits, maxMessages);
  }

  /** Errors: those of MessageReader; `malformed_message` also where a known type lacks elements. */
  override next(): boolean {
    if (!super.next()) return false;
    const { type } = this;
    const least = ELEMENTS[type];
    if (least === undefined) return true;
    if (this.elements < least) throw malformedMessage(`a message of type ${type} has at least ${least} elements`);
    if (type === FROM_EDGE.welcome || type === FROM_EDGE.goaway || type === FROM_EDGE.ping) return true;
    this.about = this.uint(1);
    if (type === FROM_EDGE.reply || type === FROM_EDGE.answer) this.setBody(2);
    else if (type === FROM_EDGE.event || type === FROM_EDGE.conflated) {
      this.offset = this.uint(2);
      this.setBody(3);
    }
    return true;
  }

  private setBody(element: number): void {
    this.bodyStart = this.startOf(element);
    this.bodyEnd = this.endOf(element);
  }

  /** Of an answer: the sequence of the log that it was read at. */
  sequence(): number | undefined {
    return this.optionalUint(3);
  }

  /** Of a failed, error or ended. */
  problem(): { readonly name: string; readonly message: string; readonly retryAfterMs: number | undefined } {
    return { name: this.text(2), message: this.text(3), retryAfterMs: this.optionalUint(4) };
  }

  /** Of a welcome. Errors: `malformed_message`. */
  welcome(): Welcome {
    const map = this.map(1);
    return {
      session: expectText(map.session),
      principal: expectText(map.principal),
      node: expectText(map.node),
      now: expectNumber(map.now),
      heartbeatMs: expectNumber(map.heartbeatMs),
      maxPayloadBytes: expectNumber(map.maxPayloadBytes),
      maxInFlight: expectNumber(map.maxInFlight),
      tokenExpiresAt: expectNumber(map.tokenExpiresAt),
      resumed: map.resumed === true,
      sessionHorizonMs: map.sessionHorizonMs === undefined ? undefined : expectNumber(map.sessionHorizonMs),
    };
  }

  /** Of a goaway. Errors: `malformed_message`. */
  goaway(): { readonly afterMs: number; readonly reason: string } {
    const { afterMs, reason } = this.map(1);
    return { afterMs: expectNumber(afterMs), reason: expectText(reason) };
  }

  /** Of the answer to a subscribe; the snapshot is a view of the message. Errors: `malformed_message`. */
  subscribed(): Subscribed {
    return {
      topicId: expectNumber(this.scalarInMap(2, 'topicId')),
      generation: expectNumber(this.scalarInMap(2, 'generation')),
      offset: expectNumber(this.scalarInMap(2, 'offset')),
      recovered: this.scalarInMap(2, 'recovered') === true,
      snapshot: this.bytesInMap(2, 'snapshot'),
    };
  }

  private scalarInMap(element: number, wanted: string): unknown {
    const bytes = this.bytesInMap(element, wanted);
    return bytes && unpack(bytes);
  }

  /** The encoded value of a key in a map that lies in the message, as a view. */
  private bytesInMap(element: number, wanted: string): Uint8Array | undefined {
    const cursor = new MsgpackCursor();
    cursor.reset(this.bytes, this.startOf(element), this.endOf(element));
    for (let left = cursor.mapHeader(); left > 0; left--) {
      const length = cursor.textHeader();
      const key = cursor.takeText(length);
      const start = cursor.offset;
      cursor.offset = scan(this.bytes, start, LIMITS_OF_SERVER, cursor.end);
      if (key === wanted) return this.bytes.subarray(start, cursor.offset);
    }
    return undefined;
  }
}

function expectText(value: unknown): string {
  return typeof value === 'string' ? value : refuse('a text');
}

function expectNumber(value: unknown): number {
  return typeof value === 'number' ? value : refuse('a number');
}

function refuse(expected: string): never {
  throw malformedMessage(`${expected} is expected`);
}
