/**
 * The order book as its specification: every rule written the slowest and plainest way, over one list of orders that is searched
 * and sorted anew for every command. It shares no code with the fast book, only the shapes of what both say, and the tests
 * demand that the two are equal in every rejection, event and saved state. Names are strings here, products are BigInt.
 */

import type {
  BestPrices,
  BookDepth,
  BookEvent,
  BookLevel,
  BookRejection,
  CancelReasonName,
  Indicative,
  LiquidityName,
  OrderTypeName,
  PhaseName,
  RestingOrder,
  SavedBook,
  SavedOrder,
  SideName,
  TimeInForceName,
} from './order-book-events.ts';

interface NaiveOrder extends RestingOrder {
  orderType: OrderTypeName;
  /** Lower is earlier: the place in time priority. */
  place: number;
}

/** What `NaiveBook.enter` takes. */
export interface NaiveEntry {
  owner: number;
  orderId: number;
  side: SideName;
  orderType: OrderTypeName;
  timeInForce: TimeInForceName;
  priceTicks: number;
  quantityLots: number;
}

const LARGEST = 2n ** 53n - 1n;

export class NaiveBook {
  /** Events since the caller last emptied it. */
  events: BookEvent[] = [];
  private orders: NaiveOrder[] = [];
  private phase: PhaseName = 'pre_open';
  private lastOrderNumber = 0;
  private lastTradeNumber = 0;
  private lastTradePriceTicks = 0;
  private lastPlace = 0;

  enter(entry: NaiveEntry): BookRejection | undefined {
    const rejection = this.refuseEntry(entry);
    if (rejection) return rejection;
    const order = this.accept(entry);
    if (entry.timeInForce === 'fok' && this.quantityWithinReach(order) < BigInt(order.remainingLots)) {
      return this.killed(order, 'fok_not_fillable');
    }
    if (entry.timeInForce === 'fok_budget' && !this.withinBudget(order)) return this.killed(order, 'fok_not_fillable');
    if (this.phase === 'continuous') this.match(order);
    if (order.remainingLots === 0) return undefined;
    if (entry.orderType === 'market') return this.killed(order, 'no_liquidity');
    if (entry.timeInForce === 'ioc') return this.killed(order, 'ioc_remainder');
    this.queue(order);
    return undefined;
  }

  cancel(owner: number, orderId: number): BookRejection | undefined {
    const found = this.findForCancel(owner, orderId);
    if (typeof found === 'string') return found;
    this.remove(found);
    return this.killed(found, 'user');
  }

  reduce(owner: number, orderId: number, lots: number): BookRejection | undefined {
    if (!isPositive(lots)) return 'invalid_quantity';
    const found = this.findForCancel(owner, orderId);
    if (typeof found === 'string') return found;
    const quantityLots = Math.min(lots, found.remainingLots);
    found.remainingLots -= quantityLots;
    const { priceTicks, remainingLots } = found;
    this.events.push({ type: 'reduced', ...identity(found), priceTicks, quantityLots, remainingLots });
    this.removeIfDone(found);
    return undefined;
  }

  move(owner: number, orderId: number, priceTicks: number): BookRejection | undefined {
    if (!isPositive(priceTicks)) return 'invalid_price';
    const found = this.findForAmend(owner, orderId);
    if (typeof found === 'string') return found;
    this.enterAgain(found, priceTicks, found.remainingLots);
    return undefined;
  }

  replace(owner: number, orderId: number, priceTicks: number, totalLots: number): BookRejection | undefined {
    if (!isPositive(priceTicks)) return 'invalid_price';
    if (!isPositive(totalLots)) return 'invalid_quantity';
    const found = this.findForAmend(owner, orderId);
    if (typeof found === 'string') return found;
    const total = found.executedLots + found.remainingLots;
    const remainingLots = Math.max(0, totalLots - found.executedLots);
    const others = this.total(found.side) - BigInt(found.remainingLots);
    if (others + BigInt(remainingLots) > LARGEST) return 'quantity_limit';
    if (priceTicks !== found.priceTicks || totalLots > total) {
      this.enterAgain(found, priceTicks, remainingLots, totalLots);
      return undefined;
    }
    found.remainingLots = remainingLots;
    this.sayReplaced(found, totalLots, true);
    this.removeIfDone(found);
    return undefined;
  }

