/**
 * What clients know of a book: commands, queries, topics and refusals. Orders travel in fixed binary bodies. Prices are in ticks,
 * quantities in lots, sides are those of the book: a bid buys, an ask sells.
 *
 * `bookSequence` counts what changed the book, one for each command that was not refused. Every reply and every publication
 * carries it, so a client can tell which command brought forth which trade, level or price, whatever arrives first.
 */
import type { Commands, KindInterface, Queries, Topics } from '../../protocol/interface.ts';
import { bool, choice, int, list, optional, record, text } from '../../protocol/schema.ts';
import type { Tables } from '../definition.ts';
import {
  type BookRejection,
  liquidityNames,
  MAX_INTEGER,
  orderTypeNames,
  phaseNames,
  sideNames,
  timeInForceNames,
} from './order-book-events.ts';

/** Price levels of a side in one publication or answer: 1,000 are 50 KB for both, and more than anybody shows. */
export const MAX_LEVELS = 1_000;
/** Rows in one answer: about 100 KB. */
export const MAX_ROWS = 1_000;
/** Names of traders between two ends of day: saved with the book, at worst 170 bytes each, 11 MB. */
export const MAX_TRADERS = 65_536;

const count = int(0, MAX_INTEGER);
const orderId = int(1, MAX_INTEGER);
const quantityLots = int(1, MAX_INTEGER);
const priceTicks = int(1, MAX_INTEGER);
const side = choice(...sideNames);
/** `none`: the trades of an auction have no aggressor, a balanced one has no surplus. */
const sideOrNone = choice(...sideNames, 'none');
const phase = choice(...phaseNames);

/** How the order stands after the command. Trades have their order numbers, so this reply tells a trader which are his. */
const orderReply = {
  bookSequence: count,
  orderNumber: count,
  status: choice('resting', 'filled', 'cancelled'),
  /** In all since the order was entered. */
  filledLots: count,
  remainingLots: count,
  /** Trades that this command made. */
  trades: count,
};

const level = record({ priceTicks, quantityLots: count, orders: count });
const levels = list(level, MAX_LEVELS);

const auction = { priceTicks: count, matchedLots: count, surplusLots: count, surplusSide: sideOrNone };

const best = {
  bookSequence: count,
  bidPriceTicks: count,
  bidLots: count,
  askPriceTicks: count,
  askLots: count,
  lastPriceTicks: count,
};

/** In a call phase with what an uncross would do now; elsewhere that is 0 and `none`. */
const status = { bookSequence: count, phase, ...auction };

const tradeRow = {
  tradeNumber: int(1, MAX_INTEGER),
  bookSequence: count,
  priceTicks,
  quantityLots,
  bidOrderNumber: int(1, MAX_INTEGER),
  askOrderNumber: int(1, MAX_INTEGER),
  aggressor: sideOrNone,
  timeMs: count,
};

/** A principal, or the reference of an actor: at most 161 bytes (kind, colon, key). */
const traderName = text(161);
const executionKey = { trader: traderName, tradeNumber: int(1, MAX_INTEGER), side };

const executionRow = {
  orderId,
  orderNumber: int(1, MAX_INTEGER),
  priceTicks,
  quantityLots,
  remainingLots: count,
  liquidity: choice(...liquidityNames),
  timeMs: count,
};

const openOrder = {
  orderId,
  orderNumber: int(1, MAX_INTEGER),
  side,
  timeInForce: choice(...timeInForceNames),
  priceTicks,
  remainingLots: count,
  filledLots: count,
};

const limit = optional(int(1, MAX_ROWS));

const trader = ['trader'] as const;
const operator = ['operator'] as const;

export const bookCommands = {
  enter: {
    about:
      'Enters an order. A market order has price 0 and is ioc or fok; for fok_budget the price is the whole budget of a bid or the least proceeds of an ask.',
    roles: trader,
    binary: true,
    fields: {
      orderId,
      priceTicks: count,
      quantityLots,
      side,
      orderType: choice(...orderTypeNames),
      timeInForce: choice(...timeInForceNames),
    },
    reply: orderReply,
  },
  cancel: {
    about: 'Cancels what remains of an order.',
    roles: trader,
    binary: true,
    fields: { orderId },
    reply: orderReply,
  },
  reduce: {
    about: 'Takes a quantity off an order, which keeps its place; nothing left ends it.',
    roles: trader,
    binary: true,
    fields: { orderId, quantityLots },
    reply: orderReply,
  },
  move: {
    about: 'Gives an order a new price: to the back of the queue there, and it may match at once.',
    roles: trader,
    binary: true,
    fields: { orderId, priceTicks },
    reply: orderReply,
  },
  replace: {
    about:
      'Gives an order a new price and total quantity, executed quantity included. Only a pure decrease keeps the place.',
    roles: trader,
    binary: true,
    fields: { orderId, priceTicks, quantityLots },
    reply: orderReply,
  },
  setPhase: { about: 'Changes the phase.', roles: operator, fields: { phase }, reply: { bookSequence: count, phase } },
  uncross: {
    about: 'Runs the call auction: one price for all, by price, then time.',
    roles: operator,
    fields: {},
    reply: { bookSequence: count, ...auction, trades: count },
  },
  endOfDay: {
    about: 'Ends the day of a closed book: day orders expire, and the statistics begin anew.',
    roles: operator,
    fields: {},
    reply: { bookSequence: count, expiredOrders: count },
  },
} as const satisfies Commands;

