/**
 * What clients say, read by hand from the bytes: one websocket message is 1 to 64 MessagePack arrays, one after the other.
 *
 * A message that is no message ends the connection (`malformed_message`, `protocol_error`), since what follows it cannot be
 * found. Whatever is wrong within one is answered by name, and the connection goes on.
 */

import { writePing } from '../../protocol/client-messages.ts';
import { ERRORS, type ErrorName, ProtocolError } from '../../protocol/errors.ts';
import { FROM_CLIENT, MAX_COMMAND_NUMBER, MAX_IN_FLIGHT, MAX_MESSAGES } from '../../protocol/message.ts';
import { unpack } from '../../protocol/msgpack.ts';
import { MsgpackCursor } from '../../protocol/msgpack-cursor.ts';
import { writeAnswer, writeMapAnswer } from '../../protocol/server-messages.ts';
import { readUtf8 } from '../../protocol/utf8.ts';
import { type Catalogue, commandAt, type EdgeCommand, type Target } from './catalogue.ts';
import type { CoarseClock } from './coarse-clock.ts';
import type { Commands } from './commands.ts';
import { AUTHENTICATING, AWAITING_HELLO, CLOSED, type Connection, OPEN } from './connection.ts';
import type { EdgeCounters } from './counters.ts';
import { endOfValue } from './message-end.ts';
import type { Outgoing } from './outgoing.ts';
import type { Partition } from './partition.ts';
import { type Queries, retryAfter, tell } from './queries.ts';
import type { Hello, Sessions } from './sessions.ts';
import type { EdgeSettings } from './settings.ts';
import type { SubscribeOptions, TopicHub } from './topic-hub.ts';

const {
  hello: HELLO,
  command: COMMAND,
  query: QUERY,
  subscribe: SUBSCRIBE,
  unsubscribe: UNSUBSCRIBE,
  ping: PING,
  token: TOKEN,
  renew: RENEW,
} = FROM_CLIENT;

const MAX_EARLY_BYTES = 256 * 1024; // What may come behind a hello while its token is checked (a millisecond).
const MAX_NAME_BYTES = 32; // Of commands, queries and topics.
const MAX_COMPLAINTS = 10_000; // Commands refused for their rate, without one accepted between: whoever ignores so many is cut off.

/** Where the parts of the request that is being read lie. */
type Request = { number: number; refStart: number; refEnd: number; nameStart: number; nameEnd: number };

export class ClientProtocol {
  readonly #settings: EdgeSettings;
  readonly #catalogue: Catalogue<Partition>;
  readonly #sessions: Sessions;
  readonly #commands: Commands;
  readonly #queries: Queries;
  readonly #hub: TopicHub;
  readonly #outgoing: Outgoing;
  readonly #clock: CoarseClock;
  readonly #counters: EdgeCounters;
  readonly #problem: (message: string, error: unknown) => void;
  readonly #cursor = new MsgpackCursor();
  readonly #request: Request = { number: 0, refStart: 0, refEnd: 0, nameStart: 0, nameEnd: 0 };

  constructor(options: {
    settings: EdgeSettings;
    catalogue: Catalogue<Partition>;
    sessions: Sessions;
    commands: Commands;
    queries: Queries;
    hub: TopicHub;
    outgoing: Outgoing;
    clock: CoarseClock;
    counters: EdgeCounters;
    problem: (message: string, error: unknown) => void;
  }) {
    this.#settings = options.settings;
    this.#catalogue = options.catalogue;
    this.#sessions = options.sessions;
    this.#commands = options.commands;
    this.#queries = options.queries;
    this.#hub = options.hub;
    this.#outgoing = options.outgoing;
    this.#clock = options.clock;
    this.#counters = options.counters;
    this.#problem = options.problem;
  }

  /** One websocket message. The bytes are copied where they are kept. */
  receive(connection: Connection, bytes: Uint8Array, isBinary: boolean): void {
    this.#counters.messages++;
    this.#counters.bytesReceived += bytes.length;
    connection.heardTick = this.#clock.tick;
    if (!isBinary) return this.#sessions.close(connection, 'protocol_error', 'messages are binary');
    if (connection.phase === AUTHENTICATING) return this.#keepEarly(connection, bytes);
    try {
      this.#messages(connection, bytes);
    } catch (error) {
      this.#violated(connection, error);
    }
  }

  /** Reads what came while the token was checked. */
  opened(connection: Connection): void {
    const { early } = connection;
    connection.early = undefined;
    connection.earlyBytes = 0;
    for (const bytes of early ?? []) if (connection.phase === OPEN) this.receive(connection, bytes, true);
  }

