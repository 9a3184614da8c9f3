/**
 * The state of a book actor: the engine, who its owners are, the day's statistics, and the count of changes. What was published
 * last is kept beside it to see what is new; it follows from the rest, so it is not saved.
 */
import { type DayStatistics, newDay } from './day-statistics.ts';
import { OrderBook } from './order-book.ts';
import { type BestPrices, type Indicative, OrderEvents, type PhaseName, type SavedBook } from './order-book-events.ts';
import { packOrders, unpackOrders } from './packed-orders.ts';
import { type SavedTraders, Traders } from './traders.ts';

type PackedBook = Omit<SavedBook, 'bids' | 'asks'> & { bids: Uint8Array; asks: Uint8Array };

export type SavedBookState = { bookSequence: number; book: PackedBook; traders: SavedTraders; day: DayStatistics };

export type BestAndLast = BestPrices & { lastPriceTicks: number };
export type PhaseAndIndicative = Indicative & { phase: PhaseName };

const NO_INDICATIVE: Indicative = { priceTicks: 0, matchedLots: 0, surplusLots: 0, surplusSide: 'none' };

export class BookState {
  /** What the newest command brought forth; empty at rest. */
  readonly events: OrderEvents;
  readonly book: OrderBook;
  readonly traders: Traders;
  day: DayStatistics;
  /** Changes of the book so far, one for each command that was not refused. */
  bookSequence: number;
  /** As last published. */
  best: BestAndLast;
  status: PhaseAndIndicative;

  private constructor(saved: Omit<SavedBookState, 'book'>, book: OrderBook, events: OrderEvents) {
    this.events = events;
    this.book = book;
    this.traders = new Traders(saved.traders);
    this.day = { ...saved.day };
    this.bookSequence = saved.bookSequence;
    this.best = bestOf(book);
    this.status = statusOf(book);
  }

  static empty(): BookState {
    const events = new OrderEvents();
    const saved = { bookSequence: 0, traders: new Traders().save(), day: newDay(0) };
    return new BookState(saved, new OrderBook(events), events);
  }

  /** Throws on state that no book saved. */
  static load(saved: SavedBookState): BookState {
    const events = new OrderEvents();
    const { book } = saved;
    const unpacked = { ...book, bids: unpackOrders(book.bids), asks: unpackOrders(book.asks) };
    const state = new BookState(saved, OrderBook.load(unpacked, events), events);
    for (const owner of state.book.liveOwners()) state.traders.nameOf(owner);
    return state;
  }

  save(): SavedBookState {
    const book = this.book.save();
    return {
      bookSequence: this.bookSequence,
      book: { ...book, bids: packOrders(book.bids), asks: packOrders(book.asks) },
      traders: this.traders.save(),
      day: { ...this.day },
    };
  }
}

/** The best level of each side and the last price. */
export function bestOf(book: OrderBook): BestAndLast {
  return { ...book.bestPrices(), lastPriceTicks: book.lastPriceTicks };
}

/** The phase and, in a call phase, what an uncross would do. */
export function statusOf(book: OrderBook): PhaseAndIndicative {
  const { phase } = book;
  return { phase, ...(isCallPhase(phase) ? book.indicative() : NO_INDICATIVE) };
}

export function isCallPhase(phase: PhaseName): boolean {
  return phase === 'opening_call' || phase === 'closing_call';
}
