/**
 * Events fanned out: every socket follows one topic, decodes each event, and checks that its offset is the next and its text the
 * one that was told. A publisher of its own keeps a number of events on the way that not every socket has yet.
 */

import { build, type Histogram } from 'hdr-histogram-js';
import { writeSubscribe } from '../../protocol/client-messages.ts';
import { FROM_EDGE } from '../../protocol/message.ts';
import type { ServerMessageReader } from '../../protocol/server-messages.ts';
import { beacon, NOTE_BYTES } from './beacon.ts';
import { CommandFrame } from './command-frames.ts';
import { type Latency, latencyOf } from './command-load.ts';
import { EdgeConnection } from './edge-connection.ts';
import { nowMs } from './pace.ts';

const REF = 'beacon:one';
const NOTE = 'n'.repeat(NOTE_BYTES);
const RING = 4_096; // Events on the way at once, at most.
const OPENED_AT_ONCE = 100; // Below the length of the listener's queue.
const DRAIN_TIMEOUT_MS = 30_000;

export type FanoutSettings = { readonly port: number; readonly tokens: readonly string[]; readonly sockets: number };
export type FanoutResult = {
  readonly deliveries: number;
  readonly seconds: number;
  readonly events: number;
  /** Websocket messages that brought the deliveries: equal where each event is a message of its own. */
  readonly messages: number;
  /** From the sending of the command to the last socket that has its event. */
  readonly lastSocketUs: Latency;
};

export class EventLoad {
  readonly #followers: Follower[] = [];
  readonly #missing = new Int32Array(RING);
  readonly #sentMs = new Float64Array(RING);
  #publisher!: EdgeConnection;
  readonly #frame = new CommandFrame(REF, 'tell', beacon.commands.tell, { note: NOTE });
  #sent = 0;
  #complete = 0;
  #wanted = 0;
  #acknowledged = 0;
  #histogram: Histogram = newHistogram();

  static async open({ port, tokens, sockets }: FanoutSettings): Promise<EventLoad> {
    const load = new EventLoad();
    for (let opened = 0; opened < sockets; opened += OPENED_AT_ONCE) {
      const group = Array.from({ length: Math.min(OPENED_AT_ONCE, sockets - opened) }, (_, i) => opened + i);
      const token = (i: number) => tokens[i % tokens.length] as string;
      load.#followers.push(
        ...(await Promise.all(group.map((i) => Follower.open(port, token(i), (offset) => load.#arrived(offset))))),
      );
    }
    await load.#openPublisher(port, tokens[0] as string);
    return load;
  }

  /** Keeps `onTheWay` events on the way; counts what is delivered within `runMs` after `warmMs`. */
  async run({ onTheWay, warmMs, runMs }: { onTheWay: number; warmMs: number; runMs: number }): Promise<FanoutResult> {
    this.#wanted = onTheWay;
    this.#publish();
    await sleep(warmMs);
    this.#histogram = newHistogram();
    const before = this.#counts();
    const startMs = nowMs();
    await sleep(runMs);
    const after = this.#counts();
    const seconds = (nowMs() - startMs) / 1_000;
    const lastSocketUs = latencyOf(this.#histogram);
    this.#wanted = 0;
    await this.#drain();
    return {
      deliveries: after.deliveries - before.deliveries,
      messages: after.messages - before.messages,
      events: after.complete - before.complete,
      seconds,
      lastSocketUs,
    };
  }

  /** Events told, acknowledged, and had by every socket: all equal when nothing was lost. */
  totals(): { sent: number; acknowledged: number; leastOfSockets: number; mostOfSockets: number } {
    const offsets = this.#followers.map(({ offset }) => offset);
    return {
      sent: this.#sent,
      acknowledged: this.#acknowledged,
      leastOfSockets: Math.min(...offsets),
      mostOfSockets: Math.max(...offsets),
    };
  }

  close(): void {
    this.#publisher.close();
    for (const follower of this.#followers) follower.close();
  }

  async #openPublisher(port: number, token: string): Promise<void> {
    this.#publisher = await EdgeConnection.open(port, token, {
      hot: (_, start) => start,
      message: (reader) => {
        if (reader.type !== FROM_EDGE.reply) throw new Error(`${reader.problem().name}: ${reader.problem().message}`);
        this.#acknowledged++;
      },
      readEnd: () => undefined,
      lost: (reason) => {
        throw new Error(`the publisher was lost: ${reason}`);
      },
    });
  }

  #publish(): void {
    while (this.#sent - this.#complete < this.#wanted) {
      const number = ++this.#sent;
      this.#missing[number % RING] = this.#followers.length;
      this.#sentMs[number % RING] = nowMs();
      const target = Buffer.allocUnsafe(this.#frame.bytes.length);
      this.#frame.write(target, 0, number, Math.max(1, Math.min(number, this.#acknowledged + 1)));
      this.#publisher.send(target);
    }
  }

  #arrived(offset: number): void {
    const place = offset % RING;
    if (--(this.#missing[place] as number) > 0) return;
    this.#complete++;
    this.#histogram.recordValue(Math.max(1, Math.round((nowMs() - (this.#sentMs[place] as number)) * 1_000)));
    this.#publish();
  }

  #counts(): { deliveries: number; messages: number; complete: number } {
    let deliveries = 0;
    let messages = 0;
    for (const follower of this.#followers) {
      deliveries += follower.offset;
      messages += follower.messages;
    }
    return { deliveries, messages, complete: this.#complete };
  }

  async #drain(): Promise<void> {
    const deadline = performance.now() + DRAIN_TIMEOUT_MS;
    while (this.#complete < this.#sent || this.#acknowledged < this.#sent) {
      if (performance.now() > deadline) throw new Error(`events are missing: ${JSON.stringify(this.totals())}`);
      await sleep(2);
    }
  }
}

class Follower {
  #connection!: EdgeConnection;
  readonly #arrived: (offset: number) => void;
  #topicId = -1;
  /** Of the last event; the first has 1, so it is their count. */
  offset = 0;
  #subscribed: (() => void) | undefined;

  private constructor(arrived: (offset: number) => void) {
    this.#arrived = arrived;
  }

  static async open(port: number, token: string, arrived: (offset: number) => void): Promise<Follower> {
    const follower = new Follower(arrived);
    follower.#connection = await EdgeConnection.open(port, token, {
      hot: (bytes, start, end) => follower.#events(bytes, start, end),
      message: (reader) => follower.#message(reader),
      readEnd: () => undefined,
      lost: (reason) => {
        throw new Error(`a follower was lost: ${reason}`);
      },
    });
    await new Promise<void>((resolve) => {
      follower.#subscribed = resolve;
      follower.#connection.sendMessage((writer) => writeSubscribe(writer, 1, REF, 'told'));
    });
    return follower;
  }

