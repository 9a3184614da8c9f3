/**
 * Reads a stream in order and without gaps. The client's ordered consumers hang or take a minute when a server dies, so
 * this is our own: an ephemeral push consumer in memory with flow control and half-second heartbeats. Whenever anything is
 * odd (silence, a gap, a reconnect, a deleted consumer) it is thrown away and a new one starts after the last message
 * handed over, once that message has been compared with what the stream has there now. Where the server gives no
 * consumer (its limit is reached), messages are fetched by batch direct get until it does.
 */
import { AckPolicy, DeliverPolicy, type JetStreamManager } from '@nats-io/jetstream';
import { createInbox, type Msg, nanos, nuid, type Subscription } from 'nats';
import { ProtocolError } from '../../protocol/errors.ts';
import { apiCode, MAXIMUM_CONSUMERS } from './jetstream-error.ts';
import { type LogState, type PartitionLog, type Reader, type Stored, sameMessage } from './log.ts';
import type { NatsLink } from './nats-connection.ts';

const HEARTBEAT_MS = 500;
const SILENT_BEATS = 4; // Three heartbeats missed; the first count may come right after the last message.
const INACTIVE_MS = 10_000; // How long the server keeps the consumer of a reader that died.
const RETRY_MIN_MS = 50;
const RETRY_MAX_MS = 1_000;
const GONE_PROOFS = 3; // A stream counts as gone when so many attempts in a row said so: a cluster that starts may err once.
const DIRECT_BATCH = 256; // Messages per direct get.
const DIRECT_BATCH_BYTES = 4_194_304;
const DIRECT_IDLE_MS = 50; // Between direct gets that found nothing: latency of the fallback.
const DIRECT_TRIES_MS = 2_000; // Between attempts to get a consumer after all.

type Given = {
  readonly link: NatsLink;
  readonly manager: JetStreamManager;
  readonly log: PartitionLog;
  readonly createdAt: string;
  readonly from: number;
  readonly handler: (message: Stored) => void;
  readonly onProblem: (error: ProtocolError) => void;
  readonly onStop: (reader: JetStreamReader) => void;
};

export class JetStreamReader implements Reader {
  readonly #given: Given;
  #position: number;
  #lastGiven: Stored | undefined;
  #stopped = false;
  /** Which attachment is current; whatever belongs to an older one is ignored. */
  #life = 0;
  #subscription: Subscription | undefined;
  #consumer = '';
  #deliverSubject = '';
  /** Messages the current consumer has delivered, by its own count. */
  #delivered = 0;
  #silentBeats = 0;
  #failures = 0;
  #goneProofs = 0;
  #retry: NodeJS.Timeout | undefined;
  readonly #beat: NodeJS.Timeout;
  readonly #endOfUp: () => void;

  constructor(given: Given) {
    this.#given = given;
    this.#position = given.from - 1;
    this.#beat = setInterval(() => this.#countSilence(), HEARTBEAT_MS).unref(); // The connection keeps the process alive.
    this.#endOfUp = given.link.onUp(() => this.#attach());
    this.#attach();
  }

  get position(): number {
    return this.#position;
  }

