/**
 * One topic at this edge and those who follow it. All who are `live` have seen everything up to `head`, so an event is
 * encoded once and the same bytes go to all of them. Whoever lacks something is `fetching`; what comes meanwhile is held, and
 * they join the others when what was fetched reaches the held part. Who is ahead (a snapshot was newer than the events that
 * have come so far) waits for the others; who may not have each event (slow, or wants fewer) is `resting`.
 */
import { MsgpackWriter } from '../../protocol/msgpack-writer.ts';
import { writeEvent } from '../../protocol/server-messages.ts';
import type { EdgeTopic, Target } from './catalogue.ts';
import type { Connection } from './connection.ts';
import { endOfValue } from './message-end.ts';
import type { Outgoing } from './outgoing.ts';
import type { Partition } from './partition.ts';

const MAX_GATHERED_BYTES = 64 * 1024; // Of one websocket message of events: more gains nothing, and clients take it in one piece.
const MAX_HELD_BYTES = 1024 * 1024; // Per topic, while somebody fetches. Beyond it they fetch what was let go.

export const FETCHING = 0;
const LIVE = 1;
const AHEAD = 2;
export const RESTING = 3;
export const OVER = 4;

export class Subscription {
  readonly connection: Connection;
  readonly topic: Topic;
  mode = FETCHING;
  /** Offset of the last event or snapshot that was given to the connection. */
  position = 0;
  /** Its place among the live ones. */
  index = 0;
  /** Ticks between two updates; 0: each event. */
  restTicks = 0;
  dueTick = 0;

  constructor(connection: Connection, topic: Topic) {
    this.connection = connection;
    this.topic = topic;
  }
}

export class Topic {
  readonly id: number;
  readonly name: string;
  readonly target: Target<Partition>;
  readonly spec: EdgeTopic;
  readonly #outgoing: Outgoing;
  readonly #rest: (subscription: Subscription) => void;
  /** 0: not known yet. */
  generation = 0;
  /** Offset of the newest event that has come, or -1. */
  head = -1;
  subscriptions = 0;
  fetching = 0;
  endBusSubscription: () => void = () => undefined;
  /** The end of everything about it. */
  over = false;

  readonly #live: Subscription[] = [];
  #ahead: Subscription[] = [];
  /** Events of this tick that are encoded and not given out yet. */
  readonly #gathered = new MsgpackWriter();
  #gatheredEvents = 0;
  /** Events that came while somebody fetches: their messages, and the offset of the last one in each. */
  #held: { readonly last: number; readonly first: number; readonly messages: Uint8Array }[] = [];
  #heldBytes = 0;

  constructor(
    id: number,
    target: Target<Partition>,
    spec: EdgeTopic,
    outgoing: Outgoing,
    rest: (slow: Subscription) => void,
  ) {
    this.id = id;
    this.name = spec.name;
    this.target = target;
    this.spec = spec;
    this.#outgoing = outgoing;
    this.#rest = rest;
  }

  get lossy(): boolean {
    return this.spec.lossy;
  }

  /** Whoever has seen this offset lacks nothing but what is held. */
  get reach(): number {
    const [first] = this.#held;
    return first ? first.first - 1 : this.head;
  }

  get hasUngiven(): boolean {
    return this.#gatheredEvents > 0;
  }

  liveSubscriptions(): readonly Subscription[] {
    return this.#live;
  }

