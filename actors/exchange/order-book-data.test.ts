/**
 * The order book against real data: a whole day of one Shanghai stock, trade by trade and book by book, and another engine's
 * command stream with its final book. The data is no part of the repository: TROUPE_TEST_DATA names its place, else it is
 * looked for in ../shared/data; where it is missing the tests are skipped and say so.
 */

import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { test } from 'node:test';
import { gunzipSync } from 'node:zlib';
import { applyCommand, parseCommandLoad } from './exchange-core-load.ts';
import { OrderBook } from './order-book.ts';
import {
  ASK,
  BID,
  CLOSING_CALL,
  CONTINUOUS,
  DAY,
  IOC,
  LIMIT,
  OPENING_CALL,
  OrderEvents,
  type TradeEvent,
} from './order-book-events.ts';
import {
  parseSseCommand,
  parseSseSnapshot,
  parseSseTrade,
  SSE_LEVELS,
  type SseCommand,
  SseVerifier,
} from './sse-day.ts';

const folder = join(process.env.TROUPE_TEST_DATA ?? resolve('../shared/data'), 'exchange');
const day = join(folder, 'sse_600519_20230207');
const load = join(folder, 'ec_1k_3m_commands_compact.csv.xz');
const OWNER = 1;
const phases = { OPEN_AUCTION: OPENING_CALL, CONTINUOUS, CLOSE_AUCTION: CLOSING_CALL };

function skipWithout(path: string): string | false {
  return existsSync(path) ? false : `no test data: ${path} is missing (TROUPE_TEST_DATA)`;
}

function skipWithoutXz(): string | false {
  return spawnSync('xz', ['--version']).error === undefined ? false : 'xz is not installed';
}

function lines(path: string): string[] {
  return gunzipSync(readFileSync(path)).toString('latin1').trim().split('\n').slice(1);
}

/** A real day replayed into a book and shown to the verifier, as the actor's clients see it. */
class DayReplay {
  readonly book: OrderBook;
  readonly verifier: SseVerifier;
  private readonly events = new OrderEvents();
  /** By order number of the book: the exchange's own. */
  private readonly orderIds = new Map<number, number>();
  private phase = '';

  constructor(verifier: SseVerifier) {
    this.verifier = verifier;
    this.book = new OrderBook(this.events);
  }

  /** Applies a command; in a call its state holds `untilMs`. */
  apply(command: SseCommand, untilMs: number): void {
    this.events.clear();
    this.enterPhase(command);
    assert.equal(this.send(command), undefined, `command ${command.sequence}`);
    this.book.dropChanges();
    for (const event of this.events.readAll()) {
      if (event.type === 'accepted') this.orderIds.set(event.orderNumber, event.orderId);
      if (event.type === 'trade') this.report(event, command.sequence);
    }
    if (command.phase === 'CONTINUOUS' || command.command === 'UNCROSS')
      this.verifier.book(this.book.depth(SSE_LEVELS));
    else this.verifier.indicative(command.timeOfDayMs, untilMs, this.book.indicative());
  }

  private enterPhase(command: SseCommand): void {
    if (command.phase === this.phase) return;
    this.phase = command.phase;
    assert.equal(this.book.setPhase(phases[command.phase]), undefined);
  }

  private send({ command, orderId, side, timeInForce, priceTicks, quantityLots }: SseCommand) {
    if (command === 'UNCROSS') return this.book.uncross();
    if (command === 'CANCEL') return this.book.cancel(OWNER, orderId);
    const sideCode = side === 'bid' ? BID : ASK;
    const timeCode = timeInForce === 'ioc' ? IOC : DAY;
    return this.book.enter(OWNER, orderId, sideCode, LIMIT, timeCode, priceTicks, quantityLots);
  }

  private report(trade: TradeEvent, commandSequence: number): void {
    const { priceTicks, quantityLots, aggressor } = trade;
    const bidOrderId = this.orderIds.get(trade.bidOrderNumber) ?? 0;
    const askOrderId = this.orderIds.get(trade.askOrderNumber) ?? 0;
    this.verifier.trade({ commandSequence, bidOrderId, askOrderId, priceTicks, quantityLots, aggressor });
  }
}

test('a real day: every trade, the published books and the indicative prices', {
  skip: skipWithout(`${day}_commands.csv.gz`),
}, () => {
  const commands = lines(`${day}_commands.csv.gz`).map(parseSseCommand);
  const trades = lines(`${day}_expected_trades.csv.gz`).map(parseSseTrade);
  const snapshots = lines(`${day}_snapshots.csv.gz`).map(parseSseSnapshot);
  const replay = new DayReplay(new SseVerifier(trades, snapshots));
  commands.forEach((command, index) => {
    replay.apply(command, commands[index + 1]?.timeOfDayMs ?? command.timeOfDayMs);
  });
  assert.equal(commands.length, 58_432);
  assert.equal(replay.book.lastPriceTicks, 179_700);
  assert.deepEqual(replay.verifier.verdict(), {
    tradesExpected: 18_685,
    tradesSeen: 18_685,
    tradesEqual: 18_685,
    booksApplicable: 4_927,
    booksEqual: 4_926,
    indicativesApplicable: 187,
    indicativesEqual: 186, // The one of 15:00:00 shows the book after the uncross.
    differences: ['book of 14:57:00 (phase 2) not seen', 'indicative of 15:00:00 (phase 4) not seen'],
  });
});

test("another engine's three million commands give its final book", {
  skip: skipWithout(load) || skipWithoutXz(),
}, () => {
  const file = execFileSync('xz', ['-dc', load], { maxBuffer: 256 * 1024 * 1024 });
  const commands = parseCommandLoad(file);
  const events = new OrderEvents();
  const book = new OrderBook(events);
  book.setPhase(CONTINUOUS);
  for (let index = 0; index < commands.count; index += 1) {
    events.clear();
    assert.equal(applyCommand(book, commands, index), undefined);
    book.dropChanges();
  }
  const { bids, asks } = book.depth(Number.MAX_SAFE_INTEGER);
  const rows = [
    ...asks.map((level) => `ASK,${level.priceTicks},${level.quantityLots},${level.orders}`),
    ...bids.map((level) => `BID,${level.priceTicks},${level.quantityLots},${level.orders}`),
  ];
  assert.equal(commands.count, 3_001_000);
  assert.deepEqual(rows, readFileSync(join(folder, 'ec_1k_3m_final_l2.csv'), 'utf8').trim().split('\n').slice(1));
});
