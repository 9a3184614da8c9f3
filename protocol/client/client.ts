/**
 * The client of a Troupe cluster, for Node and browsers: typed commands, queries and subscriptions over one websocket that
 * reconnects by itself.
 *
 * Guarantees: a command's promise settles exactly once, by its reply, its refusal or its deadline; within its session a command
 * is executed at most once, however often it had to be sent; a subscription goes on where it was after a reconnect. Commands
 * that are in flight together may be executed in another order than issued, if one of them had to be sent again: await the
 * first where order matters.
 */
import { writeQuery, writeRenew, writeText, writeToken } from '../client-messages.ts';
import type { KindInterface } from '../interface.ts';
import { FROM_EDGE, MAX_IN_FLIGHT } from '../message.ts';
import type { MsgpackWriter } from '../msgpack-writer.ts';
import type { ServerMessageReader } from '../server-messages.ts';
import { utf8Length } from '../utf8.ts';
import type { BackoffSettings } from './backoff.ts';
import { RECONNECT } from './backoff.ts';
import type { CommandRoute } from './command-window.ts';
import { CommandWindow } from './command-window.ts';
import type { ClientState, TokenSource, Welcome } from './connection.ts';
import { Connection } from './connection.ts';
import type {
  CallCodec,
  CommandFields,
  CommandName,
  CommandReply,
  KindCodec,
  QueryFields,
  QueryName,
  QueryReply,
  TopicCodec,
  TopicEvent,
  TopicName,
  TopicSnapshot,
} from './kind-codec.ts';
import { codecOf, encodeBody, settle } from './kind-codec.ts';
import { encoded, MessageBatch } from './message-batch.ts';
import type { Platform, SocketClass } from './platform.ts';
import { socketClass, systemPlatform, throwLater } from './platform.ts';
import type { Request } from './requests.ts';
import { Requests } from './requests.ts';
import type { Subscription, SubscriptionHandlers } from './subscriptions.ts';
import { Subscriptions } from './subscriptions.ts';
import { asTroupeError, TroupeError } from './troupe-error.ts';

export type { BackoffSettings } from './backoff.ts';
export type { ClientState, TokenSource, Welcome } from './connection.ts';
export type { CommandFields, CommandReply, QueryFields, QueryReply, TopicEvent, TopicSnapshot } from './kind-codec.ts';
export type { Platform, Socket, SocketClass } from './platform.ts';
export type { Gap, Subscription, SubscriptionHandlers } from './subscriptions.ts';
export { TroupeError } from './troupe-error.ts';

export type ConnectOptions = {
  /** ws:// or wss:// address of an edge. */
  readonly url: string;
  /** A function is asked before each connection and again before the token expires. */
  readonly token: TokenSource;
  /** The platform's own by default; Node 20 has none: pass that of the npm package `ws`. */
  readonly WebSocket?: SocketClass;
  /** How long a command or query may take, over all attempts, in milliseconds. */
  readonly requestTimeoutMs?: number;
  /** After so many milliseconds without an answer a request is sent again, under the same number. */
  readonly attemptTimeoutMs?: number;
  /** From dialling to the edge's welcome, in milliseconds. */
  readonly connectTimeoutMs?: number;
  /** Commands under way at once; 1 to 256. More wait in a queue. */
  readonly maxInFlight?: number;
  /** Commands in that queue, and open queries; above: `too_many_in_flight`. */
  readonly maxQueued?: number;
  readonly backoff?: Partial<BackoffSettings>;
  /** false: every message goes out at once. true: those of one turn of the event loop go out together. */
  readonly batch?: boolean;
  /** Told to the edge, for its logs. */
  readonly clientName?: string;
  readonly platform?: Platform;
};

/** Long enough for a leader election of the log (4 to 9 s) and a takeover after it. */
const REQUEST_TIMEOUT_MS = 30_000;
/** A healthy reply takes milliseconds, one during a takeover seconds: after this long it was probably lost on the way. */
const ATTEMPT_TIMEOUT_MS = 5_000;
const CONNECT_TIMEOUT_MS = 10_000;
/** Sixteen windows: what a burst may hold before the caller has to slow down. */
const MAX_QUEUED = 16 * MAX_IN_FLIGHT;
/** Granularity of time-outs and retries: one timer serves all requests of a client. */
const SWEEP_MS = 20;

export type CallOptions = { readonly timeoutMs?: number };
export type QueryOptions = CallOptions & {
  /** The answer must contain everything up to this log position. By default: the newest one that a reply of this actor told. */
  readonly minSequence?: number;
};

