/**
 * One side of a book: price levels in order, each with its queue of orders, first come first served.
 *
 * Levels stand in one sorted array with the best at the end: trading happens there, so inserting or removing a level shifts
 * little. Prices are compared by `key`, which is higher for a better price on either side
 * (the price of a bid, the negative price of an ask); that lets the book match both directions with one piece of code.
 *
 * It also remembers which levels were touched since the changes were last taken.
 */

import { BID, type BookLevel } from './order-book-events.ts';
import { NONE, type OrderPool, widen } from './order-pool.ts';

const FIRST_CAPACITY = 64;

export class PriceLevels {
  readonly side: number;
  /** Levels in use. */
  count = 0;
  /** Quantity of all orders of this side; the book keeps it below 2^53, so that every sum in here is exact. */
  restingLots = 0;
  /** By rank, best last: the level's key and its slot. */
  keys = new Float64Array(FIRST_CAPACITY);
  private ranked = new Int32Array(FIRST_CAPACITY);
  /** By slot. */
  lots = new Float64Array(FIRST_CAPACITY);
  private levelKeys = new Float64Array(FIRST_CAPACITY);
  private orderCounts = new Int32Array(FIRST_CAPACITY);
  private heads = new Int32Array(FIRST_CAPACITY);
  private tails = new Int32Array(FIRST_CAPACITY);
  /** The round in which the level was last touched; a round ends when the changes are taken. (A double: 2^31 rounds are minutes.) */
  private touchRounds = new Float64Array(FIRST_CAPACITY);
  private readonly orders: OrderPool;
  private readonly freeSlots: number[] = [];
  private capacity = FIRST_CAPACITY;
  private neverUsed = 0;
  /** Keys of touched levels, in the order of the touch; a level that vanished and came back is there twice. */
  private changedKeys = new Float64Array(FIRST_CAPACITY);
  private changedCount = 0;
  private round = 1;

  constructor(side: number, orders: OrderPool) {
    this.side = side;
    this.orders = orders;
  }

  keyOf(priceTicks: number): number {
    return this.side === BID ? priceTicks : -priceTicks;
  }

  priceOf(key: number): number {
    return this.side === BID ? key : -key;
  }

  /** Key of the best level, minus infinity for an empty side. */
  bestKey(): number {
    return this.count === 0 ? Number.NEGATIVE_INFINITY : this.keys[this.count - 1]!;
  }

  /** The order that is first in line, `NONE` for an empty side. */
  firstOrder(): number {
    return this.count === 0 ? NONE : this.heads[this.ranked[this.count - 1]!]!;
  }

  /** Total quantity at a rank. */
  lotsAt(rank: number): number {
    return this.lots[this.ranked[rank]!]!;
  }

  priceAt(rank: number): number {
    return this.priceOf(this.keys[rank]!);
  }

  /** The level at a rank as a value. */
  levelAt(rank: number): BookLevel {
    const slot = this.ranked[rank]!;
    return { priceTicks: this.priceAt(rank), quantityLots: this.lots[slot]!, orders: this.orderCounts[slot]! };
  }

  /** The first order of the level at a rank; `OrderPool.next` leads to the others. */
  firstOrderAt(rank: number): number {
    return this.heads[this.ranked[rank]!]!;
  }

  /** Puts an order at the back of the queue at its price. */
  append(order: number): void {
    const orders = this.orders;
    const lots = orders.remainingLots[order]!;
    const level = this.openLevel(this.keyOf(orders.pricesTicks[order]!));
    const tail = this.tails[level]!;
    if (tail === NONE) this.heads[level] = order;
    else orders.next[tail] = order;
    orders.previous[order] = tail;
    orders.next[order] = NONE;
    orders.levels[order] = level;
    this.tails[level] = order;
    this.lots[level] = this.lots[level]! + lots;
    this.orderCounts[level] = this.orderCounts[level]! + 1;
    this.restingLots += lots;
    this.touch(level);
  }

  /** Takes an order out of its queue, and its level with it if that was the last one. */
  remove(order: number): void {
    const orders = this.orders;
    const level = orders.levels[order]!;
    const previous = orders.previous[order]!;
    const next = orders.next[order]!;
    if (previous === NONE) this.heads[level] = next;
    else orders.next[previous] = next;
    if (next === NONE) this.tails[level] = previous;
    else orders.previous[next] = previous;
    const lots = orders.remainingLots[order]!;
    this.restingLots -= lots;
    this.lots[level] = this.lots[level]! - lots;
    this.orderCounts[level] = this.orderCounts[level]! - 1;
    this.touch(level);
    if (previous === NONE && next === NONE) this.closeLevel(level);
  }

