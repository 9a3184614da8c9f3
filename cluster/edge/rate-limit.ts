/** Token buckets by name, for those who have no connection to keep one in. */
import { TICK_MS } from './coarse-clock.ts';

export type Bucket = { tokens: number; filledTick: number };

const MAX_BUCKETS = 100_000; // About 10 MB; beyond it nobody new is let in before some are full again.
const FULL_AFTER_TICKS = 1_000 / TICK_MS; // A bucket holds what a second gives, so an unused one is full then.

/** Fills a bucket up to now; it holds at most what a second gives. */
export function refill(bucket: Bucket, tick: number, perSecond: number): void {
  bucket.tokens = Math.min(perSecond, bucket.tokens + ((tick - bucket.filledTick) * perSecond * TICK_MS) / 1_000);
  bucket.filledTick = tick;
}

export class Buckets {
  readonly #perSecond: number;
  readonly #buckets = new Map<string, Bucket>();
  #tick = 0;
  #sweptTick = 0;

  constructor(perSecond: number) {
    this.#perSecond = perSecond;
  }

  /** Takes one; false when there is none. */
  take(name: string): boolean {
    let bucket = this.#buckets.get(name);
    if (!bucket) {
      if (this.#buckets.size >= MAX_BUCKETS) return false;
      bucket = { tokens: this.#perSecond, filledTick: this.#tick };
      this.#buckets.set(name, bucket);
    }
    if (bucket.filledTick !== this.#tick) refill(bucket, this.#tick, this.#perSecond);
    if (bucket.tokens < 1) return false;
    bucket.tokens--;
    return true;
  }

  /** Forgets buckets that must be full by now. */
  tick(tick: number): void {
    this.#tick = tick;
    if (tick - this.#sweptTick < FULL_AFTER_TICKS) return;
    this.#sweptTick = tick;
    for (const [name, { filledTick }] of this.#buckets)
      if (tick - filledTick > FULL_AFTER_TICKS) this.#buckets.delete(name);
  }
}
