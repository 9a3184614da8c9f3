/**
 * Time for code that must also run in virtual time. One clock per process in production; tests and the simulation drive
 * a VirtualClock by hand, so that nothing ever waits.
 */

export type Clock = {
  /** Monotonic milliseconds, with fractions; only differences mean something. */
  nowMs(): number;
  /** Runs once after the delay. Returns what cancels it. */
  after(delayMs: number, run: () => void): () => void;
  /** Runs after the events of this turn of the event loop, before time passes. */
  endOfTick(run: () => void): void;
};

export const systemClock: Clock = {
  nowMs: () => performance.now(),
  after(delayMs, run) {
    const timer = setTimeout(run, delayMs);
    return () => clearTimeout(timer);
  },
  endOfTick: (run) => void setImmediate(run),
};

type Due = { readonly atMs: number; readonly order: number; readonly run: () => void; cancelled: boolean };

/** Time that stands still until `advance`. Equal times run in the order of their asking. */
export class VirtualClock implements Clock {
  #nowMs = 0;
  #order = 0;
  #due: Due[] = [];

  nowMs(): number {
    return this.#nowMs;
  }

  after(delayMs: number, run: () => void): () => void {
    const due: Due = { atMs: this.#nowMs + Math.max(0, delayMs), order: this.#order++, run, cancelled: false };
    this.#due.push(due);
    return () => {
      due.cancelled = true;
    };
  }

  endOfTick(run: () => void): void {
    this.after(0, run);
  }

  /** Runs everything due within the next `ms`, in order, letting promises settle between any two. */
  async advance(ms: number): Promise<void> {
    const until = this.#nowMs + ms;
    await settle();
    for (let next = this.#takeDue(until); next; next = this.#takeDue(until)) {
      this.#nowMs = Math.max(this.#nowMs, next.atMs);
      next.run();
      await settle();
    }
    this.#nowMs = until;
  }

  #takeDue(until: number): Due | undefined {
    this.#due = this.#due.filter((due) => !due.cancelled);
    let first: Due | undefined;
    for (const due of this.#due) {
      if (
        due.atMs <= until &&
        (!first || due.atMs < first.atMs || (due.atMs === first.atMs && due.order < first.order))
      ) {
        first = due;
      }
    }
    if (first) first.cancelled = true;
    return first;
  }
}

/** Lets all promise reactions that are ready run: setImmediate comes after the microtask queue is empty. */
function settle(): Promise<void> {
  return new Promise((resolve) => void setImmediate(resolve));
}
