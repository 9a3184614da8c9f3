/**
 * What both directions of the websocket protocol have in common: names, numbers, limits, and the cursor over the messages of
 * one websocket message. A message is a MessagePack array whose first element is its type; README.md describes them all.
 */
import { ProtocolError } from './errors.ts';
import { DEFAULT_LIMITS, type ScanLimits, scan, unpack } from './msgpack.ts';
import { MsgpackCursor, typeOfTag } from './msgpack-cursor.ts';

export const SUBPROTOCOL = 'troupe.v1.msgpack';
export const PROTOCOL_VERSION = 1;
export const MAX_MESSAGES = 64; // In one websocket message: bounds the work of one turn of the edge's event loop.
export const MAX_IN_FLIGHT = 256; // Numbers of a session that may be open at once: hosts keep the replies of as many.
export const MAX_COMMAND_NUMBER = 0xffff_ffff; // The record holds it in 32 bits; a session that used them all is renewed.
export const MAX_TOKEN_BYTES = 8 * 1024; // What HTTP servers accept as one header, so that a token serves both ways in.

/** Types of messages from client to edge. */
export const FROM_CLIENT = {
  hello: 1,
  command: 2,
  query: 3,
  subscribe: 4,
  unsubscribe: 5,
  ping: 6,
  token: 7,
  renew: 8,
} as const;

/** Types of messages from edge to client. */
export const FROM_EDGE = {
  welcome: 1,
  reply: 2,
  answer: 3,
  event: 4,
  failed: 5,
  ping: 6,
  error: 7,
  goaway: 8,
  conflated: 9,
  ended: 10,
} as const;

/** Close codes by error name. From 3000 to 3499 the client may come back by itself, from 3500 on it may not. */
export const CLOSE_CODES = {
  going_away: 3001,
  token_expired: 3005,
  slow_reader: 3008,
  heartbeat_missed: 3012,
  rate_limited: 3013,
  unauthorized: 3500,
  protocol_error: 3501,
  hello_timeout: 3502,
  too_many_connections: 3504,
} as const;

const FIRST_FINAL_CODE = 3500;
const LAST_FINAL_CODE = 3999;

/** Whether a client may connect again by itself after this close code (also after those of the websocket itself). */
export function mayReconnect(closeCode: number): boolean {
  return closeCode < FIRST_FINAL_CODE || closeCode > LAST_FINAL_CODE;
}

const MAX_ELEMENTS = 15; // Of a message: what the one-byte array header says; the longest known has six.

/** A message that is whole, but not what its type demands. */
export function malformedMessage(detail: string): ProtocolError {
  return new ProtocolError('malformed_message', detail);
}

/**
 * A reusable cursor over the messages of one websocket message. `next()` checks the whole message (see scan), then its
 * elements are at hand; bodies stay where they are.
 */
export class MessageReader {
  bytes: Uint8Array = new Uint8Array(0);
  type = 0;
  /** Elements of the current message, the type included. */
  elements = 0;
  /** Messages taken so far. */
  count = 0;
  private readonly limits: ScanLimits;
  private readonly maxMessages: number;
  private readonly starts = new Uint32Array(MAX_ELEMENTS + 1);
  private readonly cursor = new MsgpackCursor();
  private position = 0;
  private end = 0;

  constructor(limits: ScanLimits = DEFAULT_LIMITS, maxMessages: number = MAX_MESSAGES) {
    this.limits = limits;
    this.maxMessages = maxMessages;
  }

  reset(bytes: Uint8Array, start = 0, end = bytes.length): void {
    if (start < 0 || start > end || end > bytes.length) throw new RangeError(`messages from ${start} to ${end}`);
    this.bytes = bytes;
    this.position = start;
    this.end = end;
    this.count = 0;
    this.elements = 0;
  }

  /** Errors: `malformed_message` (also for no message at all, or too many), `too_deep`, `payload_too_large`. */
  next(): boolean {
    if (this.position === this.end && this.count > 0) return false;
    if (this.count === this.maxMessages) throw malformedMessage(`more than ${this.maxMessages} messages together`);
    this.elements = this.header();
    let at = this.position + 1;
    for (let i = 0; i < this.elements; i++) {
      this.starts[i] = at;
      at = scan(this.bytes, at, this.limits, this.end);
    }
    this.starts[this.elements] = at;
    this.position = at;
    this.count++;
    this.type = this.uint(0);
    return true;
  }

  private header(): number {
    const tag = this.position < this.end ? (this.bytes[this.position] as number) : 0;
    if (tag < 0x91 || tag > 0x90 + MAX_ELEMENTS)
      throw malformedMessage(`a message is an array of 1 to ${MAX_ELEMENTS} elements`);
    return tag - 0x90;
  }

  /** First byte of an element. */
  startOf(element: number): number {
    return this.starts[element] as number;
  }

  /** The byte behind an element. */
  endOf(element: number): number {
    return this.starts[element + 1] as number;
  }

  /** Whether an element is there and not nil. */
  has(element: number): boolean {
    return element < this.elements && this.bytes[this.startOf(element)] !== 0xc0;
  }

  /** A natural number. Errors: `malformed_message`. */
  uint(element: number): number {
    const value = this.at(element).int();
    return value >= 0 ? value : this.unexpected(element, 'a natural number');
  }

  optionalUint(element: number): number | undefined {
    return this.has(element) ? this.uint(element) : undefined;
  }

  /** A text. Errors: `malformed_message`. */
  text(element: number): string {
    const cursor = this.at(element);
    const length = cursor.textHeader();
    return (length < 0 ? undefined : cursor.takeText(length)) ?? this.unexpected(element, 'a text');
  }

  /** Where the content of a text begins; it ends with the element. Errors: `malformed_message`. */
  textStart(element: number): number {
    const cursor = this.at(element);
    return cursor.textHeader() < 0 ? this.unexpected(element, 'a text') : cursor.offset;
  }

  /** Whether an element is a bin, as bodies with a binary layout are. */
  isBin(element: number): boolean {
    return element < this.elements && typeOfTag(this.bytes[this.startOf(element)] as number) === 'bin';
  }

  /** Where the content of a bin begins; it ends with the element. Errors: `malformed_message`. */
  binStart(element: number): number {
    const cursor = this.at(element);
    return cursor.binHeader() < 0 ? this.unexpected(element, 'bytes') : cursor.offset;
  }

  /** A map with text keys, as an object. Errors: `malformed_message`. */
  map(element: number): { readonly [key: string]: unknown } {
    if (element >= this.elements || typeOfTag(this.bytes[this.startOf(element)] as number) !== 'map') {
      return this.unexpected(element, 'a map');
    }
    return unpack(this.bytes, this.startOf(element), this.endOf(element)) as { [key: string]: unknown };
  }

  private at(element: number): MsgpackCursor {
    if (element >= this.elements) return this.unexpected(element, 'one more element');
    this.cursor.reset(this.bytes, this.startOf(element), this.endOf(element));
    return this.cursor;
  }

  private unexpected(element: number, expected: string): never {
    throw malformedMessage(`message ${this.count} of type ${this.type}: ${expected} is expected as element ${element}`);
  }
}
