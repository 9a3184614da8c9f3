/**
 * The central limit order book of one instrument: price-time priority, call auctions, phases by command.
 *
 * - Integers only: ticks, lots, ids and sums stay below 2^53.
 * - Deterministic and blind to the machine: the same commands give the same events, byte for byte, and the same saved state,
 *   also when a book was saved and loaded in between.
 * - A command either returns the name of its rejection, and then nothing has changed and no event was written, or it returns
 *   undefined and its events stand in the caller's buffer.
 * - An order belongs to its owner: order ids are unique among the owner's live orders only, and somebody else's order looks
 *   unknown.
 *
 * `naive-book.ts` says the same in the slowest and plainest way; the tests hold the two together. Methods take numbers, not
 * objects: with an object per command the 3 M command benchmark spent its time in the allocator.
 */

import { type AuctionOutcome, callAuction } from './call-auction.ts';
import {
  ACCEPTED,
  ASK,
  AUCTION,
  type BestPrices,
  BID,
  type BookDepth,
  type BookLevel,
  type BookRejection,
  CANCELLED,
  CANCELLED_BY_USER,
  CANCELLED_FOK_NOT_FILLABLE,
  CANCELLED_IOC_REMAINDER,
  CANCELLED_NO_LIQUIDITY,
  CLOSED,
  CONTINUOUS,
  DAY,
  EXECUTED,
  EXPIRED,
  FOK,
  FOK_BUDGET,
  GTC,
  HALTED,
  type Indicative,
  IOC,
  type LevelChange,
  LIMIT,
  LIQUIDITY_ADDED,
  LIQUIDITY_AUCTION,
  LIQUIDITY_REMOVED,
  MARKET,
  MAX_INTEGER,
  MAX_ORDERS,
  MAX_OWNER,
  NO_SIDE,
  nameOf,
  type OrderEvents,
  PHASE,
  type PhaseName,
  PRE_OPEN,
  phaseNames,
  REDUCED,
  REPLACED,
  type RestingOrder,
  type SavedBook,
  type SavedOrder,
  type SideName,
  sideNames,
  sideOrNone,
  TRADE,
  timeInForceNames,
} from './order-book-events.ts';
import { OrderIndex } from './order-index.ts';
import { NONE, OrderPool } from './order-pool.ts';
import { PriceLevels } from './price-levels.ts';

/** What a phase lets in. Whatever it does not name is refused. */
interface PhaseRule {
  /** Day and GTC limit orders. */
  resting: boolean;
  /** Market, IOC and FOK orders: only where they can execute at once. */
  immediate: boolean;
  /** Move and replace. */
  amend: boolean;
  /** Cancel and reduce. The closing call forbids it, as Shanghai does: who entered is committed. */
  cancel: boolean;
  uncross: boolean;
}

/** Change of phase is possible everywhere; end of day only when closed. */
const ruleByPhase: Record<PhaseName, PhaseRule> = {
  pre_open: { resting: false, immediate: false, amend: false, cancel: true, uncross: false },
  opening_call: { resting: true, immediate: false, amend: true, cancel: true, uncross: true },
  continuous: { resting: true, immediate: true, amend: true, cancel: true, uncross: false },
  closing_call: { resting: true, immediate: false, amend: false, cancel: false, uncross: true },
  closed: { resting: false, immediate: false, amend: false, cancel: false, uncross: false },
  halted: { resting: false, immediate: false, amend: false, cancel: true, uncross: false },
};
const phaseRules: readonly PhaseRule[] = phaseNames.map((name) => ruleByPhase[name]);

export class OrderBook {
  private readonly events: OrderEvents;
  private readonly orders = new OrderPool();
  private readonly index = new OrderIndex(this.orders);
  private readonly bids = new PriceLevels(BID, this.orders);
  private readonly asks = new PriceLevels(ASK, this.orders);
  private phaseCode = PRE_OPEN;
  private rule: PhaseRule = phaseRules[PRE_OPEN]!;
  private lastOrderNumber = 0;
  private lastTradeNumber = 0;
  private lastTradePriceTicks = 0;

  /** An empty book in phase `pre_open` that writes its events to `events`, which the caller reads and clears. */
  constructor(events: OrderEvents) {
    this.events = events;
  }

