/**
 * What an order book says, in numbers and in names.
 *
 * The fast book writes each event as one fixed record of 64 bytes into a buffer that is used again and again: no object per
 * event. `readEvent` turns a record into the object that the slow book, the tests and the actor speak. Codes are positions in
 * the name lists below, so a list may grow at its end and never be reordered.
 *
 * One record, little-endian (native order; every supported platform is little-endian), numbers are integers below 2^53:
 *
 *   byte  form  accepted       executed      trade           cancelled, expired  reduced         replaced        phase  auction
 *   0     u8    1              2             3               4, 5                6               7               8      9
 *   1     u8    side           side          aggressor or 2  side                side            side            2      surplus side or 2
 *   2     u8    time in force  liquidity     0               reason (0)          0               1 = kept place  phase  0
 *   3     u8    order type     0             0               0                   0               0               0      0
 *   4     u32   owner          owner         0               owner               owner           owner           0      0
 *   8     f64   order id       order id      0               order id            order id        order id        0      0
 *   16    f64   order number   order number  bid's number    order number        order number    order number    0      0
 *   24    f64   price          price         price           price               price           new price       0      price or 0
 *   32    f64   quantity       quantity      quantity        quantity taken off  taken off       new total       0      matched
 *   40    f64   quantity       remaining     0               0                   remaining       remaining       0      surplus
 *   48    f64   0              trade number  trade number    0                   0               0               0      0
 *   56    f64   0              0             ask's number    0                   0               0               0      0
 *
 * Prices are in ticks, quantities in lots. A fill is three records: executed of the taker (in an auction: of the bid), executed
 * of the maker (the ask), trade: private news goes before public news. An order is done when its remaining quantity is 0.
 */

export const sideNames = ['bid', 'ask'] as const;
export const orderTypeNames = ['limit', 'market'] as const;
export const timeInForceNames = ['day', 'gtc', 'ioc', 'fok', 'fok_budget'] as const;
export const phaseNames = ['pre_open', 'opening_call', 'continuous', 'closing_call', 'closed', 'halted'] as const;
export const liquidityNames = ['added', 'removed', 'auction'] as const;
export const cancelReasonNames = ['user', 'ioc_remainder', 'fok_not_fillable', 'no_liquidity'] as const;

export type SideName = (typeof sideNames)[number];
export type OrderTypeName = (typeof orderTypeNames)[number];
export type TimeInForceName = (typeof timeInForceNames)[number];
export type PhaseName = (typeof phaseNames)[number];
export type LiquidityName = (typeof liquidityNames)[number];
export type CancelReasonName = (typeof cancelReasonNames)[number];

export const BID = 0;
export const ASK = 1;
export const NO_SIDE = 2;

export const LIMIT = 0;
export const MARKET = 1;

export const DAY = 0;
export const GTC = 1;
export const IOC = 2;
export const FOK = 3;
export const FOK_BUDGET = 4;

export const PRE_OPEN = 0;
export const OPENING_CALL = 1;
export const CONTINUOUS = 2;
export const CLOSING_CALL = 3;
export const CLOSED = 4;
export const HALTED = 5;

export const LIQUIDITY_ADDED = 0;
export const LIQUIDITY_REMOVED = 1;
export const LIQUIDITY_AUCTION = 2;

export const CANCELLED_BY_USER = 0;
export const CANCELLED_IOC_REMAINDER = 1;
export const CANCELLED_FOK_NOT_FILLABLE = 2;
export const CANCELLED_NO_LIQUIDITY = 3;

export const ACCEPTED = 1;
export const EXECUTED = 2;
export const TRADE = 3;
export const CANCELLED = 4;
export const EXPIRED = 5;
export const REDUCED = 6;
export const REPLACED = 7;
export const PHASE = 8;
export const AUCTION = 9;