  /** Takes the next event, offset head + 1 (any, when none has come before). It is given out with `give`, or at once when there is much. */
  gather(bytes: Uint8Array, offset: number, start: number, end: number): number {
    writeEvent(this.#gathered, this.id, offset, bytes.subarray(start, end));
    this.#gatheredEvents++;
    this.head = offset;
    return this.#gathered.offset >= MAX_GATHERED_BYTES ? this.give() : 0;
  }

  /** Gives what was gathered to all who are live, and holds it for those who fetch. Returns the deliveries. */
  give(): number {
    if (this.#gatheredEvents === 0) return 0;
    const messages = this.#gathered.copy();
    const first = this.head - this.#gatheredEvents + 1;
    this.#gathered.reset();
    const events = this.#gatheredEvents;
    this.#gatheredEvents = 0;
    if (this.fetching > 0) this.#hold(first, messages);
    for (let i = this.#live.length - 1; i >= 0; i--) this.#giveTo(this.#live[i] as Subscription, messages);
    if (this.#ahead.length > 0) this.#giveToAhead(first, messages);
    return events * this.#live.length;
  }

  /** Backwards through the live ones, since one may leave them here. */
  #giveTo(subscription: Subscription, messages: Uint8Array): void {
    const { connection } = subscription;
    if (this.lossy && connection.blocked) {
      this.leave(subscription);
      return this.#rest(subscription);
    }
    subscription.position = this.head;
    this.#outgoing.shared(connection, messages);
  }

  /** Those who were ahead join when the events reach them; within a chunk they are given only what they lack. */
  #giveToAhead(first: number, messages: Uint8Array): void {
    const still: Subscription[] = [];
    for (const subscription of this.#ahead) {
      if (subscription.position >= this.head) still.push(subscription);
      else this.#outgoing.shared(subscription.connection, afterOffset(messages, subscription.position + 1 - first));
    }
    const caught = this.#ahead.filter(({ position }) => position < this.head);
    this.#ahead = still;
    for (const subscription of caught) this.#goLive(subscription);
  }

  #hold(first: number, messages: Uint8Array): void {
    this.#held.push({ first, last: this.head, messages });
    this.#heldBytes += messages.length;
    if (this.#heldBytes > MAX_HELD_BYTES) this.dropHeld();
  }

  dropHeld(): void {
    this.#held = [];
    this.#heldBytes = 0;
  }

  /** Whoever fetched up to `position` (>= reach) is given what was held after it, and is live (or ahead). */
  join(subscription: Subscription, position: number): void {
    subscription.position = position;
    for (const { first, last, messages } of this.#held) {
      if (last <= subscription.position) continue;
      this.#outgoing.shared(
        subscription.connection,
        afterOffset(messages, Math.max(0, subscription.position + 1 - first)),
      );
      subscription.position = last;
    }
    if (position > this.head && this.#live.length === 0 && this.#ahead.length === 0) this.head = position;
    if (position > this.head) {
      subscription.mode = AHEAD;
      this.#ahead.push(subscription);
    } else this.#goLive(subscription);
  }

  #goLive(subscription: Subscription): void {
    subscription.mode = LIVE;
    subscription.position = this.head;
    subscription.index = this.#live.length;
    this.#live.push(subscription);
  }

  /** Takes a subscription out of those that are given events. */
  leave(subscription: Subscription): void {
    if (subscription.mode === LIVE) {
      const last = this.#live.pop() as Subscription;
      if (last !== subscription) {
        this.#live[subscription.index] = last;
        last.index = subscription.index;
      }
    } else if (subscription.mode === AHEAD) {
      this.#ahead = this.#ahead.filter((other) => other !== subscription);
    }
  }

  /** All who are live leave; they have seen `head`. */
  leaveLive(): Subscription[] {
    return rested(this.#live.splice(0));
  }

  /** All who are ahead leave; they have seen their `position`. */
  leaveAhead(): Subscription[] {
    const all = this.#ahead;
    this.#ahead = [];
    return rested(all);
  }
}

function rested(subscriptions: Subscription[]): Subscription[] {
  for (const subscription of subscriptions) subscription.mode = RESTING;
  return subscriptions;
}

/** The messages behind the first `skipped` of a chunk. Rare: only around a join. */
function afterOffset(messages: Uint8Array, skipped: number): Uint8Array {
  let at = 0;
  for (let i = 0; i < skipped; i++) at = endOfValue(messages, at, messages.length);
  return at === 0 ? messages : messages.subarray(at);
}