  /**
   * Enters an order. Prices are in ticks, quantities in lots.
   *
   * A limit order is day, gtc, ioc, fok or fok_budget; a market order is ioc or fok and its price is 0. For fok_budget the
   * price is the total budget of a bid or the minimal proceeds of an ask, in ticks times lots. What cannot be filled as the
   * order demands is accepted and cancelled at once, not rejected: `fok_not_fillable` before the first fill,
   * `ioc_remainder` and `no_liquidity` (market) after the last.
   */
  enter(
    owner: number,
    orderId: number,
    side: number,
    orderType: number,
    timeInForce: number,
    priceTicks: number,
    quantityLots: number,
  ): BookRejection | undefined {
    const rejection =
      this.refuseShape(owner, orderId, side, orderType, timeInForce, priceTicks, quantityLots) ??
      this.refuseEntry(owner, orderId, side, timeInForce, quantityLots);
    if (rejection !== undefined) return rejection;
    this.lastOrderNumber += 1;
    const order = this.orders.allocate(
      owner,
      orderId,
      this.lastOrderNumber,
      side,
      timeInForce,
      priceTicks,
      quantityLots,
    );
    this.write(ACCEPTED, timeInForce, orderType, order, priceTicks, quantityLots, quantityLots);
    if (timeInForce > GTC) this.executeAtOnce(order, orderType, timeInForce);
    else this.enterResting(order);
    return undefined;
  }

  /** Cancels what remains of an order. */
  cancel(owner: number, orderId: number): BookRejection | undefined {
    if (!this.rule.cancel) return this.forbidden('cancel_not_allowed_in_phase');
    const order = this.index.find(owner, orderId);
    if (order === NONE) return 'unknown_order';
    this.levelsOf(order).remove(order);
    this.writeCancelled(order, CANCELLED_BY_USER);
    this.forget(order);
    return undefined;
  }

  /** Takes `lots` off an order, which keeps its place; the order is removed when nothing remains. */
  reduce(owner: number, orderId: number, lots: number): BookRejection | undefined {
    if (!(Number.isSafeInteger(lots) && lots > 0)) return 'invalid_quantity';
    if (!this.rule.cancel) return this.forbidden('cancel_not_allowed_in_phase');
    const order = this.index.find(owner, orderId);
    if (order === NONE) return 'unknown_order';
    const remainingLots = this.orders.remainingLots[order]!;
    const takenLots = Math.min(lots, remainingLots);
    this.levelsOf(order).reduce(order, takenLots);
    this.write(REDUCED, 0, LIMIT, order, this.orders.pricesTicks[order]!, takenLots, remainingLots - takenLots);
    if (takenLots === remainingLots) this.removeDone(order);
    return undefined;
  }

  /** Gives an order a new price. It goes to the back of the queue there, even at the same price, and may match at once. */
  move(owner: number, orderId: number, priceTicks: number): BookRejection | undefined {
    if (!(Number.isSafeInteger(priceTicks) && priceTicks > 0)) return 'invalid_price';
    if (!this.rule.amend) return this.forbidden('phase_forbids');
    const order = this.index.find(owner, orderId);
    if (order === NONE) return 'unknown_order';
    this.levelsOf(order).remove(order);
    this.orders.pricesTicks[order] = priceTicks;
    const remainingLots = this.orders.remainingLots[order]!;
    this.write(REPLACED, 0, LIMIT, order, priceTicks, this.orders.executedLots[order]! + remainingLots, remainingLots);
    this.settle(order);
    return undefined;
  }

  /**
   * Gives an order a new price and a new total quantity. What was executed counts, so a replace that crosses a fill on its way
   * cannot over-fill; a total of no more than that ends the order. A pure decrease keeps the place, a new price or an increase
   * loses it and may match at once.
   */
  replace(owner: number, orderId: number, priceTicks: number, totalLots: number): BookRejection | undefined {
    if (!(Number.isSafeInteger(priceTicks) && priceTicks > 0)) return 'invalid_price';
    if (!(Number.isSafeInteger(totalLots) && totalLots > 0)) return 'invalid_quantity';
    if (!this.rule.amend) return this.forbidden('phase_forbids');
    const order = this.index.find(owner, orderId);
    if (order === NONE) return 'unknown_order';
    const newLots = Math.max(0, totalLots - this.orders.executedLots[order]!);
    const moreLots = newLots - this.orders.remainingLots[order]!;
    if (moreLots > MAX_INTEGER - this.levelsOf(order).restingLots) return 'quantity_limit';
    if (moreLots <= 0 && priceTicks === this.orders.pricesTicks[order]) this.decrease(order, totalLots, -moreLots);
    else this.requeue(order, priceTicks, totalLots, newLots);
    return undefined;
  }