/** Why a book refuses a command. A refused command changed nothing and wrote no event. */
export type BookRejection =
  | 'invalid_order_id'
  | 'invalid_side'
  | 'invalid_order_type'
  | 'invalid_time_in_force'
  | 'invalid_price'
  | 'invalid_quantity'
  | 'invalid_phase'
  | 'halted'
  | 'phase_forbids'
  | 'cancel_not_allowed_in_phase'
  | 'duplicate_order'
  | 'unknown_order'
  | 'quantity_limit'
  | 'book_full'
  | 'book_crossed';

/** The largest price, quantity, order id and sum of quantities: 2^53 - 1. */
export const MAX_INTEGER = Number.MAX_SAFE_INTEGER;
/** Owners are unsigned 32-bit numbers, given by whoever keeps the accounts. */
export const MAX_OWNER = 0xffff_ffff;
/** Resting orders of one book: saved they take at most 52 bytes each, 14 MB, a fifth of what one state may have. */
export const MAX_ORDERS = 1 << 18;

/** Whose order an event speaks of. `orderId` is the owner's own, `orderNumber` the book's: public, dense from 1. */
interface OrderReference {
  owner: number;
  orderId: number;
  orderNumber: number;
  side: SideName;
}

export interface AcceptedEvent extends OrderReference {
  type: 'accepted';
  orderType: OrderTypeName;
  timeInForce: TimeInForceName;
  priceTicks: number;
  quantityLots: number;
}

export interface ExecutedEvent extends OrderReference {
  type: 'executed';
  liquidity: LiquidityName;
  priceTicks: number;
  quantityLots: number;
  remainingLots: number;
  tradeNumber: number;
}

/** The public side of a fill. `aggressor` is `none` in an auction. */
export interface TradeEvent {
  type: 'trade';
  tradeNumber: number;
  aggressor: SideName | 'none';
  priceTicks: number;
  quantityLots: number;
  bidOrderNumber: number;
  askOrderNumber: number;
}

export interface CancelledEvent extends OrderReference {
  type: 'cancelled';
  reason: CancelReasonName;
  priceTicks: number;
  quantityLots: number;
}

export interface ExpiredEvent extends OrderReference {
  type: 'expired';
  priceTicks: number;
  quantityLots: number;
}

/** `quantityLots` is what was taken off. */
export interface ReducedEvent extends OrderReference {
  type: 'reduced';
  priceTicks: number;
  quantityLots: number;
  remainingLots: number;
}

/** `quantityLots` is the new total, executed quantity included. */
export interface ReplacedEvent extends OrderReference {
  type: 'replaced';
  priceTicks: number;
  quantityLots: number;
  remainingLots: number;
  priorityKept: boolean;
}

export interface PhaseEvent {
  type: 'phase';
  phase: PhaseName;
}

/** The outcome of an uncross; all 0 and `none` when nothing could be matched. Its fills follow. */
export interface AuctionEvent {
  type: 'auction';
  priceTicks: number;
  matchedLots: number;
  surplusLots: number;
  surplusSide: SideName | 'none';
}

export type BookEvent =
  | AcceptedEvent
  | ExecutedEvent
  | TradeEvent
  | CancelledEvent
  | ExpiredEvent
  | ReducedEvent
  | ReplacedEvent
  | PhaseEvent
  | AuctionEvent;

/** One resting order of a saved book: owner, order id, order number, price, remaining, executed, time in force (0 day, 1 gtc). */
export type SavedOrder = [number, number, number, number, number, number, number];

/** A book at rest: plain values only, and equal for equal histories. Orders stand in priority order, best first. */
export interface SavedBook {
  phase: PhaseName;
  lastOrderNumber: number;
  lastTradeNumber: number;
  lastTradePriceTicks: number;
  bids: SavedOrder[];
  asks: SavedOrder[];
}

/** One price level. Quantities are absolute. */
export interface BookLevel {
  priceTicks: number;
  quantityLots: number;
  orders: number;
}

/** A level that changed; a quantity of 0 says that it is gone. */
export interface LevelChange extends BookLevel {
  side: SideName;
}

/** Best prices first. */
export interface BookDepth {
  bids: BookLevel[];
  asks: BookLevel[];
}