  get messages(): number {
    return this.#connection.messages;
  }

  close(): void {
    this.#connection.close();
  }

  #message(reader: ServerMessageReader): void {
    if (reader.type !== FROM_EDGE.answer) throw new Error(`${reader.problem().name}: ${reader.problem().message}`);
    this.#topicId = reader.subscribed().topicId;
    this.#subscribed?.();
  }

  /** [4, topicId, offset, [text]], one after the other. */
  #events(bytes: Buffer, start: number, end: number): number {
    let at = start;
    while (at < end && bytes[at] === 0x94 && bytes[at + 1] === FROM_EDGE.event) {
      if (bytes[at + 2] !== this.#topicId) throw new Error(`an event of topic ${bytes[at + 2]}`);
      at = this.#event(bytes, at + 3);
    }
    return at;
  }

  #event(bytes: Buffer, start: number): number {
    const tag = bytes[start] as number;
    const offset =
      tag < 0x80
        ? tag
        : tag === 0xcc
          ? (bytes[start + 1] as number)
          : tag === 0xcd
            ? bytes.readUInt16BE(start + 1)
            : bytes.readUInt32BE(start + 1);
    const at = start + (tag < 0x80 ? 1 : tag === 0xcc ? 2 : tag === 0xcd ? 3 : 5);
    if (bytes[at] !== 0x91 || bytes[at + 1] !== 0xd9) throw new Error('an event is an array of one text');
    const length = bytes[at + 2] as number;
    if (offset !== this.offset + 1) throw new Error(`event ${offset} follows ${this.offset}`);
    if (bytes.toString('latin1', at + 3, at + 3 + length) !== NOTE) throw new Error(`event ${offset} has another text`);
    this.offset = offset;
    this.#arrived(offset);
    return at + 3 + length;
  }
}

function newHistogram(): Histogram {
  return build({ lowestDiscernibleValue: 1, highestTrackableValue: 60_000_000, numberOfSignificantValueDigits: 3 });
}

const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));