  /** Changes the phase. Continuous trading does not begin on a crossed book: uncross it first. */
  setPhase(phase: number): BookRejection | undefined {
    const rule = phaseRules[phase];
    if (rule === undefined) return 'invalid_phase';
    if (phase === CONTINUOUS && this.crossed()) return 'book_crossed';
    this.phaseCode = phase;
    this.rule = rule;
    this.events.write(PHASE, NO_SIDE, phase, 0, 0, 0, 0, 0, 0, 0, 0, 0);
    return undefined;
  }

  /** Runs the call auction: one price for all, price then time. What is left stays in the book, and the phase stays too. */
  uncross(): BookRejection | undefined {
    if (!this.rule.uncross) return this.forbidden('phase_forbids');
    const outcome = callAuction(this.bids, this.asks);
    const { priceTicks, matchedLots, surplusLots, surplusSide } = outcome;
    this.events.write(AUCTION, surplusSide, 0, 0, 0, 0, 0, priceTicks, matchedLots, surplusLots, 0, 0);
    this.allocateAuction(outcome);
    return undefined;
  }

  /** Ends the day of a closed book: day orders expire, bids before asks, each in priority order; GTC orders stay. */
  endOfDay(): BookRejection | undefined {
    if (this.phaseCode !== CLOSED) return 'phase_forbids';
    this.expireDayOrders(this.bids);
    this.expireDayOrders(this.asks);
    return undefined;
  }

  get phase(): PhaseName {
    return nameOf(phaseNames, this.phaseCode);
  }

  /** Price of the last trade in ticks, 0 before the first. */
  get lastPriceTicks(): number {
    return this.lastTradePriceTicks;
  }

  /** Resting orders. */
  get orderCount(): number {
    return this.orders.size;
  }

  /** Trades so far: the number of the last one. */
  get tradeCount(): number {
    return this.lastTradeNumber;
  }

  /** Price levels of a side. */
  levelCount(side: number): number {
    return side === BID ? this.bids.count : this.asks.count;
  }

  /** Price of the best level of a side, 0 when it is empty. */
  bestPriceTicks(side: number): number {
    const levels = side === BID ? this.bids : this.asks;
    return levels.count === 0 ? 0 : levels.priceAt(levels.count - 1);
  }

  /** Quantity of the best level of a side, 0 when it is empty. */
  bestLots(side: number): number {
    const levels = side === BID ? this.bids : this.asks;
    return levels.count === 0 ? 0 : levels.lotsAt(levels.count - 1);
  }

  /** The best level of each side. */
  bestPrices(): BestPrices {
    return {
      bidPriceTicks: this.bestPriceTicks(BID),
      bidLots: this.bestLots(BID),
      askPriceTicks: this.bestPriceTicks(ASK),
      askLots: this.bestLots(ASK),
    };
  }

  /** Up to `levels` price levels of each side, best first. */
  depth(levels: number): BookDepth {
    return { bids: topLevels(this.bids, levels), asks: topLevels(this.asks, levels) };
  }

  /** Every resting order of a side, best price first, then first come first. */
  restingOrders(side: number): RestingOrder[] {
    const rows: RestingOrder[] = [];
    this.eachOrder(side === BID ? this.bids : this.asks, (order) => rows.push(this.describe(order)));
    return rows;
  }

  /** One live order of this owner, undefined when there is none. */
  restingOrder(owner: number, orderId: number): RestingOrder | undefined {
    const order = this.index.find(owner, orderId);
    return order === NONE ? undefined : this.describe(order);
  }

  /** What was executed of a live order so far; 0 where there is none. */
  executedLots(owner: number, orderId: number): number {
    const order = this.index.find(owner, orderId);
    return order === NONE ? 0 : this.orders.executedLots[order]!;
  }

