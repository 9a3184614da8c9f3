/**
 * Topics of this edge: one subscription of the bus for each, however many connections follow it.
 *
 * Guarantees to a follower: offsets rise by one; what was missed is fetched before anything newer is given (rows of a lossless
 * topic, the snapshot of a lossy one, as `conflated`), however it was missed: a gap between batches, a lost tail (heads tell),
 * a slow reader, a reconnect. What cannot be had any more ends in `recovered: false` or `ended`, never in silence.
 */
import { ProtocolError } from '../../protocol/errors.ts';
import { MsgpackWriter } from '../../protocol/msgpack-writer.ts';
import { writeConflated, writeEnded, writeEvent, writeSubscribed } from '../../protocol/server-messages.ts';
import type { Bus } from '../bus/bus.ts';
import {
  decodeEventsPage,
  decodeHeads,
  decodeSnapshot,
  type EventHeader,
  type EventsPage,
  encodeEventsRequest,
  encodeSnapshotRequest,
  readEventBatch,
  type TopicSnapshot,
} from '../bus/messages.ts';
import { topicSubject } from '../bus/subjects.ts';
import type { EdgeTopic, Target } from './catalogue.ts';
import { CoarseClock, TICK_MS } from './coarse-clock.ts';
import type { Connection } from './connection.ts';
import type { EdgeCounters } from './counters.ts';
import type { Outgoing } from './outgoing.ts';
import type { Partition } from './partition.ts';
import { type Queries, tell } from './queries.ts';
import type { EdgeSettings } from './settings.ts';
import { FETCHING, OVER, RESTING, Subscription, Topic } from './topic.ts';

const PAGE_EVENTS = 250; // Rows asked for at once: rows of 4 KB still fit the bus's message limit of 1 MiB.
const MAX_PIECE_BYTES = 64 * 1024; // Of a page in one websocket message.
const RETRY_MS = [20, 50, 100, 250, 500, 1_000]; // Between attempts; a takeover takes a second or two.
const MAX_ATTEMPTS = 30; // Half a minute: then the followers are told, and ask again when they like.
const POLL_BLOCKED_MS = 20; // A follower that recovers alone is given the next page when it took the one before.

export type SubscribeOptions = {
  /** Last offset seen. */
  readonly from: number | undefined;
  readonly generation: number | undefined;
  /** Updates per second of a lossy topic. */
  readonly rate: number | undefined;
};

/** Followers that fetch together: all lack what comes after `after`. */
type Fetch = {
  readonly topic: Topic;
  subscriptions: Subscription[];
  after: number;
  /** The request to answer, of a single new follower. */
  request: number | undefined;
  readonly options: SubscribeOptions;
};

const NO_OPTIONS: SubscribeOptions = { from: undefined, generation: undefined, rate: undefined };

export class TopicHub {
  readonly #settings: EdgeSettings;
  readonly #bus: Bus;
  readonly #queries: Queries;
  readonly #outgoing: Outgoing;
  readonly #clock: CoarseClock;
  readonly #counters: EdgeCounters;
  readonly #problem: (message: string, error: unknown) => void;
  readonly #topics = new Map<string, Topic>();
  readonly #resting = new Set<Subscription>();
  #ungiven: Topic[] = [];
  #ids = 0;
  #stopped = false;

  constructor(options: {
    settings: EdgeSettings;
    bus: Bus;
    queries: Queries;
    outgoing: Outgoing;
    clock: CoarseClock;
    counters: EdgeCounters;
    problem: (message: string, error: unknown) => void;
  }) {
    this.#settings = options.settings;
    this.#bus = options.bus;
    this.#queries = options.queries;
    this.#outgoing = options.outgoing;
    this.#clock = options.clock;
    this.#counters = options.counters;
    this.#problem = options.problem;
    this.#outgoing.beforeFlush = () => this.#giveAll();
  }

  get topics(): number {
    return this.#topics.size;
  }

