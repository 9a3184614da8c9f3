/**
 * The aggregated order book as the page shows it: levels by side, best first. Levels are absolute, so a change that comes twice
 * changes nothing. Pure: no page, no network, no clock.
 */

export type Side = 'bid' | 'ask';

/** Price in ticks, quantity in lots. */
export type Level = { readonly price: number; readonly quantity: number };

/** The new quantity of a level; 0 removes it. */
export type LevelChange = Level & { readonly side: Side };

/** One line of the ladder. */
export type LadderRow = Level & {
  /** Quantity from the best level up to this one. */
  readonly total: number;
  /** `total` as a part of the deepest total shown on either side, 0 to 1: the length of the depth bar. */
  readonly share: number;
};

export class Ladder {
  #bids: Level[] = [];
  #asks: Level[] = [];

  /** Takes a whole book in place of what was there. The lists need no order; empty levels are left out. */
  replace(bids: readonly Level[], asks: readonly Level[]): void {
    this.#bids = bids.filter(({ quantity }) => quantity > 0).sort((a, b) => b.price - a.price);
    this.#asks = asks.filter(({ quantity }) => quantity > 0).sort((a, b) => a.price - b.price);
  }

  apply(changes: readonly LevelChange[]): void {
    for (const { side, price, quantity } of changes) this.#set(side, { price, quantity });
  }

  best(side: Side): Level | undefined {
    return this.#side(side)[0];
  }

  /** Levels of a side. */
  count(side: Side): number {
    return this.#side(side).length;
  }

  /** Ticks between best ask and best bid; undefined while a side is empty. */
  get spread(): number | undefined {
    const bid = this.best('bid');
    const ask = this.best('ask');
    return bid && ask ? ask.price - bid.price : undefined;
  }

  /** The best `depth` levels of both sides, best first. */
  rows(depth: number): { readonly bids: readonly LadderRow[]; readonly asks: readonly LadderRow[] } {
    const bids = totals(this.#bids, depth);
    const asks = totals(this.#asks, depth);
    const deepest = Math.max(bids.at(-1)?.total ?? 0, asks.at(-1)?.total ?? 0);
    const withShare = (row: Omit<LadderRow, 'share'>): LadderRow => ({ ...row, share: row.total / deepest });
    return { bids: bids.map(withShare), asks: asks.map(withShare) };
  }

  #side(side: Side): Level[] {
    return side === 'bid' ? this.#bids : this.#asks;
  }

  #set(side: Side, level: Level): void {
    const levels = this.#side(side);
    const index = placeOf(levels, level.price, side);
    const found = levels[index]?.price === level.price;
    if (level.quantity > 0) levels.splice(index, found ? 1 : 0, level);
    else if (found) levels.splice(index, 1);
  }
}

function totals(levels: readonly Level[], depth: number): Omit<LadderRow, 'share'>[] {
  let total = 0;
  return levels.slice(0, depth).map((level) => {
    total += level.quantity;
    return { ...level, total };
  });
}

/** The index of the price, or where it belongs. Changes are mostly near the best price, so the search begins there. */
function placeOf(levels: readonly Level[], price: number, side: Side): number {
  let from = 0;
  let to = 1;
  while (to < levels.length && isBefore(levels[to] as Level, price, side)) {
    from = to;
    to *= 2;
  }
  to = Math.min(to, levels.length);
  while (from < to) {
    const middle = (from + to) >> 1;
    if (isBefore(levels[middle] as Level, price, side)) from = middle + 1;
    else to = middle;
  }
  return from;
}

function isBefore(level: Level, price: number, side: Side): boolean {
  return side === 'bid' ? level.price > price : level.price < price;
}