  /** Live orders of this owner with numbers above `afterNumber`, at most `limit`, by number. Looks at every order of the book. */
  ordersOf(owner: number, afterNumber: number, limit: number): RestingOrder[] {
    const { owners, orderNumbers } = this.orders;
    const found: number[] = [];
    const visit = (order: number): void => {
      if (owners[order] === owner && orderNumbers[order]! > afterNumber) found.push(order);
    };
    this.eachOrder(this.bids, visit);
    this.eachOrder(this.asks, visit);
    found.sort((a, b) => orderNumbers[a]! - orderNumbers[b]!);
    return found.slice(0, limit).map((order) => this.describe(order));
  }

  /** Owners with live orders. */
  liveOwners(): Set<number> {
    const found = new Set<number>();
    const visit = (order: number): void => void found.add(this.orders.owners[order]!);
    this.eachOrder(this.bids, visit);
    this.eachOrder(this.asks, visit);
    return found;
  }

  /** What an uncross would do now. Of interest in the call phases; elsewhere the book is not crossed and all is 0. */
  indicative(): Indicative {
    const { priceTicks, matchedLots, surplusLots, surplusSide } = callAuction(this.bids, this.asks);
    return { priceTicks, matchedLots, surplusLots, surplusSide: sideOrNone(surplusSide) };
  }

  /**
   * The levels touched since this was last called, bids then asks, best first, with absolute quantities: applied to the depth
   * of then they give the depth of now. Take (or drop) them after every command; they are not part of the saved state.
   */
  takeChanges(): LevelChange[] {
    return [...changesOf('bid', this.bids), ...changesOf('ask', this.asks)];
  }

  /** The same for one side alone. */
  takeSideChanges(side: number): BookLevel[] {
    return (side === BID ? this.bids : this.asks).takeChanges();
  }

  /** Forgets the touched levels. */
  dropChanges(): void {
    this.bids.dropChanges();
    this.asks.dropChanges();
  }

  /** The complete state as plain values. Equal histories save equal values, whatever was allocated where. */
  save(): SavedBook {
    return {
      phase: this.phase,
      lastOrderNumber: this.lastOrderNumber,
      lastTradeNumber: this.lastTradeNumber,
      lastTradePriceTicks: this.lastTradePriceTicks,
      bids: this.saveSide(this.bids),
      asks: this.saveSide(this.asks),
    };
  }

  /** A book that goes on exactly where the saved one stopped. Throws on state that no book saved. */
  static load(saved: SavedBook, events: OrderEvents): OrderBook {
    const book = new OrderBook(events);
    book.phaseCode = phaseNames.indexOf(saved.phase);
    const rule = phaseRules[book.phaseCode];
    if (rule === undefined) throw new Error(`saved book has unknown phase ${saved.phase}`);
    book.rule = rule;
    book.lastOrderNumber = saved.lastOrderNumber;
    book.lastTradeNumber = saved.lastTradeNumber;
    book.lastTradePriceTicks = saved.lastTradePriceTicks;
    for (const row of saved.bids) book.loadOrder(BID, row);
    for (const row of saved.asks) book.loadOrder(ASK, row);
    if (book.phaseCode === CONTINUOUS && book.crossed()) throw new Error('saved book is crossed in continuous trading');
    book.dropChanges();
    return book;
  }

  private refuseShape(
    owner: number,
    orderId: number,
    side: number,
    orderType: number,
    timeInForce: number,
    priceTicks: number,
    quantityLots: number,
  ): BookRejection | undefined {
    if (!(Number.isInteger(owner) && owner >= 0 && owner <= MAX_OWNER)) throw new RangeError(`owner ${owner}`);
    if (!(Number.isSafeInteger(orderId) && orderId > 0)) return 'invalid_order_id';
    if (side !== BID && side !== ASK) return 'invalid_side';
    if (!(Number.isSafeInteger(quantityLots) && quantityLots > 0)) return 'invalid_quantity';
    if (orderType === MARKET) return refuseMarket(timeInForce, priceTicks);
    if (orderType !== LIMIT) return 'invalid_order_type';
    if (!(Number.isInteger(timeInForce) && timeInForce >= DAY && timeInForce <= FOK_BUDGET)) {
      return 'invalid_time_in_force';
    }
    if (!(Number.isSafeInteger(priceTicks) && priceTicks > 0)) return 'invalid_price';
    return undefined;
  }