  /** Takes quantity off an order that stays in its place. `lots` is at most what remains. */
  reduce(order: number, lots: number): void {
    const orders = this.orders;
    const level = orders.levels[order]!;
    orders.remainingLots[order] = orders.remainingLots[order]! - lots;
    this.lots[level] = this.lots[level]! - lots;
    this.restingLots -= lots;
    this.touch(level);
  }

  /**
   * Rank of the level with this key or, when there is none, of the next better one (`count` past the best). By halving: looking
   * at the best few levels first was no faster (6.9 against 7.1 M commands/s).
   */
  rankOf(key: number): number {
    const keys = this.keys;
    let low = 0;
    let high = this.count;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (keys[middle]! < key) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  /** Rows of the levels touched since the last call, best price first; a quantity of 0 says that the level is gone. */
  takeChanges(): BookLevel[] {
    if (this.changedCount < 2) return this.takeOneChange();
    const changed = this.changedKeys.subarray(0, this.changedCount).sort();
    const rows: BookLevel[] = [];
    for (let index = changed.length - 1; index >= 0; index -= 1) {
      if (changed[index] !== changed[index + 1]) rows.push(this.changedLevel(changed[index]!));
    }
    this.dropChanges();
    return rows;
  }

  /** Forgets which levels were touched. */
  dropChanges(): void {
    this.changedCount = 0;
    this.round += 1;
  }

  /** Most commands touch one level or none; sorting so few took longer than the rest of the command. */
  private takeOneChange(): BookLevel[] {
    if (this.changedCount === 0) return [];
    const row = this.changedLevel(this.changedKeys[0]!);
    this.dropChanges();
    return [row];
  }

  private changedLevel(key: number): BookLevel {
    const rank = this.rankOf(key);
    if (rank < this.count && this.keys[rank] === key) return this.levelAt(rank);
    return { priceTicks: this.priceOf(key), quantityLots: 0, orders: 0 };
  }

  private openLevel(key: number): number {
    const rank = this.rankOf(key);
    if (rank < this.count && this.keys[rank] === key) return this.ranked[rank]!;
    const level = this.takeSlot();
    this.levelKeys[level] = key;
    this.lots[level] = 0;
    this.orderCounts[level] = 0;
    this.heads[level] = NONE;
    this.tails[level] = NONE;
    this.touchRounds[level] = 0;
    this.insertRank(rank, key, level);
    return level;
  }

  private closeLevel(level: number): void {
    this.removeRank(this.rankOf(this.levelKeys[level]!));
    this.freeSlots.push(level);
  }

  private insertRank(rank: number, key: number, level: number): void {
    this.keys.copyWithin(rank + 1, rank, this.count);
    this.ranked.copyWithin(rank + 1, rank, this.count);
    this.keys[rank] = key;
    this.ranked[rank] = level;
    this.count += 1;
  }

  private removeRank(rank: number): void {
    this.keys.copyWithin(rank, rank + 1, this.count);
    this.ranked.copyWithin(rank, rank + 1, this.count);
    this.count -= 1;
  }

  private touch(level: number): void {
    if (this.touchRounds[level] === this.round) return;
    this.touchRounds[level] = this.round;
    if (this.changedCount === this.changedKeys.length) {
      this.changedKeys = widen(this.changedKeys, new Float64Array(this.changedCount * 2));
    }
    this.changedKeys[this.changedCount] = this.levelKeys[level]!;
    this.changedCount += 1;
  }

  private takeSlot(): number {
    const free = this.freeSlots.pop();
    if (free !== undefined) return free;
    if (this.neverUsed === this.capacity) this.grow();
    this.neverUsed += 1;
    return this.neverUsed - 1;
  }

  private grow(): void {
    this.capacity *= 2;
    this.keys = widen(this.keys, new Float64Array(this.capacity));
    this.ranked = widen(this.ranked, new Int32Array(this.capacity));
    this.lots = widen(this.lots, new Float64Array(this.capacity));
    this.levelKeys = widen(this.levelKeys, new Float64Array(this.capacity));
    this.orderCounts = widen(this.orderCounts, new Int32Array(this.capacity));
    this.heads = widen(this.heads, new Int32Array(this.capacity));
    this.tails = widen(this.tails, new Int32Array(this.capacity));
    this.touchRounds = widen(this.touchRounds, new Float64Array(this.capacity));
  }
}
