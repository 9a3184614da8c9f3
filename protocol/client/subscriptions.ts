/**
 * Subscriptions that outlive connections. Each keeps the offset it has seen and asks to go on from there.
 *
 * Guarantees to a subscriber: offsets rise; an event is given at most once; on a lossless topic none is left out without a
 * call of `onGap` before the next one; on a lossy topic whatever was left out is contained in a snapshot that comes first.
 */

import { writeSubscribe, writeUnsubscribe } from '../client-messages.ts';
import type { ServerMessageReader, Subscribed } from '../server-messages.ts';
import type { BackoffSettings } from './backoff.ts';
import { fullJitter } from './backoff.ts';
import type { TopicCodec } from './kind-codec.ts';
import type { Platform } from './platform.ts';
import { throwLater } from './platform.ts';
import type { Requests } from './requests.ts';
import { asTroupeError, type TroupeError } from './troupe-error.ts';

/** Offsets that cannot be given any more: those after `after` and before `next`. */
export type Gap = { readonly after: number; readonly next: number };

export type SubscriptionHandlers<E, S> = {
  /** Lossy topics: the whole state at `offset`. It replaces everything before. */
  onSnapshot?(snapshot: S, offset: number): void;
  onEvent(event: E, offset: number): void;
  /** Events were missed for good: the server no longer has them, or its log began anew. */
  onGap?(gap: Gap): void;
  /** The subscription is over, and why. A subscription that the caller ended gets no call. */
  onEnded?(error: TroupeError): void;
  /** Lossless topics: the last offset already seen (0: from the beginning). Without it, events from now on. */
  readonly from?: number;
  /** Lossy topics: at most so many messages per second, conflated. */
  readonly rate?: number;
};

/** The handle of a subscription. */
export type Subscription = {
  /** The last offset seen; undefined until the first answer of a subscription without `from`. */
  readonly offset: number | undefined;
  unsubscribe(): void;
};

type Place = { readonly ref: string; readonly topic: string };

type Live = {
  readonly place: Place;
  readonly codec: TopicCodec;
  readonly handlers: SubscriptionHandlers<unknown, unknown>;
  offset: number | undefined;
  generation: number | undefined;
  topicId: number | undefined;
  /** A subscribe request is under way. */
  asking: boolean;
  retryAtMs: number;
  failures: number;
  ended: boolean;
};

const RETRY: BackoffSettings = { baseMs: 500, capMs: 5_000, healthyMs: 0 }; // The connection lives: one small request each few seconds.
/** The edge answers within a second or not at all; a lost answer is asked for again. */
const SUBSCRIBE_TIMEOUT_MS = 10_000;

export class Subscriptions {
  readonly #platform: Platform;
  readonly #requests: Requests;
  readonly #isOpen: () => boolean;
  readonly #all = new Set<Live>();
  /**
   * By the edge's topic id. Several of one client may follow one topic; the edge sends its events once. Lists are replaced
   * when one leaves, so a handler may end its own subscription while events are given out.
   */
  readonly #byTopic = new Map<number, readonly Live[]>();

  constructor(platform: Platform, requests: Requests, isOpen: () => boolean) {
    this.#platform = platform;
    this.#requests = requests;
    this.#isOpen = isOpen;
  }