  private refuseEntry(
    owner: number,
    orderId: number,
    side: number,
    timeInForce: number,
    quantityLots: number,
  ): BookRejection | undefined {
    const resting = timeInForce <= GTC;
    if (!(resting ? this.rule.resting : this.rule.immediate)) return this.forbidden('phase_forbids');
    if (this.index.find(owner, orderId) !== NONE) return 'duplicate_order';
    if (!resting) return undefined;
    const levels = side === BID ? this.bids : this.asks;
    if (quantityLots > MAX_INTEGER - levels.restingLots) return 'quantity_limit';
    if (this.orders.size >= MAX_ORDERS) return 'book_full';
    return undefined;
  }

  /** The phase's own refusal; a halt is told as such. */
  private forbidden(rejection: BookRejection): BookRejection {
    return this.phaseCode === HALTED ? 'halted' : rejection;
  }

  private enterResting(order: number): void {
    this.index.add(order);
    this.settle(order);
  }

  /** Matches an order that stands in no queue where the phase matches, then queues what remains or forgets the order. */
  private settle(order: number): void {
    const side = this.orders.sides[order]!;
    const priceTicks = this.orders.pricesTicks[order]!;
    if (this.phaseCode === CONTINUOUS) this.match(order, side, side === BID ? -priceTicks : priceTicks);
    if (this.orders.remainingLots[order] === 0) this.forget(order);
    else this.levelsOf(order).append(order);
  }

  /** An order that never rests: fills what it may and cancels the rest. It was never in the index. */
  private executeAtOnce(order: number, orderType: number, timeInForce: number): void {
    const side = this.orders.sides[order]!;
    const worstKey = this.worstKey(order, side, orderType, timeInForce);
    if (timeInForce >= FOK && !this.fillable(order, side, worstKey, timeInForce)) {
      this.writeCancelled(order, CANCELLED_FOK_NOT_FILLABLE);
    } else {
      this.match(order, side, worstKey);
      if (this.orders.remainingLots[order]! > 0) {
        this.writeCancelled(order, orderType === MARKET ? CANCELLED_NO_LIQUIDITY : CANCELLED_IOC_REMAINDER);
      }
    }
    this.orders.release(order);
  }

  /** The key of the worst opposite level that the order may take. */
  private worstKey(order: number, side: number, orderType: number, timeInForce: number): number {
    if (orderType === MARKET || timeInForce === FOK_BUDGET) return Number.NEGATIVE_INFINITY;
    const priceTicks = this.orders.pricesTicks[order]!;
    return side === BID ? -priceTicks : priceTicks;
  }

  private fillable(order: number, side: number, worstKey: number, timeInForce: number): boolean {
    const opposite = side === BID ? this.asks : this.bids;
    const quantityLots = this.orders.remainingLots[order]!;
    if (timeInForce !== FOK_BUDGET) return holdsQuantity(opposite, worstKey, quantityLots);
    return holdsBudget(opposite, side, quantityLots, this.orders.pricesTicks[order]!);
  }

  /** Fills the taker against opposite orders in priority order, down to the level of `worstKey`. */
  private match(taker: number, side: number, worstKey: number): void {
    const opposite = side === BID ? this.asks : this.bids;
    const { remainingLots, pricesTicks } = this.orders;
    while (remainingLots[taker]! > 0 && opposite.count > 0 && opposite.bestKey() >= worstKey) {
      const maker = opposite.firstOrder();
      const makerLots = remainingLots[maker]!;
      const takerLots = remainingLots[taker]!;
      const lots = Math.min(makerLots, takerLots);
      remainingLots[taker] = takerLots - lots;
      opposite.reduce(maker, lots);
      this.writeFill(taker, maker, side, pricesTicks[maker]!, lots);
      if (lots === makerLots) this.removeDone(maker);
    }
  }

  /** Both sides in priority order, all at the auction's price. */
  private allocateAuction(outcome: AuctionOutcome): void {
    const { remainingLots } = this.orders;
    let leftLots = outcome.matchedLots;
    while (leftLots > 0) {
      const bid = this.bids.firstOrder();
      const ask = this.asks.firstOrder();
      const lots = Math.min(leftLots, remainingLots[bid]!, remainingLots[ask]!);
      this.bids.reduce(bid, lots);
      this.asks.reduce(ask, lots);
      this.writeFill(bid, ask, NO_SIDE, outcome.priceTicks, lots);
      if (remainingLots[bid] === 0) this.removeDone(bid);
      if (remainingLots[ask] === 0) this.removeDone(ask);
      leftLots -= lots;
    }
  }

