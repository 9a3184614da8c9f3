/**
 * The transport over uWebSockets.js: the only file that imports it, and only names that the official package and its repack
 * on npm both export. Its rules are hard (a request that is neither answered nor guarded aborts the process, a socket is
 * invalid after its close), so everything goes through the two guarded classes below.
 */

import {
  App,
  type HttpRequest,
  type HttpResponse,
  type TemplatedApp,
  us_listen_socket_close,
  type WebSocket,
} from 'uWebSockets.js';
import { createHash } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { STATUS_CODES } from 'node:http';
import { type AddressInfo, createServer } from 'node:net';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { ERRORS, type ErrorName } from '../../protocol/errors.ts';
import {
  BUFFERED,
  checkTransportSettings,
  DROPPED,
  type Exchange,
  type Socket,
  type Transport,
  type TransportHandlers,
  type TransportSettings,
  type UpgradeRefusal,
} from './transport.ts';

type Holder<State> = { socket: UwsSocket<State> };

// Both are exported by name, but typed by one of the two packages only: the values are part of the documented interface.
const NO_COMPRESSION = 0;
const EXCLUSIVE_PORT = 1;
const PORT_ATTEMPTS = 5; // For a free port, which another process may take in between.
const CLOSED_ABNORMALLY = 1006; // What RFC 6455 reserves for "no close frame came".
const BODY_CHECK_PARTS = 8; // Slow bodies are found within an eighth of the timeout: no timer per request.
const MAX_HEADER_COUNT = 100; // uWebSockets.js itself takes at most that many.

export class UwsTransport<State> implements Transport {
  readonly #settings: TransportSettings;
  readonly #handlers: TransportHandlers<State>;
  readonly #app: TemplatedApp;
  readonly #reading = new Set<UwsExchange>();
  #listening: unknown;
  #bodyTimer: NodeJS.Timeout | undefined;
  #closed = false;

  /** Errors: RangeError when a setting is out of bounds. */
  constructor(settings: TransportSettings, handlers: TransportHandlers<State>) {
    checkTransportSettings(settings);
    this.#settings = settings;
    this.#handlers = handlers;
    this.#app = App();
    this.#addWebsocket();
    this.#app.any('/*', (response, request) => this.#request(response, request));
  }

