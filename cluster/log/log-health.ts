/**
 * How full a partition's log is, and what may still be appended. Above 85 % of the byte limit commands and sends must
 * wait; what is left is reserved for the records that let a full log be taken over, answered and trimmed.
 */
import { type Clock, systemClock } from './clock.ts';
import type { LogState, PartitionLog } from './log.ts';

/** Above this, commands and sends wait. The rest of a 1 GiB log is 150 MiB: 1.5 million own-records of 100 bytes. */
export const HIGH_FILL_PERMILLE = 850;
const POLL_MS = 1_000; // One small request per partition; what is read in between is counted, not polled.

/** What an append is for. */
export type AppendUse = 'epoch' | 'own' | 'effect_result' | 'command' | 'send';

/** Whether an append is allowed at this fill. Epoch and own-records and the results of effects always are. */
export function mayAppend(use: AppendUse, fillPermille: number): boolean {
  return (use !== 'command' && use !== 'send') || fillPermille < HIGH_FILL_PERMILLE;
}

/** Bytes of the log per byte limit, in thousandths, rounded up; 0 for a log without limit. */
export function fillPermilleOf(bytes: number, maxBytes: number): number {
  return maxBytes > 0 ? Math.min(1000, Math.ceil((bytes * 1000) / maxBytes)) : 0;
}

export class LogHealth {
  readonly #log: Pick<PartitionLog, 'state'>;
  readonly #clock: Clock;
  #state: LogState | undefined;
  #readSince = 0;
  #polledMs = Number.NEGATIVE_INFINITY;
  #cancel: () => void = () => undefined;
  #running = false;
  #refreshing: Promise<void> | undefined;

  constructor(log: Pick<PartitionLog, 'state'>, clock: Clock = systemClock) {
    this.#log = log;
    this.#clock = clock;
  }

  /** By the newest poll and what was read since; 0 before the first. */
  get fillPermille(): number {
    if (!this.#state) return 0;
    return fillPermilleOf(this.#state.bytes + this.#readSince, this.#state.maxBytes);
  }

  /** The newest poll's answer. */
  get state(): LogState | undefined {
    return this.#state;
  }

  /** How old that is; Infinity before the first. */
  get ageMs(): number {
    return this.#clock.nowMs() - this.#polledMs;
  }

  /** A message of so many bytes was read from the log: a busy log can gain more in a second than what is left of it. */
  noteRead(bytes: number): void {
    this.#readSince += bytes;
  }

  allows(use: AppendUse): boolean {
    return mayAppend(use, this.fillPermille);
  }

  /** Polls now, and each second until `stop`. */
  start(): void {
    if (this.#running) return;
    this.#running = true;
    void this.#poll();
  }

  stop(): void {
    this.#running = false;
    this.#cancel();
  }

  /** One poll, also out of turn (after a trim). A log that does not answer leaves the old value. */
  refresh(): Promise<void> {
    // Two at once would both take away what was read before them.
    this.#refreshing ??= this.#ask().finally(() => {
      this.#refreshing = undefined;
    });
    return this.#refreshing;
  }

  async #ask(): Promise<void> {
    const readBefore = this.#readSince;
    const state = await this.#log.state().catch(() => undefined);
    if (!state) return;
    this.#state = state;
    this.#readSince -= readBefore;
    this.#polledMs = this.#clock.nowMs();
  }

  async #poll(): Promise<void> {
    await this.refresh();
    if (this.#running) this.#cancel = this.#clock.after(POLL_MS, () => void this.#poll());
  }
}
