/**
 * A websocket client that costs as little as it can, so that what is measured is the server: straight over TCP, one read buffer
 * for all sockets, messages handed over where they lie, and frames masked with zeros (a valid mask that changes nothing).
 * It takes what our servers send: whole binary messages, pings, and closes.
 */
import { randomBytes } from 'node:crypto';
import { connect, type Socket } from 'node:net';

const READ_BYTES = 256 * 1024; // Of a busy socket all that waits comes in one read.
const BINARY = 0x82;
const PING = 0x89;
const PONG = 0x8a;
const CLOSE = 0x88;
const MASKED = 0x80;
const MASK_BYTES = 4;

export type WebsocketHandlers = {
  /** One binary message; the bytes are the handler's until it returns. */
  message(bytes: Buffer, start: number, end: number): void;
  /** All messages of one read were handed over. */
  readEnd(): void;
  /** The connection ended, not by us. */
  lost(reason: string): void;
};

/** Read by read, in turn, for every socket of this process. */
const shared = Buffer.allocUnsafeSlow(READ_BYTES);

/** The payload as a frame of a client. */
export function frameOf(payload: Uint8Array): Buffer {
  const short = payload.length < 126;
  if (payload.length > 0xffff) throw new RangeError('a load client sends no frames above 64 KiB');
  const start = (short ? 2 : 4) + MASK_BYTES;
  const frame = Buffer.alloc(start + payload.length);
  frame[0] = BINARY;
  frame[1] = MASKED | (short ? payload.length : 126);
  if (!short) frame.writeUInt16BE(payload.length, 2);
  frame.set(payload, start);
  return frame;
}

export class RawWebsocket {
  readonly #socket: Socket;
  readonly #handlers: WebsocketHandlers;
  #rest: Buffer | undefined;
  #upgraded: (() => void) | undefined;
  #failed: ((error: Error) => void) | undefined;
  #ended = false;

  private constructor(port: number, handlers: WebsocketHandlers) {
    this.#handlers = handlers;
    const callback = (length: number): boolean => {
      this.#read(length);
      return true;
    };
    this.#socket = connect({ host: '127.0.0.1', port, noDelay: true, onread: { buffer: shared, callback } });
    this.#socket.on('error', (error) => this.#lose(error.message));
    this.#socket.on('close', () => this.#lose('closed by the server'));
  }

  /** Errors: Error when the server refuses. */
  static async open(port: number, protocol: string, handlers: WebsocketHandlers): Promise<RawWebsocket> {
    const websocket = new RawWebsocket(port, handlers);
    const key = randomBytes(16).toString('base64');
    const lines = [
      'GET / HTTP/1.1',
      `Host: 127.0.0.1:${port}`,
      'Connection: Upgrade',
      'Upgrade: websocket',
      'Sec-WebSocket-Version: 13',
      `Sec-WebSocket-Key: ${key}`,
      `Sec-WebSocket-Protocol: ${protocol}`,
    ];
    await new Promise<void>((resolve, reject) => {
      websocket.#upgraded = resolve;
      websocket.#failed = reject;
      websocket.#socket.write(`${lines.join('\r\n')}\r\n\r\n`);
    });
    return websocket;
  }

  /** Whole frames, one after the other. The bytes must not be changed afterwards. */
  send(frames: Uint8Array): void {
    this.#socket.write(frames);
  }

  close(): void {
    this.#ended = true;
    this.#socket.destroy();
  }

  #read(length: number): void {
    const bytes =
      this.#rest === undefined ? shared.subarray(0, length) : Buffer.concat([this.#rest, shared.subarray(0, length)]);
    this.#rest = undefined;
    const from = this.#upgraded === undefined ? 0 : this.#response(bytes);
    const at = from < 0 ? 0 : this.#frames(bytes, from);
    if (at < bytes.length && !this.#ended) this.#rest = Buffer.from(bytes.subarray(at));
    if (at > from) this.#handlers.readEnd();
  }

  /** Where the frames begin, behind the answer to the upgrade; -1 while it is not whole. */
  #response(bytes: Buffer): number {
    const end = bytes.indexOf('\r\n\r\n');
    if (end < 0) return -1;
    const head = bytes.toString('latin1', 0, end);
    if (!head.startsWith('HTTP/1.1 101')) this.#lose(head);
    this.#upgraded?.();
    this.#upgraded = undefined;
    return end + 4;
  }

  /** Hands over all whole messages. Gives where the first that is not whole begins. */
  #frames(bytes: Buffer, from: number): number {
    let at = from;
    while (bytes.length - at >= 2 && !this.#ended) {
      let length = bytes[at + 1] as number;
      let start = at + 2;
      if (length === 126) {
        if (bytes.length - at < 4) return at;
        length = bytes.readUInt16BE(start);
        start += 2;
      } else if (length === 127) {
        if (bytes.length - at < 10) return at;
        length = Number(bytes.readBigUInt64BE(start));
        start += 8;
      }
      if (start + length > bytes.length) return at;
      if (bytes[at] === BINARY) this.#handlers.message(bytes, start, start + length);
      else this.#control(bytes[at] as number, bytes.subarray(start, start + length));
      at = start + length;
    }
    return at;
  }

  #control(tag: number, payload: Buffer): void {
    if (tag === CLOSE)
      return this.#lose(
        `closed: ${payload.length >= 2 ? payload.readUInt16BE(0) : 'no code'} ${payload.toString('utf8', 2)}`,
      );
    if (tag !== PING) return this.#lose(`a frame that begins with ${tag}`);
    const pong = frameOf(payload);
    pong[0] = PONG;
    this.send(pong);
  }

  #lose(reason: string): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#socket.destroy();
    this.#failed?.(new Error(reason));
    this.#handlers.lost(reason);
  }
}
