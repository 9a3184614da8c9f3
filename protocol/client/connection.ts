/**
 * One client's connection, through as many sockets as it takes: hello with token and session, heartbeats, reconnects with full
 * jitter, the close codes' verdicts, goaway, and a fresh token before the old one expires. It knows nothing of commands.
 *
 * Guarantees: handlers are called for one socket at a time, `opened` and `lost` alternate, and after `ended` nothing follows.
 */
import { writeHello, writePing } from '../client-messages.ts';
import { ProtocolError } from '../errors.ts';
import { CLOSE_CODES, FROM_EDGE, MAX_IN_FLIGHT, mayReconnect, SUBPROTOCOL } from '../message.ts';
import { ServerMessageReader } from '../server-messages.ts';
import type { BackoffSettings } from './backoff.ts';
import { Backoff } from './backoff.ts';
import { encoded } from './message-batch.ts';
import type { Platform, Socket, SocketClass } from './platform.ts';
import { asTroupeError, TroupeError } from './troupe-error.ts';

export type ClientState = 'connecting' | 'open' | 'reconnecting' | 'closed';

/** A token, or a function that gets a fresh one whenever it is needed. */
export type TokenSource = string | (() => Promise<string>);

/** What the edge says of itself and of the session. Fields that it leaves out have the defaults below. */
export type Welcome = {
  readonly session: string;
  readonly principal: string;
  readonly node: string;
  /** The edge's clock, milliseconds since 1970. */
  readonly now: number;
  readonly heartbeatMs: number;
  readonly maxPayloadBytes: number;
  readonly maxInFlight: number;
  /** Milliseconds since 1970 by the edge's clock; 0: never. */
  readonly tokenExpiresAt: number;
  /** Whether the session of the hello goes on; otherwise this is a new one. */
  readonly resumed: boolean;
  /** How long the servers remember an idle session; 0: they do not say. */
  readonly sessionHorizonMs: number;
};

export type ConnectionSettings = {
  readonly url: string;
  readonly token: TokenSource;
  readonly socketClass: SocketClass;
  readonly platform: Platform;
  readonly backoff: BackoffSettings;
  /** From the beginning of an attempt to the welcome. */
  readonly connectTimeoutMs: number;
  readonly clientName: string;
};

export type ConnectionHandlers = {
  /** Messages may be sent from here on. */
  opened(welcome: Welcome): void;
  /** The reader stands at a message that is not about the connection. */
  received(reader: ServerMessageReader): void;
  lost(): void;
  /** The edge asked to leave: finish what is in flight, begin nothing. `lost` follows. */
  draining(): void;
  /** True once nothing is in flight. */
  idle(): boolean;
  /** The token must be replaced on this connection. */
  refresh(token: string): void;
  ended(error: TroupeError): void;
  changed(state: ClientState, reason: TroupeError | undefined): void;
};

const PING_MESSAGE = encoded(writePing);

/** Silence allowed beyond the heartbeat's interval: a slow mobile link's round trip with room to spare. */
const HEARTBEAT_GRACE_MS = 10_000;
/** How long a leaving connection waits for replies in flight: longer than a healthy command takes. */
const FINISH_MS = 1_000;
const FINISH_POLL_MS = 20;
/** A token is replaced when a fifth of its life is left, but never earlier than this before its end. */
const REFRESH_BEFORE_MS = 60_000;
const REFRESH_AGAIN_MS = 5_000;
/** Tokens that expire at once must not make a loop of refreshes. */
const REFRESH_MIN_MS = 1_000;
/** An edge that asks for more frequent heartbeats than this would be answered with nothing else. */
const HEARTBEAT_MIN_MS = 100;
/** setTimeout's own bound; longer waits are taken in pieces. */
const MAX_TIMER_MS = 2 ** 31 - 1;

/** The error that each close code stands for. */
const CLOSE_ERRORS = new Map<number, string>(Object.entries(CLOSE_CODES).map(([name, code]) => [code, name]));

export class Connection {
  readonly #settings: ConnectionSettings;
  readonly #handlers: ConnectionHandlers;
  readonly #reader = new ServerMessageReader();
  readonly #backoff: Backoff;
  #state: ClientState = 'connecting';
  #socket: Socket | undefined;
  #session: string | undefined;
  #open = false;
  #heartbeatMs = 0;
  #receivedAtMs = 0;
  #sentAtMs = 0;
  #pinged = false;
  /** What the edge said last about this connection; it explains the close that follows. */
  #reason: TroupeError | undefined;
  #attempt = 0;
  #leaving = false;
  readonly #timers = new Map<string, unknown>();