  stop(): void {
    if (this.#stopped) return;
    this.#stopped = true;
    clearInterval(this.#beat);
    this.#endOfUp();
    this.#detach();
    this.#given.onStop(this);
  }

  /** Lets go of the current consumer and takes a new one at the position. */
  #attach(): void {
    this.#detach();
    if (this.#stopped || !this.#given.link.isUp) return;
    const life = this.#life;
    this.#start(life).catch((error: unknown) => {
      if (life === this.#life) this.#startFailed(error, life);
    });
  }

  #detach(): void {
    this.#life++;
    this.#silentBeats = 0;
    clearTimeout(this.#retry);
    if (this.#given.link.connection.isClosed()) return;
    this.#subscription?.unsubscribe();
    this.#subscription = undefined;
    if (this.#consumer !== '' && this.#given.link.isUp) {
      // The server would remove it by itself after a while; nothing depends on this.
      this.#given.manager.consumers.delete(this.#given.log.stream, this.#consumer).catch(() => undefined);
    }
    this.#consumer = '';
  }

  async #start(life: number): Promise<void> {
    await this.#checkStillTheLog(life);
    if (life !== this.#life) return;
    await this.#createConsumer(life);
    if (life === this.#life) this.#failures = 0;
  }

  #startFailed(error: unknown, life: number): void {
    if (error instanceof ProtocolError && (error.code === 'log_loss' || error.code === 'log_trimmed'))
      return this.#fail(error);
    if (apiCode(error) === MAXIMUM_CONSUMERS) return void this.#readDirect(life);
    this.#attachLater();
  }

  #attachLater(): void {
    this.#detach();
    this.#failures++;
    const limit = Math.min(RETRY_MAX_MS, RETRY_MIN_MS * 2 ** this.#failures);
    this.#retry = setTimeout(() => this.#attach(), RETRY_MIN_MS + Math.random() * limit).unref();
  }

  #fail(problem: ProtocolError): void {
    this.stop();
    this.#given.onProblem(problem);
  }

  /** The stream must be the one that was opened, and hold what was handed over and all that follows. */
  async #checkStillTheLog(life: number): Promise<void> {
    const state = await this.#stateOrGone();
    if (life !== this.#life) return;
    const problem = this.#problemOf(state);
    if (problem) throw problem;
    if (this.#lastGiven && this.#lastGiven.sequence >= state.first) await this.#checkLastGiven(life, this.#lastGiven);
    if (life !== this.#life || this.#position >= state.last || this.#failures === 0) return;
    // After a gap: either the next message is there, or it is missing for good.
    const next = await this.#given.log.get(this.#position + 1);
    if (!next && life === this.#life && (await this.#given.log.state()).first <= this.#position + 1) {
      throw new ProtocolError('log_loss', `${this.#given.log.stream} lacks message ${this.#position + 1}`);
    }
  }

  async #stateOrGone(): Promise<LogState> {
    try {
      const state = await this.#given.log.state();
      this.#goneProofs = 0;
      return state;
    } catch (error) {
      if (error instanceof ProtocolError && error.code === 'log_loss' && ++this.#goneProofs < GONE_PROOFS) {
        throw new ProtocolError('log_unavailable', error.message);
      }
      throw error;
    }
  }

  #problemOf(state: LogState): ProtocolError | undefined {
    const { stream } = this.#given.log;
    if (state.createdAt !== this.#given.createdAt)
      return new ProtocolError('log_loss', `${stream} was created anew at ${state.createdAt}`);
    if (state.last < this.#position) {
      return new ProtocolError('log_loss', `${stream} ends at ${state.last}, position is ${this.#position}`);
    }
    if (state.first > this.#position + 1) {
      return new ProtocolError('log_trimmed', `${stream} begins at ${state.first}, wanted is ${this.#position + 1}`);
    }
    return undefined;
  }

  async #checkLastGiven(life: number, lastGiven: Stored): Promise<void> {
    const now = await this.#given.log.get(lastGiven.sequence);
    // It may have been trimmed a moment ago; then the next check of the state says so, or all is well.
    if (life !== this.#life || !now || sameMessage(now, lastGiven)) return;
    throw new ProtocolError(
      'log_loss',
      `${this.#given.log.stream}: message ${now.sequence} is not the one that was read`,
    );
  }

  async #createConsumer(life: number): Promise<void> {
    const { link, manager, log } = this.#given;
    this.#consumer = `reader_${nuid.next()}`;
    this.#deliverSubject = createInbox();
    this.#delivered = 0;
    this.#subscription = link.connection.subscribe(this.#deliverSubject, {
      callback: (error, message) => {
        if (error || life !== this.#life) return;
        this.#silentBeats = 0;
        if (message.subject === this.#deliverSubject) this.#status(message);
        else this.#message(message);
      },
    });
    await manager.consumers.add(log.stream, {
      name: this.#consumer,
      deliver_subject: this.#deliverSubject,
      deliver_policy: DeliverPolicy.StartSequence,
      opt_start_seq: this.#position + 1,
      ack_policy: AckPolicy.None,
      max_deliver: 1,
      mem_storage: true,
      num_replicas: 1,
      flow_control: true,
      idle_heartbeat: nanos(HEARTBEAT_MS),
      inactive_threshold: nanos(INACTIVE_MS),
    });
  }

  #message(message: Msg): void {
    const delivery = parseDelivery(message.reply ?? '');
    if (delivery.consumerSequence !== this.#delivered + 1 || delivery.sequence !== this.#position + 1)
      return this.#attachLater();
    this.#delivered++;
    this.#hand({ sequence: delivery.sequence, timeUs: delivery.timeUs, subject: message.subject, data: message.data });
  }

  /** The client must not see an exception from here: it would stop reading its socket for ever. */
  #hand(message: Stored): void {
    this.#position = message.sequence;
    this.#lastGiven = message;
    try {
      this.#given.handler(message);
    } catch (error) {
      this.stop();
      setImmediate(() => {
        throw error;
      });
    }
  }

