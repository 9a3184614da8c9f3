/** For tests: a clock, timers and chance under the test's control. Nothing waits; a run with one seed is always the same run. */
import type { Platform } from './platform.ts';

type Timer = { readonly atMs: number; readonly order: number; readonly run: () => void };

export class VirtualTime implements Platform {
  #nowMs = 1_000;
  #order = 0;
  #state: number;
  readonly #timers = new Map<number, Timer>();

  constructor(seed: number) {
    this.#state = seed >>> 0;
  }

  now(): number {
    return this.#nowMs;
  }

  setTimer(run: () => void, delayMs: number): unknown {
    const order = ++this.#order;
    this.#timers.set(order, { atMs: this.#nowMs + Math.max(0, delayMs), order, run });
    return order;
  }

  clearTimer(timer: unknown): void {
    this.#timers.delete(timer as number);
  }

  /** mulberry32 (Tommy Ettinger, public domain). */
  random(): number {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0;
    let mixed = this.#state;
    mixed = Math.imul(mixed ^ (mixed >>> 15), mixed | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  }

  get pending(): number {
    return this.#timers.size;
  }

  /** Lets time pass, timer by timer, until `done` says so or `limitMs` have passed. Returns whether it was done. */
  async until(done: () => boolean, limitMs: number): Promise<boolean> {
    const endMs = this.#nowMs + limitMs;
    await settled();
    while (!done()) {
      const next = this.#earliest();
      if (!next || next.atMs > endMs) {
        this.#nowMs = endMs;
        return done();
      }
      this.#timers.delete(next.order);
      this.#nowMs = Math.max(this.#nowMs, next.atMs);
      next.run();
      await settled();
    }
    return true;
  }

  async pass(durationMs: number): Promise<void> {
    await this.until(() => false, durationMs);
  }

  #earliest(): Timer | undefined {
    let earliest: Timer | undefined;
    for (const timer of this.#timers.values()) {
      if (!earliest || timer.atMs < earliest.atMs || (timer.atMs === earliest.atMs && timer.order < earliest.order))
        earliest = timer;
    }
    return earliest;
  }
}

/** All promise reactions have run: they do before the event loop's next turn. */
function settled(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}