  async listen(): Promise<number> {
    const { host, port, bodyTimeoutMs } = this.#settings;
    this.#bodyTimer = setInterval(() => this.#endSlowBodies(), Math.ceil(bodyTimeoutMs / BODY_CHECK_PARTS));
    this.#bodyTimer.unref();
    for (let attempt = 1; ; attempt++) {
      const chosen = port === 0 ? await freePort(host) : port;
      if (await this.#listenOn(chosen)) return chosen;
      if (port !== 0 || attempt === PORT_ATTEMPTS)
        throw new Error(`cannot listen on ${host}:${chosen}: the address is taken or not ours`);
    }
  }

  #listenOn(port: number): Promise<boolean> {
    const { host, sharePort } = this.#settings;
    return new Promise((resolve) => {
      listenOn(this.#app, host, port, sharePort ? 0 : EXCLUSIVE_PORT, (socket) => {
        this.#listening = socket || undefined;
        resolve(Boolean(socket));
      });
    });
  }

  stopListening(): void {
    if (this.#listening) us_listen_socket_close(this.#listening as Parameters<typeof us_listen_socket_close>[0]);
    this.#listening = undefined;
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    clearInterval(this.#bodyTimer);
    this.stopListening();
    this.#app.close();
  }

  #addWebsocket(): void {
    const { maxMessageBytes, maxBufferedBytes, idleTimeoutSeconds } = this.#settings;
    this.#app.ws<Holder<State>>('/*', {
      compression: NO_COMPRESSION,
      maxPayloadLength: maxMessageBytes,
      maxBackpressure: maxBufferedBytes,
      closeOnBackpressureLimit: false,
      idleTimeout: idleTimeoutSeconds,
      maxLifetime: 0,
      sendPingsAutomatically: true,
      upgrade: (response, request, context) => this.#upgrade(response, request, context),
      open: (ws) => this.#open(ws),
      message: (ws, message, isBinary) => this.#message(ws, message, isBinary),
      drain: (ws) => this.#guard(() => this.#handlers.drained(ws.getUserData().socket)),
      close: (ws, code, message) => this.#close(ws, code, message),
    });
  }

  /** Synchronous from end to end: an upgrade after an await may close the socket right behind its opening. */
  #upgrade(response: HttpResponse, request: HttpRequest, context: Parameters<HttpResponse['upgrade']>[4]): void {
    const verdict = this.#verdict(response, request);
    if ('status' in verdict) {
      const exchange = new UwsExchange(response, request);
      exchange.answer(verdict.status, JSON_HEADERS, errorBody(verdict.name, verdict.message));
      return;
    }
    const { state, protocol } = verdict;
    const key = request.getHeader('sec-websocket-key');
    const extensions = request.getHeader('sec-websocket-extensions');
    response.upgrade<Holder<State>>({ socket: new UwsSocket(state) }, key, protocol, extensions, context);
  }

  #verdict(response: HttpResponse, request: HttpRequest): UpgradeRefusal | { state: State; protocol: string } {
    try {
      return this.#handlers.upgrade({
        address: Buffer.from(response.getRemoteAddressAsText()).toString(),
        path: request.getUrl(),
        origin: request.getHeader('origin'),
        host: request.getHeader('host'),
        protocols: request.getHeader('sec-websocket-protocol'),
      });
    } catch (error) {
      this.#handlers.failed(error);
      return { status: 500, name: 'internal', message: ERRORS.internal.sentence };
    }
  }

  #open(ws: WebSocket<Holder<State>>): void {
    const { socket } = ws.getUserData();
    socket.ws = ws;
    this.#guard(() => this.#handlers.open(socket));
  }

  #message(ws: WebSocket<Holder<State>>, message: ArrayBuffer, isBinary: boolean): void {
    const { socket } = ws.getUserData();
    try {
      this.#handlers.message(socket, new Uint8Array(message), isBinary);
    } catch (error) {
      this.#handlers.failed(error);
    }
  }

  #close(ws: WebSocket<Holder<State>>, code: number, message: ArrayBuffer): void {
    const { socket } = ws.getUserData();
    socket.ws = undefined;
    const reason = Buffer.from(message).toString();
    this.#guard(() => this.#handlers.close(socket, code || CLOSED_ABNORMALLY, reason));
  }

  #guard(action: () => void): void {
    try {
      action();
    } catch (error) {
      this.#handlers.failed(error);
    }
  }

  /** The one way of every HTTP request: guarded before anything else can fail, answered whatever its handler does. */
  #request(response: HttpResponse, request: HttpRequest): void {
    const exchange = new UwsExchange(response, request);
    const { maxBodyBytes } = this.#settings;
    if (Number(exchange.header('content-length')) > maxBodyBytes) return exchange.refuse('payload_too_large');
    if (!exchange.expectsBody) return void this.#handle(exchange);
    this.#reading.add(exchange);
    exchange.readBody(maxBodyBytes, () => {
      this.#reading.delete(exchange);
      if (!exchange.ended) void this.#handle(exchange);
    });
  }

  async #handle(exchange: UwsExchange): Promise<void> {
    try {
      await this.#handlers.request(exchange);
      if (!exchange.ended) throw new Error(`no answer was given to ${exchange.method} ${exchange.path}`);
    } catch (error) {
      if (!exchange.ended) exchange.refuse('internal');
      this.#handlers.failed(error);
    }
  }

  #endSlowBodies(): void {
    const oldest = performance.now() - this.#settings.bodyTimeoutMs;
    for (const exchange of this.#reading) {
      if (exchange.startedAt > oldest) break; // They were added in the order of their start.
      this.#reading.delete(exchange);
      exchange.refuse('heartbeat_missed');
    }
  }
}

type Listen = (host: string, port: number, options: number, listened: (socket: unknown) => void) => void;

/** The native `listen` takes host and options together; the typings leave that form out. */
function listenOn(
  app: TemplatedApp,
  host: string,
  port: number,
  options: number,
  listened: (socket: unknown) => void,
): void {
  (app.listen as unknown as Listen).call(app, host, port, options, listened);
}

/**
 * A port that nobody has. Native code must not choose it: it then leaves SO_REUSEADDR out, and an edge that is started again
 * on that port finds it taken by the connections of the one before, for a minute.
 */
function freePort(host: string): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once('error', reject);
    server.listen(0, host, () => {
      const { port } = server.address() as AddressInfo;
      server.close(() => resolve(port));
    });
  });
}

class UwsSocket<State> implements Socket<State> {
  state: State;
  /** Undefined before the opening and after the close. */
  ws: WebSocket<Holder<State>> | undefined = undefined;

  constructor(state: State) {
    this.state = state;
  }

  get closed(): boolean {
    return this.ws === undefined;
  }

