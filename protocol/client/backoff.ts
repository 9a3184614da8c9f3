/**
 * How long to wait before the next attempt: a random part of a doubling bound ("full jitter"), so that a crowd that lost its
 * connection together does not return together.
 */

export type BackoffSettings = {
  /** Bound of the first wait, in milliseconds. */
  readonly baseMs: number;
  /** Bound of every wait. */
  readonly capMs: number;
  /** A connection counts as good again only after it has held this long. */
  readonly healthyMs: number;
};

/** 0.5 s doubling to 30 s spreads a crowd well and still returns quickly; 30 s of health is longer than a crash loop's turn. */
export const RECONNECT: BackoffSettings = { baseMs: 500, capMs: 30_000, healthyMs: 30_000 };

/** Beyond this exponent every sensible base is over its cap (and 2 ** n stays exact). */
const MAX_DOUBLINGS = 30;

/** A wait of 0 to min(cap, base * 2^failures) milliseconds. */
export function fullJitter(settings: BackoffSettings, failures: number, random: () => number): number {
  return random() * Math.min(settings.capMs, settings.baseMs * 2 ** Math.min(failures, MAX_DOUBLINGS));
}

/** Counts the failures of one connection after another. */
export class Backoff {
  readonly #settings: BackoffSettings;
  readonly #random: () => number;
  #failures = 0;
  #openedAtMs: number | undefined;

  constructor(settings: BackoffSettings, random: () => number) {
    this.#settings = settings;
    this.#random = random;
  }

  opened(nowMs: number): void {
    this.#openedAtMs = nowMs;
  }

  /** The connection ended by plan: no failure, and no health either if it was short. */
  left(nowMs: number): void {
    if (this.#openedAtMs !== undefined && nowMs - this.#openedAtMs >= this.#settings.healthyMs) this.#failures = 0;
    this.#openedAtMs = undefined;
  }

  /** The connection (or the attempt) failed: how long to wait now, in milliseconds. */
  failed(nowMs: number): number {
    this.left(nowMs);
    return fullJitter(this.#settings, this.#failures++, this.#random);
  }
}