/** One actor, as its clients see it. */
export type ActorHandle<K extends KindInterface> = {
  /** `kind:key`. */
  readonly ref: string;
  /** Errors: TroupeError with a name of the kind's rejections or of the protocol's registry. */
  command<N extends CommandName<K>>(
    name: N,
    fields: CommandFields<K, N>,
    options?: CallOptions,
  ): Promise<CommandReply<K, N>>;
  /** Errors: TroupeError. */
  query<N extends QueryName<K>>(name: N, fields: QueryFields<K, N>, options?: QueryOptions): Promise<QueryReply<K, N>>;
  /** Errors reach `onEnded`; an unknown topic throws at once. */
  subscribe<N extends TopicName<K>>(
    topic: N,
    handlers: SubscriptionHandlers<TopicEvent<K, N>, TopicSnapshot<K, N>>,
  ): Subscription;
};

/** Called at each change, and after each failed attempt while `connecting`. `reason` is why the last connection ended. */
export type StateListener = (state: ClientState, reason: TroupeError | undefined) => void;

export type Client = {
  readonly state: ClientState;
  /** What the edge said when it last welcomed us. */
  readonly welcome: Welcome | undefined;
  /** Resolves when connected; rejects when the client is closed or refused for good. */
  ready(): Promise<Welcome>;
  /** Errors: TroupeError `invalid_reference` for a key that no actor can have. */
  actor<K extends KindInterface>(kind: K, key: string): ActorHandle<K>;
  /** Returns the end of it. */
  onState(listener: StateListener): () => void;
  /** Drops the connection and dials at once, e.g. when the network came back. */
  reconnect(): void;
  /** Ends everything; what is under way is rejected with `closed`. */
  close(): void;
};

/** Opens a client. It connects in the background; requests made before wait for the connection, up to their deadline. */
export function connect(options: ConnectOptions): Client {
  return new TroupeClient(options);
}

class TroupeClient implements Client {
  readonly #platform: Platform;
  readonly #requestTimeoutMs: number;
  readonly #connection: Connection;
  readonly #batch: MessageBatch;
  readonly #commands: CommandWindow;
  readonly #requests: Requests;
  readonly #subscriptions: Subscriptions;
  readonly #listeners = new Set<StateListener>();
  readonly #calls: Calls;
  #welcome: Welcome | undefined;
  #welcomedAtMs = 0;
  #ended: TroupeError | undefined;
  #sweepTimer: unknown;