  private decrease(order: number, totalLots: number, lessLots: number): void {
    if (lessLots > 0) this.levelsOf(order).reduce(order, lessLots);
    const { pricesTicks, remainingLots } = this.orders;
    this.write(REPLACED, 1, LIMIT, order, pricesTicks[order]!, totalLots, remainingLots[order]!);
    if (remainingLots[order] === 0) this.removeDone(order);
  }

  private requeue(order: number, priceTicks: number, totalLots: number, newLots: number): void {
    this.levelsOf(order).remove(order);
    this.orders.pricesTicks[order] = priceTicks;
    this.orders.remainingLots[order] = newLots;
    this.write(REPLACED, 0, LIMIT, order, priceTicks, totalLots, newLots);
    this.settle(order);
  }

  private expireDayOrders(levels: PriceLevels): void {
    const expired: number[] = [];
    this.eachOrder(levels, (order) => {
      if (this.orders.timesInForce[order] === DAY) expired.push(order);
    });
    for (const order of expired) {
      this.write(EXPIRED, 0, LIMIT, order, this.orders.pricesTicks[order]!, this.orders.remainingLots[order]!, 0);
      this.removeDone(order);
    }
  }

  private crossed(): boolean {
    return this.bids.bestKey() >= -this.asks.bestKey();
  }

  private levelsOf(order: number): PriceLevels {
    return this.orders.sides[order] === BID ? this.bids : this.asks;
  }

  private removeDone(order: number): void {
    this.levelsOf(order).remove(order);
    this.forget(order);
  }

  private forget(order: number): void {
    this.index.remove(order);
    this.orders.release(order);
  }

  /** `side` is the aggressor's; in an auction it is `NO_SIDE`, `taker` is the bid and `maker` the ask. */
  private writeFill(taker: number, maker: number, side: number, priceTicks: number, lots: number): void {
    const { orderNumbers } = this.orders;
    this.lastTradeNumber += 1;
    this.lastTradePriceTicks = priceTicks;
    this.writeExecuted(taker, side === NO_SIDE ? LIQUIDITY_AUCTION : LIQUIDITY_REMOVED, priceTicks, lots);
    this.writeExecuted(maker, side === NO_SIDE ? LIQUIDITY_AUCTION : LIQUIDITY_ADDED, priceTicks, lots);
    const bid = orderNumbers[side === ASK ? maker : taker]!;
    const ask = orderNumbers[side === ASK ? taker : maker]!;
    this.events.write(TRADE, side, 0, 0, 0, 0, bid, priceTicks, lots, 0, this.lastTradeNumber, ask);
  }

  /** Counts the fill as executed, too. */
  private writeExecuted(order: number, liquidity: number, priceTicks: number, lots: number): void {
    const orders = this.orders;
    orders.executedLots[order] = orders.executedLots[order]! + lots;
    this.events.write(
      EXECUTED,
      orders.sides[order]!,
      liquidity,
      0,
      orders.owners[order]!,
      orders.orderIds[order]!,
      orders.orderNumbers[order]!,
      priceTicks,
      lots,
      orders.remainingLots[order]!,
      this.lastTradeNumber,
      0,
    );
  }

  private writeCancelled(order: number, reason: number): void {
    this.write(CANCELLED, reason, 0, order, this.orders.pricesTicks[order]!, this.orders.remainingLots[order]!, 0);
  }

  private write(
    type: number,
    detail: number,
    orderType: number,
    order: number,
    priceTicks: number,
    quantityLots: number,
    remainingLots: number,
  ): void {
    const orders = this.orders;
    this.events.write(
      type,
      orders.sides[order]!,
      detail,
      orderType,
      orders.owners[order]!,
      orders.orderIds[order]!,
      orders.orderNumbers[order]!,
      priceTicks,
      quantityLots,
      remainingLots,
      0,
      0,
    );
  }

  private describe(order: number): RestingOrder {
    const orders = this.orders;
    return {
      owner: orders.owners[order]!,
      orderId: orders.orderIds[order]!,
      orderNumber: orders.orderNumbers[order]!,
      side: nameOf(sideNames, orders.sides[order]!),
      priceTicks: orders.pricesTicks[order]!,
      remainingLots: orders.remainingLots[order]!,
      executedLots: orders.executedLots[order]!,
      timeInForce: nameOf(timeInForceNames, orders.timesInForce[order]!),
    };
  }

