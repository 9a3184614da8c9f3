/**
 * What the trades of a day add up to. Volume and turnover stop at 2^53 - 1: integers below are exact, and a sum or product that
 * a double cannot hold exactly is above, so the comparison is right.
 */
import { MAX_INTEGER } from './order-book-events.ts';

export type DayStatistics = {
  trades: number;
  openPriceTicks: number;
  highPriceTicks: number;
  lowPriceTicks: number;
  lastPriceTicks: number;
  previousClosePriceTicks: number;
  volumeLots: number;
  /** Ticks times lots. */
  turnover: number;
};

/** A day without trades yet. The close is the last price of the day before, 0 if there was none. */
export function newDay(previousClosePriceTicks: number): DayStatistics {
  return {
    trades: 0,
    openPriceTicks: 0,
    highPriceTicks: 0,
    lowPriceTicks: 0,
    lastPriceTicks: 0,
    previousClosePriceTicks,
    volumeLots: 0,
    turnover: 0,
  };
}

export function countTrade(day: DayStatistics, priceTicks: number, quantityLots: number): void {
  if (day.trades === 0) {
    day.openPriceTicks = priceTicks;
    day.highPriceTicks = priceTicks;
    day.lowPriceTicks = priceTicks;
  } else {
    day.highPriceTicks = Math.max(day.highPriceTicks, priceTicks);
    day.lowPriceTicks = Math.min(day.lowPriceTicks, priceTicks);
  }
  day.trades += 1;
  day.lastPriceTicks = priceTicks;
  day.volumeLots = Math.min(MAX_INTEGER, day.volumeLots + quantityLots);
  day.turnover = Math.min(MAX_INTEGER, day.turnover + priceTicks * quantityLots);
}
