/** The files of a Shanghai day, line by line, and what the verifier counts. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseSseCommand, parseSseSnapshot, parseSseTrade, type SseTrade, SseVerifier } from './sse-day.ts';

const nothing = Array.from({ length: 8 }, () => '0,0').join(',');
const trade: SseTrade = {
  commandSequence: 5,
  bidOrderId: 1,
  askOrderId: 2,
  priceTicks: 100,
  quantityLots: 7,
  aggressor: 'bid',
};

/** A snapshot line with two levels on each side. */
function snapshotLine(time: number, phase: number, trades: number, volume: number, bids: string, asks: string): string {
  return `9,${time},${phase},${trades},${volume},0,0,0,0,0,0,0,0,0,0,${bids},${nothing},${asks},${nothing}`;
}

test('a command line', () => {
  assert.deepEqual(parseSseCommand('7,CONTINUOUS,NEW,9300103,212506,S,180834,100,IOC'), {
    sequence: 7,
    phase: 'CONTINUOUS',
    command: 'NEW',
    timeOfDayMs: ((9 * 60 + 30) * 60 + 1) * 1_000 + 30,
    orderId: 212_506,
    side: 'ask',
    priceTicks: 180_834,
    quantityLots: 100,
    timeInForce: 'ioc',
  });
  assert.equal(parseSseCommand('1485,OPEN_AUCTION,UNCROSS,9250080,,,,,').orderId, 0);
});

test('a trade line', () => {
  assert.deepEqual(parseSseTrade('5,68782,1,2,100,7,B,9250080'), trade);
  assert.equal(parseSseTrade('5,68782,1,2,100,7,N,9250080').aggressor, 'none');
});

test('malformed lines throw', () => {
  assert.throws(() => parseSseCommand('7,CONTINUOUS,NEW,9300103'), /bad command line/);
  assert.throws(() => parseSseCommand('7,LUNCH,NEW,9300103,212506,S,180834,100,IOC'), /bad command line/);
  assert.throws(() => parseSseCommand('7,CONTINUOUS,NEW,9300103,x,S,180834,100,IOC'), /bad number/);
  assert.throws(() => parseSseTrade('5,68782,1'), /bad trade line/);
  assert.throws(() => parseSseSnapshot('1,2,3'), /bad snapshot line/);
});

test('trades are compared in order', () => {
  const second = { ...trade, quantityLots: 8 };
  const verifier = new SseVerifier([trade, second], []);
  verifier.trade({ ...trade, commandSequence: 0 });
  verifier.trade(trade);
  const { tradesSeen, tradesEqual, differences } = verifier.verdict();
  assert.deepEqual([tradesSeen, tradesEqual, differences.length], [2, 1, 1]);
});

test('a book is compared with every state that has its trades and volume', () => {
  const snapshot = parseSseSnapshot(snapshotLine(93_001, 2, 1, 7, '99,5,98,1', '101,6,0,0'));
  const bids = [
    { priceTicks: 99, quantityLots: 5, orders: 1 },
    { priceTicks: 98, quantityLots: 1, orders: 1 },
  ];
  const asks = [{ priceTicks: 101, quantityLots: 6, orders: 2 }];
  const verifier = new SseVerifier([trade], [snapshot]);
  verifier.book({ bids, asks });
  assert.equal(verifier.verdict().booksEqual, 0, 'no trade yet');
  verifier.trade(trade);
  verifier.book({ bids: bids.slice(1), asks });
  assert.equal(verifier.verdict().booksEqual, 0, 'another book');
  verifier.book({ bids, asks });
  assert.deepEqual([verifier.verdict().booksEqual, verifier.verdict().booksApplicable], [1, 1]);
});

test('an indicative price is compared with the states of the three seconds before', () => {
  const line = snapshotLine(91_510, 1, 0, 0, '100,7,0,0', '100,7,0,3');
  const at = ((9 * 60 + 15) * 60 + 10) * 1_000;
  const state = { priceTicks: 100, matchedLots: 7, surplusLots: 3, surplusSide: 'ask' } as const;
  const equalFor = (fromMs: number, untilMs: number, indicative: Parameters<SseVerifier['indicative']>[2]) => {
    const verifier = new SseVerifier([], [parseSseSnapshot(line)]);
    verifier.indicative(fromMs, untilMs, indicative);
    return verifier.verdict().indicativesEqual;
  };
  assert.equal(equalFor(at - 4_000, at - 2_000, state), 1);
  assert.equal(equalFor(at + 500, at + 900, state), 1);
  assert.equal(equalFor(at - 9_000, at - 3_001, state), 0);
  assert.equal(equalFor(at + 1_000, at + 2_000, state), 0);
  assert.equal(equalFor(at, at, { ...state, surplusSide: 'bid' }), 0);
});
