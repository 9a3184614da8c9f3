/**
 * The price of a call auction over two sides of levels: one walk over the prices at which bids and asks overlap.
 *
 * Rule (spec/exchange.md; checked against a real day of Shanghai trading): candidates are the limit prices in the book. Take
 * those of maximum executable volume, of these the ones of minimum surplus. Surplus on the buy side at all of them: the highest;
 * on the sell side at all of them: the lowest; else the midpoint of the lowest and the highest, a half tick rounded down.
 */

import { ASK, BID, NO_SIDE } from './order-book-events.ts';
import type { PriceLevels } from './price-levels.ts';

/** Price in ticks and quantities in lots; all 0 and `NO_SIDE` when nothing overlaps. */
export interface AuctionOutcome {
  priceTicks: number;
  matchedLots: number;
  surplusLots: number;
  surplusSide: number;
}

/** The candidates left so far: all have the same volume and the same absolute surplus. */
interface Candidates {
  matchedLots: number;
  absoluteSurplusLots: number;
  lowestTicks: number;
  highestTicks: number;
  allBuySurplus: boolean;
  allSellSurplus: boolean;
}

/** What an uncross of these two sides gives. Reads only. */
export function callAuction(bids: PriceLevels, asks: PriceLevels): AuctionOutcome {
  if (bids.bestKey() < -asks.bestKey()) return { priceTicks: 0, matchedLots: 0, surplusLots: 0, surplusSide: NO_SIDE };
  const candidates = findCandidates(bids, asks);
  const priceTicks = choosePrice(candidates);
  const surplusLots = demandAt(bids, priceTicks) - supplyAt(asks, priceTicks);
  return {
    priceTicks,
    matchedLots: candidates.matchedLots,
    surplusLots: Math.abs(surplusLots),
    surplusSide: surplusLots === 0 ? NO_SIDE : surplusLots > 0 ? BID : ASK,
  };
}

/** Walks the overlapping prices upwards: supply grows as asks are met, demand shrinks as bids are passed. */
function findCandidates(bids: PriceLevels, asks: PriceLevels): Candidates {
  const candidates = noCandidates();
  const lowestAskTicks = asks.priceAt(asks.count - 1);
  let demandLots = demandAt(bids, lowestAskTicks);
  let supplyLots = 0;
  let bidRank = bids.rankOf(lowestAskTicks);
  let askRank = asks.count - 1;
  while (bidRank < bids.count) {
    const bidTicks = bids.priceAt(bidRank);
    const priceTicks = askRank >= 0 ? Math.min(bidTicks, asks.priceAt(askRank)) : bidTicks;
    if (askRank >= 0 && asks.priceAt(askRank) === priceTicks) {
      supplyLots += asks.lotsAt(askRank);
      askRank -= 1;
    }
    consider(candidates, priceTicks, demandLots, supplyLots);
    if (bidTicks === priceTicks) {
      demandLots -= bids.lotsAt(bidRank);
      bidRank += 1;
    }
  }
  return candidates;
}

function noCandidates(): Candidates {
  return {
    matchedLots: 0,
    absoluteSurplusLots: 0,
    lowestTicks: 0,
    highestTicks: 0,
    allBuySurplus: false,
    allSellSurplus: false,
  };
}

/** Prices come in ascending order. */
function consider(candidates: Candidates, priceTicks: number, demandLots: number, supplyLots: number): void {
  const matchedLots = Math.min(demandLots, supplyLots);
  const surplusLots = demandLots - supplyLots;
  const absoluteSurplusLots = Math.abs(surplusLots);
  if (matchedLots < candidates.matchedLots) return;
  if (matchedLots === candidates.matchedLots && absoluteSurplusLots > candidates.absoluteSurplusLots) return;
  if (matchedLots > candidates.matchedLots || absoluteSurplusLots < candidates.absoluteSurplusLots) {
    candidates.matchedLots = matchedLots;
    candidates.absoluteSurplusLots = absoluteSurplusLots;
    candidates.lowestTicks = priceTicks;
    candidates.allBuySurplus = true;
    candidates.allSellSurplus = true;
  }
  candidates.highestTicks = priceTicks;
  candidates.allBuySurplus &&= surplusLots > 0;
  candidates.allSellSurplus &&= surplusLots < 0;
}

function choosePrice(candidates: Candidates): number {
  const { lowestTicks, highestTicks } = candidates;
  if (candidates.allBuySurplus) return highestTicks;
  if (candidates.allSellSurplus) return lowestTicks;
  return lowestTicks + Math.floor((highestTicks - lowestTicks) / 2);
}

/** Quantity of bids at this price or higher. */
function demandAt(bids: PriceLevels, priceTicks: number): number {
  return lotsFrom(bids, bids.rankOf(priceTicks));
}

/** Quantity of asks at this price or lower. */
function supplyAt(asks: PriceLevels, priceTicks: number): number {
  return lotsFrom(asks, asks.rankOf(-priceTicks));
}

function lotsFrom(levels: PriceLevels, firstRank: number): number {
  let lots = 0;
  for (let rank = firstRank; rank < levels.count; rank += 1) lots += levels.lotsAt(rank);
  return lots;
}
