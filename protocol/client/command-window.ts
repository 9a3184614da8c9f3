/**
 * The commands of a session: each gets a number when it enters the window, keeps it through every resend, and leaves with the
 * first answer. The servers execute a number at most once, so a command may be sent again whenever its answer is missing:
 * after a reconnect, after a time without a reply, after an error that may pass.
 *
 * Guarantees: every promise settles exactly once, no later than its deadline (to one sweep); number - low stays below 256; a
 * command that may have been executed is never sent under another number.
 */

import { MAX_COMMAND_NUMBER, MAX_IN_FLIGHT } from '../message.ts';
import type { ServerMessageReader } from '../server-messages.ts';
import type { CallCodec } from './kind-codec.ts';
import { settle } from './kind-codec.ts';
import type { MessageBatch } from './message-batch.ts';
import type { Platform } from './platform.ts';
import { TroupeError } from './troupe-error.ts';

/** Slots for the numbers of the window; a number's slot is free again when `low` has passed it. */
const WINDOW = MAX_IN_FLIGHT;
/** From here on a session is renewed and numbers begin at 1 again, long before they end. */
const RENEW_NUMBER = MAX_COMMAND_NUMBER / 2;
/** Waits between attempts: quick at first, since most such errors last as long as a takeover. */
const RETRY_BASE_MS = 100;
const RETRY_CAP_MS = 5_000;

/** Refusals given before the command reached a log. After any other error it may have been executed. */
const NOT_EXECUTED: ReadonlySet<string> = new Set(['overloaded', 'rate_limited', 'too_many_in_flight', 'moving']);

/** What all commands of one name to one actor share. `lastSequence` is the newest log position that a reply told of. */
export type CommandRoute = {
  readonly codec: CallCodec;
  readonly head: Uint8Array;
  readonly actor: { lastSequence: number | undefined };
};

type Waiting = {
  readonly route: CommandRoute;
  readonly body: Uint8Array;
  readonly deadlineMs: number;
  readonly resolve: (reply: unknown) => void;
  readonly reject: (error: TroupeError) => void;
  /** 0 while it has none. */
  number: number;
  /** When the next attempt is due: after silence, or after the wait that an error asked for. */
  dueMs: number;
  /** Whether an attempt is under way. */
  sent: boolean;
  /** Whether an earlier attempt under this number may have been executed. */
  uncertain: boolean;
  failures: number;
  lastError: TroupeError | undefined;
};

export type WindowSettings = {
  readonly platform: Platform;
  readonly attemptTimeoutMs: number;
  readonly maxInFlight: number;
  readonly maxQueued: number;
};

export type WindowLink = {
  readonly batch: MessageBatch;
  readonly isOpen: () => boolean;
  /** Asks for a new session; nothing is in flight. `began` or a new connection follows. */
  readonly renew: () => void;
};

export class CommandWindow {
  readonly #settings: WindowSettings;
  readonly #link: WindowLink;
  readonly #slots: (Waiting | undefined)[] = new Array(WINDOW).fill(undefined);
  #queue: Waiting[] = [];
  #queueHead = 0;
  #next = 1;
  #low = 1;
  #inFlight = 0;
  #limit: number;
  #maxPayloadBytes = Number.MAX_SAFE_INTEGER;
  /** The connection is about to be left: no new numbers until the next one. */
  #draining = false;
  /** The session must be replaced: no new numbers until that has happened. */
  #renewWanted = false;
  #renewing = false;
  /** How many at the front of the queue had a number in a session that ended. */
  #requeued = 0;
  #horizonMs = 0;
  #sessionSinceMs = 0;

  constructor(settings: WindowSettings, link: WindowLink) {
    this.#settings = settings;
    this.#link = link;
    this.#limit = settings.maxInFlight;
  }

  get inFlight(): number {
    return this.#inFlight;
  }

  get queued(): number {
    return this.#queue.length - this.#queueHead;
  }

