/**
 * The book actor against a real trading day, seen as a client sees it: trades, levels and indicative prices are taken from what
 * it publishes, and each is laid to the command whose reply has the same bookSequence. The data is no part of the repository:
 * TROUPE_TEST_DATA names its place, else it is looked for in ../shared/data; where it is missing the test is skipped.
 */
import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { test } from 'node:test';
import { gunzipSync } from 'node:zlib';
import { stateHash } from '../../cluster/host/state-hash.ts';
import { type Published, type TestCommand, TestFold } from '../test-fold.ts';
import { book } from './book.ts';
import type { BookLevel, Indicative } from './order-book-events.ts';
import {
  parseSseCommand,
  parseSseSnapshot,
  parseSseTrade,
  SSE_LEVELS,
  type SseCommand,
  type SseTrade,
  SseVerifier,
} from './sse-day.ts';

const day = join(process.env.TROUPE_TEST_DATA ?? resolve('../shared/data'), 'exchange', 'sse_600519_20230207');
const REF = 'book:XSHG/600519';
const COMMANDS_PER_FRAME = 64;
const phases = { OPEN_AUCTION: 'opening_call', CONTINUOUS: 'continuous', CLOSE_AUCTION: 'closing_call' } as const;

function skipWithout(path: string): string | false {
  return existsSync(path) ? false : `no test data: ${path} is missing (TROUPE_TEST_DATA)`;
}

function lines(path: string): string[] {
  return gunzipSync(readFileSync(path)).toString('latin1').trim().split('\n').slice(1);
}

type Trade = {
  tradeNumber: number;
  bookSequence: number;
  priceTicks: number;
  quantityLots: number;
  bidOrderNumber: number;
  askOrderNumber: number;
  aggressor: 'bid' | 'ask' | 'none';
};
type Levels = { whole: boolean; bids: BookLevel[]; asks: BookLevel[] };
type Step = { command: SseCommand | undefined; sent: TestCommand };

/** One side of a client's copy of the book, best first. */
class CopiedSide {
  levels: BookLevel[] = [];
  readonly #direction: 1 | -1;

  constructor(direction: 1 | -1) {
    this.#direction = direction;
  }

  set(level: BookLevel): void {
    const key = (one: BookLevel): number => one.priceTicks * this.#direction;
    let low = 0;
    for (let high = this.levels.length; low < high; ) {
      const middle = (low + high) >>> 1;
      if (key(this.levels[middle] as BookLevel) < key(level)) low = middle + 1;
      else high = middle;
    }
    const isThere = this.levels[low]?.priceTicks === level.priceTicks;
    const replacement = level.quantityLots === 0 ? [] : [level];
    this.levels.splice(low, isThere ? 1 : 0, ...replacement);
  }
}

/** A client: knows its own orders by the replies, and the market by what is published. */
class Client {
  readonly verifier: SseVerifier;
  readonly orderIds = new Map<number, number>();
  readonly trades: Trade[] = [];
  readonly bids = new CopiedSide(-1);
  readonly asks = new CopiedSide(1);
  indicative: Indicative = { priceTicks: 0, matchedLots: 0, surplusLots: 0, surplusSide: 'none' };

  constructor(verifier: SseVerifier) {
    this.verifier = verifier;
  }

  /** What a command with this sequence published, with the command itself. */
  see(published: readonly Published[], command: SseCommand | undefined, untilMs: number): void {
    for (const { topic, event } of published) {
      if (topic === 'trades') this.#trade(event as Trade, command);
      if (topic === 'l2') this.#levels(event as Levels);
      if (topic === 'status') this.indicative = event as Indicative;
    }
    if (!command) return;
    if (command.phase === 'CONTINUOUS' || command.command === 'UNCROSS') {
      this.verifier.book({ bids: this.bids.levels.slice(0, SSE_LEVELS), asks: this.asks.levels.slice(0, SSE_LEVELS) });
    } else this.verifier.indicative(command.timeOfDayMs, untilMs, this.indicative);
  }

  #trade(trade: Trade, command: SseCommand | undefined): void {
    this.trades.push(trade);
    this.verifier.trade(this.named(trade, command?.sequence ?? -1));
  }

  #levels({ whole, bids, asks }: Levels): void {
    assert.equal(whole, false, 'this day never changes a thousand levels at once');
    for (const level of bids) this.bids.set(level);
    for (const level of asks) this.asks.set(level);
  }

  named(
    { priceTicks, quantityLots, aggressor, bidOrderNumber, askOrderNumber }: Trade,
    commandSequence: number,
  ): SseTrade {
    const bidOrderId = this.orderIds.get(bidOrderNumber) ?? 0;
    const askOrderId = this.orderIds.get(askOrderNumber) ?? 0;
    return { commandSequence, bidOrderId, askOrderId, priceTicks, quantityLots, aggressor };
  }
}