  constructor(options: ConnectOptions) {
    const platform = options.platform ?? systemPlatform;
    const limits = {
      platform,
      attemptTimeoutMs: positive('attemptTimeoutMs', options.attemptTimeoutMs ?? ATTEMPT_TIMEOUT_MS),
      maxQueued: positive('maxQueued', options.maxQueued ?? MAX_QUEUED),
    };
    this.#platform = platform;
    this.#requestTimeoutMs = positive('requestTimeoutMs', options.requestTimeoutMs ?? REQUEST_TIMEOUT_MS);
    this.#connection = this.#newConnection(options);
    const isOpen = (): boolean => this.#connection.isOpen;
    this.#batch = new MessageBatch((message) => this.#connection.send(message), options.batch ?? true);
    this.#requests = new Requests({ ...limits, maxOpen: limits.maxQueued }, this.#batch, isOpen);
    this.#commands = new CommandWindow(
      { ...limits, maxInFlight: positive('maxInFlight', options.maxInFlight ?? MAX_IN_FLIGHT) },
      { batch: this.#batch, isOpen, renew: () => this.#renew() },
    );
    this.#subscriptions = new Subscriptions(platform, this.#requests, isOpen);
    this.#calls = {
      command: (route, body, timeoutMs) => this.#command(route, body, timeoutMs ?? this.#requestTimeoutMs),
      query: (query, body, timeoutMs) => this.#query(query, body, timeoutMs ?? this.#requestTimeoutMs),
      subscribe: (ref, topic, codec, handlers) => this.#subscribe(ref, topic, codec, handlers),
    };
    this.#connection.start();
  }

  get state(): ClientState {
    return this.#connection.state;
  }

  get welcome(): Welcome | undefined {
    return this.#welcome;
  }

  ready(): Promise<Welcome> {
    return new Promise((resolve, reject) => {
      const check = (): boolean => {
        if (this.#ended) reject(this.#ended);
        else if (this.#connection.isOpen && this.#welcome) resolve(this.#welcome);
        else return false;
        return true;
      };
      if (check()) return;
      const off = this.onState(() => check() && off());
    });
  }

  actor<K extends KindInterface>(kind: K, key: string): ActorHandle<K> {
    if (!isKey(key)) throw new TroupeError('invalid_reference');
    return new Actor(`${kind.kind}:${key}`, codecOf(kind), this.#calls) as unknown as ActorHandle<K>;
  }

  onState(listener: StateListener): () => void {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  }

  reconnect(): void {
    this.#connection.reconnect();
  }

  close(): void {
    this.#connection.close();
  }

  #newConnection(options: ConnectOptions): Connection {
    const settings = {
      url: options.url,
      token: options.token,
      socketClass: socketClass(options.WebSocket),
      platform: this.#platform,
      backoff: { ...RECONNECT, ...options.backoff },
      connectTimeoutMs: positive('connectTimeoutMs', options.connectTimeoutMs ?? CONNECT_TIMEOUT_MS),
      clientName: options.clientName ?? 'troupe',
    };
    const handlers = {
      opened: (welcome: Welcome) => this.#opened(welcome),
      received: (reader: ServerMessageReader) => this.#received(reader),
      lost: () => this.#lost(),
      draining: () => this.#commands.hold(),
      idle: () => this.#commands.inFlight === 0,
      refresh: (token: string) => this.#refresh(token),
      ended: (error: TroupeError) => this.#end(error),
      changed: (state: ClientState, reason: TroupeError | undefined) => this.#changed(state, reason),
    };
    return new Connection(settings, handlers);
  }

  #command(route: CommandRoute, body: Uint8Array, timeoutMs: number): Promise<unknown> {
    if (this.#ended) return Promise.reject(this.#ended);
    this.#armSweep();
    return this.#commands.add(route, body, timeoutMs);
  }

  #query(query: QueryCall, body: Uint8Array, timeoutMs: number): Promise<unknown> {
    if (this.#ended) return Promise.reject(this.#ended);
    const { ref, name, codec, minSequence } = query;
    this.#armSweep();
    return new Promise((resolve, reject) => {
      this.#requests.ask({
        write: (writer, number) => writeQuery(writer, number, ref, name, body, minSequence),
        deadlineMs: this.#platform.now() + timeoutMs,
        lasting: true,
        answered: (reader) => settle(codec.reply, reader, resolve, reject),
        failed: reject,
      });
    });
  }

  #subscribe(ref: string, topic: string, codec: TopicCodec, handlers: Handlers): Subscription {
    if (this.#ended) throw this.#ended;
    this.#armSweep();
    return this.#subscriptions.add({ ref, topic }, codec, handlers);
  }

  #opened(welcome: Welcome): void {
    this.#welcomedAtMs = this.#platform.now();
    const again = this.#welcome !== undefined && welcome.resumed;
    this.#welcome = welcome;
    this.#commands.opened(again, welcome);
    this.#requests.opened();
    this.#subscriptions.opened();
    this.#batch.flush();
    this.#armSweep();
  }

  #lost(): void {
    this.#requests.lost();
    this.#subscriptions.lost();
  }

  #end(error: TroupeError): void {
    this.#ended = error;
    this.#platform.clearTimer(this.#sweepTimer);
    this.#commands.end(error);
    this.#requests.end(error);
    this.#subscriptions.end(error);
  }

  #changed(state: ClientState, reason: TroupeError | undefined): void {
    for (const listener of this.#listeners) {
      try {
        listener(state, reason);
      } catch (error) {
        throwLater(error);
      }
    }
  }

  #received(reader: ServerMessageReader): void {
    switch (reader.type) {
      case FROM_EDGE.reply:
        return this.#commands.replied(reader);
      case FROM_EDGE.event:
        return this.#subscriptions.event(reader);
      case FROM_EDGE.conflated:
        return this.#subscriptions.conflated(reader);
      case FROM_EDGE.answer:
        return this.#requests.answered(reader);
      case FROM_EDGE.failed:
        return this.#commands.failed(reader.about, problemOf(reader));
      case FROM_EDGE.error:
        this.#armSweep();
        return this.#requests.failed(reader.about, problemOf(reader));
      case FROM_EDGE.ended:
        this.#armSweep();
        return this.#subscriptions.ended(reader.about, problemOf(reader));
      default:
        return; // A newer edge may say more than we understand.
    }
  }

  #refresh(token: string): void {
    this.#ask({
      write: (writer, number) => writeToken(writer, number, token),
      answered: (reader) => {
        const { tokenExpiresAt, now = this.#edgeNow() } = reader.map(2);
        if (typeof tokenExpiresAt === 'number') this.#connection.planRefresh(tokenExpiresAt - Number(now));
      },
      failed: () => {}, // The edge closes the connection when the token expires, and the next hello brings a fresh one.
    });
  }

  #renew(): void {
    this.#ask({
      write: writeRenew,
      answered: (reader) => {
        this.#connection.session = String(reader.map(2).session);
        this.#commands.began();
      },
      failed: ({ code }) => {
        if (code === 'disconnected' || code === 'closed') return;
        // An edge that cannot renew gives a new session to whoever comes without one.
        this.#connection.session = undefined;
        this.#connection.reconnect();
      },
    });
  }

  /** Housekeeping of this connection. */
  #ask(request: Pick<Request, 'write' | 'answered' | 'failed'>): void {
    this.#requests.ask({ ...request, deadlineMs: this.#platform.now() + CONNECT_TIMEOUT_MS, lasting: false });
    this.#armSweep();
  }

  /** The edge's clock, as far as we can tell: by its welcome and the time since. */
  #edgeNow(): number {
    return (this.#welcome?.now ?? 0) + this.#platform.now() - this.#welcomedAtMs;
  }

  /** One timer for everything that waits; it rests when nothing does. */
  #armSweep(): void {
    this.#sweepTimer ??= this.#platform.setTimer(() => this.#sweep(), SWEEP_MS);
  }

  #sweep(): void {
    this.#sweepTimer = undefined;
    const nowMs = this.#platform.now();
    const commands = this.#commands.sweep(nowMs);
    const requests = this.#requests.sweep(nowMs);
    const subscriptions = this.#subscriptions.sweep(nowMs);
    if ((commands || requests || subscriptions) && !this.#ended) this.#armSweep();
  }
}

