/** The newest trades, newest first, and what they add up to. Pure. */
import type { Side } from './ladder.ts';

export type Trade = {
  /** One number per trade of the book, rising. */
  readonly number: number;
  readonly price: number;
  readonly quantity: number;
  /** The side that took; undefined in an auction. */
  readonly aggressor: Side | undefined;
  /** When it happened, in milliseconds since 1970. */
  readonly timeMs: number;
};

export class TradeList {
  readonly #limit: number;
  #trades: Trade[] = [];
  #count = 0;
  #volume = 0;

  /** Keeps `limit` trades. */
  constructor(limit: number) {
    this.#limit = limit;
  }

  add(trade: Trade): void {
    this.#count++;
    this.#volume += trade.quantity;
    this.remember(trade);
  }

  /** Shows a trade of the time before: it is not counted. */
  remember(trade: Trade): void {
    this.#trades = [trade, ...this.#trades.slice(0, this.#limit - 1)];
  }

  get newest(): readonly Trade[] {
    return this.#trades;
  }

  /** Trades since the page was opened. */
  get count(): number {
    return this.#count;
  }

  get volume(): number {
    return this.#volume;
  }

  /** Whether the last price was above (1), below (-1) or equal to the one before (0). */
  get direction(): number {
    const [last, before] = this.#trades;
    return last && before ? Math.sign(last.price - before.price) : 0;
  }
}
