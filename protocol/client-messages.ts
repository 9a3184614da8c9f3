/** Messages from client to edge: written by the client, read by the edge. Bodies are encoded before (see shape.ts). */
import { ProtocolError } from './errors.ts';
import {
  FROM_CLIENT,
  MAX_COMMAND_NUMBER,
  MAX_TOKEN_BYTES,
  MessageReader,
  malformedMessage,
  PROTOCOL_VERSION,
} from './message.ts';
import type { MsgpackWriter } from './msgpack-writer.ts';
import { utf8Length } from './utf8.ts';

export type Hello = {
  readonly token: string;
  readonly session?: string | undefined;
  readonly client?: string | undefined;
};

export type SubscribeOptions = {
  /** Offset of the last event seen. */
  readonly from?: number | undefined;
  readonly generation?: number | undefined;
  /** Events per second that the client wants at most, of a lossy topic; may be a fraction. */
  readonly rate?: number | undefined;
};

export function writeHello(writer: MsgpackWriter, { token, session, client }: Hello): void {
  writer.array(2);
  writer.int(FROM_CLIENT.hello);
  writeTextMap(writer, { v: PROTOCOL_VERSION, token, session, client });
}

/** `body`: the positional array, or for a binary command its layout. */
export function writeCommand(
  writer: MsgpackWriter,
  command: {
    readonly number: number;
    readonly low: number;
    readonly ref: string;
    readonly name: string;
    readonly body: Uint8Array;
    readonly binary: boolean;
  },
): void {
  writer.array(6);
  writer.int(FROM_CLIENT.command);
  writer.int(command.number);
  writer.int(command.low);
  writeText(writer, command.ref);
  writeText(writer, command.name);
  if (command.binary) writer.bin(command.body);
  else writer.raw(command.body);
}

export function writeQuery(
  writer: MsgpackWriter,
  request: number,
  ref: string,
  name: string,
  body: Uint8Array,
  minSequence?: number,
): void {
  writer.array(minSequence === undefined ? 5 : 6);
  writer.int(FROM_CLIENT.query);
  writer.int(request);
  writeText(writer, ref);
  writeText(writer, name);
  writer.raw(body);
  if (minSequence !== undefined) writer.int(minSequence);
}

export function writeSubscribe(
  writer: MsgpackWriter,
  request: number,
  ref: string,
  topic: string,
  { from, generation, rate }: SubscribeOptions = {},
): void {
  writer.array(5);
  writer.int(FROM_CLIENT.subscribe);
  writer.int(request);
  writeText(writer, ref);
  writeText(writer, topic);
  writeTextMap(writer, { from, generation, rate });
}

export function writeUnsubscribe(writer: MsgpackWriter, request: number, ref: string, topic: string): void {
  writer.array(4);
  writer.int(FROM_CLIENT.unsubscribe);
  writer.int(request);
  writeText(writer, ref);
  writeText(writer, topic);
}

export function writeToken(writer: MsgpackWriter, request: number, token: string): void {
  writer.array(3);
  writer.int(FROM_CLIENT.token);
  writer.int(request);
  writeText(writer, token);
}

export function writeRenew(writer: MsgpackWriter, request: number): void {
  writer.array(2);
  writer.int(FROM_CLIENT.renew);
  writer.int(request);
}

/** The same bytes in both directions. */
export function writePing(writer: MsgpackWriter): void {
  writer.array(1);
  writer.int(FROM_CLIENT.ping);
}

/** Errors: `malformed_message` for a text with a lone surrogate. */
export function writeText(writer: MsgpackWriter, value: string): void {
  if (writer.text(value) < 0) throw malformedMessage('a text holds a lone surrogate');
}

/** A map of scalars; undefined values are left out. */
export function writeTextMap(
  writer: MsgpackWriter,
  map: { readonly [key: string]: string | number | boolean | undefined },
): void {
  const entries = Object.entries(map).filter(([, value]) => value !== undefined);
  writer.map(entries.length);
  for (const [key, value] of entries) {
    writer.text(key);
    if (typeof value === 'string') writeText(writer, value);
    else if (typeof value === 'number') writeNumber(writer, value);
    else writer.bool(value === true);
  }
}

function writeNumber(writer: MsgpackWriter, value: number): void {
  if (Number.isSafeInteger(value)) writer.int(value);
  else writer.float64(value);
}

/** Elements of each type: least and most. */
const ELEMENTS: { readonly [type: number]: readonly [least: number, most: number] } = {
  [FROM_CLIENT.hello]: [2, 2],
  [FROM_CLIENT.command]: [6, 6],
  [FROM_CLIENT.query]: [5, 6],
  [FROM_CLIENT.subscribe]: [4, 5],
  [FROM_CLIENT.unsubscribe]: [4, 4],
  [FROM_CLIENT.ping]: [1, 1],
  [FROM_CLIENT.token]: [3, 3],
  [FROM_CLIENT.renew]: [2, 2],
};

