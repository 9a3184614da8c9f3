/** Time in ticks, for limits and deadlines of thousands of connections: one timer, and reading it costs nothing. */

export const TICK_MS = 100; // Fine enough for a time-out of seconds and a rate per second.

export class CoarseClock {
  /** Ticks since the start; a small integer. */
  tick = 0;
  readonly #startedMs = performance.now();
  #timer: NodeJS.Timeout | undefined;

  /** Calls `onTick` after each tick, once, however many passed. */
  start(onTick: () => void): void {
    this.#timer = setInterval(() => {
      this.tick = Math.floor((performance.now() - this.#startedMs) / TICK_MS);
      onTick();
    }, TICK_MS);
  }

  stop(): void {
    clearInterval(this.#timer);
  }

  /** Ticks that a duration takes, at least one. */
  static ticks(durationMs: number): number {
    return Math.max(1, Math.ceil(durationMs / TICK_MS));
  }
}
