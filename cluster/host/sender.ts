/**
 * Carries the sends of one partition to the log of one other: one frame at a time, each expecting the one before it, so that
 * of two owners only one gets its frame in. What the destination holds is confirmed by a `sent` record; until the fold has
 * seen that, the items stay in the outbox.
 */
import { crc32 } from 'node:zlib';
import { isProtocolError, ProtocolError } from '../../protocol/errors.ts';
import { encodeFrame, FRAME_SENDS, MAX_FRAME, readFrame } from '../../protocol/frame.ts';
import type { Clock } from '../log/clock.ts';
import type { PartitionLog } from '../log/log.ts';
import { LogHealth } from '../log/log-health.ts';
import type { Item, Outbox } from './outbox.ts';
import { isRetryable } from './own-writer.ts';

const RETRY_FIRST_MS = 20;
const RETRY_MAX_MS = 1_000; // As for own records.
const FILL_AGE_MS = 1_000; // What one sender adds in a second is far below what is reserved.

export type SenderSettings = {
  readonly from: string;
  readonly to: string;
  readonly epoch: number;
  readonly clock: Clock;
  /** Undefined while nothing may leave; `kick` says when it may again. */
  readonly outbox: () => Outbox | undefined;
  readonly openLog: (partition: string) => Promise<PartitionLog>;
  /** The destination holds everything up to and with this item. */
  readonly onSent: (upTo: number) => void;
  readonly onProblem: (error: unknown) => void;
};

export class Sender {
  readonly #settings: SenderSettings;
  #running = false;
  #again = false;
  #stopped = false;
  /** Of the destination, as it was last. */
  #log: PartitionLog | undefined;
  /** Newest item known to lie in the destination's log, and the sequence of the message that carried it. */
  #sentUpTo = 0;
  #chain: number | undefined;
  #health: { readonly log: PartitionLog; readonly of: LogHealth } | undefined;

  constructor(settings: SenderSettings) {
    this.#settings = settings;
  }

  /** There may be new items. */
  kick(): void {
    this.#again = true;
    if (!this.#running && !this.#stopped) void this.#run();
  }

  stop(): void {
    this.#stopped = true;
  }

  async #run(): Promise<void> {
    this.#running = true;
    let delayMs = RETRY_FIRST_MS;
    while (this.#again && !this.#stopped) {
      this.#again = false;
      try {
        while (!this.#stopped && (await this.#sendFrame())) delayMs = RETRY_FIRST_MS;
      } catch (error) {
        if (!isProtocolError(error, 'log_full')) this.#chain = undefined;
        if (!(await this.#mayPass(error))) {
          this.#settings.onProblem(error);
          break;
        }
        await new Promise<void>((resolve) => void this.#settings.clock.after(delayMs, resolve));
        delayMs = Math.min(delayMs * 2, RETRY_MAX_MS);
        this.#again = true;
      }
    }
    this.#running = false;
  }

  /** Sends the next frame; `false` when nothing waits. */
  async #sendFrame(): Promise<boolean> {
    const { from, to, epoch, outbox, openLog, onSent } = this.#settings;
    const log = await openLog(to);
    if (log !== this.#log) this.#beginIn(log);
    if (this.#chain === undefined) await this.#findChain(log);
    const items = consecutive(outbox()?.pending(to, this.#sentUpTo, MAX_FRAME) ?? []);
    const first = items[0];
    if (!first || this.#stopped) return false;
    await this.#demandRoom(log);
    const fields = { incarnation: epoch, frameNumber: first.number, generation: log.generation };
    const frame = encodeFrame(
      FRAME_SENDS,
      fields,
      items.map(({ bytes }) => bytes),
      crc32,
    );
    const { sequence } = await log.append(`from.${from}`, frame, this.#chain);
    this.#chain = sequence;
    this.#sentUpTo = first.number + items.length - 1;
    onSent(this.#sentUpTo);
    return true;
  }

  /** A log begun anew holds nothing of what the one before it held. */
  #beginIn(log: PartitionLog): void {
    this.#log = log;
    this.#chain = undefined;
    this.#sentUpTo = 0;
  }

  async #mayPass(error: unknown): Promise<boolean> {
    if (isRetryable(error) || isProtocolError(error, 'wrong_last_sequence')) return true;
    if (!isProtocolError(error, 'log_misconfigured')) return false;
    const { openLog, to } = this.#settings;
    return openLog(to).then(
      (log) => log !== this.#log, // It was retired under our hands.
      () => false,
    );
  }

  /** The last part of a log is its owner's. Errors: `log_full`, to be tried again. */
  async #demandRoom(log: PartitionLog): Promise<void> {
    if (this.#health?.log !== log) this.#health = { log, of: new LogHealth(log, this.#settings.clock) };
    const { of: health } = this.#health;
    if (health.ageMs > FILL_AGE_MS) await health.refresh();
    if (!health.allows('send')) throw new ProtocolError('log_full');
  }

  /** Where the destination's log stands: a predecessor, or an attempt whose ack was lost, may have sent more than we know. */
  async #findChain(log: PartitionLog): Promise<void> {
    const last = await log.lastOn(`from.${this.#settings.from}`);
    this.#chain = last?.sequence ?? 0;
    if (!last) return;
    const frame = readFrame(last.data, crc32);
    const upTo = frame.frameNumber + frame.recordCount - 1;
    if (upTo <= this.#sentUpTo) return;
    this.#sentUpTo = upTo;
    this.#settings.onSent(upTo);
  }
}

/** The leading items whose numbers follow one another: a frame carries only the first number. */
function consecutive(items: readonly Item[]): readonly Item[] {
  const end = items.findIndex(({ number }, i) => number !== (items[0] as Item).number + i);
  return end < 0 ? items : items.slice(0, end);
}
