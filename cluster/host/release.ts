/**
 * Lets a folded message's outputs go: replies to its edge, events to their topics. At most once over the bus: clients resend by
 * number, and edges see by the offsets, and by the heads published each second, what they missed.
 */
import type { Bus } from '../bus/bus.ts';
import { EventBatchWriter, encodeHeads, type ReplyFigures, stampReplyBatch } from '../bus/messages.ts';
import { headsOf, repliesTo, topicSubject } from '../bus/subjects.ts';
import { MAX_BATCH_BYTES, type TopicEvents } from './outputs.ts';

/** What is left of `Outputs` when it has to wait: for the bytes are used again by the next message. */
export type Released = {
  readonly sequence: number;
  readonly edge: string;
  readonly replies: readonly Uint8Array[];
  readonly events: readonly TopicEvents[];
};

type RecentHead = { readonly ref: string; readonly topic: string; readonly offset: number; left: number };

const HEAD_REPEATS = 5; // Seconds: a restart of the log server on the same machine takes less.
const MAX_HEADS_KEPT = 10_000; // Topics that changed last, for a bus that comes back: about 2 MB.
const HEADS_PER_MESSAGE = 2_000; // With names of 200 bytes 400 KB: below the server's limit of 1 MiB.
const MAX_SUBJECTS_KEPT = 10_000; // Encoding a subject costs a microsecond; beyond this many topics it is paid again.

export class Releaser {
  readonly #bus: Bus;
  readonly #partition: string;
  readonly #writer = new EventBatchWriter();
  readonly #subjects = new Map<string, string>();
  readonly #heads = new Map<string, RecentHead>();

  constructor(bus: Bus, partition: string) {
    this.#bus = bus;
    this.#partition = partition;
  }

  release({ edge, replies, events }: Released, figures: ReplyFigures, generation: number): void {
    for (const batch of replies) {
      stampReplyBatch(batch, figures);
      this.#bus.publish(repliesTo(edge), batch);
    }
    for (const topic of events) this.#releaseEvents(topic, generation, figures.epoch);
  }

  /** Notes a topic's newest offset, also of events that are not released (recovery). */
  note({ ref, topic, firstOffset, events }: TopicEvents): void {
    const name = `${ref}/${topic}`;
    this.#heads.delete(name); // So that the map is in the order of the last change.
    this.#heads.set(name, { ref, topic, offset: firstOffset + events.length - 1, left: HEAD_REPEATS });
    if (this.#heads.size <= MAX_HEADS_KEPT) return;
    for (const [oldest] of this.#heads) {
      this.#heads.delete(oldest);
      break;
    }
  }

  /** Publishes the heads of the topics that changed lately: several times, since any of these messages may be lost. */
  publishHeads(epoch: number, generation: number): void {
    const topics: [string, string, number][] = [];
    for (const head of this.#heads.values()) {
      if (head.left === 0) continue;
      head.left--;
      topics.push([head.ref, head.topic, head.offset]);
    }
    for (let from = 0; from < topics.length; from += HEADS_PER_MESSAGE) {
      const page = topics.slice(from, from + HEADS_PER_MESSAGE);
      this.#bus.publish(headsOf(this.#partition), encodeHeads({ epoch, generation, topics: page }));
    }
  }

  /** Whatever was published lately may have been lost: the next calls publish all of it again. */
  repeatHeads(): void {
    for (const head of this.#heads.values()) head.left = HEAD_REPEATS;
  }

  #releaseEvents(topic: TopicEvents, generation: number, epoch: number): void {
    this.note(topic);
    const subject = this.#subject(topic);
    this.#writer.begin(generation, epoch, topic.firstOffset);
    topic.events.forEach((event, i) => {
      if (this.#writer.count > 0 && this.#writer.length + event.length > MAX_BATCH_BYTES) {
        this.#bus.publish(subject, this.#writer.take());
        this.#writer.begin(generation, epoch, topic.firstOffset + i);
      }
      this.#writer.append(event);
    });
    this.#bus.publish(subject, this.#writer.take());
  }

  #subject({ ref, topic }: TopicEvents): string {
    const name = `${ref}/${topic}`;
    const known = this.#subjects.get(name);
    if (known) return known;
    if (this.#subjects.size >= MAX_SUBJECTS_KEPT) this.#subjects.clear();
    const subject = topicSubject(ref, topic);
    this.#subjects.set(name, subject);
    return subject;
  }
}