  add(place: Place, codec: TopicCodec, handlers: SubscriptionHandlers<unknown, unknown>): Subscription {
    const live: Live = {
      place,
      codec,
      handlers,
      offset: handlers.from,
      generation: undefined,
      topicId: undefined,
      asking: false,
      retryAtMs: 0,
      failures: 0,
      ended: false,
    };
    this.#all.add(live);
    if (this.#isOpen()) this.#ask(live);
    return {
      get offset() {
        return live.offset;
      },
      unsubscribe: () => this.#remove(live),
    };
  }

  /** [4, topicId, offset, body]. */
  event({ about, offset, bytes, bodyStart, bodyEnd }: ServerMessageReader): void {
    const followers = this.#byTopic.get(about);
    if (!followers) return;
    for (const live of followers) this.#give(live, offset, bytes, bodyStart, bodyEnd);
  }

  /** [9, topicId, offset, body]: the newest state in place of the events before it. */
  conflated({ about, offset, bytes, bodyStart, bodyEnd }: ServerMessageReader): void {
    for (const live of this.#byTopic.get(about) ?? []) {
      if (live.offset === undefined || offset >= live.offset) this.#snapshot(live, offset, bytes, bodyStart, bodyEnd);
    }
  }

  /** [10, topicId, ...]: the edge ended it. What may pass is subscribed to again. */
  ended(topicId: number, error: TroupeError): void {
    const followers = this.#byTopic.get(topicId) ?? [];
    this.#byTopic.delete(topicId);
    for (const live of followers) {
      live.topicId = undefined;
      this.#refused(live, error);
    }
  }

  opened(): void {
    for (const live of this.#all) this.#ask(live);
  }

  lost(): void {
    this.#byTopic.clear();
    for (const live of this.#all) live.topicId = undefined;
  }

  /** Subscribes again where the wait after a refusal is over. Returns whether any waits. */
  sweep(nowMs: number): boolean {
    let waiting = false;
    for (const live of this.#all) {
      if (live.topicId !== undefined || live.asking) continue;
      if (this.#isOpen() && nowMs >= live.retryAtMs) this.#ask(live);
      waiting = true;
    }
    return waiting;
  }

  end(error: TroupeError): void {
    for (const live of this.#all) this.#finish(live, error);
  }

  #ask(live: Live): void {
    if (live.asking || live.ended) return;
    live.asking = true;
    const { place, handlers, offset: from, generation } = live;
    const options = { from, generation, rate: handlers.rate };
    this.#requests.ask({
      write: (writer, number) => writeSubscribe(writer, number, place.ref, place.topic, options),
      deadlineMs: this.#platform.now() + SUBSCRIBE_TIMEOUT_MS,
      lasting: false,
      answered: (reader) => this.#subscribed(live, reader.subscribed()),
      failed: (error) => {
        live.asking = false;
        if (error.code !== 'disconnected') this.#refused(live, error);
      },
    });
  }

  #subscribed(live: Live, answer: Subscribed): void {
    live.asking = false;
    live.failures = 0;
    if (live.ended) return this.#leave(live.place);
    this.#follow(live, answer.topicId);
    const anew = live.generation !== undefined && live.generation !== answer.generation;
    live.generation = answer.generation;
    const { snapshot } = answer;
    if (snapshot) return this.#snapshot(live, answer.offset, snapshot, 0, snapshot.length);
    const before = live.offset;
    // Without recovery the answer's offset is where events go on; with it, they follow the one we named.
    if (before === undefined || !answer.recovered || anew) live.offset = answer.offset;
    if (
      live.codec.snapshot === undefined &&
      before !== undefined &&
      (anew || (!answer.recovered && answer.offset !== before))
    ) {
      call(() => live.handlers.onGap?.({ after: before, next: answer.offset + 1 }));
    }
  }

  #follow(live: Live, topicId: number): void {
    live.topicId = topicId;
    this.#byTopic.set(topicId, [...(this.#byTopic.get(topicId) ?? []), live]);
  }

  #give(live: Live, offset: number, bytes: Uint8Array, start: number, end: number): void {
    const before = live.offset ?? offset - 1;
    if (offset <= before || live.ended) return;
    if (offset > before + 1) return this.#again(live);
    live.offset = offset;
    let event: unknown;
    try {
      event = live.codec.event.decode(bytes, start, end);
    } catch (thrown) {
      return this.#finish(live, asTroupeError(thrown, 'malformed_message'));
    }
    try {
      live.handlers.onEvent(event, offset);
    } catch (error) {
      throwLater(error);
    }
  }

  #snapshot(live: Live, offset: number, bytes: Uint8Array, start: number, end: number): void {
    if (live.ended) return;
    live.offset = offset;
    let snapshot: unknown;
    try {
      snapshot = live.codec.snapshot?.decode(bytes, start, end);
    } catch (thrown) {
      return this.#finish(live, asTroupeError(thrown, 'malformed_message'));
    }
    call(() => live.handlers.onSnapshot?.(snapshot, offset));
  }

  /** An offset is missing, which no edge lets happen: ask again from the last one seen. */
  #again(live: Live): void {
    this.#unfollow(live);
    this.#ask(live);
  }

  #refused(live: Live, error: TroupeError): void {
    if (!error.retryable) return this.#finish(live, error);
    const waitMs = Math.max(
      error.retryAfterMs ?? 0,
      fullJitter(RETRY, live.failures++, () => this.#platform.random()),
    );
    live.retryAtMs = this.#platform.now() + waitMs;
  }

  #remove(live: Live): void {
    if (live.ended) return;
    live.ended = true;
    this.#all.delete(live);
    const { topicId } = live;
    this.#unfollow(live);
    if (topicId !== undefined) this.#leave(live.place);
  }

  /** Tells the edge, unless another subscription of ours is on the topic: the edge knows one per connection. */
  #leave(place: Place): void {
    if (!this.#isOpen()) return;
    for (const { place: other } of this.#all) if (other.ref === place.ref && other.topic === place.topic) return;
    this.#requests.ask({
      write: (writer, number) => writeUnsubscribe(writer, number, place.ref, place.topic),
      deadlineMs: this.#platform.now() + SUBSCRIBE_TIMEOUT_MS,
      lasting: false,
      answered: () => {},
      failed: () => {},
    });
  }

  #unfollow(live: Live): void {
    if (live.topicId === undefined) return;
    const others = (this.#byTopic.get(live.topicId) ?? []).filter((other) => other !== live);
    if (others.length > 0) this.#byTopic.set(live.topicId, others);
    else this.#byTopic.delete(live.topicId);
    live.topicId = undefined;
  }

  #finish(live: Live, error: TroupeError): void {
    this.#remove(live);
    call(() => live.handlers.onEnded?.(error));
  }
}

/** A subscriber's own error is its own: it surfaces as uncaught and stops nothing here. */
function call(run: () => void): void {
  try {
    run();
  } catch (error) {
    throwLater(error);
  }
}
