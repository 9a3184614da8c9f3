/**
 * Synthetic order flow for the demo market: what somebody might do next, drawn from a seed. It knows nothing of servers, and a
 * seed always gives the same wishes for the same answers.
 */

export type DemoWish =
  | {
      readonly type: 'enter';
      readonly side: 'bid' | 'ask';
      readonly priceTicks: number;
      readonly quantityLots: number;
      readonly timeInForce: 'gtc' | 'ioc';
    }
  | { readonly type: 'cancel'; readonly orderId: number };

const START_TICKS = 10_000; // 100.00
const LOWEST_TICKS = 5_000;
const HIGHEST_TICKS = 20_000;
const WALK_TICKS = 2; // Per step at most, up or down.
const DEPTH_TICKS = 25; // How far from the middle resting orders lie.
const WANTED_ORDERS = 400; // Resting at once: enough for twenty levels on each side.
const LOT = 100;
const MAX_LOTS = 20;
const SHARE_AGGRESSIVE = 0.2;

export class DemoOrders {
  readonly #random: () => number;
  readonly #open: number[] = [];
  #middleTicks = START_TICKS;

  constructor(seed: number) {
    this.#random = mulberry32(seed);
  }

  next(): DemoWish {
    this.#walk();
    const chanceToCancel = this.#open.length / (2 * WANTED_ORDERS);
    if (this.#open.length > 0 && this.#random() < chanceToCancel) return { type: 'cancel', orderId: this.#takeOpen() };
    const side = this.#random() < 0.5 ? 'bid' : 'ask';
    const isAggressive = this.#random() < SHARE_AGGRESSIVE;
    const away = isAggressive ? -Math.ceil(this.#random() * 4) : 1 + Math.floor(this.#random() ** 2 * DEPTH_TICKS);
    const priceTicks = side === 'bid' ? this.#middleTicks - away : this.#middleTicks + away;
    const quantityLots = LOT * (1 + Math.floor(this.#random() * MAX_LOTS));
    return { type: 'enter', side, priceTicks, quantityLots, timeInForce: isAggressive ? 'ioc' : 'gtc' };
  }

  /** An order rests: it may be cancelled later. */
  rests(orderId: number): void {
    this.#open.push(orderId);
  }

  #walk(): void {
    const step = Math.round((this.#random() * 2 - 1) * WALK_TICKS);
    if (this.#random() < 0.1)
      this.#middleTicks = Math.min(HIGHEST_TICKS, Math.max(LOWEST_TICKS, this.#middleTicks + step));
  }

  /** Any of the open ones: the order of the list does not matter. */
  #takeOpen(): number {
    const index = Math.floor(this.#random() * this.#open.length);
    const chosen = this.#open[index] as number;
    this.#open[index] = this.#open.at(-1) as number;
    this.#open.pop();
    return chosen;
  }
}

/** A small generator of 32-bit state: good enough for a demo, and its own so that a seed means the same for ever. */
function mulberry32(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}
