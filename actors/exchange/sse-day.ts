/**
 * A published trading day of the Shanghai exchange: its files line by line, and the verdict over a book that has replayed it.
 *
 * Three tables: commands (what to send), trades (what must come out, in this order), snapshots (the exchange's own ten-level
 * books about every three seconds, published independently of the order feed). Pure: whoever has the files gives their lines.
 *
 * A snapshot carries no position in the order feed. It is compared with every state of the book that had the same number of
 * trades and the same volume: several commands share that key, and any state with it may be the one that was published.
 * In the call phases a snapshot shows the indicative price instead of a book.
 */

import type { BookDepth, BookLevel, Indicative } from './order-book-events.ts';

export const SSE_LEVELS = 10;
const BIDS_FROM = 15;
const ASKS_FROM = BIDS_FROM + 2 * SSE_LEVELS;
const SNAPSHOT_FIELDS = ASKS_FROM + 2 * SSE_LEVELS;

export type SsePhase = 'OPEN_AUCTION' | 'CONTINUOUS' | 'CLOSE_AUCTION';

/** One row of the commands. Prices in ticks of 0.01 CNY, quantities in shares, time in milliseconds since midnight. */
export interface SseCommand {
  sequence: number;
  phase: SsePhase;
  command: 'NEW' | 'CANCEL' | 'UNCROSS';
  timeOfDayMs: number;
  /** 0 for an uncross, as are price and quantity; a cancel has no price and no side. */
  orderId: number;
  side: 'bid' | 'ask';
  priceTicks: number;
  quantityLots: number;
  timeInForce: 'day' | 'ioc';
}

/** One row of the expected trades. */
export interface SseTrade {
  commandSequence: number;
  bidOrderId: number;
  askOrderId: number;
  priceTicks: number;
  quantityLots: number;
  aggressor: 'bid' | 'ask' | 'none';
}

/** One row of the snapshots. Levels that are not there have price and quantity 0. */
export interface SseSnapshot {
  timeOfDayMs: number;
  /** 0 start, 1 opening call, 2 continuous, 4 closing call, 5 closed. */
  phase: number;
  trades: number;
  volumeLots: number;
  /** Price, quantity, price, quantity, ... best first. */
  bids: number[];
  asks: number[];
}

/** What a verifier found. */
export interface SseVerdict {
  tradesExpected: number;
  tradesSeen: number;
  /** Trades equal to the expected one at the same place. */
  tradesEqual: number;
  booksApplicable: number;
  booksEqual: number;
  indicativesApplicable: number;
  indicativesEqual: number;
  /** The first differences of each kind, in words. */
  differences: string[];
}

/** Differences told in words; the counts go on. */
const MAX_DIFFERENCES = 20;

/** Parses one line of the commands file (not its header). Throws on a malformed line. */
export function parseSseCommand(line: string): SseCommand {
  const fields = line.split(',');
  const [sequence, phase, command, time, orderId, side, price, quantity, timeInForce] = fields;
  if (fields.length !== 9 || !isPhase(phase) || !isCommand(command)) throw new Error(`bad command line: ${line}`);
  return {
    sequence: integer(sequence, line),
    phase,
    command,
    timeOfDayMs: timeFromCentiseconds(integer(time, line)),
    orderId: integer(orderId, line),
    side: side === 'S' ? 'ask' : 'bid',
    priceTicks: integer(price, line),
    quantityLots: integer(quantity, line),
    timeInForce: timeInForce === 'IOC' ? 'ioc' : 'day',
  };
}

/** Parses one line of the expected trades file. Throws on a malformed line. */
export function parseSseTrade(line: string): SseTrade {
  const fields = line.split(',');
  if (fields.length !== 8) throw new Error(`bad trade line: ${line}`);
  return {
    commandSequence: integer(fields[0], line),
    bidOrderId: integer(fields[2], line),
    askOrderId: integer(fields[3], line),
    priceTicks: integer(fields[4], line),
    quantityLots: integer(fields[5], line),
    aggressor: fields[6] === 'B' ? 'bid' : fields[6] === 'S' ? 'ask' : 'none',
  };
}