/** The best level of each side; price and quantity are 0 when a side is empty. */
export interface BestPrices {
  bidPriceTicks: number;
  bidLots: number;
  askPriceTicks: number;
  askLots: number;
}

/** One resting order as the book sees it. */
export interface RestingOrder extends OrderReference {
  priceTicks: number;
  remainingLots: number;
  executedLots: number;
  timeInForce: TimeInForceName;
}

/** What an uncross would do now; all 0 and `none` when nothing matches. */
export interface Indicative {
  priceTicks: number;
  matchedLots: number;
  surplusLots: number;
  surplusSide: SideName | 'none';
}

/** Bytes of one event record. */
export const EVENT_BYTES = 64;
const WORDS_PER_EVENT = EVENT_BYTES / 4;
const NUMBERS_PER_EVENT = EVENT_BYTES / 8;
const FIRST_CAPACITY = 256;

/** A reusable buffer of event records. The caller of the book reads them after a command and clears it; it grows and never shrinks. */
export class OrderEvents {
  count = 0;
  private capacity = FIRST_CAPACITY;
  private words = new Int32Array(FIRST_CAPACITY * WORDS_PER_EVENT);
  private numbers = new Float64Array(this.words.buffer);

  clear(): void {
    this.count = 0;
  }

  /** The records written since `clear`, as bytes of this very buffer: copy them before the next command. */
  bytes(): Uint8Array {
    return new Uint8Array(this.words.buffer, 0, this.count * EVENT_BYTES);
  }

  /** Appends one record; the table above says what each argument means for each type. */
  write(
    type: number,
    side: number,
    detail: number,
    orderType: number,
    owner: number,
    orderId: number,
    orderNumber: number,
    priceTicks: number,
    quantityLots: number,
    remainingLots: number,
    tradeNumber: number,
    counterNumber: number,
  ): void {
    if (this.count === this.capacity) this.grow();
    const words = this.words;
    const numbers = this.numbers;
    const word = this.count * WORDS_PER_EVENT;
    const number = this.count * NUMBERS_PER_EVENT;
    this.count += 1;
    words[word] = type | (side << 8) | (detail << 16) | (orderType << 24);
    words[word + 1] = owner;
    numbers[number + 1] = orderId;
    numbers[number + 2] = orderNumber;
    numbers[number + 3] = priceTicks;
    numbers[number + 4] = quantityLots;
    numbers[number + 5] = remainingLots;
    numbers[number + 6] = tradeNumber;
    numbers[number + 7] = counterNumber;
  }

  /** Type, side and the other cells of the record at `index`, which must have been written: for callers in a hurry. */
  typeAt(index: number): number {
    return this.words[index * WORDS_PER_EVENT]! & 0xff;
  }

  sideAt(index: number): number {
    return (this.words[index * WORDS_PER_EVENT]! >>> 8) & 0xff;
  }

  detailAt(index: number): number {
    return (this.words[index * WORDS_PER_EVENT]! >>> 16) & 0xff;
  }

  ownerAt(index: number): number {
    return this.words[index * WORDS_PER_EVENT + 1]! >>> 0;
  }

  orderIdAt(index: number): number {
    return this.numbers[index * NUMBERS_PER_EVENT + 1]!;
  }

  orderNumberAt(index: number): number {
    return this.numbers[index * NUMBERS_PER_EVENT + 2]!;
  }

  priceTicksAt(index: number): number {
    return this.numbers[index * NUMBERS_PER_EVENT + 3]!;
  }

  quantityLotsAt(index: number): number {
    return this.numbers[index * NUMBERS_PER_EVENT + 4]!;
  }

  remainingLotsAt(index: number): number {
    return this.numbers[index * NUMBERS_PER_EVENT + 5]!;
  }

  tradeNumberAt(index: number): number {
    return this.numbers[index * NUMBERS_PER_EVENT + 6]!;
  }

  counterNumberAt(index: number): number {
    return this.numbers[index * NUMBERS_PER_EVENT + 7]!;
  }

