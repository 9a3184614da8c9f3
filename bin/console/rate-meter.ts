/** Events per second over the last seconds, and their history for a small chart. Pure: the caller gives the time. */

/** One minute: what the chart shows. */
export const HISTORY_SECONDS = 60;
/** The rate shown is a mean over so many whole seconds: steady enough to read, quick enough to follow. */
const MEAN_SECONDS = 3;

export class RateMeter {
  /** Counts per second, by second modulo their number; one more for the second that is running. */
  readonly #counts = new Float64Array(HISTORY_SECONDS + 1);
  #second = Number.NEGATIVE_INFINITY;

  add(count: number, nowMs: number): void {
    this.#moveTo(Math.floor(nowMs / 1_000));
    const index = this.#index(this.#second);
    this.#counts[index] = (this.#counts[index] as number) + count;
  }

  /** Mean of the last whole seconds. */
  perSecond(nowMs: number): number {
    const history = this.history(nowMs).slice(-MEAN_SECONDS);
    return history.reduce((sum, count) => sum + count, 0) / MEAN_SECONDS;
  }

  /** Counts of the last whole seconds, oldest first. */
  history(nowMs: number): number[] {
    this.#moveTo(Math.floor(nowMs / 1_000));
    return Array.from({ length: HISTORY_SECONDS }, (_, i) => {
      return this.#counts[this.#index(this.#second - HISTORY_SECONDS + i)] as number;
    });
  }

  /** Forgets the seconds that have left the window since the last call. */
  #moveTo(second: number): void {
    if (second <= this.#second) return;
    const passed = Math.min(second - this.#second, this.#counts.length);
    for (let i = 0; i < passed; i++) this.#counts[this.#index(second - i)] = 0;
    this.#second = second;
  }

  #index(second: number): number {
    return ((second % this.#counts.length) + this.#counts.length) % this.#counts.length;
  }
}