  constructor(settings: ConnectionSettings, handlers: ConnectionHandlers) {
    this.#settings = settings;
    this.#handlers = handlers;
    this.#backoff = new Backoff(settings.backoff, () => settings.platform.random());
  }

  get state(): ClientState {
    return this.#state;
  }

  get isOpen(): boolean {
    return this.#open;
  }

  start(): void {
    void this.#dial();
  }

  /** Sends one websocket message. Only while open. */
  send(message: Uint8Array): void {
    if (!this.#open || !this.#socket) return;
    this.#sentAtMs = this.#settings.platform.now();
    this.#transmit(this.#socket, message);
  }

  /** Changes the session that the next hello presents; undefined asks for a new one. */
  set session(session: string | undefined) {
    this.#session = session;
  }

  /** Drops the socket and dials again at once: the caller knows better than the backoff (a network came back). */
  reconnect(): void {
    if (this.#state === 'closed') return;
    this.#backoff.left(this.#settings.platform.now());
    this.#leave(1000, 'reconnect');
    void this.#dial();
  }

  close(): void {
    this.#finish(new TroupeError('closed'));
  }

  /** Plans the token's replacement, `leftMs` before it expires. */
  planRefresh(leftMs: number): void {
    const { token } = this.#settings;
    if (typeof token !== 'function') return;
    const spareMs = Math.min(leftMs / 5, REFRESH_BEFORE_MS) * (1 + this.#settings.platform.random()) * 0.5;
    this.#setTimer('refresh', Math.max(leftMs - spareMs, REFRESH_MIN_MS), () => void this.#refresh(token));
  }

  async #refresh(token: () => Promise<string>): Promise<void> {
    const attempt = this.#attempt;
    try {
      const fresh = await token();
      if (attempt === this.#attempt && this.#open) this.#handlers.refresh(fresh);
    } catch {
      // The edge closes with token_expired if this never succeeds, and the next hello asks for a token again.
      if (attempt === this.#attempt) this.#setTimer('refresh', REFRESH_AGAIN_MS, () => void this.#refresh(token));
    }
  }

  async #dial(): Promise<void> {
    const attempt = ++this.#attempt;
    this.#setTimer('connect', this.#settings.connectTimeoutMs, () => this.#timedOut());
    try {
      const { token } = this.#settings;
      const text = typeof token === 'string' ? token : await token();
      if (attempt === this.#attempt) this.#openSocket(text);
    } catch (thrown) {
      if (attempt === this.#attempt) this.#noSocket(asTroupeError(thrown, 'disconnected'), thrown);
    }
  }

  #openSocket(token: string): void {
    const hello = encoded((writer) =>
      writeHello(writer, { token, session: this.#session, client: this.#settings.clientName }),
    );
    const socket = new this.#settings.socketClass(this.#settings.url, SUBPROTOCOL);
    this.#socket = socket;
    socket.binaryType = 'arraybuffer';
    socket.onopen = () => {
      if (socket === this.#socket) this.#transmit(socket, hello);
    };
    socket.onmessage = ({ data }: { data: unknown }) => {
      if (socket === this.#socket) this.#receive(socket, data);
    };
    socket.onclose = ({ code }: { code: number }) => {
      if (socket === this.#socket) this.#closed(code);
    };
    // The close that follows an error says all there is to know; without a listener `ws` would throw.
    socket.onerror = () => {};
  }

  /** No token or no socket: a refusal that no later attempt can change ends the client, anything else is tried again. */
  #noSocket(error: TroupeError, thrown: unknown): void {
    const hopeless = thrown instanceof TroupeError ? !thrown.retryable : isHopeless(thrown);
    this.#detach();
    if (hopeless) return this.#finish(error);
    this.#reason = error;
    this.#again();
  }

  #transmit(socket: Socket, message: Uint8Array): void {
    try {
      socket.send(message);
    } catch {
      // The socket is closing: its close event follows, and whatever matters is sent again.
    }
  }

  #receive(socket: Socket, data: unknown): void {
    if (!(data instanceof ArrayBuffer)) return this.#distrust(new TroupeError('protocol_error', 'The edge sent text.'));
    this.#receivedAtMs = this.#settings.platform.now();
    const reader = this.#reader;
    try {
      reader.reset(new Uint8Array(data));
      // A handler may give the socket up: what follows on it is not for us any more.
      while (socket === this.#socket && reader.next()) this.#handle(reader);
    } catch (thrown) {
      if (!(thrown instanceof ProtocolError)) throw thrown;
      this.#distrust(asTroupeError(thrown, 'protocol_error'));
    }
  }

  #handle(reader: ServerMessageReader): void {
    const { type, about } = reader;
    if (type === FROM_EDGE.welcome) this.#welcomed(readWelcome(reader.map(1)));
    else if (type === FROM_EDGE.ping) this.#ponged();
    else if (type === FROM_EDGE.goaway) this.#goAway(reader.goaway().afterMs);
    else if (type === FROM_EDGE.error && about === 0) this.#complained(reader);
    else if (this.#open) this.#handlers.received(reader);
    else if (type === FROM_EDGE.error) this.#complained(reader);
  }

  /** [7, 0, ...] is about the connection; it explains the close that follows. */
  #complained(reader: ServerMessageReader): void {
    const { name, message, retryAfterMs } = reader.problem();
    this.#reason = new TroupeError(name, message, retryAfterMs);
  }

  /** The edge sent what no edge sends: nothing on this socket can be believed. */
  #distrust(error: TroupeError): void {
    this.#reason = error;
    this.#leave(CLOSE_CODES.protocol_error, error.code);
    this.#again();
  }

  #welcomed(welcome: Welcome): void {
    if (this.#open) return;
    const nowMs = this.#settings.platform.now();
    this.#clearTimer('connect');
    this.#backoff.opened(nowMs);
    this.#session = welcome.session;
    this.#heartbeatMs = welcome.heartbeatMs;
    this.#sentAtMs = nowMs;
    this.#pinged = false;
    this.#reason = undefined;
    this.#open = true;
    this.#beat();
    if (welcome.tokenExpiresAt > 0) this.planRefresh(welcome.tokenExpiresAt - welcome.now);
    this.#handlers.opened(welcome);
    this.#change('open', undefined);
  }

  /** Pings when we said nothing for (a jittered part of) the interval, gives up when the edge was silent beyond it. */
  #beat(): void {
    const { platform } = this.#settings;
    const silentMs = platform.now() - this.#receivedAtMs;
    if (silentMs >= this.#heartbeatMs + HEARTBEAT_GRACE_MS) {
      this.#reason = new TroupeError('heartbeat_missed');
      this.#leave(CLOSE_CODES.heartbeat_missed, 'heartbeat_missed');
      return this.#again();
    }
    const quietMs = platform.now() - this.#sentAtMs;
    const due = this.#heartbeatMs * (0.75 + platform.random() / 4);
    if (quietMs >= due || silentMs >= due) {
      this.#pinged = true;
      this.send(PING_MESSAGE);
    }
    this.#setTimer('beat', this.#heartbeatMs / 4, () => this.#beat());
  }

  /** The answer to our ping, or the edge's own. Answering it at most once per half interval cannot echo for ever. */
  #ponged(): void {
    if (this.#pinged) this.#pinged = false;
    else if (this.#settings.platform.now() - this.#sentAtMs >= this.#heartbeatMs / 2) this.send(PING_MESSAGE);
  }

  /** Leaves at a random time within `afterMs`, when replies in flight had their chance. */
  #goAway(afterMs: number): void {
    const room = Math.max(0, afterMs - FINISH_MS);
    this.#setTimer('leave', this.#settings.platform.random() * room, () => {
      this.#leaving = true;
      this.#handlers.draining();
      this.#leaveWhenIdle(this.#settings.platform.now() + FINISH_MS);
    });
  }

  #leaveWhenIdle(byMs: number): void {
    if (this.#handlers.idle() || this.#settings.platform.now() >= byMs) return this.reconnect();
    this.#setTimer('leave', FINISH_POLL_MS, () => this.#leaveWhenIdle(byMs));
  }

  #timedOut(): void {
    this.#reason = new TroupeError(
      'timeout',
      `The edge did not welcome us within ${this.#settings.connectTimeoutMs} ms.`,
    );
    this.#leave(CLOSE_CODES.hello_timeout, 'hello_timeout');
    this.#again();
  }