export const bookQueries = {
  l1: { about: 'The best level of each side and the last price; 0 where there is none.', fields: {}, reply: best },
  l2: {
    about: 'Price levels, best first, at most 1,000 a side; bidLevels and askLevels say how many there are.',
    fields: { depth: optional(int(1, MAX_LEVELS)) },
    reply: { bookSequence: count, bids: levels, asks: levels, bidLevels: count, askLevels: count },
  },
  status: { about: 'The phase and, in a call, its indicative price.', fields: {}, reply: status },
  indicative: { about: 'What an uncross would do now.', fields: {}, reply: { bookSequence: count, ...auction } },
  statistics: {
    about: 'The day so far. Volume and turnover (ticks times lots) stop at 2^53 - 1.',
    fields: {},
    reply: {
      bookSequence: count,
      trades: count,
      openPriceTicks: count,
      highPriceTicks: count,
      lowPriceTicks: count,
      lastPriceTicks: count,
      previousClosePriceTicks: count,
      volumeLots: count,
      turnover: count,
    },
  },
  trades: {
    about: 'Trades from an offset of the topic on; without one the newest. Oldest first.',
    fields: { from: optional(int(1, MAX_INTEGER)), limit },
    reply: list(record({ offset: count, ...tradeRow }), MAX_ROWS),
  },
  order: {
    about: 'One open order of the asker; nothing where there is none.',
    roles: trader,
    fields: { orderId },
    reply: optional(record(openOrder)),
  },
  orders: {
    about: 'Open orders of the asker by order number, from the one after `after` on.',
    roles: trader,
    fields: { after: optional(count), limit },
    reply: list(record(openOrder), MAX_ROWS),
  },
  executions: {
    about: 'Executions of the asker by trade number, from `from` on.',
    roles: trader,
    fields: { from: optional(int(1, MAX_INTEGER)), limit },
    reply: list(record({ tradeNumber: int(1, MAX_INTEGER), side, ...executionRow }), MAX_ROWS),
  },
} as const satisfies Queries;

export const bookTopics = {
  trades: { about: 'Every trade, in order.', table: 'trades' },
  l1: {
    about: 'The best level of each side and the last price, whenever one of them changes.',
    event: best,
    lossy: 'l1',
  },
  l2: {
    about:
      'The levels that a command changed, with absolute quantities; 0: the level is gone. `whole`: so much changed that this is the whole book, its best 1,000 levels a side. A subscriber knows the best 1,000 of its snapshot, and of deeper levels those that changed since.',
    event: { bookSequence: count, whole: bool(), bids: levels, asks: levels },
    lossy: 'l2',
  },
  status: {
    about: 'The phase and, in a call, its indicative price, whenever one of them changes.',
    event: status,
    lossy: 'status',
  },
} as const satisfies Topics;

/** Both tables are the exchange's record and are kept. */
export const bookTables = {
  trades: { key: { offset: int(1, MAX_INTEGER) }, row: tradeRow },
  executions: { key: executionKey, row: executionRow },
} as const satisfies Tables;

export const bookRejections = {
  invalid_order_id: 'An order id is an integer from 1 to 2^53 - 1.',
  invalid_side: 'The side is bid or ask.',
  invalid_order_type: 'The order type is limit or market.',
  invalid_time_in_force: 'This order type does not go with this time in force: a market order is ioc or fok.',
  invalid_price: 'A limit order needs a price above 0, a market order has the price 0.',
  invalid_quantity: 'The quantity is an integer from 1 to 2^53 - 1.',
  invalid_phase: 'There is no such phase.',
  halted: 'The instrument is halted: only cancel and reduce are possible.',
  phase_forbids: 'The phase does not allow it.',
  cancel_not_allowed_in_phase: 'The phase does not allow to cancel or reduce: who entered is committed.',
  duplicate_order: 'You have an open order with this id.',
  unknown_order: 'You have no open order with this id.',
  quantity_limit: 'The quantity of all orders of a side must stay below 2^53.',
  book_full: 'The book holds as many resting orders as it can.',
  book_crossed: 'Continuous trading cannot begin while bids and asks overlap: uncross first.',
  too_many_traders: 'As many traders as it can know have entered orders today: try again after the end of the day.',
} as const satisfies Record<BookRejection | 'too_many_traders', string>;

/** For client programs, which need no engine. */
export const bookInterface = {
  kind: 'book',
  commands: bookCommands,
  queries: bookQueries,
  topics: bookTopics,
  tables: bookTables,
  rejections: bookRejections,
} as const satisfies KindInterface;