function stepsOf(commands: readonly SseCommand[]): Step[] {
  let phase = '';
  return commands.flatMap((command): Step[] => {
    const step = { command, sent: sentFor(command) };
    if (command.phase === phase) return [step];
    phase = command.phase;
    return [
      { command: undefined, sent: { ref: REF, command: 'setPhase', fields: { phase: phases[command.phase] } } },
      step,
    ];
  });
}

function sentFor({ command, orderId, side, timeInForce, priceTicks, quantityLots }: SseCommand): TestCommand {
  if (command === 'UNCROSS') return { ref: REF, command: 'uncross', fields: {} };
  if (command === 'CANCEL') return { ref: REF, command: 'cancel', fields: { orderId } };
  return {
    ref: REF,
    command: 'enter',
    fields: { orderId, side, orderType: 'limit', timeInForce, priceTicks, quantityLots },
  };
}

function groupedBySequence(published: readonly Published[]): Map<number, Published[]> {
  const groups = new Map<number, Published[]>();
  for (const one of published) {
    const { bookSequence } = one.event as { bookSequence: number };
    const group = groups.get(bookSequence);
    if (group) group.push(one);
    else groups.set(bookSequence, [one]);
  }
  return groups;
}

/** Folds one frame and shows the client command by command what each of them brought. */
function foldFrame(it: TestFold, client: Client, steps: readonly Step[], untilMs: readonly number[]): void {
  const outcomes = it.sendAll(steps.map(({ sent }) => sent));
  const bySequence = groupedBySequence(it.published(REF));
  steps.forEach(({ command }, i) => {
    const { reply, refused } = outcomes[i] ?? {};
    assert.equal(refused, undefined, `command ${command?.sequence}`);
    const { bookSequence, orderNumber } = reply as { bookSequence: number; orderNumber?: number };
    if (command && orderNumber) client.orderIds.set(orderNumber, command.orderId);
    client.see(bySequence.get(bookSequence) ?? [], command, untilMs[i] as number);
  });
}

/** Every trade that the table holds, page by page. */
function storedTrades(it: TestFold): Trade[] {
  const found: (Trade & { offset: number })[] = [];
  for (;;) {
    const page = it.query<(Trade & { offset: number })[]>(REF, 'trades', { from: (found.at(-1)?.offset ?? 0) + 1 });
    if (page.length === 0) return found.map(({ offset: _, ...trade }) => trade);
    found.push(...page);
  }
}

test('a real day through the fold: trades, books and indicatives, with a crash in the middle', {
  skip: skipWithout(`${day}_commands.csv.gz`),
}, async () => {
  const steps = stepsOf(lines(`${day}_commands.csv.gz`).map(parseSseCommand));
  const trades = lines(`${day}_expected_trades.csv.gz`).map(parseSseTrade);
  const snapshots = lines(`${day}_snapshots.csv.gz`).map(parseSseSnapshot);
  const client = new Client(new SseVerifier(trades, snapshots));
  const it = await TestFold.of([book]);
  const untilMs = steps.map(
    ({ command }, i) => (steps[i + 1] ?? steps[i])?.command?.timeOfDayMs ?? command?.timeOfDayMs ?? 0,
  );
  for (let from = 0; from < steps.length; from += COMMANDS_PER_FRAME) {
    const to = from + COMMANDS_PER_FRAME;
    foldFrame(it, client, steps.slice(from, to), untilMs.slice(from, to));
    if (from === COMMANDS_PER_FRAME * 300) await it.checkpoint();
    if (from === COMMANDS_PER_FRAME * 600) await it.recover();
  }

  assert.deepEqual(client.verifier.verdict(), {
    tradesExpected: 18_685,
    tradesSeen: 18_685,
    tradesEqual: 18_685,
    booksApplicable: 4_927,
    booksEqual: 4_926,
    indicativesApplicable: 187,
    indicativesEqual: 186, // The one of 15:00:00 shows the book after the uncross.
    differences: ['book of 14:57:00 (phase 2) not seen', 'indicative of 15:00:00 (phase 4) not seen'],
  });
  const stored = storedTrades(it);
  assert.deepEqual(stored, client.trades);
  assert.deepEqual(
    stored.map((trade, i) => client.named(trade, trades[i]?.commandSequence ?? -1)),
    trades,
  );
  const statistics = it.query<{ [name: string]: number }>(REF, 'statistics');
  assert.deepEqual(
    [statistics.openPriceTicks, statistics.highPriceTicks, statistics.lowPriceTicks, statistics.lastPriceTicks],
    [180_808, 180_880, 178_773, 179_700],
  );
  assert.deepEqual(
    [statistics.trades, statistics.volumeLots, statistics.turnover],
    [18_685, 2_432_171, 437_367_173_548],
  );
  const straight = await it.another();
  for (const message of it.messages) straight.follow(message);
  assert.equal(stateHash(it.fold), stateHash(straight.fold), 'a recovery changes nothing');
});