  #closed(code: number): void {
    const reason = this.#reason ?? new TroupeError(CLOSE_ERRORS.get(code) ?? 'disconnected');
    const leaving = this.#leaving;
    this.#detach();
    const expiredForGood = reason.code === 'token_expired' && typeof this.#settings.token === 'string';
    if (!mayReconnect(code) || expiredForGood) return this.#finish(reason);
    this.#reason = reason;
    if (leaving) void this.#dialPlanned();
    else this.#again();
  }

  /** The edge closed while we were leaving anyway: no need to wait. */
  #dialPlanned(): Promise<void> {
    this.#change('reconnecting', this.#reason);
    return this.#dial();
  }

  #again(): void {
    if (this.#state === 'closed') return;
    const waitMs = this.#backoff.failed(this.#settings.platform.now());
    this.#setTimer('dial', waitMs, () => void this.#dial());
    if (this.#state === 'connecting') this.#handlers.changed('connecting', this.#reason);
    else this.#change('reconnecting', this.#reason);
  }

  /** Closes the socket without waiting for its close event, which a dead network never brings. */
  #leave(code: number, reason: string): void {
    const socket = this.#socket;
    this.#detach();
    try {
      socket?.close(code, reason);
    } catch {
      // Closing twice, or while connecting, is an error for some implementations; the socket is given up either way.
    }
    if (this.#state === 'open') this.#change('reconnecting', this.#reason);
  }

  #detach(): void {
    const wasOpen = this.#open;
    this.#attempt++;
    this.#socket = undefined;
    this.#open = false;
    this.#leaving = false;
    for (const timer of this.#timers.values()) this.#settings.platform.clearTimer(timer);
    this.#timers.clear();
    if (wasOpen) this.#handlers.lost();
  }

  #finish(error: TroupeError): void {
    if (this.#state === 'closed') return;
    this.#state = 'closed';
    this.#leave(1000, error.code);
    this.#handlers.ended(error);
    this.#handlers.changed('closed', error);
  }

  #change(state: ClientState, reason: TroupeError | undefined): void {
    if (this.#state === state || this.#state === 'closed') return;
    this.#state = state;
    this.#handlers.changed(state, reason);
  }

  #setTimer(name: string, delayMs: number, run: () => void): void {
    this.#clearTimer(name);
    const fire = () => {
      this.#timers.delete(name);
      if (delayMs > MAX_TIMER_MS) this.#setTimer(name, delayMs - MAX_TIMER_MS, run);
      else run();
    };
    this.#timers.set(name, this.#settings.platform.setTimer(fire, Math.min(Math.max(0, delayMs), MAX_TIMER_MS)));
  }

  #clearTimer(name: string): void {
    const timer = this.#timers.get(name);
    if (timer !== undefined) this.#settings.platform.clearTimer(timer);
    this.#timers.delete(name);
  }
}

/** A bad address (SyntaxError) or a forbidden one (SecurityError) stays so. Browsers throw these as DOMException. */
function isHopeless(thrown: unknown): boolean {
  return thrown instanceof Error && (thrown.name === 'SyntaxError' || thrown.name === 'SecurityError');
}

/** Defaults are the protocol's usual values, for an edge that leaves a field out. */
function readWelcome(fields: { readonly [name: string]: unknown }): Welcome {
  const number = (name: string, fallback: number): number => {
    const field = fields[name];
    return typeof field === 'number' && field >= 0 ? field : fallback;
  };
  const text = (name: string): string => {
    const field = fields[name];
    return typeof field === 'string' ? field : '';
  };
  return {
    session: text('session'),
    principal: text('principal'),
    node: text('node'),
    now: number('now', 0),
    heartbeatMs: Math.max(number('heartbeatMs', 25_000), HEARTBEAT_MIN_MS),
    maxPayloadBytes: number('maxPayloadBytes', 64 * 1024),
    maxInFlight: number('maxInFlight', MAX_IN_FLIGHT),
    tokenExpiresAt: number('tokenExpiresAt', 0),
    resumed: fields.resumed === true,
    sessionHorizonMs: number('sessionHorizonMs', 0),
  };
}
