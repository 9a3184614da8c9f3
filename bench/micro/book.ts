/**
 * How fast the order book is, on the command stream that another engine publishes as its own load (3,001,000 commands, about
 * 1,000 resting orders), and how that compares with the npm package `nodejs-order-book` in the same run.
 *
 * Ours writes every event into its buffer; the buffer and the changed levels are emptied after each command, as an actor would.
 * The other is given what it takes: string ids, `limit`, `modify`, `cancel`. It has no fill-or-kill by budget, so those orders
 * (0.06 %) are sent as market orders where our book filled them and left out where it killed them; its reduce loses priority,
 * so its book drifts from ours, which costs it nothing. Its journal is off. Both get the stream parsed and in memory.
 */

import { execFile } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { promisify } from 'node:util';
import {
  applyCommand,
  CANCEL,
  type CommandLoad,
  MOVE,
  parseCommandLoad,
  REDUCE,
} from '../../actors/exchange/exchange-core-load.ts';
import { OrderBook } from '../../actors/exchange/order-book.ts';
import {
  BID,
  CONTINUOUS,
  EVENT_BYTES,
  FOK_BUDGET,
  GTC,
  IOC,
  OrderEvents,
} from '../../actors/exchange/order-book-events.ts';
import { type Measurement, type Spread, spreadOf } from '../figures.ts';

const LOAD_FILE = 'ec_1k_3m_commands_compact.csv.xz';
const FINAL_FILE = 'ec_1k_3m_final_l2.csv';
/** The unpacked stream has 62 MB; more means that it is another file. */
const MAX_LOAD_BYTES = 256 * 1024 * 1024;

export interface BookBenchOptions {
  /** Folder of the test data's `exchange` files. */
  dataFolder: string;
  /** Measured runs of each book; the median counts. */
  runs: number;
  /** Commands of the stream that the other book gets, from its beginning: it needs half a minute for all of them. */
  otherCommands: number;
}

/** Runs both books and returns the figures. Throws when the data is missing or `xz` is not installed. */
export async function benchBook(options: BookBenchOptions): Promise<Measurement> {
  const { dataFolder, runs } = options;
  const load = parseCommandLoad(await unpack(`${dataFolder}/${LOAD_FILE}`));
  const otherCommands = Math.min(options.otherCommands, load.count);
  const other = prepareOther(load, otherCommands);
  const whole = repeat(runs, () => runOurs(load, load.count));
  const prefix = repeat(runs, () => runOurs(load, otherCommands));
  const theirs = repeat(runs, () => runOther(other, otherCommands));
  const last = whole.last;
  const isEqual = depthLines(last.book) === readFileSync(`${dataFolder}/${FINAL_FILE}`, 'utf8').trim();
  return {
    name: 'book',
    settings: {
      load: LOAD_FILE,
      commands: load.count,
      otherCommands,
      runs,
      other: otherName(),
      eventBytes: EVENT_BYTES,
    },
    figures: {
      commandsPerSecond: whole.rate,
      prefixCommandsPerSecond: prefix.rate, // Ours on what the other got: the two that are compared.
      otherCommandsPerSecond: theirs.rate,
      timesTheOther: prefix.rate.median / theirs.rate.median,
      events: last.events,
      trades: last.trades,
    },
    targets: [
      { figure: 'commandsPerSecond', atLeast: 2_000_000 },
      { figure: 'timesTheOther', atLeast: 10 },
    ],
    checks: [{ name: 'the final book is that of the file', passed: isEqual, detail: FINAL_FILE }],
  };
}

interface OneRun {
  commandsPerSecond: number;
}

interface OurRun extends OneRun {
  book: OrderBook;
  events: number;
  trades: number;
}

function repeat<Run extends OneRun>(runs: number, run: () => Run): { rate: Spread; last: Run } {
  let last = run(); // Not counted: the code is still being compiled.
  const rates: number[] = [];
  for (let index = 0; index < runs; index += 1) {
    last = run();
    rates.push(last.commandsPerSecond);
  }
  return { rate: spreadOf(rates), last };
}

function runOurs(load: CommandLoad, commands: number): OurRun {
  const events = new OrderEvents();
  const book = new OrderBook(events);
  book.setPhase(CONTINUOUS);
  let written = 0;
  const begin = process.hrtime.bigint();
  for (let index = 0; index < commands; index += 1) {
    events.clear();
    applyCommand(book, load, index);
    book.dropChanges();
    written += events.count;
  }
  const commandsPerSecond = rateSince(begin, commands);
  return { commandsPerSecond, book, events: written, trades: book.save().lastTradeNumber };
}