type Handlers = SubscriptionHandlers<unknown, unknown>;
type QueryCall = {
  readonly ref: string;
  readonly name: string;
  readonly codec: CallCodec;
  readonly minSequence: number | undefined;
};

/** What an actor's handle asks of its client. */
type Calls = {
  command(route: CommandRoute, body: Uint8Array, timeoutMs: number | undefined): Promise<unknown>;
  query(query: QueryCall, body: Uint8Array, timeoutMs: number | undefined): Promise<unknown>;
  subscribe(ref: string, topic: string, codec: TopicCodec, handlers: Handlers): Subscription;
};

/** The untyped body of a handle: the interface's codecs check every value, the static types only tell of it earlier. */
class Actor {
  readonly ref: string;
  readonly #codec: KindCodec;
  readonly #calls: Calls;
  readonly #routes = new Map<string, CommandRoute>();
  readonly #sequence: CommandRoute['actor'] = { lastSequence: undefined };

  constructor(ref: string, codec: KindCodec, calls: Calls) {
    this.ref = ref;
    this.#codec = codec;
    this.#calls = calls;
  }

  /** Not an async function: one promise per command is enough. */
  command(name: string, fields: unknown, options?: CallOptions): Promise<unknown> {
    let route: CommandRoute;
    let body: Uint8Array;
    try {
      route = this.#route(name);
      body = encodeBody(route.codec, fields);
    } catch (thrown) {
      return Promise.reject(asTroupeError(thrown, 'invalid_field'));
    }
    return this.#calls.command(route, body, options?.timeoutMs);
  }

  async query(name: string, fields: unknown, options?: QueryOptions): Promise<unknown> {
    try {
      const codec = this.#codec.query(name);
      const minSequence = options?.minSequence ?? this.#sequence.lastSequence;
      const query = { ref: this.ref, name, codec, minSequence };
      return await this.#calls.query(query, encodeBody(codec, fields), options?.timeoutMs);
    } catch (thrown) {
      throw asTroupeError(thrown, 'invalid_field');
    }
  }

  subscribe(topic: string, handlers: Handlers): Subscription {
    try {
      return this.#calls.subscribe(this.ref, topic, this.#codec.topic(topic), handlers);
    } catch (thrown) {
      throw asTroupeError(thrown, 'unknown_topic');
    }
  }

  #route(name: string): CommandRoute {
    let route = this.#routes.get(name);
    if (!route) {
      const codec = this.#codec.command(name);
      route = { codec, head: encoded((writer) => writeTarget(writer, this.ref, name)), actor: this.#sequence };
      this.#routes.set(name, route);
    }
    return route;
  }
}

const MAX_KEY_BYTES = 128; // The record's reference holds a kind and a key of this length.

/** 1 to 128 bytes of well-formed text without control characters. */
function isKey(key: string): boolean {
  const length = utf8Length(key);
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is refused.
  return length >= 1 && length <= MAX_KEY_BYTES && !/[\u0000-\u001f\u007f]/.test(key);
}

function writeTarget(writer: MsgpackWriter, ref: string, name: string): void {
  writeText(writer, ref);
  writeText(writer, name);
}

function problemOf(reader: ServerMessageReader): TroupeError {
  const { name, message, retryAfterMs } = reader.problem();
  return new TroupeError(name, message, retryAfterMs);
}

function positive(name: string, value: number): number {
  if (!(value > 0)) throw new RangeError(`${name} must be above 0`);
  return value;
}
