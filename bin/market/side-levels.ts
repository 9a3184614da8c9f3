/** The price levels of one side, best first, changed one at a time. */
import type { BookLevel, Indicative, SideName } from '../../actors/exchange/order-book-events.ts';

export class SideLevels {
  readonly #isBetter: (one: number, other: number) => boolean;
  readonly #prices: number[] = [];
  readonly #lots = new Map<number, number>();

  constructor(side: SideName) {
    this.#isBetter = side === 'bid' ? (one, other) => one > other : (one, other) => one < other;
  }

  lotsAt(priceTicks: number): number {
    return this.#lots.get(priceTicks) ?? 0;
  }

  /** 0 removes the level. */
  set(priceTicks: number, lots: number): void {
    const before = this.#lots.get(priceTicks);
    if (lots === 0) {
      if (before === undefined) return;
      this.#lots.delete(priceTicks);
      this.#prices.splice(this.#placeOf(priceTicks), 1);
      return;
    }
    if (before === undefined) this.#prices.splice(this.#placeOf(priceTicks), 0, priceTicks);
    this.#lots.set(priceTicks, lots);
  }

  clear(): void {
    this.#prices.length = 0;
    this.#lots.clear();
  }

  /** The best levels; how many orders make them is not known here. */
  best(count: number): BookLevel[] {
    return this.#prices
      .slice(0, count)
      .map((priceTicks) => ({ priceTicks, quantityLots: this.lotsAt(priceTicks), orders: 0 }));
  }

  get count(): number {
    return this.#prices.length;
  }

  prices(): readonly number[] {
    return this.#prices;
  }

  /** Where a price stands, or would. */
  #placeOf(priceTicks: number): number {
    let low = 0;
    let high = this.#prices.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.#isBetter(this.#prices[middle] as number, priceTicks)) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}

const NOTHING: Indicative = { priceTicks: 0, matchedLots: 0, surplusLots: 0, surplusSide: 'none' };

/**
 * What a call auction over these levels would give, straight from the rule: of all limit prices those of maximum volume, of these
 * the ones of minimum surplus; all with buy surplus: the highest; all with sell surplus: the lowest; else the midpoint.
 */
export function indicativeOf(bids: SideLevels, asks: SideLevels): Indicative {
  const [bestBid, bestAsk] = [bids.prices()[0], asks.prices()[0]];
  if (bestBid === undefined || bestAsk === undefined || bestBid < bestAsk) return NOTHING;
  const crossed = (price: number) => price >= bestAsk && price <= bestBid;
  const prices = [...new Set([...bids.prices(), ...asks.prices()].filter(crossed))].sort((a, b) => a - b);
  const all = prices.map((priceTicks) => outcomeAt(bids, asks, priceTicks));
  const most = Math.max(...all.map(({ matchedLots }) => matchedLots));
  const fullest = all.filter(({ matchedLots }) => matchedLots === most);
  const least = Math.min(...fullest.map(({ surplus }) => Math.abs(surplus)));
  const chosen = fullest.filter(({ surplus }) => Math.abs(surplus) === least);
  const { surplus, priceTicks } = outcomeAt(bids, asks, priceOf(chosen));
  return {
    priceTicks,
    matchedLots: most,
    surplusLots: Math.abs(surplus),
    surplusSide: surplus === 0 ? 'none' : surplus > 0 ? 'bid' : 'ask',
  };
}

type Outcome = { readonly priceTicks: number; readonly matchedLots: number; readonly surplus: number };

function outcomeAt(bids: SideLevels, asks: SideLevels, priceTicks: number): Outcome {
  const demand = lotsWhile(bids, (price) => price >= priceTicks);
  const supply = lotsWhile(asks, (price) => price <= priceTicks);
  return { priceTicks, matchedLots: Math.min(demand, supply), surplus: demand - supply };
}

function lotsWhile(levels: SideLevels, holds: (priceTicks: number) => boolean): number {
  let lots = 0;
  for (const price of levels.prices()) {
    if (!holds(price)) break;
    lots += levels.lotsAt(price);
  }
  return lots;
}

/** Candidates in ascending order. */
function priceOf(chosen: readonly Outcome[]): number {
  const lowest = chosen[0]?.priceTicks ?? 0;
  const highest = chosen.at(-1)?.priceTicks ?? 0;
  if (chosen.every(({ surplus }) => surplus > 0)) return highest;
  if (chosen.every(({ surplus }) => surplus < 0)) return lowest;
  return lowest + Math.floor((highest - lowest) / 2);
}
