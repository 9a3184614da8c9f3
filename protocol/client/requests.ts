/**
 * Requests that change nothing in an actor and so need no number of a session: queries, and the client's own housekeeping. They
 * are asked again after a lost connection, a silence or an error that may pass, until their deadline.
 */

import { MAX_COMMAND_NUMBER } from '../message.ts';
import type { MsgpackWriter } from '../msgpack-writer.ts';
import type { ServerMessageReader } from '../server-messages.ts';
import { fullJitter } from './backoff.ts';
import type { MessageBatch } from './message-batch.ts';
import type { Platform } from './platform.ts';
import { TroupeError } from './troupe-error.ts';

/** Waits before asking again: as for commands. */
const RETRY = { baseMs: 100, capMs: 5_000, healthyMs: 0 };
/** Request numbers begin again long before the edge's bound; zero speaks of the connection. */
const MAX_REQUEST = MAX_COMMAND_NUMBER / 2;

export type Request = {
  /** Writes the message, under this number at every attempt. */
  write(writer: MsgpackWriter, number: number): void;
  readonly deadlineMs: number;
  /** Whether it may be asked again on another connection or after a passing error; otherwise these end it. */
  readonly lasting: boolean;
  /** The reader stands at the answer. */
  answered(reader: ServerMessageReader): void;
  failed(error: TroupeError): void;
};

type Open = Request & {
  readonly number: number;
  dueMs: number;
  sent: boolean;
  failures: number;
  lastError: TroupeError | undefined;
};

export type RequestSettings = {
  readonly platform: Platform;
  readonly attemptTimeoutMs: number;
  readonly maxOpen: number;
};

export class Requests {
  readonly #settings: RequestSettings;
  readonly #batch: MessageBatch;
  readonly #isOpen: () => boolean;
  readonly #open = new Map<number, Open>();
  #last = 0;

  constructor(settings: RequestSettings, batch: MessageBatch, isOpen: () => boolean) {
    this.#settings = settings;
    this.#batch = batch;
    this.#isOpen = isOpen;
  }

  /** Errors go to `failed`: `too_many_in_flight` at once, `timeout` or the last error at the deadline. */
  ask(request: Request): void {
    if (this.#open.size >= this.#settings.maxOpen) return request.failed(new TroupeError('too_many_in_flight'));
    this.#last = (this.#last % MAX_REQUEST) + 1;
    const open: Open = { ...request, number: this.#last, dueMs: 0, sent: false, failures: 0, lastError: undefined };
    this.#open.set(open.number, open);
    if (this.#isOpen()) this.#transmit(open);
  }

  answered(reader: ServerMessageReader): void {
    const open = this.#open.get(reader.about);
    if (!open) return;
    this.#open.delete(open.number);
    open.answered(reader);
  }

  failed(number: number, error: TroupeError): void {
    const open = this.#open.get(number);
    if (!open?.sent) return;
    const { platform } = this.#settings;
    const waitMs = Math.max(
      error.retryAfterMs ?? 0,
      fullJitter(RETRY, open.failures++, () => platform.random()),
    );
    open.sent = false;
    open.lastError = error;
    open.dueMs = platform.now() + waitMs;
    if (!open.lasting || !error.retryable || open.dueMs >= open.deadlineMs) this.#end(open, error);
  }

  /** Asks again what is due and ends what is over its deadline. Returns whether anything is open. */
  sweep(nowMs: number): boolean {
    for (const open of this.#open.values()) {
      if (nowMs >= open.deadlineMs) this.#end(open, this.#overdue(open));
      else if (nowMs >= open.dueMs && this.#isOpen()) this.#transmit(open);
    }
    return this.#open.size > 0;
  }

  /** A connection is there: whatever was under way, or never left, is asked on it. */
  opened(): void {
    for (const open of this.#open.values()) if (open.sent || open.failures === 0) this.#transmit(open);
  }

  lost(): void {
    for (const open of this.#open.values()) if (!open.lasting) this.#end(open, new TroupeError('disconnected'));
  }

  end(error: TroupeError): void {
    for (const open of this.#open.values()) this.#end(open, error);
  }

  #transmit(open: Open): void {
    open.sent = true;
    open.dueMs = this.#settings.platform.now() + this.#settings.attemptTimeoutMs;
    this.#batch.add((writer) => open.write(writer, open.number));
  }

  #end(open: Open, error: TroupeError): void {
    this.#open.delete(open.number);
    open.failed(error);
  }

  #overdue(open: Open): TroupeError {
    if (!open.sent && open.lastError) return open.lastError;
    return new TroupeError(open.sent ? 'timeout' : 'disconnected');
  }
}