  setPhase(phase: PhaseName): BookRejection | undefined {
    if (phase === 'continuous' && this.indicative().matchedLots > 0) return 'book_crossed';
    this.phase = phase;
    this.events.push({ type: 'phase', phase });
    return undefined;
  }

  uncross(): BookRejection | undefined {
    if (this.phase === 'halted') return 'halted';
    if (this.phase !== 'opening_call' && this.phase !== 'closing_call') return 'phase_forbids';
    const auction = this.indicative();
    this.events.push({ type: 'auction', ...auction });
    let left = auction.matchedLots;
    while (left > 0) {
      const bid = this.inPriority('bid')[0] as NaiveOrder;
      const ask = this.inPriority('ask')[0] as NaiveOrder;
      const lots = Math.min(left, bid.remainingLots, ask.remainingLots);
      this.fill(bid, ask, 'none', auction.priceTicks, lots);
      left -= lots;
    }
    return undefined;
  }

  endOfDay(): BookRejection | undefined {
    if (this.phase !== 'closed') return 'phase_forbids';
    for (const order of [...this.inPriority('bid'), ...this.inPriority('ask')]) {
      if (order.timeInForce !== 'day') continue;
      const { priceTicks, remainingLots: quantityLots } = order;
      this.remove(order);
      this.events.push({ type: 'expired', ...identity(order), priceTicks, quantityLots });
    }
    return undefined;
  }

  /** For every limit price: what trades there and what is left over. Then the rule, line by line. */
  indicative(): Indicative {
    const prices = [...new Set(this.orders.map((order) => order.priceTicks))];
    const tried = prices.map((priceTicks) => this.tryAuctionAt(priceTicks)).filter((price) => price.matchedLots > 0);
    if (tried.length === 0) return { priceTicks: 0, matchedLots: 0, surplusLots: 0, surplusSide: 'none' };
    const most = Math.max(...tried.map((price) => price.matchedLots));
    const fullest = tried.filter((price) => price.matchedLots === most);
    const least = Math.min(...fullest.map((price) => price.surplusLots));
    const candidates = fullest.filter((price) => price.surplusLots === least);
    const low = Math.min(...candidates.map((price) => price.priceTicks));
    const high = Math.max(...candidates.map((price) => price.priceTicks));
    if (candidates.every((price) => price.surplusSide === 'bid')) return this.tryAuctionAt(high);
    if (candidates.every((price) => price.surplusSide === 'ask')) return this.tryAuctionAt(low);
    return this.tryAuctionAt(Number((BigInt(low) + BigInt(high)) / 2n));
  }

  depth(levels: number): BookDepth {
    return { bids: this.levels('bid').slice(0, levels), asks: this.levels('ask').slice(0, levels) };
  }

  bestPrices(): BestPrices {
    const bid = this.levels('bid')[0];
    const ask = this.levels('ask')[0];
    return {
      bidPriceTicks: bid?.priceTicks ?? 0,
      bidLots: bid?.quantityLots ?? 0,
      askPriceTicks: ask?.priceTicks ?? 0,
      askLots: ask?.quantityLots ?? 0,
    };
  }

  restingOrders(side: SideName): RestingOrder[] {
    return this.inPriority(side).map(({ orderType: _, place: __, ...order }) => order);
  }

  save(): SavedBook {
    const { phase, lastOrderNumber, lastTradeNumber, lastTradePriceTicks } = this;
    const bids = this.inPriority('bid').map(savedOrder);
    const asks = this.inPriority('ask').map(savedOrder);
    return { phase, lastOrderNumber, lastTradeNumber, lastTradePriceTicks, bids, asks };
  }