/**
 * The edge's cursor over a client's messages. After `next()` the fields that the message's type has are set, as numbers and as
 * offsets into `bytes`; nothing is allocated for a command. A type that is not known is left to the caller (`unknown_type`),
 * and so are references and names, whose errors concern one request only.
 */
export class ClientMessageReader extends MessageReader {
  /** Of a command. */
  number = 0;
  low = 0;
  /** Of a query, subscribe, unsubscribe, token or renew; else 0. */
  request = 0;
  /** Of a command, query, subscribe or unsubscribe. */
  refStart = 0;
  refEnd = 0;
  /** The name of the command, query or topic. */
  nameStart = 0;
  nameEnd = 0;
  /** Of a command or query. Where `isBinary`, the content of the bin. */
  bodyStart = 0;
  bodyEnd = 0;
  isBinary = false;
  /** Of a query; undefined where it asks for none. */
  minSequence: number | undefined = undefined;

  /** Errors: those of MessageReader; `malformed_message` also where elements do not fit the type. */
  override next(): boolean {
    if (!super.next()) return false;
    const bounds = ELEMENTS[this.type];
    this.request = 0;
    if (bounds === undefined) return true;
    if (this.elements < bounds[0] || this.elements > bounds[1]) {
      throw malformedMessage(`a message of type ${this.type} has ${bounds[0]} to ${bounds[1]} elements`);
    }
    if (this.type === FROM_CLIENT.command) this.readCommand();
    else if (this.type !== FROM_CLIENT.hello && this.type !== FROM_CLIENT.ping) this.readRequest();
    return true;
  }

  private readCommand(): void {
    this.number = this.uint(1);
    this.low = this.uint(2);
    if (this.number < 1 || this.number > MAX_COMMAND_NUMBER)
      throw malformedMessage('a command number has 32 bits and is not 0');
    if (this.low < 1 || this.low > this.number) throw malformedMessage('low lies between 1 and the number');
    this.readTarget();
    this.readBody();
  }

  private readRequest(): void {
    this.request = this.uint(1);
    if (this.request < 1 || this.request > MAX_COMMAND_NUMBER)
      throw malformedMessage('a request has 32 bits and is not 0');
    if (this.type === FROM_CLIENT.token || this.type === FROM_CLIENT.renew) return;
    this.readTarget();
    if (this.type !== FROM_CLIENT.query) return;
    this.readBody();
    this.minSequence = this.optionalUint(5);
  }

  /** Reference and name are followed by the body (command: elements 3 to 5; request: 2 to 4). */
  private readTarget(): void {
    const ref = this.type === FROM_CLIENT.command ? 3 : 2;
    this.refStart = this.textStart(ref);
    this.refEnd = this.endOf(ref);
    this.nameStart = this.textStart(ref + 1);
    this.nameEnd = this.endOf(ref + 1);
  }

  private readBody(): void {
    const element = this.type === FROM_CLIENT.command ? 5 : 4;
    this.isBinary = this.isBin(element);
    this.bodyStart = this.isBinary ? this.binStart(element) : this.startOf(element);
    this.bodyEnd = this.endOf(element);
  }

  /** The content of a hello. Errors: `malformed_message`, `unsupported_version`. */
  hello(): Hello {
    const { v, token, session, client } = this.map(1);
    if (v !== PROTOCOL_VERSION)
      throw new ProtocolError('unsupported_version', `protocol version ${String(v)} is not known`);
    return { token: checkedToken(token), session: optionalText(session), client: optionalText(client) };
  }

  /** The token of a token message. Errors: `malformed_message`. */
  token(): string {
    return checkedToken(this.text(2));
  }

  /** Errors: `malformed_message`. */
  subscribeOptions(): SubscribeOptions {
    if (!this.has(4)) return {};
    const { from, generation, rate } = this.map(4);
    return { from: optionalNatural(from), generation: optionalNatural(generation), rate: optionalRate(rate) };
  }
}

function checkedToken(token: unknown): string {
  if (typeof token !== 'string' || utf8Length(token) > MAX_TOKEN_BYTES) {
    throw malformedMessage(`a token is a text of at most ${MAX_TOKEN_BYTES} bytes`);
  }
  return token;
}

function optionalText(value: unknown): string | undefined {
  if (value === undefined || value === null) return undefined;
  if (typeof value !== 'string') throw malformedMessage('a text is expected');
  return value;
}

function optionalNatural(value: unknown): number | undefined {
  if (value === undefined || value === null) return undefined;
  if (typeof value !== 'number' || !Number.isSafeInteger(value) || value < 0)
    throw malformedMessage('a natural number is expected');
  return value;
}

function optionalRate(value: unknown): number | undefined {
  if (value === undefined || value === null) return undefined;
  if (typeof value !== 'number' || !(value > 0)) throw malformedMessage('a rate above 0 is expected');
  return value;
}