  #keepEarly(connection: Connection, bytes: Uint8Array): void {
    connection.earlyBytes += bytes.length;
    if (connection.earlyBytes > MAX_EARLY_BYTES)
      return this.#sessions.close(connection, 'rate_limited', 'too much came before the welcome');
    connection.early ??= [];
    connection.early.push(bytes.slice());
  }

  #violated(connection: Connection, error: unknown): void {
    const { code, message } = tell(error);
    if (code === 'internal') this.#problem('a message could not be handled', error);
    this.#outgoing.error(connection, 0, code, message, undefined);
    this.#outgoing.flushNow(connection);
    this.#sessions.close(connection, 'protocol_error', undefined, false);
  }

  /** Errors: ProtocolError where the rest of the bytes has lost its meaning. */
  #messages(connection: Connection, bytes: Uint8Array): void {
    const cursor = this.#cursor;
    let at = 0;
    for (let count = 0; at < bytes.length; count++) {
      if (count === MAX_MESSAGES)
        throw new ProtocolError('protocol_error', `more than ${MAX_MESSAGES} messages in one`);
      cursor.reset(bytes, at, bytes.length);
      at = this.#message(connection, at);
      if (connection.phase === CLOSED) return;
      if (connection.phase === AUTHENTICATING) {
        if (at < bytes.length) this.#keepEarly(connection, bytes.subarray(at));
        return;
      }
    }
  }

  /** Handles the message at the cursor and gives the offset behind it. */
  #message(connection: Connection, start: number): number {
    const cursor = this.#cursor;
    const elements = cursor.arrayHeader();
    const type = elements < 1 ? Number.NaN : cursor.int();
    if (Number.isNaN(type)) throw malformed();
    if (connection.phase === AWAITING_HELLO && type !== HELLO)
      throw new ProtocolError('protocol_error', 'the first message is hello');
    if (type === COMMAND && elements >= 6) return this.#command(connection, start, elements);
    const end = this.#endOf(start);
    if (end - start > this.#settings.maxPayloadBytes) this.#tooLarge(connection, type, elements);
    else this.#rare(connection, type, elements, end);
    return end;
  }

  #endOf(start: number): number {
    const { bytes, end } = this.#cursor;
    const at = endOfValue(bytes, start, end);
    if (at < 0) throw malformed();
    return at;
  }

  #tooLarge(connection: Connection, type: number, elements: number): void {
    const number = type !== HELLO && elements > 1 ? this.#cursor.int() : 0;
    this.#outgoing.error(
      connection,
      isU32(number) ? number : 0,
      'payload_too_large',
      ERRORS.payload_too_large.sentence,
      undefined,
    );
  }

  /** Everything but commands. */
  #rare(connection: Connection, type: number, elements: number, end: number): void {
    switch (type) {
      case HELLO:
        return this.#hello(connection, elements, end);
      case PING:
        return this.#outgoing.message(connection, writePing);
      case QUERY:
      case SUBSCRIBE:
      case UNSUBSCRIBE:
      case TOKEN:
      case RENEW:
        return this.#asked(connection, type, elements, end);
      case COMMAND:
        throw new ProtocolError('malformed_message', 'a command has six elements');
      default:
        this.#outgoing.error(connection, 0, 'unknown_type', `type ${type}`, undefined);
    }
  }

  #hello(connection: Connection, elements: number, end: number): void {
    if (connection.phase !== AWAITING_HELLO) throw new ProtocolError('protocol_error', 'hello comes once');
    const value =
      elements < 2 ? undefined : unpack(this.#cursor.bytes, this.#cursor.offset, this.#endOf(this.#cursor.offset));
    if (typeof value !== 'object' || value === null || end < 0) throw malformed();
    this.#sessions.hello(connection, value as Hello);
  }

  /** A request with a number: what is wrong with it is answered under that number. */
  #asked(connection: Connection, type: number, elements: number, end: number): void {
    const cursor = this.#cursor;
    const number = elements < 2 ? Number.NaN : cursor.int();
    if (!isU32(number)) throw malformed();
    try {
      if (type === RENEW) return this.#sessions.renew(connection, number);
      if (type === TOKEN) return this.#refresh(connection, elements, number);
      this.#request.number = number;
      this.#readPlace(elements);
      if (type === QUERY) this.#query(connection, elements, end);
      else if (type === SUBSCRIBE) this.#subscribe(connection, elements, end);
      else this.#unsubscribe(connection);
    } catch (error) {
      const { code, message, retryAfterMs } = tell(error);
      if (code === 'internal') this.#problem('a request could not be handled', error);
      this.#outgoing.error(connection, number, code, message, retryAfterMs);
    }
  }

  #refresh(connection: Connection, elements: number, number: number): void {
    const length = elements < 3 ? -1 : this.#cursor.textHeader();
    if (length < 0) throw new ProtocolError('bad_request', 'a token is a text');
    const token = readUtf8(this.#cursor.bytes, this.#cursor.offset, this.#cursor.offset + length);
    this.#sessions.refresh(connection, number, token ?? '');
  }

  /** Reference and name. Errors: `bad_request`. */
  #readPlace(elements: number): void {
    const cursor = this.#cursor;
    const request = this.#request;
    const refLength = elements < 4 ? -1 : cursor.textHeader();
    request.refStart = cursor.offset;
    request.refEnd = cursor.offset + refLength;
    if (refLength < 0) throw new ProtocolError('bad_request', 'an actor is named by a text');
    cursor.offset = request.refEnd;
    const nameLength = cursor.textHeader();
    request.nameStart = cursor.offset;
    request.nameEnd = cursor.offset + nameLength;
    if (nameLength < 0) throw new ProtocolError('bad_request', 'a name is a text');
    cursor.offset = request.nameEnd;
  }

  #target(): Target<Partition> {
    const { refStart, refEnd } = this.#request;
    return this.#catalogue.targetAt(this.#cursor.bytes, refStart, refEnd);
  }

  #name(): string {
    const { nameStart, nameEnd } = this.#request;
    if (nameEnd - nameStart > MAX_NAME_BYTES) return '';
    return readUtf8(this.#cursor.bytes, nameStart, nameEnd) ?? '';
  }

  #query(connection: Connection, elements: number, end: number): void {
    const cursor = this.#cursor;
    const target = this.#target();
    const query = target.kind.queries.get(this.#name());
    if (!query) throw new ProtocolError('unknown_query');
    if ((query.roles & connection.roles) === 0) throw new ProtocolError('forbidden');
    if (connection.queries >= this.#settings.maxQueriesPerSession)
      throw new ProtocolError('too_many_in_flight', 'too many queries are open');
    if (elements < 5) throw new ProtocolError('bad_request', 'a query has a body');
    const bodyStart = cursor.offset;
    const bodyEnd = query.body.endOf(cursor.bytes, bodyStart, end);
    const body = cursor.bytes.slice(bodyStart, bodyEnd);
    cursor.offset = bodyEnd;
    const minSequence = elements > 5 && !cursor.nil() ? cursor.int() : 0;
    if (!(minSequence >= 0)) throw new ProtocolError('bad_request', 'the least sequence is a natural number');
    void this.#ask(
      connection,
      this.#request.number,
      target,
      query.name,
      body,
      Math.max(minSequence, target.partition.sequence),
    );
  }

  async #ask(
    connection: Connection,
    number: number,
    target: Target<Partition>,
    name: string,
    body: Uint8Array,
    minSequence: number,
  ): Promise<void> {
    connection.queries++;
    try {
      const { principal = '', roles = [] } = connection.claims ?? {};
      const answer = await this.#queries.ask(target.partition, {
        ref: target.ref,
        name,
        body,
        principal,
        roles,
        minSequence,
      });
      this.#outgoing.message(connection, (writer) => writeAnswer(writer, number, answer.body, answer.sequence));
    } catch (error) {
      const { code, message, retryAfterMs } = tell(error);
      if (code === 'internal') this.#problem(`query ${name} failed`, error);
      this.#outgoing.error(connection, number, code, message, retryAfterMs);
    } finally {
      connection.queries--;
    }
  }

  #subscribe(connection: Connection, elements: number, end: number): void {
    const target = this.#target();
    const topic = target.kind.topics.get(this.#name());
    if (!topic) throw new ProtocolError('unknown_topic');
    if ((topic.roles & connection.roles) === 0) throw new ProtocolError('forbidden');
    const at = this.#cursor.offset;
    const options = elements < 5 ? {} : unpack(this.#cursor.bytes, at, elements === 5 ? end : this.#endOf(at));
    this.#hub.subscribe(connection, this.#request.number, target, topic, asOptions(options));
  }

  #unsubscribe(connection: Connection): void {
    const target = this.#target();
    const topic = target.kind.topics.get(this.#name());
    if (!topic) throw new ProtocolError('unknown_topic');
    this.#hub.unsubscribe(connection, target, topic);
    const { number } = this.#request;
    this.#outgoing.message(connection, (writer) => writeMapAnswer(writer, number, {}));
  }

  /** [2, number, low, ref, name, body]: the hot path. Gives the offset behind the message. */
  #command(connection: Connection, start: number, elements: number): number {
    const cursor = this.#cursor;
    const request = this.#request;
    const number = cursor.int();
    const low = cursor.int();
    const refLength = cursor.textHeader();
    const refStart = cursor.offset;
    if (refLength < 0) throw malformed();
    cursor.offset = refStart + refLength;
    const nameLength = cursor.textHeader();
    const nameStart = cursor.offset;
    if (nameLength < 0 || !isU32(number) || !isU32(low)) throw malformed();
    cursor.offset = nameStart + nameLength;
    request.number = number;
    request.refStart = refStart;
    request.refEnd = refStart + refLength;
    request.nameStart = nameStart;
    request.nameEnd = cursor.offset;
    const bodyStart = cursor.offset;
    let bodyEnd = -1;
    let refusal: ErrorName | undefined;
    try {
      const target = this.#target();
      const command = commandAt(target.kind, cursor.bytes, nameStart, request.nameEnd);
      refusal = command === undefined ? 'unknown_command' : this.#mayNot(connection, command, number, low);
      if (refusal === undefined && command !== undefined) {
        bodyEnd = command.binary ? this.#binaryEnd(command) : command.body.endOf(cursor.bytes, bodyStart, cursor.end);
        const contentStart = command.binary ? cursor.offset : bodyStart;
        if (bodyEnd - start > this.#settings.maxPayloadBytes) refusal = 'payload_too_large';
        else refusal = this.#submit(connection, target, command, number, low, contentStart, bodyEnd);
      }
    } catch (error) {
      const { code, message } = tell(error);
      if (code === 'internal') this.#problem('a command could not be handled', error);
      const end = this.#endOf(start);
      const isLarge = end - start > this.#settings.maxPayloadBytes;
      if (isLarge) this.#failed(connection, number, 'payload_too_large');
      else this.#outgoing.failed(connection, number, code, message, retryAfter(code));
      return end;
    }
    if (refusal !== undefined) this.#failed(connection, number, refusal);
    return elements === 6 && bodyEnd >= 0 ? bodyEnd : this.#endOf(start);
  }

  /** Binary bodies travel in a bin; the cursor is left at its content, whose end is returned. Errors: `invalid_field`. */
  #binaryEnd(command: EdgeCommand): number {
    const cursor = this.#cursor;
    const length = cursor.binHeader();
    if (length < 0) throw new ProtocolError('invalid_field', 'the body is a bin');
    command.body.check(cursor.bytes, cursor.offset, cursor.offset + length);
    return cursor.offset + length;
  }

  /** What can be said before the body is looked at. */
  #mayNot(connection: Connection, command: EdgeCommand, number: number, low: number): ErrorName | undefined {
    if (number === 0 || low > number) return 'bad_request';
    if ((command.roles & connection.roles) === 0) return 'forbidden';
    if (number < connection.low) return 'sequence_passed';
    if (number - low >= MAX_IN_FLIGHT) return 'too_many_in_flight';
    if (connection.leaving) return 'going_away';
    if (!this.#sessions.mayCommand(connection)) return this.#complain(connection);
    return undefined;
  }

  #complain(connection: Connection): ErrorName {
    if (++connection.complaints > MAX_COMPLAINTS) this.#sessions.close(connection, 'rate_limited');
    return 'rate_limited';
  }

  #submit(
    connection: Connection,
    target: Target<Partition>,
    command: EdgeCommand,
    number: number,
    low: number,
    start: number,
    end: number,
  ): ErrorName | undefined {
    connection.complaints = 0;
    if (low > connection.low) connection.low = low;
    const pending = connection.inFlight?.get(number);
    if (pending) {
      this.#commands.repeated(pending);
      return undefined;
    }
    if (connection.inFlight !== undefined && connection.inFlight.size >= MAX_IN_FLIGHT) return 'too_many_in_flight';
    return this.#commands.submit(
      connection,
      connection,
      target,
      command,
      number,
      low,
      0,
      this.#cursor.bytes,
      start,
      end,
    );
  }

  #failed(connection: Connection, number: number, name: ErrorName): void {
    this.#outgoing.failed(connection, number, name, ERRORS[name].sentence, retryAfter(name));
  }
}

const isU32 = (value: number): boolean => value >= 0 && value <= MAX_COMMAND_NUMBER && Number.isInteger(value);

const malformed = (): ProtocolError => new ProtocolError('malformed_message');

/** Errors: `bad_request`. */
function asOptions(value: unknown): SubscribeOptions {
  if (typeof value !== 'object' || value === null) throw new ProtocolError('bad_request', 'the options are a map');
  const { from, generation, rate } = value as { readonly [name: string]: unknown };
  return { from: natural('from', from), generation: natural('generation', generation), rate: positive('rate', rate) };
}

function natural(name: string, value: unknown): number | undefined {
  if (value === undefined || value === null) return undefined;
  if (!Number.isSafeInteger(value) || (value as number) < 0)
    throw new ProtocolError('bad_request', `${name} is a natural number`);
  return value as number;
}

function positive(name: string, value: unknown): number | undefined {
  if (value === undefined || value === null) return undefined;
  if (typeof value !== 'number' || !(value > 0)) throw new ProtocolError('bad_request', `${name} is above 0`);
  return value;
}
