/** Deadlines of many things with one timer: a wheel of buckets, one per tick; what is due later stays in its bucket. */

const BUCKETS = 1_024; // At 100 ms a tick a turn takes 102 s, longer than the usual deadlines: most are looked at once.

type Entry<T> = { readonly item: T; readonly tick: number };

export class Deadlines<T> {
  readonly #buckets: Entry<T>[][] = Array.from({ length: BUCKETS }, () => []);
  #tick = 0;

  /** `due` will be called for the item at this tick (or the next one, if it is past). There is no way to cancel. */
  add(item: T, tick: number): void {
    const at = Math.max(tick, this.#tick + 1);
    this.#buckets[at % BUCKETS]?.push({ item, tick: at });
  }

  /** Goes on to `tick`, through every one in between. */
  advance(tick: number, due: (item: T) => void): void {
    while (this.#tick < tick) {
      this.#tick++;
      const bucket = this.#buckets[this.#tick % BUCKETS] as Entry<T>[];
      if (bucket.length === 0) continue;
      this.#buckets[this.#tick % BUCKETS] = bucket.filter((entry) => entry.tick > this.#tick);
      for (const entry of bucket) if (entry.tick <= this.#tick) due(entry.item);
    }
  }
}