  /** The record at `index` as an object. Throws RangeError outside of what was written. */
  read(index: number): BookEvent {
    if (!(index >= 0 && index < this.count)) throw new RangeError(`no event ${index} of ${this.count}`);
    return readEvent(new DataView(this.words.buffer, index * EVENT_BYTES, EVENT_BYTES));
  }

  /** All records since `clear` as objects: for tests and for callers that are in no hurry. */
  readAll(): BookEvent[] {
    const events: BookEvent[] = [];
    for (let index = 0; index < this.count; index += 1) events.push(this.read(index));
    return events;
  }

  private grow(): void {
    const words = new Int32Array(this.words.length * 2);
    words.set(this.words);
    this.words = words;
    this.numbers = new Float64Array(words.buffer);
    this.capacity *= 2;
  }
}

/** Turns one 64-byte record into its object. Throws on bytes that no book wrote. */
export function readEvent(record: DataView): BookEvent {
  const type = record.getUint8(0);
  if (type === PHASE) return { type: 'phase', phase: nameOf(phaseNames, record.getUint8(2)) };
  if (type === TRADE) return readTrade(record);
  if (type === AUCTION) return readAuction(record);
  return readOrderEvent(type, record);
}

function readOrderEvent(type: number, record: DataView): BookEvent {
  const order = readOrder(record);
  const priceTicks = record.getFloat64(24, true);
  const quantityLots = record.getFloat64(32, true);
  const remainingLots = record.getFloat64(40, true);
  const detail = record.getUint8(2);
  switch (type) {
    case ACCEPTED:
      return {
        type: 'accepted',
        ...order,
        orderType: nameOf(orderTypeNames, record.getUint8(3)),
        timeInForce: nameOf(timeInForceNames, detail),
        priceTicks,
        quantityLots,
      };
    case EXECUTED: {
      const liquidity = nameOf(liquidityNames, detail);
      const tradeNumber = record.getFloat64(48, true);
      return { type: 'executed', ...order, liquidity, priceTicks, quantityLots, remainingLots, tradeNumber };
    }
    case CANCELLED:
      return { type: 'cancelled', ...order, reason: nameOf(cancelReasonNames, detail), priceTicks, quantityLots };
    case EXPIRED:
      return { type: 'expired', ...order, priceTicks, quantityLots };
    case REDUCED:
      return { type: 'reduced', ...order, priceTicks, quantityLots, remainingLots };
    case REPLACED:
      return { type: 'replaced', ...order, priceTicks, quantityLots, remainingLots, priorityKept: detail === 1 };
    default:
      throw new RangeError(`unknown event type ${type}`);
  }
}

function readOrder(record: DataView): OrderReference {
  return {
    owner: record.getUint32(4, true),
    orderId: record.getFloat64(8, true),
    orderNumber: record.getFloat64(16, true),
    side: nameOf(sideNames, record.getUint8(1)),
  };
}

function readTrade(record: DataView): TradeEvent {
  return {
    type: 'trade',
    tradeNumber: record.getFloat64(48, true),
    aggressor: sideOrNone(record.getUint8(1)),
    priceTicks: record.getFloat64(24, true),
    quantityLots: record.getFloat64(32, true),
    bidOrderNumber: record.getFloat64(16, true),
    askOrderNumber: record.getFloat64(56, true),
  };
}

function readAuction(record: DataView): AuctionEvent {
  return {
    type: 'auction',
    priceTicks: record.getFloat64(24, true),
    matchedLots: record.getFloat64(32, true),
    surplusLots: record.getFloat64(40, true),
    surplusSide: sideOrNone(record.getUint8(1)),
  };
}

/** The side's name, or `none` for `NO_SIDE`. */
export function sideOrNone(side: number): SideName | 'none' {
  return side === NO_SIDE ? 'none' : nameOf(sideNames, side);
}

/** The name at a code. Throws RangeError for a code that the list does not have. */
export function nameOf<Name extends string>(names: readonly Name[], code: number): Name {
  const name = names[code];
  if (name === undefined) throw new RangeError(`no name for code ${code} in ${names.join(', ')}`);
  return name;
}
