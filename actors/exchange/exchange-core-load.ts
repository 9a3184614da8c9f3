/**
 * The command stream that another engine publishes as its own load test, read into columns and applied to our book.
 *
 * A line is `command,orderId,uid,action,orderType,price,size`: P place, M move (new price), C cancel, R reduce (by size); A ask,
 * B bid; GTC, IOC, FOK_BUDGET. Pure: whoever has the file gives its bytes.
 */

import type { OrderBook } from './order-book.ts';
import { ASK, BID, type BookRejection, FOK_BUDGET, GTC, IOC, LIMIT } from './order-book-events.ts';

export const PLACE = 80;
export const MOVE = 77;
export const CANCEL = 67;
export const REDUCE = 82;

const COMMA = 44;
const NEWLINE = 10;
const CARRIAGE_RETURN = 13;
const ZERO = 48;
const LETTER_A = 65;
const LETTER_F = 70;
const LETTER_I = 73;

/** The stream as columns; `count` is how many commands there are. */
export interface CommandLoad {
  count: number;
  commands: Uint8Array;
  orderIds: Float64Array;
  owners: Uint32Array;
  sides: Uint8Array;
  timesInForce: Uint8Array;
  pricesTicks: Float64Array;
  quantitiesLots: Float64Array;
}

/** Reads the whole file, header included. Throws on a line that is not of the form above. */
export function parseCommandLoad(file: Uint8Array): CommandLoad {
  const load = emptyLoad(countLines(file) - 1);
  let offset = lineEnd(file, 0) + 1;
  for (let index = 0; index < load.count; index += 1) {
    const end = lineEnd(file, offset);
    parseLine(load, index, file, offset, end);
    offset = end + 1;
  }
  return load;
}

/** Applies command `index` of the load to a book in continuous trading. */
export function applyCommand(book: OrderBook, load: CommandLoad, index: number): BookRejection | undefined {
  const owner = load.owners[index]!;
  const orderId = load.orderIds[index]!;
  const priceTicks = load.pricesTicks[index]!;
  const quantityLots = load.quantitiesLots[index]!;
  switch (load.commands[index]) {
    case MOVE:
      return book.move(owner, orderId, priceTicks);
    case CANCEL:
      return book.cancel(owner, orderId);
    case REDUCE:
      return book.reduce(owner, orderId, quantityLots);
    default:
      return book.enter(owner, orderId, load.sides[index]!, LIMIT, load.timesInForce[index]!, priceTicks, quantityLots);
  }
}

function emptyLoad(count: number): CommandLoad {
  return {
    count,
    commands: new Uint8Array(count),
    orderIds: new Float64Array(count),
    owners: new Uint32Array(count),
    sides: new Uint8Array(count),
    timesInForce: new Uint8Array(count),
    pricesTicks: new Float64Array(count),
    quantitiesLots: new Float64Array(count),
  };
}

function countLines(file: Uint8Array): number {
  let lines = file.at(-1) === NEWLINE ? 0 : 1;
  for (const byte of file) if (byte === NEWLINE) lines += 1;
  return lines;
}

function lineEnd(file: Uint8Array, offset: number): number {
  const end = file.indexOf(NEWLINE, offset);
  return end < 0 ? file.length : end;
}

function parseLine(load: CommandLoad, index: number, file: Uint8Array, begin: number, end: number): void {
  const starts = fieldStarts(file, begin, end);
  const command = file[begin]!;
  if (starts.length !== 7 || ![PLACE, MOVE, CANCEL, REDUCE].includes(command)) throw new Error(`bad line ${index + 2}`);
  load.commands[index] = command;
  load.orderIds[index] = integerAt(file, starts[1]!, end);
  load.owners[index] = integerAt(file, starts[2]!, end);
  load.sides[index] = file[starts[3]!] === LETTER_A ? ASK : BID;
  load.timesInForce[index] = timeInForceOf(file[starts[4]!]!);
  load.pricesTicks[index] = integerAt(file, starts[5]!, end);
  load.quantitiesLots[index] = integerAt(file, starts[6]!, end);
}

function fieldStarts(file: Uint8Array, begin: number, end: number): number[] {
  const starts = [begin];
  for (let offset = begin; offset < end; offset += 1) if (file[offset] === COMMA) starts.push(offset + 1);
  return starts;
}

/** The first letter tells: GTC, IOC or FOK_BUDGET; other commands than place have none. */
function timeInForceOf(letter: number): number {
  if (letter === LETTER_I) return IOC;
  return letter === LETTER_F ? FOK_BUDGET : GTC;
}

/** The digits from here to the next comma; 0 for an empty field. */
function integerAt(file: Uint8Array, begin: number, end: number): number {
  let value = 0;
  for (let offset = begin; offset < end; offset += 1) {
    const byte = file[offset]!;
    if (byte === COMMA || byte === CARRIAGE_RETURN) break;
    value = value * 10 + (byte - ZERO);
  }
  return value;
}
