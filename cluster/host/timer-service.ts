/**
 * Fires timers: estimates log time from the newest message and the monotonic clock, and writes a record for each wish that is
 * due. The fold decides; a firing that came too early by the log's time is written again.
 */
import type { Clock } from '../log/clock.ts';
import type { Fold } from './fold.ts';
import type { OwnWriter } from './own-writer.ts';

const MAX_AT_ONCE = 1_000; // Firings written at a time; the rest follows when these are folded.
const MAX_WAIT_MS = 60_000; // Looks again at least each minute, whatever the clocks did meanwhile.

export class TimerService {
  readonly #fold: () => Fold;
  readonly #writer: OwnWriter;
  readonly #clock: Clock;
  /** Armings written: the sequence of their message once it is known. */
  readonly #fired = new Map<string, number | undefined>();
  #cancel: (() => void) | undefined;
  #seenMs = 0;
  #stopped = false;

  constructor(fold: () => Fold, writer: OwnWriter, clock: Clock) {
    this.#fold = fold;
    this.#writer = writer;
    this.#clock = clock;
  }

  /** A message was folded: its time is the log's time now. */
  messageFolded(timersChanged: boolean): void {
    this.#seenMs = this.#clock.nowMs();
    if (this.#fired.size > 0) this.#forgetFolded();
    if (timersChanged) this.schedule();
  }

  schedule(): void {
    this.#cancel?.();
    if (this.#stopped) return;
    const dueMs = this.#fold().timers.nextDueMs();
    if (dueMs === undefined) return;
    const waitMs = Math.max(1, Math.min(dueMs - this.#logNowMs(), MAX_WAIT_MS));
    this.#cancel = this.#clock.after(waitMs, () => this.#fire());
  }

  stop(): void {
    this.#stopped = true;
    this.#cancel?.();
  }

  #logNowMs(): number {
    return this.#fold().head.nowMs + Math.floor(this.#clock.nowMs() - this.#seenMs);
  }

  #fire(): void {
    if (this.#stopped) return;
    const due = this.#fold().timers.due(this.#logNowMs(), MAX_AT_ONCE + this.#fired.size);
    for (const { ref, name, arming, dueMs } of due) {
      if (this.#fired.has(arming)) continue;
      this.#fired.set(arming, undefined);
      this.#writer.write({ type: 'timer', ref, name, arming, dueMs }, (sequence) => {
        this.#fired.set(arming, sequence);
        this.#forgetFolded();
      });
    }
    if (due.length === 0) this.schedule();
  }

  /** What is folded has either taken effect or came too early: the latter is due still, and is fired again. */
  #forgetFolded(): void {
    const { sequence } = this.#fold().head;
    let forgot = false;
    for (const [arming, written] of this.#fired) {
      if (written === undefined || written > sequence) continue;
      this.#fired.delete(arming);
      forgot = true;
    }
    if (forgot) this.schedule();
  }
}
