/**
 * One websocket's state. There may be tens of thousands that do nothing: no timers, no closures, and whatever an idle
 * connection does not need is undefined.
 */
import type { MsgpackWriter } from '../../protocol/msgpack-writer.ts';
import type { Asker, Pending } from './pending.ts';
import type { Claims } from './tokens.ts';
import type { Socket } from './transport.ts';

export const AWAITING_HELLO = 0;
export const AUTHENTICATING = 1;
export const OPEN = 2;
export const CLOSED = 3;

/** Connections of one remote address. */
export type AddressEntry = { readonly address: string; connections: number };

/** A user with connections here: shared by all of them. */
export type UserEntry = {
  readonly principal: string;
  /** Made with the first command. */
  principalBytes: Uint8Array | undefined;
  connections: number;
  /** Commands left in the bucket, and when it was filled last. */
  tokens: number;
  filledTick: number;
};

/** Where answers to commands go on their way to the socket. */
export type Replies = {
  reply(connection: Connection, number: number, bytes: Uint8Array, start: number, end: number): void;
  refusal(connection: Connection, number: number, bytes: Uint8Array, start: number, end: number): void;
};

const encoder = new TextEncoder();

export class Connection implements Asker {
  readonly slot: number;
  readonly address: AddressEntry;
  readonly outgoing: Replies;
  socket: Socket<Connection> | undefined = undefined;
  phase = AWAITING_HELLO;

  user: UserEntry | undefined = undefined;
  claims: Claims | undefined = undefined;
  /** Bits of the catalogue. */
  roles = 0;
  /** The session's bytes, a character each: half the size of an array, and a key. */
  sessionKey = '';
  /** Made with the first command. */
  #session: Uint8Array | undefined = undefined;
  inFlight: Map<number, Pending> | undefined = undefined;
  /** Lowest number that the client awaits. */
  low = 0;
  queries = 0;
  /** By topic; the hub's own, which alone looks into it. */
  subscriptions: Map<object, object> | undefined = undefined;
  /** Messages that came while the token was checked. */
  early: Uint8Array[] | undefined = undefined;
  earlyBytes = 0;
  leaving = false;

  openedTick: number;
  heardTick: number;
  /** When time-outs are looked at next. */
  checkTick = 0;
  /** Bucket of commands of this session, and of complaints about its rate. */
  tokens = 0;
  filledTick = 0;
  complaints = 0;

  /** Sealed messages in order; then the buffer that is being written. */
  parts: Uint8Array[] | undefined = undefined;
  buffer: MsgpackWriter | undefined = undefined;
  queuedBytes = 0;
  /** Waits for the flush at the end of the tick. */
  dirty = false;
  /** The network is behind: nothing is written before it drained. */
  blocked = false;
  blockedTick = 0;

  constructor(slot: number, address: AddressEntry, outgoing: Replies, tick: number) {
    this.slot = slot;
    this.address = address;
    this.outgoing = outgoing;
    this.openedTick = tick;
    this.heardTick = tick;
  }

  get gone(): boolean {
    return this.phase === CLOSED;
  }

  /** For the records. */
  get principalBytes(): Uint8Array {
    const { user } = this;
    if (user === undefined) throw new Error('no principal before the welcome');
    user.principalBytes ??= encoder.encode(user.principal);
    return user.principalBytes;
  }

  /** For the records. */
  get session(): Uint8Array {
    this.#session ??= Uint8Array.from(this.sessionKey, (character) => character.charCodeAt(0));
    return this.#session;
  }

  set session(session: Uint8Array) {
    this.sessionKey = String.fromCharCode(...session);
    this.#session = undefined;
  }

  replied(number: number, bytes: Uint8Array, start: number, end: number): void {
    this.outgoing.reply(this, number, bytes, start, end);
  }

  refused(number: number, bytes: Uint8Array, start: number, end: number): void {
    this.outgoing.refusal(this, number, bytes, start, end);
  }
}