/** Parses one line of the snapshots file. Throws on a malformed line. */
export function parseSseSnapshot(line: string): SseSnapshot {
  const fields = line.split(',');
  if (fields.length !== SNAPSHOT_FIELDS) throw new Error(`bad snapshot line: ${line}`);
  const numbers = fields.map((field) => integer(field, line));
  return {
    timeOfDayMs: timeFromCentiseconds((numbers[1] ?? 0) * 100),
    phase: numbers[2] ?? 0,
    trades: numbers[3] ?? 0,
    volumeLots: numbers[4] ?? 0,
    bids: numbers.slice(BIDS_FROM, ASKS_FROM),
    asks: numbers.slice(ASKS_FROM),
  };
}

/**
 * Compares what a replay brings with what was published. Feed it, in order: every trade, and after every command the book (its
 * ten best levels, or the indicative while a call is on). Then ask for the verdict.
 */
export class SseVerifier {
  private readonly trades: readonly SseTrade[];
  private readonly books = new Map<string, PendingSnapshot[]>();
  private readonly indicatives: PendingSnapshot[] = [];
  private readonly differences: string[] = [];
  private tradesSeen = 0;
  private tradesEqual = 0;
  private volumeLots = 0;
  private firstOpenIndicative = 0;

  constructor(trades: readonly SseTrade[], snapshots: readonly SseSnapshot[]) {
    this.trades = trades;
    for (const snapshot of snapshots) this.expect(snapshot);
  }

  /** The next trade of the replay. `commandSequence` 0 means that the caller does not know which command made it. */
  trade(trade: SseTrade): void {
    const expected = this.trades[this.tradesSeen];
    this.tradesSeen += 1;
    this.volumeLots += trade.quantityLots;
    if (expected !== undefined && sameTrade(trade, expected)) this.tradesEqual += 1;
    else this.differ(`trade ${this.tradesSeen}: expected ${JSON.stringify(expected)}, got ${JSON.stringify(trade)}`);
  }

  /** A state of the book outside of the call phases. */
  book(depth: BookDepth): void {
    const pending = this.books.get(snapshotKey(this.tradesSeen, this.volumeLots));
    if (pending === undefined) return;
    for (const entry of pending) {
      if (!entry.equal && sameLevels(depth.bids, entry.snapshot.bids) && sameLevels(depth.asks, entry.snapshot.asks)) {
        entry.equal = true;
      }
    }
  }

  /**
   * A state of a call, which held from `fromMs` until `untilMs` (the times of the command that made it and of the next one, in
   * milliseconds since midnight). A snapshot may show any state of the three seconds before its stamp, the interval of
   * publication, or of the second that it is stamped with. States come in order of time.
   */
  indicative(fromMs: number, untilMs: number, indicative: Indicative): void {
    for (let index = this.firstOpenIndicative; index < this.indicatives.length; index += 1) {
      const entry = this.indicatives[index] as PendingSnapshot;
      const { timeOfDayMs } = entry.snapshot;
      if (timeOfDayMs - SNAPSHOT_INTERVAL_MS > untilMs) return;
      if (timeOfDayMs + SNAPSHOT_STAMP_MS <= fromMs) this.firstOpenIndicative = index + 1;
      else if (sameIndicative(indicative, entry.snapshot)) entry.equal = true;
    }
  }

  verdict(): SseVerdict {
    const books = [...this.books.values()].flat();
    return {
      tradesExpected: this.trades.length,
      tradesSeen: this.tradesSeen,
      tradesEqual: this.tradesEqual,
      booksApplicable: books.length,
      booksEqual: books.filter((entry) => entry.equal).length,
      indicativesApplicable: this.indicatives.length,
      indicativesEqual: this.indicatives.filter((entry) => entry.equal).length,
      differences: [...this.differences, ...missed('book', books), ...missed('indicative', this.indicatives)],
    };
  }

  private expect(snapshot: SseSnapshot): void {
    const entry = { snapshot, equal: false };
    if (showsBook(snapshot)) {
      const key = snapshotKey(snapshot.trades, snapshot.volumeLots);
      const sameKey = this.books.get(key);
      if (sameKey === undefined) this.books.set(key, [entry]);
      else sameKey.push(entry);
    } else if (showsIndicative(snapshot)) {
      this.indicatives.push(entry);
    }
  }

