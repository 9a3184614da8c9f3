/**
 * The order book of one instrument as an actor, `book:<venue>/<symbol>`. Books of a venue share a partition. The rules are the
 * engine's (order-book.ts); here are its owners' names, what is published, and what is kept.
 *
 * An order id is the trader's own and unique among the open ones; the order number in the reply is the book's, public, and what
 * trades name. Somebody else's order looks unknown.
 */
import { defineActor, type Rejection, reject } from '../definition.ts';
import {
  bookCommands,
  bookQueries,
  bookRejections,
  bookTables,
  bookTopics,
  MAX_LEVELS,
  MAX_ROWS,
  MAX_TRADERS,
} from './book-interface.ts';
import { type BookContext, type OrderReply, orderReplyOf, publishChange } from './book-publishing.ts';
import { BookState, bestOf, type SavedBookState, statusOf } from './book-state.ts';
import { newDay } from './day-statistics.ts';
import {
  ASK,
  BID,
  type BookRejection,
  EXPIRED,
  MAX_INTEGER,
  orderTypeNames,
  phaseNames,
  type RestingOrder,
  sideNames,
  timeInForceNames,
} from './order-book-events.ts';
import { NO_TRADER } from './traders.ts';

/** What follows a command that the engine took. */
function accepted(state: BookState, filledBeforeLots: number, ctx: BookContext): OrderReply {
  publishChange(state, ctx);
  return orderReplyOf(state, filledBeforeLots);
}

/** Runs a command on an order that the trader says is his. A stranger has the number that owns nothing. */
function change(
  state: BookState,
  orderId: number,
  ctx: BookContext,
  run: (owner: number) => BookRejection | undefined,
): OrderReply | Rejection {
  const owner = state.traders.numberOf(ctx.source.principal);
  const filledBeforeLots = state.book.executedLots(owner, orderId);
  state.events.clear();
  const rejection = run(owner);
  return rejection ? reject(rejection) : accepted(state, filledBeforeLots, ctx);
}

const openOrderOf = ({
  orderId,
  orderNumber,
  side,
  timeInForce,
  priceTicks,
  remainingLots,
  executedLots,
}: RestingOrder) => ({
  orderId,
  orderNumber,
  side,
  timeInForce,
  priceTicks,
  remainingLots,
  filledLots: executedLots,
});

export const book = defineActor({
  kind: 'book',
  group: 'exchange',
  about: 'The central limit order book of one instrument, with call auctions.',
  placement: (key) => key.split('/', 1)[0] as string,
  commands: bookCommands,
  queries: bookQueries,
  topics: bookTopics,
  tables: bookTables,
  rejections: bookRejections,
  initial: () => BookState.empty(),

  handle: {
    enter(state, { orderId, side, orderType, timeInForce, priceTicks, quantityLots }, ctx) {
      const { principal } = ctx.source;
      const known = state.traders.numberOf(principal);
      const owner = known === NO_TRADER ? state.traders.nextNumber(MAX_TRADERS) : known;
      if (owner === undefined) return reject('too_many_traders');
      state.events.clear();
      const rejection = state.book.enter(
        owner,
        orderId,
        sideNames.indexOf(side),
        orderTypeNames.indexOf(orderType),
        timeInForceNames.indexOf(timeInForce),
        priceTicks,
        quantityLots,
      );
      if (rejection) return reject(rejection);
      if (known === NO_TRADER) state.traders.add(principal);
      return accepted(state, 0, ctx);
    },
    cancel(state, { orderId }, ctx) {
      return change(state, orderId, ctx, (owner) => state.book.cancel(owner, orderId));
    },
    reduce(state, { orderId, quantityLots }, ctx) {
      return change(state, orderId, ctx, (owner) => state.book.reduce(owner, orderId, quantityLots));
    },
    move(state, { orderId, priceTicks }, ctx) {
      return change(state, orderId, ctx, (owner) => state.book.move(owner, orderId, priceTicks));
    },
    replace(state, { orderId, priceTicks, quantityLots }, ctx) {
      return change(state, orderId, ctx, (owner) => state.book.replace(owner, orderId, priceTicks, quantityLots));
    },
    setPhase(state, { phase }, ctx) {
      state.events.clear();
      const rejection = state.book.setPhase(phaseNames.indexOf(phase));
      if (rejection) return reject(rejection);
      publishChange(state, ctx);
      return { bookSequence: state.bookSequence, phase };
    },
    uncross(state, _, ctx) {
      state.events.clear();
      const expected = state.book.indicative();
      const tradesBefore = state.book.tradeCount;
      const rejection = state.book.uncross();
      if (rejection) return reject(rejection);
      publishChange(state, ctx);
      return { bookSequence: state.bookSequence, ...expected, trades: state.book.tradeCount - tradesBefore };
    },
    endOfDay(state, _, ctx) {
      const { events, book, traders, day } = state;
      events.clear();
      const rejection = book.endOfDay();
      if (rejection) return reject(rejection);
      let expiredOrders = 0;
      for (let index = 0; index < events.count; index += 1) if (events.typeAt(index) === EXPIRED) expiredOrders += 1;
      traders.keepOnly(book.liveOwners());
      state.day = newDay(day.trades > 0 ? day.lastPriceTicks : day.previousClosePriceTicks);
      publishChange(state, ctx);
      return { bookSequence: state.bookSequence, expiredOrders };
    },
  },

  answer: {
    l1: ({ bookSequence, book }) => ({ bookSequence, ...bestOf(book) }),
    l2: ({ bookSequence, book }, { depth = MAX_LEVELS }) => ({
      bookSequence,
      ...book.depth(depth),
      bidLevels: book.levelCount(BID),
      askLevels: book.levelCount(ASK),
    }),
    status: ({ bookSequence, book }) => ({ bookSequence, ...statusOf(book) }),
    indicative: ({ bookSequence, book }) => ({ bookSequence, ...book.indicative() }),
    statistics: ({ bookSequence, day }) => ({ bookSequence, ...day }),
    trades(_, { from, limit = MAX_ROWS }, ctx) {
      const { trades } = ctx.table;
      const rows = from
        ? trades.range({ from: { offset: from }, limit })
        : trades.range({ limit, reverse: true }).reverse();
      return rows.map(({ key, row }) => ({ offset: key.offset, ...row }));
    },
    order({ book, traders }, { orderId }, ctx) {
      const order = book.restingOrder(traders.numberOf(ctx.principal), orderId);
      return order && openOrderOf(order);
    },
    orders({ book, traders }, { after = 0, limit = MAX_ROWS }, ctx) {
      return book.ordersOf(traders.numberOf(ctx.principal), after, limit).map(openOrderOf);
    },
    executions(_, { from = 1, limit = MAX_ROWS }, ctx) {
      const trader = ctx.principal;
      const rows = ctx.table.executions.range({
        from: { trader, tradeNumber: from },
        to: { trader, tradeNumber: MAX_INTEGER },
        limit,
      });
      return rows.map(({ key, row }) => ({ tradeNumber: key.tradeNumber, side: key.side, ...row }));
    },
  },

  snapshot: {
    version: 1,
    save: (state) => state.save(),
    load: (saved: SavedBookState) => BookState.load(saved),
    migrate: {},
  },
});
