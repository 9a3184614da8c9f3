/**
 * The port to the network: websockets and HTTP requests, without any meaning. A transport guarantees that no handler is ever
 * called for a socket after its `close`, that every HTTP exchange ends exactly once however its handler behaves, and that a
 * message too large, a slow body or an aborted request disturbs nothing else. Its laws are in transport.laws.ts.
 */

/** What an upgrade request shows. Valid only during the call. */
export type UpgradeRequest = {
  /** Remote address as text. */
  readonly address: string;
  readonly path: string;
  readonly origin: string;
  readonly host: string;
  /** The protocols that the client offers, as sent. */
  readonly protocols: string;
};

/** A refusal to upgrade, answered as HTTP. `name` is an error name. */
export type UpgradeRefusal = { readonly status: number; readonly name: string; readonly message: string };
/** `state` becomes the socket's `state`. */
export type UpgradeVerdict<State> = { readonly state: State; readonly protocol: string } | UpgradeRefusal;

/** How much of what was given to `send` was taken, and whether the socket has bytes that the network does not take yet. */
export const SENT = 1;
/** Taken, but the network is behind: send nothing more before `drained`. */
export const BUFFERED = 0;
/** Not taken. Follows only from sending after BUFFERED, or after the close. */
export const DROPPED = 2;

/** One websocket. All methods do nothing after its close. */
export interface Socket<State> {
  state: State;
  readonly closed: boolean;
  /** Sends one binary message; the bytes may be reused at once. */
  send(bytes: Uint8Array): number;
  /**
   * Sends several messages with one write, at most up to the first that leaves bytes behind.
   * Returns how many were taken; `bufferedBytes()` tells whether the network is behind.
   */
  sendAll(messages: readonly Uint8Array[]): number;
  bufferedBytes(): number;
  /** Sends a close frame; `close` is called at once. */
  end(code: number, reason: string): void;
  /** Cuts the connection. */
  terminate(): void;
}

/** One HTTP request whose body has come whole. */
export interface Exchange {
  /** Upper case. */
  readonly method: string;
  readonly path: string;
  /** Without the question mark. */
  readonly query: string;
  readonly address: string;
  readonly body: Uint8Array;
  /** True once it was answered or the client went away. */
  readonly ended: boolean;
  /** Value of a header by its lower-case name, or ''. */
  header(name: string): string;
  /** Answers; later calls, and calls after the client went away, do nothing. */
  answer(status: number, headers: Readonly<Record<string, string>>, body: string | Uint8Array): void;
}

export type TransportHandlers<State> = {
  /** Decided synchronously, on what is known locally. */
  upgrade(request: UpgradeRequest): UpgradeVerdict<State>;
  open(socket: Socket<State>): void;
  /** The bytes are the handler's only until it returns. */
  message(socket: Socket<State>, bytes: Uint8Array, isBinary: boolean): void;
  /** The network took bytes: `bufferedBytes` has shrunk. */
  drained(socket: Socket<State>): void;
  /** `code` 1006 when the peer said nothing. The socket is closed already. */
  close(socket: Socket<State>, code: number, reason: string): void;
  /** May be asynchronous; what it throws is answered as `internal` and given to `failed`. */
  request(exchange: Exchange): void | Promise<void>;
  /** A handler threw: a bug, told to whoever logs. */
  failed(error: unknown): void;
};

export type TransportSettings = {
  readonly host: string;
  /** 0 chooses a free one. */
  readonly port: number;
  /** Lets several processes share the port (one edge per core). */
  readonly sharePort: boolean;
  /** A longer websocket message closes its connection. */
  readonly maxMessageBytes: number;
  /** Bytes that a socket may hold for a slow network beyond one message. */
  readonly maxBufferedBytes: number;
  /** A websocket without any traffic for so long is closed; the transport pings before. */
  readonly idleTimeoutSeconds: number;
  /** A longer request body is answered 413. */
  readonly maxBodyBytes: number;
  /** A body that takes longer is answered 408. */
  readonly bodyTimeoutMs: number;
};

export interface Transport {
  /** Starts to listen and gives the port. Errors: Error that names the address when it is taken. */
  listen(): Promise<number>;
  /** Accepts nothing new; what is open goes on. */
  stopListening(): void;
  /** Cuts everything. */
  close(): void;
}

/** Bounds that hold for every transport, checked before a value reaches native code (where a wrong one aborts the process). */
export function checkTransportSettings(settings: TransportSettings): void {
  checkInteger('port', settings.port, 0, 65_535);
  checkInteger('maxMessageBytes', settings.maxMessageBytes, 1_024, 16 * 1024 * 1024);
  checkInteger('maxBufferedBytes', settings.maxBufferedBytes, 1_024, 16 * 1024 * 1024);
  checkInteger('idleTimeoutSeconds', settings.idleTimeoutSeconds, 8, 960); // uWebSockets.js aborts outside of this.
  checkInteger('maxBodyBytes', settings.maxBodyBytes, 1, 64 * 1024 * 1024);
  checkInteger('bodyTimeoutMs', settings.bodyTimeoutMs, 10, 600_000);
  if (settings.host === '') throw new RangeError('host: must not be empty');
}

/** Errors: RangeError that names the option, its bounds and what was given. */
export function checkInteger(name: string, value: number, min: number, max: number): void {
  if (!Number.isInteger(value) || value < min || value > max)
    throw new RangeError(`${name}: ${min} to ${max}, not ${value}`);
}
