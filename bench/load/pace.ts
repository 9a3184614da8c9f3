/**
 * When commands of an open loop are due: at evenly spaced times that are fixed before the first is sent. Node's timers know whole
 * milliseconds only, so a thread that sleeps exactly calls out.
 */
import { Worker } from 'node:worker_threads';
import { childFile } from './child.ts';

const MIN_TICK_MS = 0.25; // A call costs some 30 microseconds of two threads: at higher rates several commands share one.

export class Pace {
  readonly #worker: Worker;
  readonly #startMs: number;
  readonly #intervalMs: number;
  readonly #count: number;
  #next = 0;

  /** Calls `onTick` when something may be due; `startMs` in time of `nowMs`. */
  constructor(perSecond: number, startMs: number, durationMs: number, onTick: () => void) {
    this.#startMs = startMs;
    this.#intervalMs = 1_000 / perSecond;
    this.#count = Math.floor((durationMs * perSecond) / 1_000);
    const tickMs = Math.max(this.#intervalMs, MIN_TICK_MS);
    const workerData = { startMs, tickMs, endMs: startMs + durationMs };
    this.#worker = new Worker(childFile(import.meta.url, 'pace-thread'), { workerData });
    this.#worker.on('message', onTick);
  }

  /** The planned time of the next command if it is due; else undefined. Each is given once. */
  take(): number | undefined {
    if (this.#next >= this.#count) return undefined;
    const plannedMs = this.#startMs + this.#next * this.#intervalMs;
    if (plannedMs > nowMs()) return undefined;
    this.#next++;
    return plannedMs;
  }

  /** Whether all were taken. */
  get isOver(): boolean {
    return this.#next >= this.#count;
  }

  async stop(): Promise<void> {
    await this.#worker.terminate();
  }
}

/** Monotonic and the same in all threads, unlike `performance.now`. */
export function nowMs(): number {
  const [seconds, nanoseconds] = process.hrtime();
  return seconds * 1_000 + nanoseconds / 1_000_000;
}