  #status(message: Msg): void {
    const headers = message.headers;
    if (headers?.code !== 100) return this.#attachLater();
    if (message.reply) return void message.respond();
    const stalled = headers.get('Nats-Consumer-Stalled');
    if (stalled) this.#given.link.connection.publish(stalled);
    if (Number(headers.get('Nats-Last-Consumer')) > this.#delivered) this.#attachLater();
  }

  /** Counts beats rather than time: after a pause of our own event loop what lies in the socket is read first. */
  #countSilence(): void {
    if (!this.#given.link.isUp || this.#consumer === '') return;
    if (++this.#silentBeats >= SILENT_BEATS) this.#attach();
  }

  async #readDirect(life: number): Promise<void> {
    const again = performance.now() + DIRECT_TRIES_MS;
    while (life === this.#life && this.#given.link.isUp && performance.now() < again) {
      const found = await this.#directBatch(life).catch(() => 0);
      if (found === 0) await new Promise((resolve) => setTimeout(resolve, DIRECT_IDLE_MS));
    }
    if (life === this.#life) this.#attach();
  }

  async #directBatch(life: number): Promise<number> {
    const { manager, log } = this.#given;
    const options = { seq: this.#position + 1, batch: DIRECT_BATCH, max_bytes: DIRECT_BATCH_BYTES };
    let found = 0;
    for await (const message of await manager.direct.getBatch(log.stream, options)) {
      if (life !== this.#life || message.seq !== this.#position + 1) break;
      found++;
      const { seq, timestamp, subject, data } = message;
      this.#hand({ sequence: seq, timeUs: parseTimeUs(timestamp), subject, data });
    }
    return found;
  }
}

type Delivery = { readonly sequence: number; readonly consumerSequence: number; readonly timeUs: number };

/**
 * What the reply subject of a delivered message says. Two shapes exist:
 * `$JS.ACK.<stream>.<consumer>.<deliveries>.<sequence>.<consumer sequence>.<time in ns>.<pending>`, and one with
 * `<domain>.<account>` before the stream and possibly a random token at the end.
 */
export function parseDelivery(reply: string): Delivery {
  const tokens = reply.split('.');
  const shift = tokens.length === 9 ? 0 : 2;
  return {
    sequence: Number(tokens[5 + shift]),
    consumerSequence: Number(tokens[6 + shift]),
    timeUs: Number((tokens[7 + shift] ?? '').slice(0, -3)), // As text, since nanoseconds do not fit into a number.
  };
}

/** Microseconds of an RFC 3339 time in UTC with up to nine decimals; finer ones are cut off, as in `parseDelivery`. */
export function parseTimeUs(text: string): number {
  const decimals = /\.(\d+)/.exec(text)?.[1] ?? '';
  return Date.parse(`${text.slice(0, 19)}Z`) * 1000 + Number(decimals.padEnd(6, '0').slice(0, 6));
}