  private differ(difference: string): void {
    if (this.differences.length < MAX_DIFFERENCES) this.differences.push(difference);
  }
}

interface PendingSnapshot {
  snapshot: SseSnapshot;
  equal: boolean;
}

const SNAPSHOT_INTERVAL_MS = 3_000;
const SNAPSHOT_STAMP_MS = 1_000;

/** Continuous trading and after the close, and the one of the opening call that was published after its uncross. */
function showsBook(snapshot: SseSnapshot): boolean {
  return snapshot.phase === 2 || snapshot.phase === 5 || (snapshot.phase === 1 && snapshot.trades > 0);
}

/** A call in which something would match: the first snapshots are empty. */
function showsIndicative(snapshot: SseSnapshot): boolean {
  return (snapshot.phase === 1 || snapshot.phase === 4) && (snapshot.bids[0] ?? 0) > 0;
}

function snapshotKey(trades: number, volumeLots: number): string {
  return `${trades}/${volumeLots}`;
}

function sameTrade(left: SseTrade, right: SseTrade): boolean {
  return (
    (left.commandSequence === right.commandSequence || left.commandSequence === 0) &&
    left.bidOrderId === right.bidOrderId &&
    left.askOrderId === right.askOrderId &&
    left.priceTicks === right.priceTicks &&
    left.quantityLots === right.quantityLots &&
    left.aggressor === right.aggressor
  );
}

/** All ten levels, absent ones included. */
function sameLevels(levels: readonly BookLevel[], published: readonly number[]): boolean {
  for (let index = 0; index < SSE_LEVELS; index += 1) {
    const level = levels[index];
    if ((level?.priceTicks ?? 0) !== published[2 * index]) return false;
    if ((level?.quantityLots ?? 0) !== published[2 * index + 1]) return false;
  }
  return true;
}

/** First bid and first ask show price and matched volume, the second quantity of one side the surplus. */
function sameIndicative(indicative: Indicative, { bids, asks }: SseSnapshot): boolean {
  const { priceTicks, matchedLots, surplusLots, surplusSide } = indicative;
  return (
    priceTicks === bids[0] &&
    priceTicks === asks[0] &&
    matchedLots === bids[1] &&
    matchedLots === asks[1] &&
    bids[3] === (surplusSide === 'bid' ? surplusLots : 0) &&
    asks[3] === (surplusSide === 'ask' ? surplusLots : 0)
  );
}

function missed(what: string, entries: readonly PendingSnapshot[]): string[] {
  const lost = entries.filter((entry) => !entry.equal).slice(0, MAX_DIFFERENCES);
  return lost.map(({ snapshot }) => `${what} of ${clockTime(snapshot.timeOfDayMs)} (phase ${snapshot.phase}) not seen`);
}

function clockTime(timeOfDayMs: number): string {
  const seconds = Math.floor(timeOfDayMs / 1_000);
  const parts = [Math.floor(seconds / 3_600), Math.floor(seconds / 60) % 60, seconds % 60];
  return parts.map((part) => String(part).padStart(2, '0')).join(':');
}

/** HHMMSScc as milliseconds since midnight. */
function timeFromCentiseconds(time: number): number {
  const hours = Math.floor(time / 1_000_000);
  const minutes = Math.floor(time / 10_000) % 100;
  const seconds = Math.floor(time / 100) % 100;
  return ((hours * 60 + minutes) * 60 + seconds) * 1_000 + (time % 100) * 10;
}

/** The field as a non-negative integer; an empty field is 0. */
function integer(field: string | undefined, line: string): number {
  const value = Number(field);
  if (field === undefined || !Number.isSafeInteger(value) || value < 0) throw new Error(`bad number in line: ${line}`);
  return value;
}

function isPhase(phase: string | undefined): phase is SsePhase {
  return phase === 'OPEN_AUCTION' || phase === 'CONTINUOUS' || phase === 'CLOSE_AUCTION';
}

function isCommand(command: string | undefined): command is SseCommand['command'] {
  return command === 'NEW' || command === 'CANCEL' || command === 'UNCROSS';
}
