/**
 * Commands without an answer. Each partition keeps its own in the order of their sending, as places in the frame buffers, so
 * that they can be sent again when the partition has a new owner; whoever sent them finds them by number.
 */

/** Who awaits answers: a connection, or one HTTP request. */
export interface Asker {
  /** Echoed in replies; never used twice. */
  readonly slot: number;
  inFlight: Map<number, Pending> | undefined;
  /** The reply's body is bytes [start, end); they are the asker's only during the call. */
  replied(number: number, bytes: Uint8Array, start: number, end: number): void;
  /** A refusal: [start, end) is MessagePack [name, message, retryAfterMs | nil]. */
  refused(number: number, bytes: Uint8Array, start: number, end: number): void;
  /** True when nobody is there any more: it may be forgotten once nothing is pending. */
  readonly gone: boolean;
}

export class Pending {
  asker: Asker | undefined = undefined;
  number = 0;
  buffer: Uint8Array = NO_BYTES;
  start = 0;
  length = 0;
  /** Ticks of the coarse clock. */
  sentTick = 0;
  list: PendingList | undefined = undefined;
  previous: Pending | undefined = undefined;
  next: Pending | undefined = undefined;
}

const NO_BYTES: Uint8Array = new Uint8Array(0);
const MAX_SPARE = 4_096; // Objects kept for reuse: what is in flight under full load.
const spare: Pending[] = [];

/** A list in order of sending, with the figures that limit it. */
export class PendingList {
  records = 0;
  bytes = 0;
  first: Pending | undefined = undefined;
  #last: Pending | undefined = undefined;

  add(asker: Asker, number: number, buffer: Uint8Array, start: number, length: number, tick: number): void {
    const pending = spare.pop() ?? new Pending();
    pending.asker = asker;
    pending.number = number;
    place(pending, buffer, start, length, tick);
    pending.list = this;
    this.#append(pending);
    this.records++;
    this.bytes += length;
    asker.inFlight ??= new Map();
    asker.inFlight.set(number, pending);
  }

  /** It was answered. The object must not be used afterwards. */
  remove(pending: Pending): void {
    this.#unlink(pending);
    this.records--;
    this.bytes -= pending.length;
    const asker = pending.asker as Asker;
    asker.inFlight?.delete(pending.number);
    if (asker.inFlight?.size === 0) asker.inFlight = undefined;
    pending.asker = undefined;
    pending.list = undefined;
    pending.buffer = NO_BYTES;
    if (spare.length < MAX_SPARE) spare.push(pending);
  }

  /** It was sent again: it lies elsewhere, and is the newest. */
  moved(pending: Pending, buffer: Uint8Array, start: number, tick: number): void {
    this.#unlink(pending);
    place(pending, buffer, start, pending.length, tick);
    this.#append(pending);
  }

  #append(pending: Pending): void {
    pending.previous = this.#last;
    pending.next = undefined;
    if (this.#last) this.#last.next = pending;
    else this.first = pending;
    this.#last = pending;
  }

  #unlink(pending: Pending): void {
    const { previous, next } = pending;
    if (previous) previous.next = next;
    else this.first = next;
    if (next) next.previous = previous;
    else this.#last = previous;
    pending.previous = undefined;
    pending.next = undefined;
  }
}

function place(pending: Pending, buffer: Uint8Array, start: number, length: number, tick: number): void {
  pending.buffer = buffer;
  pending.start = start;
  pending.length = length;
  pending.sentTick = tick;
}