  private refuseEntry(entry: NaiveEntry): BookRejection | undefined {
    const resting = entry.timeInForce === 'day' || entry.timeInForce === 'gtc';
    if (!isPositive(entry.orderId)) return 'invalid_order_id';
    if (!isPositive(entry.quantityLots)) return 'invalid_quantity';
    if (entry.orderType === 'market') {
      if (resting || entry.timeInForce === 'fok_budget') return 'invalid_time_in_force';
      if (entry.priceTicks !== 0) return 'invalid_price';
    } else if (!isPositive(entry.priceTicks)) return 'invalid_price';
    if (this.phase === 'halted') return 'halted';
    const call = this.phase === 'opening_call' || this.phase === 'closing_call';
    if (this.phase !== 'continuous' && !(call && resting)) return 'phase_forbids';
    if (this.find(entry.owner, entry.orderId)) return 'duplicate_order';
    if (resting && this.total(entry.side) + BigInt(entry.quantityLots) > LARGEST) return 'quantity_limit';
    return undefined;
  }

  private accept(entry: NaiveEntry): NaiveOrder {
    const { quantityLots, ...rest } = entry;
    this.lastOrderNumber += 1;
    const orderNumber = this.lastOrderNumber;
    const order = { ...rest, orderNumber, remainingLots: quantityLots, executedLots: 0, place: 0 };
    const { orderType, timeInForce, priceTicks } = entry;
    this.events.push({ type: 'accepted', ...identity(order), orderType, timeInForce, priceTicks, quantityLots });
    return order;
  }

  private match(taker: NaiveOrder): void {
    for (const maker of this.opposite(taker)) {
      if (taker.remainingLots === 0 || !this.reaches(taker, maker)) return;
      const lots = Math.min(taker.remainingLots, maker.remainingLots);
      this.fill(taker, maker, taker.side, maker.priceTicks, lots);
    }
  }

  /** In an auction (`none`) the first order is the bid. */
  private fill(
    first: NaiveOrder,
    second: NaiveOrder,
    aggressor: SideName | 'none',
    priceTicks: number,
    quantityLots: number,
  ): void {
    this.lastTradeNumber += 1;
    this.lastTradePriceTicks = priceTicks;
    const tradeNumber = this.lastTradeNumber;
    this.execute(first, aggressor === 'none' ? 'auction' : 'removed', priceTicks, quantityLots);
    this.execute(second, aggressor === 'none' ? 'auction' : 'added', priceTicks, quantityLots);
    const bidOrderNumber = first.side === 'bid' ? first.orderNumber : second.orderNumber;
    const askOrderNumber = first.side === 'bid' ? second.orderNumber : first.orderNumber;
    this.events.push({
      type: 'trade',
      tradeNumber,
      aggressor,
      priceTicks,
      quantityLots,
      bidOrderNumber,
      askOrderNumber,
    });
  }

  private execute(order: NaiveOrder, liquidity: LiquidityName, priceTicks: number, quantityLots: number): void {
    order.remainingLots -= quantityLots;
    order.executedLots += quantityLots;
    const { remainingLots } = order;
    const tradeNumber = this.lastTradeNumber;
    const said = { liquidity, priceTicks, quantityLots, remainingLots, tradeNumber };
    this.events.push({ type: 'executed', ...identity(order), ...said });
    this.removeIfDone(order);
  }

  private enterAgain(order: NaiveOrder, priceTicks: number, remainingLots: number, totalLots?: number): void {
    this.remove(order);
    order.priceTicks = priceTicks;
    order.remainingLots = remainingLots;
    this.sayReplaced(order, totalLots ?? order.executedLots + remainingLots, false);
    if (this.phase === 'continuous') this.match(order);
    if (order.remainingLots > 0) this.queue(order);
  }

  private sayReplaced(order: NaiveOrder, quantityLots: number, priorityKept: boolean): void {
    const { priceTicks, remainingLots } = order;
    this.events.push({ type: 'replaced', ...identity(order), priceTicks, quantityLots, remainingLots, priorityKept });
  }

  private killed(order: NaiveOrder, reason: CancelReasonName): undefined {
    const { priceTicks, remainingLots: quantityLots } = order;
    this.events.push({ type: 'cancelled', ...identity(order), reason, priceTicks, quantityLots });
  }

  private quantityWithinReach(taker: NaiveOrder): bigint {
    return sum(this.opposite(taker).filter((maker) => this.reaches(taker, maker)));
  }

