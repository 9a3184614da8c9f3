/** A client's connection to an edge: upgrade, hello and welcome, then whatever its owner writes, and pings now and then. */

import { writeHello, writePing } from '../../protocol/client-messages.ts';
import { FROM_EDGE, SUBPROTOCOL } from '../../protocol/message.ts';
import { MsgpackWriter } from '../../protocol/msgpack-writer.ts';
import { ServerMessageReader } from '../../protocol/server-messages.ts';
import { frameOf, RawWebsocket } from './raw-websocket.ts';

export type ConnectionHandlers = {
  /**
   * Takes the messages it knows from `start` on without a reader, and gives the offset of the first that it does not, which then
   * goes to `message`.
   */
  hot(bytes: Buffer, start: number, end: number): number;
  /** One message, at the reader. */
  message(reader: ServerMessageReader): void;
  readEnd(): void;
  lost(reason: string): void;
};

const PING_MS = 20_000; // Below the heartbeat that edges ask for: a connection may rest between two runs.

const reader = new ServerMessageReader();
const open = new Set<EdgeConnection>();

setInterval(() => {
  for (const connection of open) connection.sendMessage(writePing);
}, PING_MS).unref();

export class EdgeConnection {
  #websocket!: RawWebsocket;
  readonly #handlers: ConnectionHandlers;
  #welcomed: (() => void) | undefined;
  #refused: ((error: Error) => void) | undefined;
  /** Websocket messages received. */
  messages = 0;

  private constructor(handlers: ConnectionHandlers) {
    this.#handlers = handlers;
  }

  /** Resolves with the welcome. Errors: Error with the edge's reason. */
  static async open(port: number, token: string, handlers: ConnectionHandlers): Promise<EdgeConnection> {
    const connection = new EdgeConnection(handlers);
    connection.#websocket = await RawWebsocket.open(port, SUBPROTOCOL, {
      message: (bytes, start, end) => connection.#message(bytes, start, end),
      readEnd: () => handlers.readEnd(),
      lost: (reason) => connection.#lost(reason),
    });
    await new Promise<void>((resolve, reject) => {
      connection.#welcomed = resolve;
      connection.#refused = reject;
      connection.sendMessage((writer) => writeHello(writer, { token, client: 'bench' }));
    });
    connection.messages = 0;
    open.add(connection);
    return connection;
  }

  /** Whole frames; they must not be changed afterwards. */
  send(frames: Uint8Array): void {
    this.#websocket.send(frames);
  }

  sendMessage(write: (writer: MsgpackWriter) => void): void {
    const writer = new MsgpackWriter();
    write(writer);
    this.send(frameOf(writer.view()));
  }

  close(): void {
    open.delete(this);
    this.#websocket.close();
  }

  #message(bytes: Buffer, start: number, end: number): void {
    this.messages++;
    for (let at = this.#handlers.hot(bytes, start, end); at < end; at = this.#handlers.hot(bytes, at, end)) {
      reader.reset(bytes, at, end);
      reader.next();
      at = reader.endOf(reader.elements - 1);
      this.#read();
    }
  }

  #read(): void {
    if (reader.type === FROM_EDGE.ping) return; // The answer to ours.
    if (reader.type === FROM_EDGE.error && reader.about === 0) return this.#lost(reader.problem().message);
    if (reader.type !== FROM_EDGE.welcome) return this.#handlers.message(reader);
    this.#welcomed?.();
    this.#welcomed = undefined;
  }

  #lost(reason: string): void {
    this.#refused?.(new Error(reason));
    this.#handlers.lost(reason);
  }
}