  private eachOrder(levels: PriceLevels, visit: (order: number) => void): void {
    for (let rank = levels.count - 1; rank >= 0; rank -= 1) {
      for (let order = levels.firstOrderAt(rank); order !== NONE; order = this.orders.next[order]!) visit(order);
    }
  }

  private saveSide(levels: PriceLevels): SavedOrder[] {
    const orders = this.orders;
    const rows: SavedOrder[] = [];
    this.eachOrder(levels, (order) => {
      rows.push([
        orders.owners[order]!,
        orders.orderIds[order]!,
        orders.orderNumbers[order]!,
        orders.pricesTicks[order]!,
        orders.remainingLots[order]!,
        orders.executedLots[order]!,
        orders.timesInForce[order]!,
      ]);
    });
    return rows;
  }

  private loadOrder(side: number, row: SavedOrder): void {
    const [owner, orderId, orderNumber, priceTicks, remainingLots, executedLots, timeInForce] = row;
    const levels = side === BID ? this.bids : this.asks;
    assertSavedOrder(row, levels, this.lastOrderNumber);
    if (this.index.find(owner, orderId) !== NONE) throw new Error(`saved book has order ${owner}/${orderId} twice`);
    const order = this.orders.allocate(owner, orderId, orderNumber, side, timeInForce, priceTicks, remainingLots);
    this.orders.executedLots[order] = executedLots;
    this.index.add(order);
    levels.append(order);
  }
}

function refuseMarket(timeInForce: number, priceTicks: number): BookRejection | undefined {
  if (timeInForce !== IOC && timeInForce !== FOK) return 'invalid_time_in_force';
  return priceTicks === 0 ? undefined : 'invalid_price';
}

/** Whether the levels down to `worstKey` hold the quantity. */
function holdsQuantity(levels: PriceLevels, worstKey: number, quantityLots: number): boolean {
  let missingLots = quantityLots;
  for (let rank = levels.count - 1; rank >= 0 && levels.keys[rank]! >= worstKey; rank -= 1) {
    missingLots -= levels.lotsAt(rank);
    if (missingLots <= 0) return true;
  }
  return false;
}

/**
 * Whether the whole quantity trades within a bid's budget, or brings an ask's proceeds. Products and sums beyond 2^53 are
 * rounded, but rounding is monotone: they stay at or above 2^53, while the budget is below, so each comparison is exact.
 */
function holdsBudget(levels: PriceLevels, side: number, quantityLots: number, budget: number): boolean {
  let missingLots = quantityLots;
  let total = 0;
  for (let rank = levels.count - 1; rank >= 0 && missingLots > 0; rank -= 1) {
    const lots = Math.min(missingLots, levels.lotsAt(rank));
    total += lots * levels.priceAt(rank);
    missingLots -= lots;
  }
  return missingLots === 0 && (side === BID ? total <= budget : total >= budget);
}

function topLevels(levels: PriceLevels, limit: number): BookLevel[] {
  const rows: BookLevel[] = [];
  const last = Math.max(0, levels.count - limit);
  for (let rank = levels.count - 1; rank >= last; rank -= 1) rows.push(levels.levelAt(rank));
  return rows;
}

function changesOf(side: SideName, levels: PriceLevels): LevelChange[] {
  return levels.takeChanges().map((level) => ({ side, ...level }));
}

/** Refuses a row that cannot have been saved: it would break an invariant far from here. */
function assertSavedOrder(row: SavedOrder, levels: PriceLevels, lastOrderNumber: number): void {
  const [owner, orderId, orderNumber, priceTicks, remainingLots, executedLots, timeInForce] = row;
  const sound =
    row.every((cell) => Number.isSafeInteger(cell) && cell >= 0) &&
    owner <= MAX_OWNER &&
    orderId > 0 &&
    orderNumber > 0 &&
    orderNumber <= lastOrderNumber &&
    priceTicks > 0 &&
    remainingLots > 0 &&
    remainingLots <= MAX_INTEGER - levels.restingLots &&
    executedLots <= MAX_INTEGER - remainingLots &&
    timeInForce <= GTC &&
    (levels.count === 0 || levels.keyOf(priceTicks) <= levels.keys[0]!);
  if (!sound) throw new Error(`saved book has an impossible order ${JSON.stringify(row)}`);
}