  private withinBudget(taker: NaiveOrder): boolean {
    let missing = BigInt(taker.remainingLots);
    let total = 0n;
    for (const maker of this.opposite(taker)) {
      const available = BigInt(maker.remainingLots);
      const lots = missing < available ? missing : available;
      total += lots * BigInt(maker.priceTicks);
      missing -= lots;
    }
    const budget = BigInt(taker.priceTicks);
    return missing === 0n && (taker.side === 'bid' ? total <= budget : total >= budget);
  }

  private reaches(taker: NaiveOrder, maker: NaiveOrder): boolean {
    if (taker.orderType === 'market' || taker.timeInForce === 'fok_budget') return true;
    return taker.side === 'bid' ? maker.priceTicks <= taker.priceTicks : maker.priceTicks >= taker.priceTicks;
  }

  private tryAuctionAt(priceTicks: number): Indicative {
    const demand = sum(this.orders.filter((order) => order.side === 'bid' && order.priceTicks >= priceTicks));
    const supply = sum(this.orders.filter((order) => order.side === 'ask' && order.priceTicks <= priceTicks));
    const surplus = demand - supply;
    const matchedLots = Number(surplus < 0n ? demand : supply);
    const surplusLots = Number(surplus < 0n ? -surplus : surplus);
    const surplusSide = surplus > 0n ? 'bid' : surplus < 0n ? 'ask' : 'none';
    return { priceTicks, matchedLots, surplusLots, surplusSide };
  }

  private findForCancel(owner: number, orderId: number): NaiveOrder | BookRejection {
    if (this.phase === 'closing_call' || this.phase === 'closed') return 'cancel_not_allowed_in_phase';
    return this.find(owner, orderId) ?? 'unknown_order';
  }

  private findForAmend(owner: number, orderId: number): NaiveOrder | BookRejection {
    if (this.phase === 'halted') return 'halted';
    if (this.phase !== 'continuous' && this.phase !== 'opening_call') return 'phase_forbids';
    return this.find(owner, orderId) ?? 'unknown_order';
  }

  private find(owner: number, orderId: number): NaiveOrder | undefined {
    return this.orders.find((order) => order.owner === owner && order.orderId === orderId);
  }

  private opposite(order: NaiveOrder): NaiveOrder[] {
    return this.inPriority(order.side === 'bid' ? 'ask' : 'bid');
  }

  private inPriority(side: SideName): NaiveOrder[] {
    const direction = side === 'bid' ? -1 : 1;
    return this.orders
      .filter((order) => order.side === side)
      .sort((left, right) => direction * (left.priceTicks - right.priceTicks) || left.place - right.place);
  }

  private levels(side: SideName): BookLevel[] {
    const rows: BookLevel[] = [];
    for (const order of this.inPriority(side)) {
      const last = rows.at(-1);
      if (last?.priceTicks === order.priceTicks) {
        last.quantityLots += order.remainingLots;
        last.orders += 1;
      } else {
        rows.push({ priceTicks: order.priceTicks, quantityLots: order.remainingLots, orders: 1 });
      }
    }
    return rows;
  }

  private total(side: SideName): bigint {
    return sum(this.orders.filter((order) => order.side === side));
  }

  private queue(order: NaiveOrder): void {
    this.lastPlace += 1;
    order.place = this.lastPlace;
    this.orders.push(order);
  }

  private remove(order: NaiveOrder): void {
    this.orders = this.orders.filter((other) => other !== order);
  }

  private removeIfDone(order: NaiveOrder): void {
    if (order.remainingLots === 0) this.remove(order);
  }
}

function isPositive(value: number): boolean {
  return Number.isSafeInteger(value) && value > 0;
}

function sum(orders: NaiveOrder[]): bigint {
  return orders.reduce((total, order) => total + BigInt(order.remainingLots), 0n);
}

function identity(order: NaiveOrder): { owner: number; orderId: number; orderNumber: number; side: SideName } {
  const { owner, orderId, orderNumber, side } = order;
  return { owner, orderId, orderNumber, side };
}

function savedOrder(order: NaiveOrder): SavedOrder {
  const { owner, orderId, orderNumber, priceTicks, remainingLots, executedLots } = order;
  return [owner, orderId, orderNumber, priceTicks, remainingLots, executedLots, order.timeInForce === 'gtc' ? 1 : 0];
}