  stop(): void {
    this.#stopped = true;
    for (const topic of this.#topics.values()) this.#close(topic);
  }

  /**
   * Lets a connection follow a topic. The request is answered when the start is fetched; following again never loses events.
   * Errors: `too_many_subscriptions`, `overloaded`.
   */
  subscribe(
    connection: Connection,
    request: number,
    target: Target<Partition>,
    spec: EdgeTopic,
    options: SubscribeOptions,
  ): void {
    const topic = this.#topicOf(target, spec);
    const known = subscriptionsOf(connection)?.get(topic);
    if (!known && (connection.subscriptions?.size ?? 0) >= this.#settings.maxSubscriptions) {
      this.#closeIfUnused(topic);
      throw new ProtocolError('too_many_subscriptions');
    }
    const from = known && !topic.lossy ? Math.min(known.position, options.from ?? known.position) : options.from;
    const generation = known && !topic.lossy ? topic.generation : options.generation;
    const subscription = this.#add(connection, topic);
    if (known) this.#remove(known);
    subscription.restTicks = topic.lossy ? restTicks(options.rate) : 0;
    const { rate } = options;
    this.#fetch({
      topic,
      subscriptions: [subscription],
      after: from ?? 0,
      request,
      options: { from, generation, rate },
    });
    // Others on this connection share the subscription and jump with it.
    if (known && topic.lossy) subscription.dueTick = -1;
  }

  unsubscribe(connection: Connection, target: Target<Partition>, spec: EdgeTopic): void {
    const topic = this.#topics.get(topicName(target, spec));
    const subscription = topic && subscriptionsOf(connection)?.get(topic);
    if (subscription) this.#remove(subscription);
  }

  /** The connection is closed. */
  left(connection: Connection): void {
    for (const subscription of subscriptionsOf(connection)?.values() ?? []) this.#remove(subscription);
  }

  /** Each tick: who rests and may have the newest state now. Followers of one topic share what is fetched. */
  tick(): void {
    const groups = new Map<Topic, Subscription[]>();
    for (const subscription of this.#resting) {
      const { topic, dueTick, position, connection } = subscription;
      if (dueTick > this.#clock.tick || topic.head <= position || connection.blocked) continue;
      const group = groups.get(topic);
      if (group) group.push(subscription);
      else groups.set(topic, [subscription]);
    }
    for (const [topic, subscriptions] of groups) {
      for (const subscription of subscriptions) this.#resting.delete(subscription);
      this.#fetch({ topic, subscriptions, after: 0, request: undefined, options: NO_OPTIONS });
    }
  }

  /** `h.<partition>`: whoever is behind a head lacks a tail. Errors: ProtocolError. */
  heads(bytes: Uint8Array): void {
    const { generation, topics } = decodeHeads(bytes);
    for (const [ref, name, offset] of topics) {
      const topic = this.#topics.get(`${ref}/${name}`);
      if (!topic || topic.head < 0 || !this.#sameGeneration(topic, generation) || offset <= topic.head) continue;
      this.#missed(topic);
      topic.head = offset;
      topic.dropHeld();
    }
  }

  #topicOf(target: Target<Partition>, spec: EdgeTopic): Topic {
    const name = topicName(target, spec);
    const known = this.#topics.get(name);
    if (known) return known;
    if (this.#topics.size >= this.#settings.maxTopics)
      throw new ProtocolError('overloaded', 'too many topics on this edge');
    const topic = new Topic(++this.#ids, target, spec, this.#outgoing, this.#rest);
    this.#topics.set(name, topic);
    topic.endBusSubscription = this.#bus.subscribe(topicSubject(target.ref, spec.name), (bytes) =>
      this.#batch(topic, bytes),
    );
    return topic;
  }

  #add(connection: Connection, topic: Topic): Subscription {
    const subscription = new Subscription(connection, topic);
    connection.subscriptions ??= new Map();
    connection.subscriptions.set(topic, subscription);
    topic.subscriptions++;
    return subscription;
  }

  #remove(subscription: Subscription): void {
    const { topic, connection } = subscription;
    if (subscription.mode === OVER) return;
    topic.give();
    if (subscription.mode === FETCHING) topic.fetching--;
    topic.leave(subscription);
    this.#resting.delete(subscription);
    subscription.mode = OVER;
    if (connection.subscriptions?.get(topic) === subscription) connection.subscriptions.delete(topic);
    if (connection.subscriptions?.size === 0) connection.subscriptions = undefined;
    topic.subscriptions--;
    this.#afterFetching(topic);
    this.#closeIfUnused(topic);
  }

  #closeIfUnused(topic: Topic): void {
    if (topic.subscriptions === 0) this.#close(topic);
  }

  #close(topic: Topic): void {
    if (topic.over) return;
    topic.over = true;
    topic.endBusSubscription();
    this.#topics.delete(topicName(topic.target, topic.spec));
  }

  #batch(topic: Topic, bytes: Uint8Array): void {
    if (topic.over) return;
    try {
      let wanted = false;
      readEventBatch(
        bytes,
        (header) => {
          wanted = this.#begin(topic, header);
        },
        (all, offset, start, end) => {
          if (wanted && offset > topic.head) this.#counters.deliveries += topic.gather(all, offset, start, end);
        },
      );
    } catch (error) {
      this.#counters.damagedBusMessages++;
      this.#problem(`an event batch of ${topic.target.ref} is damaged`, error);
    }
  }

  /** Whether the batch's events are to be taken. */
  #begin(topic: Topic, { generation, firstOffset, count }: EventHeader): boolean {
    if (count === 0 || !this.#sameGeneration(topic, generation)) return false;
    if (topic.head >= 0 && firstOffset > topic.head + 1) this.#missed(topic);
    if (topic.head >= 0 && firstOffset > topic.head + 1) topic.dropHeld();
    if (!topic.hasUngiven) {
      this.#ungiven.push(topic);
      this.#outgoing.askFlush();
    }
    this.#counters.events += count;
    return true;
  }

  /** Older generations are not believed; a newer one ends everything, and followers begin anew. */
  #sameGeneration(topic: Topic, generation: number): boolean {
    if (topic.generation === 0) topic.generation = generation;
    if (generation > topic.generation) this.#endAll(topic, 'moving', 'the log of this actor began anew');
    return generation === topic.generation && !topic.over;
  }

  /** Events are missing behind the head: all who were live fetch from there. */
  #missed(topic: Topic): void {
    this.#counters.deliveries += topic.give();
    const after = topic.head;
    const subscriptions = topic.leaveLive();
    if (subscriptions.length > 0) this.#fetch({ topic, subscriptions, after, request: undefined, options: NO_OPTIONS });
    for (const ahead of topic.leaveAhead()) {
      this.#fetch({ topic, subscriptions: [ahead], after: ahead.position, request: undefined, options: NO_OPTIONS });
    }
  }

  readonly #giveAll = (): void => {
    if (this.#ungiven.length === 0) return;
    const topics = this.#ungiven;
    this.#ungiven = [];
    for (const topic of topics) {
      if (!topic.over) this.#counters.deliveries += topic.give();
    }
  };

  /** A slow follower of a lossy topic: it gets the newest state when its connection has taken what waits. */
  readonly #rest = (subscription: Subscription): void => {
    subscription.mode = RESTING;
    subscription.dueTick = 0;
    this.#resting.add(subscription);
  };

  #fetch(fetch: Fetch): void {
    for (const subscription of fetch.subscriptions) {
      subscription.mode = FETCHING;
      fetch.topic.fetching++;
    }
    const work = fetch.topic.lossy ? this.#fetchSnapshot(fetch) : this.#fetchEvents(fetch);
    work.catch((error: unknown) => this.#fetchFailed(fetch, error));
  }

  /** Only those who still wait for it. */
  #waiting(fetch: Fetch): Subscription[] {
    return fetch.subscriptions.filter(({ mode }) => mode === FETCHING);
  }

  #fetchFailed(fetch: Fetch, error: unknown): void {
    const { code, message, retryAfterMs } = tell(error);
    if (code === 'internal') this.#problem(`fetching ${fetch.topic.target.ref}/${fetch.topic.name} failed`, error);
    for (const subscription of this.#waiting(fetch)) {
      if (fetch.request !== undefined)
        this.#outgoing.error(subscription.connection, fetch.request, code, message, retryAfterMs);
      else this.#end(subscription.connection, fetch.topic, code, message);
      this.#remove(subscription);
    }
  }

  #endAll(topic: Topic, code: string, message: string): void {
    for (const subscription of [...topic.leaveLive(), ...topic.leaveAhead(), ...this.#restingOf(topic)]) {
      this.#end(subscription.connection, topic, code, message);
      this.#remove(subscription);
    }
    this.#close(topic);
  }

  #restingOf(topic: Topic): Subscription[] {
    return [...this.#resting].filter((subscription) => subscription.topic === topic);
  }

  /** Asks again while the partition has no owner, as long as anyone waits. */
  async #ask<T>(
    fetch: Fetch,
    name: string,
    body: Uint8Array,
    decode: (bytes: Uint8Array) => T,
  ): Promise<T | undefined> {
    const { partition, ref } = fetch.topic.target;
    for (let attempt = 0; ; attempt++) {
      try {
        this.#counters.topicFetches++;
        const answer = decode(await this.#queries.builtIn(partition, ref, name, body));
        return this.#isOver(fetch) ? undefined : answer;
      } catch (error) {
        const { retryAfterMs } = tell(error);
        // A new follower is told at once; those who were live wait for the next owner.
        if (retryAfterMs === undefined || attempt + 1 >= MAX_ATTEMPTS || fetch.request !== undefined) throw error;
      }
      await this.#pause(attempt);
      if (this.#isOver(fetch)) return undefined;
    }
  }

  #isOver(fetch: Fetch): boolean {
    return this.#stopped || this.#waiting(fetch).length === 0;
  }

  #pause(attempt: number): Promise<void> {
    const delayMs = RETRY_MS[Math.min(attempt, RETRY_MS.length - 1)] as number;
    return new Promise((resolve) => setTimeout(resolve, delayMs).unref());
  }

  async #fetchSnapshot(fetch: Fetch): Promise<void> {
    const { topic } = fetch;
    const body = encodeSnapshotRequest(topic.name);
    for (let attempt = 0; attempt < MAX_ATTEMPTS; attempt++) {
      const snapshot = await this.#ask(fetch, '~snapshot', body, decodeSnapshot);
      if (!snapshot) return;
      this.#counters.deliveries += topic.give();
      if (this.#sameGeneration(topic, snapshot.generation) && snapshot.offset >= topic.reach)
        return this.#startFrom(fetch, snapshot);
      if (this.#isOver(fetch)) return;
      if (topic.over) break;
      await this.#pause(attempt);
    }
    throw new ProtocolError('moving');
  }

  #startFrom(fetch: Fetch, snapshot: TopicSnapshot): void {
    const { topic, request, options } = fetch;
    let conflated: Uint8Array | undefined;
    for (const subscription of this.#waiting(fetch)) {
      const { connection } = subscription;
      if (request !== undefined) {
        const seen = options.from === snapshot.offset && options.generation === snapshot.generation;
        this.#answer(connection, request, topic, snapshot.offset, seen, seen ? undefined : snapshot.body);
      }
      if (request === undefined || subscription.dueTick === -1) {
        conflated ??= conflatedMessage(topic.id, snapshot);
        this.#outgoing.shared(connection, conflated);
        this.#counters.conflated++;
      }
      this.#joined(subscription, snapshot.offset);
    }
    this.#afterFetching(topic);
  }

  #joined(subscription: Subscription, position: number): void {
    const { topic } = subscription;
    topic.fetching--;
    if (subscription.restTicks === 0) return topic.join(subscription, position);
    subscription.mode = RESTING;
    subscription.position = position;
    if (topic.head < position && topic.liveSubscriptions().length === 0) topic.head = position;
    subscription.dueTick = this.#clock.tick + subscription.restTicks;
    this.#resting.add(subscription);
  }

  #afterFetching(topic: Topic): void {
    if (topic.fetching === 0) topic.dropHeld();
  }

  async #fetchEvents(fetch: Fetch): Promise<void> {
    const { topic } = fetch;
    for (let attempt = 0; attempt < MAX_ATTEMPTS; ) {
      const limit = fetch.request !== undefined && fetch.options.from === undefined ? 0 : PAGE_EVENTS;
      const body = encodeEventsRequest({ topic: topic.name, after: fetch.after, limit });
      const page = await this.#ask(fetch, '~events', body, decodeEventsPage);
      if (!page) return;
      this.#counters.deliveries += topic.give();
      if (!this.#sameGeneration(topic, page.generation)) {
        if (topic.over) throw new ProtocolError('moving');
        attempt++; // An owner of the past answered.
      } else {
        const before = fetch.after;
        if (this.#takePage(fetch, page)) return;
        attempt = fetch.after > before ? 0 : attempt + 1;
      }
      if (this.#isOver(fetch)) return;
      if (attempt > 0) await this.#pause(attempt);
      else await this.#untilTaken(fetch);
    }
    throw new ProtocolError('moving');
  }

  /** Gives out a page. Returns whether the followers have joined the others. */
  #takePage(fetch: Fetch, page: EventsPage): boolean {
    const { topic } = fetch;
    if (fetch.request !== undefined) this.#begun(fetch, page);
    else if (page.headOffset > fetch.after && page.firstOffset > fetch.after + 1)
      throw new ProtocolError('moving', 'missed events are not kept any more');
    if (page.events.length > 0 && fetch.after < page.headOffset) this.#givePage(fetch, page.events);
    if (fetch.after < Math.max(topic.reach, page.headOffset)) return false;
    for (const subscription of this.#waiting(fetch)) this.#joined(subscription, fetch.after);
    this.#afterFetching(topic);
    return true;
  }

  /** Answers a new follower by the first page: it goes on from where it was, or is told that it cannot. */
  #begun(fetch: Fetch, page: EventsPage): void {
    const { topic, options, request } = fetch;
    const { from } = options;
    const [subscription] = this.#waiting(fetch);
    const recovered = from !== undefined && this.#canRecover(page, from, options.generation);
    const offset = recovered ? from : page.headOffset;
    fetch.after = offset;
    fetch.request = undefined;
    if (subscription) this.#answer(subscription.connection, request as number, topic, offset, recovered, undefined);
  }

  /** The whole gap must be there, in the same generation; no partial recovery. */
  #canRecover(page: EventsPage, from: number, generation: number | undefined): boolean {
    if (generation !== undefined && generation !== page.generation) return false;
    return (
      from <= page.headOffset &&
      from + 1 >= page.firstOffset &&
      page.headOffset - from <= this.#settings.maxRecoveredEvents
    );
  }

  /** In pieces: rows may be large, and a websocket message is taken in one. */
  #givePage(fetch: Fetch, events: readonly Uint8Array[]): void {
    let writer = new MsgpackWriter();
    for (const event of events) {
      writeEvent(writer, fetch.topic.id, ++fetch.after, event);
      if (writer.offset < MAX_PIECE_BYTES && event !== events.at(-1)) continue;
      this.#givePiece(fetch, writer.view());
      writer = new MsgpackWriter();
    }
    this.#counters.deliveries += events.length * this.#waiting(fetch).length;
  }

  #givePiece(fetch: Fetch, messages: Uint8Array): void {
    for (const subscription of this.#waiting(fetch)) {
      this.#outgoing.shared(subscription.connection, messages);
      subscription.position = fetch.after;
    }
  }

  /** One who recovers alone is not given more than it takes. */
  async #untilTaken(fetch: Fetch): Promise<void> {
    const [subscription] = fetch.subscriptions;
    while (fetch.subscriptions.length === 1 && subscription?.connection.blocked && !this.#isOver(fetch)) {
      await new Promise((resolve) => setTimeout(resolve, POLL_BLOCKED_MS).unref());
    }
  }

  #answer(
    connection: Connection,
    request: number,
    topic: Topic,
    offset: number,
    recovered: boolean,
    snapshot: Uint8Array | undefined,
  ): void {
    const answer = { topicId: topic.id, generation: topic.generation, offset, recovered, snapshot };
    this.#outgoing.message(connection, (writer) => writeSubscribed(writer, request, answer));
  }

  #end(connection: Connection, topic: Topic, code: string, message: string): void {
    this.#outgoing.message(connection, (writer) => writeEnded(writer, topic.id, code, message));
  }
}

/** What this hub has put there. */
function subscriptionsOf({ subscriptions }: Connection): Map<Topic, Subscription> | undefined {
  return subscriptions as Map<Topic, Subscription> | undefined;
}

const topicName = (target: Target<Partition>, spec: EdgeTopic): string => `${target.ref}/${spec.name}`;

/** A rate that the ticks cannot tell from "each" is none. */
function restTicks(rate: number | undefined): number {
  return rate === undefined || rate >= 1_000 / TICK_MS ? 0 : CoarseClock.ticks(1_000 / rate);
}

function conflatedMessage(topicId: number, { offset, body }: TopicSnapshot): Uint8Array {
  const writer = new MsgpackWriter();
  writeConflated(writer, topicId, offset, body);
  return writer.view();
}