function rateSince(begin: bigint, commands: number): number {
  return Math.round(commands / (Number(process.hrtime.bigint() - begin) / 1e9));
}

/** The part of the other package that is used here; its own typings are not found by a NodeNext compiler. */
interface OtherBook {
  limit(order: { id: string; side: string; size: number; price: number; timeInForce: string }): unknown;
  market(order: { side: string; size: number }): unknown;
  modify(id: string, change: { price?: number; size?: number }): unknown;
  cancel(id: string): unknown;
  order(id: string): { size: number } | undefined;
}

/** What the other book needs and ours does not, made before the clock runs. */
interface OtherLoad {
  load: CommandLoad;
  ids: string[];
  /** By command: 1 where an order by budget was filled. */
  budgetFilled: Uint8Array;
}

function prepareOther(load: CommandLoad, commands: number): OtherLoad {
  const ids: string[] = [];
  for (let index = 0; index < commands; index += 1) ids.push(String(load.orderIds[index]));
  return { load, ids, budgetFilled: budgetOutcomes(load, commands) };
}

function budgetOutcomes(load: CommandLoad, commands: number): Uint8Array {
  const events = new OrderEvents();
  const book = new OrderBook(events);
  book.setPhase(CONTINUOUS);
  const filled = new Uint8Array(commands);
  for (let index = 0; index < commands; index += 1) {
    events.clear();
    applyCommand(book, load, index);
    book.dropChanges();
    if (load.timesInForce[index] === FOK_BUDGET && events.count > 2) filled[index] = 1;
  }
  return filled;
}

function runOther(other: OtherLoad, commands: number): OneRun {
  const Book = otherPackage();
  const book = new Book();
  const begin = process.hrtime.bigint();
  for (let index = 0; index < commands; index += 1) applyToOther(book, other, index);
  return { commandsPerSecond: rateSince(begin, commands) };
}

function applyToOther(book: OtherBook, other: OtherLoad, index: number): void {
  const { load, ids } = other;
  const id = ids[index]!;
  const price = load.pricesTicks[index]!;
  const size = load.quantitiesLots[index]!;
  switch (load.commands[index]) {
    case MOVE:
      book.modify(id, { price });
      return;
    case CANCEL:
      book.cancel(id);
      return;
    case REDUCE:
      reduceOther(book, id, size);
      return;
    default:
      placeInOther(book, other, index, id, price, size);
  }
}

function placeInOther(book: OtherBook, other: OtherLoad, index: number, id: string, price: number, size: number): void {
  const side = other.load.sides[index] === BID ? 'buy' : 'sell';
  const timeInForce = other.load.timesInForce[index];
  if (timeInForce === GTC) book.limit({ id, side, size, price, timeInForce: 'GTC' });
  else if (timeInForce === IOC) book.limit({ id, side, size, price, timeInForce: 'IOC' });
  else if (other.budgetFilled[index] === 1) book.market({ side, size });
}

function reduceOther(book: OtherBook, id: string, size: number): void {
  const order = book.order(id);
  if (order === undefined) return;
  if (order.size > size) book.modify(id, { size: order.size - size });
  else book.cancel(id);
}

/** Loaded as CommonJS: its ES module build imports without file extensions, which Node does not resolve. */
function otherPackage(): new () => OtherBook {
  return createRequire(import.meta.url)('nodejs-order-book').OrderBook;
}

function otherName(): string {
  const { version } = createRequire(import.meta.url)('nodejs-order-book/package.json');
  return `nodejs-order-book ${version}`;
}

/** The book in the form of the file of the final book: asks upwards, bids downwards. */
function depthLines(book: OrderBook): string {
  const { bids, asks } = book.depth(Number.MAX_SAFE_INTEGER);
  const lines = ['side,price,volume,orders'];
  for (const level of asks) lines.push(`ASK,${level.priceTicks},${level.quantityLots},${level.orders}`);
  for (const level of bids) lines.push(`BID,${level.priceTicks},${level.quantityLots},${level.orders}`);
  return lines.join('\n');
}

async function unpack(path: string): Promise<Uint8Array> {
  if (!existsSync(path)) throw new Error(`${path} is missing: set TROUPE_TEST_DATA`);
  const run = promisify(execFile);
  const { stdout } = await run('xz', ['-dc', path], { encoding: 'buffer', maxBuffer: MAX_LOAD_BYTES });
  return stdout;
}
