/**
 * What goes out in one websocket message: up to 64 protocol messages, gathered within one turn of the event loop, in a buffer
 * that is used again and again.
 */
import { FROM_CLIENT, MAX_MESSAGES } from '../message.ts';
import { MsgpackWriter } from '../msgpack-writer.ts';

/** A batch is sent once it holds this much: larger ones save nothing and delay the first command in them. */
const FLUSH_BYTES = 16 * 1024;

export class MessageBatch {
  readonly #send: (message: Uint8Array) => void;
  readonly #gather: boolean;
  readonly #writer = new MsgpackWriter();
  #count = 0;
  #scheduled = false;

  /** `gather: false` sends each message at once. */
  constructor(send: (message: Uint8Array) => void, gather: boolean) {
    this.#send = send;
    this.#gather = gather;
  }

  /** Hot: one per command and attempt. `head` is the reference and the command's name, encoded. */
  command(number: number, low: number, head: Uint8Array, body: Uint8Array): void {
    const writer = this.#writer;
    if (writer.offset + head.length + body.length > FLUSH_BYTES) this.flush();
    writer.array(6);
    writer.byte(FROM_CLIENT.command);
    writer.int(number);
    writer.int(low);
    writer.raw(head);
    writer.raw(body);
    this.#added();
  }

  add(write: (writer: MsgpackWriter) => void): void {
    write(this.#writer);
    this.#added();
  }

  flush(): void {
    if (this.#count === 0) return;
    const message = this.#writer.copy();
    this.#writer.reset();
    this.#count = 0;
    this.#send(message);
  }

  #added(): void {
    this.#count++;
    if (this.#count >= MAX_MESSAGES || this.#writer.offset >= FLUSH_BYTES || !this.#gather) this.flush();
    else if (!this.#scheduled) this.#schedule();
  }

  #schedule(): void {
    this.#scheduled = true;
    queueMicrotask(() => {
      this.#scheduled = false;
      this.flush();
    });
  }
}

/** The bytes of what `write` writes. */
export function encoded(write: (writer: MsgpackWriter) => void): Uint8Array {
  const writer = new MsgpackWriter();
  write(writer);
  return writer.copy();
}
