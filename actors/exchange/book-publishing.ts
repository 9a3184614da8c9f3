/**
 * What a book tells after a command: fills to the tables, then trades, levels, best prices and status to the topics, each only
 * where something changed. Built from the engine's event records and its list of touched levels.
 */
import type { Context } from '../definition.ts';
import { type bookTables, type bookTopics, MAX_LEVELS } from './book-interface.ts';
import {
  type BestAndLast,
  type BookState,
  bestOf,
  isCallPhase,
  type PhaseAndIndicative,
  statusOf,
} from './book-state.ts';
import { countTrade } from './day-statistics.ts';
import type { OrderBook } from './order-book.ts';
import {
  ASK,
  BID,
  CANCELLED,
  EXECUTED,
  liquidityNames,
  nameOf,
  sideNames,
  sideOrNone,
  TRADE,
} from './order-book-events.ts';

export type BookContext = Context<typeof bookTopics, typeof bookTables>;

/** How an order stands after the command that entered or changed it. */
export type OrderReply = {
  bookSequence: number;
  orderNumber: number;
  status: 'resting' | 'filled' | 'cancelled';
  filledLots: number;
  remainingLots: number;
  trades: number;
};

/** Counts the change and publishes all of it. To be called once for each command that was not refused. */
export function publishChange(state: BookState, ctx: BookContext): void {
  state.bookSequence += 1;
  publishFills(state, ctx);
  publishLevels(state, ctx);
  publishBest(state, ctx);
  publishStatus(state, ctx);
}

function publishFills(state: BookState, ctx: BookContext): void {
  const { events } = state;
  for (let index = 0; index < events.count; index += 1) {
    const type = events.typeAt(index);
    if (type === EXECUTED) recordExecution(state, index, ctx);
    else if (type === TRADE) publishTrade(state, index, ctx);
  }
}

function recordExecution({ events, traders }: BookState, index: number, ctx: BookContext): void {
  const key = {
    trader: traders.nameOf(events.ownerAt(index)),
    tradeNumber: events.tradeNumberAt(index),
    side: nameOf(sideNames, events.sideAt(index)),
  };
  ctx.table.executions.put(key, {
    orderId: events.orderIdAt(index),
    orderNumber: events.orderNumberAt(index),
    priceTicks: events.priceTicksAt(index),
    quantityLots: events.quantityLotsAt(index),
    remainingLots: events.remainingLotsAt(index),
    liquidity: nameOf(liquidityNames, events.detailAt(index)),
    timeMs: ctx.now,
  });
}

function publishTrade({ events, day, bookSequence }: BookState, index: number, ctx: BookContext): void {
  const priceTicks = events.priceTicksAt(index);
  const quantityLots = events.quantityLotsAt(index);
  countTrade(day, priceTicks, quantityLots);
  ctx.publish('trades', {
    tradeNumber: events.tradeNumberAt(index),
    bookSequence,
    priceTicks,
    quantityLots,
    bidOrderNumber: events.orderNumberAt(index),
    askOrderNumber: events.counterNumberAt(index),
    aggressor: sideOrNone(events.sideAt(index)),
    timeMs: ctx.now,
  });
}

function publishLevels({ book, bookSequence }: BookState, ctx: BookContext): void {
  const bids = book.takeSideChanges(BID);
  const asks = book.takeSideChanges(ASK);
  if (bids.length === 0 && asks.length === 0) return;
  if (bids.length <= MAX_LEVELS && asks.length <= MAX_LEVELS) {
    ctx.publish('l2', { bookSequence, whole: false, bids, asks });
  } else {
    ctx.publish('l2', { bookSequence, whole: true, ...book.depth(MAX_LEVELS) });
  }
}

function publishBest(state: BookState, ctx: BookContext): void {
  if (isBestOf(state.book, state.best)) return;
  state.best = bestOf(state.book);
  ctx.publish('l1', { bookSequence: state.bookSequence, ...state.best });
}

/** Without an object: most commands change nothing at the top. */
function isBestOf(book: OrderBook, best: BestAndLast): boolean {
  return (
    best.bidPriceTicks === book.bestPriceTicks(BID) &&
    best.bidLots === book.bestLots(BID) &&
    best.askPriceTicks === book.bestPriceTicks(ASK) &&
    best.askLots === book.bestLots(ASK) &&
    best.lastPriceTicks === book.lastPriceTicks
  );
}

function publishStatus(state: BookState, ctx: BookContext): void {
  const { phase } = state.book;
  if (phase === state.status.phase && !isCallPhase(phase)) return;
  const status = statusOf(state.book);
  if (isSameStatus(status, state.status)) return;
  state.status = status;
  ctx.publish('status', { bookSequence: state.bookSequence, ...status });
}

function isSameStatus(a: PhaseAndIndicative, b: PhaseAndIndicative): boolean {
  return (
    a.phase === b.phase &&
    a.priceTicks === b.priceTicks &&
    a.matchedLots === b.matchedLots &&
    a.surplusLots === b.surplusLots &&
    a.surplusSide === b.surplusSide
  );
}

/**
 * Reads from the events of an order's command how the order stands. The first event is always the order's own and says what
 * remains of it before any fill; `filledBeforeLots` is what was executed before the command.
 */
export function orderReplyOf({ events, bookSequence }: BookState, filledBeforeLots: number): OrderReply {
  const orderNumber = events.orderNumberAt(0);
  let remainingLots = events.remainingLotsAt(0);
  let filledLots = filledBeforeLots;
  let isCancelled = remainingLots === 0;
  let trades = 0;
  for (let index = 1; index < events.count; index += 1) {
    const type = events.typeAt(index);
    if (type === TRADE) trades += 1;
    else if (events.orderNumberAt(index) === orderNumber) {
      if (type === EXECUTED) filledLots += events.quantityLotsAt(index);
      if (type === CANCELLED) isCancelled = true;
      remainingLots = events.remainingLotsAt(index);
    }
  }
  const status = isCancelled ? 'cancelled' : remainingLots === 0 ? 'filled' : 'resting';
  return { bookSequence, orderNumber, status, filledLots, remainingLots, trades };
}