  /** Takes a command. It is sent at once if window and connection allow, else as soon as they do. */
  add(route: CommandRoute, body: Uint8Array, timeoutMs: number): Promise<unknown> {
    return new Promise((resolve, reject) => {
      if (this.queued >= this.#settings.maxQueued) return reject(new TroupeError('too_many_in_flight'));
      const nowMs = this.#settings.platform.now();
      this.#queue.push({
        route,
        body,
        deadlineMs: nowMs + timeoutMs,
        resolve,
        reject,
        number: 0,
        dueMs: 0,
        sent: false,
        uncertain: false,
        failures: 0,
        lastError: undefined,
      });
      if (this.#inFlight === 0) this.#renewIfDue(nowMs);
      this.#pump();
    });
  }

  /** The reader stands at a reply. Replies that nobody waits for are duplicates. */
  replied(reader: ServerMessageReader): void {
    const waiting = this.#take(reader.about);
    if (!waiting) return;
    const { codec, actor } = waiting.route;
    if (reader.elements > 3) actor.lastSequence = Math.max(reader.sequence() ?? 0, actor.lastSequence ?? 0);
    settle(codec.reply, reader, waiting.resolve, waiting.reject);
    this.#pump();
  }

  /** A refusal or an error. What may pass is tried again under the same number, until the deadline. */
  failed(number: number, error: TroupeError): void {
    const waiting = this.#slots[number % WINDOW];
    if (waiting?.number !== number) return;
    if (error.code === 'session_expired') return this.#expired(waiting, error);
    if (!error.retryable) return this.#giveUp(waiting, error);
    if (!waiting.sent) return; // A former attempt's refusal, while the next one already waits.
    if (!NOT_EXECUTED.has(error.code)) waiting.uncertain = true;
    const bound = Math.min(RETRY_CAP_MS, RETRY_BASE_MS * 2 ** Math.min(waiting.failures++, 10));
    const waitMs = Math.max(error.retryAfterMs ?? 0, bound * (0.5 + this.#settings.platform.random() / 2));
    waiting.sent = false;
    waiting.lastError = error;
    waiting.dueMs = this.#settings.platform.now() + waitMs;
    if (waiting.dueMs >= waiting.deadlineMs) this.#giveUp(waiting, error);
  }

  /** Sends what is due again and gives up what is over its deadline. Returns whether anything still waits. */
  sweep(nowMs: number): boolean {
    for (let number = this.#low; number < this.#next; number++) {
      const waiting = this.#slots[number % WINDOW];
      if (waiting === undefined) continue;
      if (nowMs >= waiting.deadlineMs) this.#giveUp(waiting, overdue(waiting));
      else if (nowMs >= waiting.dueMs && this.#link.isOpen()) this.#transmit(waiting, nowMs);
    }
    this.#sweepQueue(nowMs);
    this.#renewIfDue(nowMs);
    return this.#inFlight > 0 || this.queued > 0;
  }

  /** A connection is there. With the same session, all that is in flight goes out again under its number. */
  opened(
    sameSession: boolean,
    limits: { maxInFlight: number; maxPayloadBytes: number; sessionHorizonMs: number },
  ): void {
    this.#limit = Math.max(1, Math.min(this.#settings.maxInFlight, limits.maxInFlight, WINDOW));
    this.#maxPayloadBytes = limits.maxPayloadBytes;
    this.#horizonMs = limits.sessionHorizonMs;
    this.#draining = false;
    this.#renewWanted = false;
    this.#renewing = false;
    if (sameSession) this.#resend();
    else this.began();
    this.#pump();
  }

  /** A new session is there: nothing of the old one can be asked for any more. */
  began(): void {
    this.#sessionSinceMs = this.#settings.platform.now();
    this.#renewWanted = false;
    this.#renewing = false;
    const executed = new TroupeError(
      'session_expired',
      'The session ended; this command may have been executed in it.',
    );
    for (let number = this.#low; number < this.#next; number++) {
      const waiting = this.#take(number);
      if (waiting === undefined) continue;
      if (waiting.sent || waiting.uncertain) waiting.reject(executed);
      else this.#requeue(waiting);
    }
    this.#requeued = 0;
    if (this.#next >= RENEW_NUMBER) this.#next = this.#low = 1;
    this.#pump();
  }

  /** Begins nothing new until the next connection. */
  hold(): void {
    this.#draining = true;
  }

  /** Ends everything: the client is closed. */
  end(error: TroupeError): void {
    const all = this.#slots.filter((waiting) => waiting !== undefined).concat(this.#queue.slice(this.#queueHead));
    this.#slots.fill(undefined);
    this.#requeued = 0;
    this.#queue = [];
    this.#queueHead = 0;
    this.#inFlight = 0;
    this.#low = this.#next;
    for (const waiting of all) waiting.reject(error);
  }

  #pump(): void {
    if (this.#draining || this.#renewWanted || !this.#link.isOpen()) return;
    while (this.#queueHead < this.#queue.length && this.#next - this.#low < this.#limit) {
      const waiting = this.#queue[this.#queueHead++];
      if (waiting) this.#number(waiting);
    }
    if (this.#queueHead === this.#queue.length) {
      this.#queue.length = 0;
      this.#queueHead = 0;
    }
  }

  #number(waiting: Waiting): void {
    if (waiting.body.length > this.#maxPayloadBytes) return waiting.reject(new TroupeError('payload_too_large'));
    waiting.number = this.#next++;
    this.#slots[waiting.number % WINDOW] = waiting;
    this.#inFlight++;
    this.#transmit(waiting, this.#settings.platform.now());
  }

  #transmit(waiting: Waiting, nowMs: number): void {
    if (waiting.sent) waiting.uncertain = true;
    waiting.sent = true;
    waiting.dueMs = nowMs + this.#settings.attemptTimeoutMs;
    this.#link.batch.command(waiting.number, this.#low, waiting.route.head, waiting.body);
  }

  #resend(): void {
    const nowMs = this.#settings.platform.now();
    for (let number = this.#low; number < this.#next; number++) {
      const waiting = this.#slots[number % WINDOW];
      if (waiting?.sent) this.#transmit(waiting, nowMs);
    }
  }

  /** Takes a number out of the window and moves `low` past all that are answered. */
  #take(number: number): Waiting | undefined {
    const waiting = this.#slots[number % WINDOW];
    if (waiting === undefined || waiting.number !== number) return undefined;
    this.#slots[number % WINDOW] = undefined;
    this.#inFlight--;
    while (this.#low < this.#next && this.#slots[this.#low % WINDOW] === undefined) this.#low++;
    return waiting;
  }

  #giveUp(waiting: Waiting, error: TroupeError): void {
    this.#take(waiting.number);
    waiting.reject(error);
    this.#pump();
  }

  /** Its only attempt was refused unexecuted: it goes first in the next session. Otherwise the caller must know. */
  #expired(waiting: Waiting, error: TroupeError): void {
    this.#take(waiting.number);
    if (waiting.uncertain) waiting.reject(error);
    else this.#requeue(waiting);
    this.#renewWanted = true;
    this.#renewIfIdle();
  }