  send(bytes: Uint8Array): number {
    return this.ws === undefined ? DROPPED : this.ws.send(bytes, true, false);
  }

  sendAll(messages: readonly Uint8Array[]): number {
    const { ws } = this;
    if (ws === undefined) return 0;
    let taken = 0;
    ws.cork(() => {
      while (taken < messages.length) {
        const result = ws.send(messages[taken] as Uint8Array, true, false);
        if (result === DROPPED) return;
        taken++;
        if (result === BUFFERED) return;
      }
    });
    return taken;
  }

  bufferedBytes(): number {
    return this.ws === undefined ? 0 : this.ws.getBufferedAmount();
  }

  end(code: number, reason: string): void {
    this.ws?.end(code, reason);
  }

  terminate(): void {
    this.ws?.close();
  }
}

const JSON_HEADERS = { 'content-type': 'application/json', 'cache-control': 'no-store' };

const errorBody = (code: string, message: string): string => JSON.stringify({ error: { code, message } });

/** Copies all it needs of the request, which lives on the native stack only, and guards the response. */
class UwsExchange implements Exchange {
  readonly method: string;
  readonly path: string;
  readonly query: string;
  readonly address: string;
  readonly startedAt = performance.now();
  body: Uint8Array = new Uint8Array(0);
  readonly #headers = new Map<string, string>();
  #response: HttpResponse | undefined;

  constructor(response: HttpResponse, request: HttpRequest) {
    response.onAborted(() => this.#abort());
    this.#response = response;
    this.method = request.getMethod().toUpperCase();
    this.path = request.getUrl();
    this.query = request.getQuery() ?? '';
    this.address = Buffer.from(response.getRemoteAddressAsText()).toString();
    request.forEach((name, value) => {
      if (this.#headers.size < MAX_HEADER_COUNT) this.#headers.set(name, value);
    });
  }

  get ended(): boolean {
    return this.#response === undefined;
  }

  get expectsBody(): boolean {
    return Number(this.header('content-length')) > 0 || this.header('transfer-encoding') !== '';
  }

  header(name: string): string {
    return this.#headers.get(name) ?? '';
  }

  /** Calls `done` once: when the body is whole, refused or aborted (the last two: `ended`). */
  readBody(maxBytes: number, done: () => void): void {
    const chunks: Buffer[] = [];
    let size = 0;
    this.#aborted = done;
    this.#response?.onData((chunk, isLast) => {
      if (this.ended) return;
      size += chunk.byteLength;
      if (size > maxBytes) {
        this.refuse('payload_too_large');
        return done();
      }
      chunks.push(Buffer.from(chunk.slice(0)));
      if (!isLast) return;
      this.body = chunks.length === 1 ? (chunks[0] as Buffer) : Buffer.concat(chunks);
      this.#aborted = undefined;
      done();
    });
  }

  answer(status: number, headers: Readonly<Record<string, string>>, body: string | Uint8Array): void {
    this.#end(status, headers, body, false);
  }

  /** Answers an error of the registry and closes the connection, since its body may not have been read. */
  refuse(name: ErrorName): void {
    this.#end(ERRORS[name].status, JSON_HEADERS, errorBody(name, ERRORS[name].sentence), true);
  }

  #end(status: number, headers: Readonly<Record<string, string>>, body: string | Uint8Array, close: boolean): void {
    const response = this.#response;
    if (response === undefined) return;
    this.#response = undefined;
    response.cork(() => {
      response.writeStatus(`${status} ${STATUS_CODES[status] ?? 'Unknown'}`);
      for (const [name, value] of Object.entries(headers)) response.writeHeader(name, value);
      if (this.method === 'HEAD') response.endWithoutBody(Buffer.byteLength(body), close);
      else response.end(body, close);
    });
  }

  #aborted: (() => void) | undefined;

  #abort(): void {
    this.#response = undefined;
    this.#aborted?.();
    this.#aborted = undefined;
  }
}

/** The native binary in use, to be named at start: its provenance cannot be proven, so its hash is shown. */
export function nativeBinary(): { file: string; sha256: string } {
  const folder = dirname(fileURLToPath(import.meta.resolve('uWebSockets.js')));
  const name = `uws_${process.platform}_${process.arch}_${process.versions.modules}.node`;
  const file = [join(folder, 'bin', name), join(folder, name)].find((candidate) => existsSync(candidate));
  if (!file) return { file: name, sha256: 'not found' };
  return { file: name, sha256: createHash('sha256').update(readFileSync(file)).digest('hex') };
}