  #requeue(waiting: Waiting): void {
    waiting.number = 0;
    waiting.sent = false;
    this.#queue.splice(this.#queueHead + this.#requeued++, 0, waiting);
  }

  #sweepQueue(nowMs: number): void {
    const queue = this.#queue;
    if (!queue.some((waiting, index) => index >= this.#queueHead && nowMs >= waiting.deadlineMs)) return;
    const waiting = queue.slice(this.#queueHead);
    this.#queue = waiting.filter((one) => nowMs < one.deadlineMs);
    this.#queueHead = 0;
    const why = new TroupeError(this.#link.isOpen() ? 'too_many_in_flight' : 'disconnected');
    for (const one of waiting) if (nowMs >= one.deadlineMs) one.reject(one.lastError ?? why);
  }

  /** From half the horizon on a quiet moment is enough to renew; at three quarters one is made. */
  #renewIfDue(nowMs: number): void {
    const share = this.#horizonMs > 0 ? (nowMs - this.#sessionSinceMs) / this.#horizonMs : 0;
    if (share >= 0.75 || this.#next >= RENEW_NUMBER) this.#renewWanted = true;
    if (share >= 0.5 || this.#renewWanted) this.#renewIfIdle();
  }

  #renewIfIdle(): void {
    if (this.#inFlight > 0 || this.#renewing || this.#draining || !this.#link.isOpen()) return;
    this.#renewWanted = true;
    this.#renewing = true;
    this.#link.renew();
  }
}

/** The truth at a deadline: the last refusal, or that nobody knows, or that it never left. */
function overdue(waiting: Waiting): TroupeError {
  if (!waiting.sent && waiting.lastError) return waiting.lastError;
  return new TroupeError('timeout');
}
