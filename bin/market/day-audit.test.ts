import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  SSE_LEVELS,
  type SseCommand,
  type SseSnapshot,
  type SseTrade,
  SseVerifier,
} from '../../actors/exchange/sse-day.ts';
import { type Answered, DayAudit, type PublishedLevels, type PublishedTrade } from './day-audit.ts';

/** A day of four commands: two bids, an ask that takes half of the better one, and a cancel. Order numbers are 1, 2, 3. */
const enter = (
  sequence: number,
  orderId: number,
  side: 'bid' | 'ask',
  priceTicks: number,
  quantityLots: number,
): SseCommand => ({
  sequence,
  phase: 'CONTINUOUS',
  command: 'NEW',
  timeOfDayMs: sequence,
  orderId,
  side,
  priceTicks,
  quantityLots,
  timeInForce: 'day',
});

const commands: readonly SseCommand[] = [
  enter(1, 71, 'bid', 100, 10),
  enter(2, 72, 'bid', 99, 10),
  enter(3, 73, 'ask', 100, 5),
  { ...enter(4, 72, 'bid', 0, 0), command: 'CANCEL' },
];

const resting = (orderNumber: number, remainingLots: number) => ({ orderNumber, status: 'resting', remainingLots });
const phase: Answered = { bookSequence: 1, trades: 0, untilMs: 0 };
const answers: readonly Answered[] = [
  phase,
  { bookSequence: 2, trades: 0, command: commands[0] as SseCommand, order: resting(1, 10), untilMs: 0 },
  { bookSequence: 3, trades: 0, command: commands[1] as SseCommand, order: resting(2, 10), untilMs: 0 },
  {
    bookSequence: 4,
    trades: 1,
    command: commands[2] as SseCommand,
    order: { orderNumber: 3, status: 'filled', remainingLots: 0 },
    untilMs: 0,
  },
  {
    bookSequence: 5,
    trades: 0,
    command: commands[3] as SseCommand,
    order: { orderNumber: 2, status: 'cancelled', remainingLots: 0 },
    untilMs: 0,
  },
];

const published: PublishedTrade = {
  bookSequence: 4,
  priceTicks: 100,
  quantityLots: 5,
  bidOrderNumber: 1,
  askOrderNumber: 3,
  aggressor: 'ask',
};
const expected: SseTrade = {
  commandSequence: 3,
  bidOrderId: 71,
  askOrderId: 73,
  priceTicks: 100,
  quantityLots: 5,
  aggressor: 'ask',
};

const bid = (bookSequence: number, priceTicks: number, quantityLots: number): PublishedLevels => ({
  bookSequence,
  replaces: false,
  isSnapshot: false,
  bids: [{ priceTicks, quantityLots }],
  asks: [],
});
const levels = [bid(2, 100, 10), bid(3, 99, 10), bid(4, 100, 5), bid(5, 99, 0)] as const;
const snapshotAt5: PublishedLevels = {
  bookSequence: 5,
  replaces: true,
  isSnapshot: true,
  bids: [{ priceTicks: 100, quantityLots: 5 }],
  asks: [],
};

const book = (trades: number, volumeLots: number, ...bids: number[]): SseSnapshot => ({
  timeOfDayMs: 0,
  phase: 2,
  trades,
  volumeLots,
  bids: [...bids, ...new Array(2 * SSE_LEVELS - bids.length).fill(0)],
  asks: new Array(2 * SSE_LEVELS).fill(0),
});
/** One state that only holds between the second and the third command, one between the third and the fourth, one at the end. */
const books = [book(0, 0, 100, 10, 99, 10), book(1, 5, 100, 5, 99, 10), book(1, 5, 100, 5)];

const newAudit = () => new DayAudit(new SseVerifier([expected], books));

test('everything followed: exact', () => {
  const audit = newAudit();
  for (const each of levels) audit.levels(each);
  for (const each of answers) audit.answered(each);
  assert.equal(audit.waiting, 2, 'the trade is not there yet');
  audit.trade(published);
  assert.equal(audit.waiting, 0);
  const verdict = audit.finish();
  assert.deepEqual(
    [verdict.exact, verdict.tradesEqual, verdict.booksEqual, verdict.statesFollowed, verdict.statesBridged],
    [true, 1, 3, 4, 0],
  );
});

test('the other way round: trades, then answers, then levels', () => {
  const audit = newAudit();
  audit.trade(published);
  for (const each of answers) audit.answered(each);
  assert.equal(audit.waiting, 4);
  for (const each of levels) audit.levels(each);
  assert.equal(audit.waiting, 0);
  assert.ok(audit.finish().exact);
});

test('states that a snapshot skipped are bridged, and only these', () => {
  const audit = newAudit();
  audit.levels(levels[0]);
  audit.trade(published);
  for (const each of answers) audit.answered(each);
  audit.levels(snapshotAt5);
  const verdict = audit.finish();
  assert.deepEqual([verdict.exact, verdict.booksEqual, verdict.statesFollowed, verdict.statesBridged], [true, 3, 2, 2]);
});

test('a wrong level, a wrong trade, a missing trade, a strange command: not exact', () => {
  const wrongs: ((audit: DayAudit) => void)[] = [
    (audit) => feed(audit, { levels: [levels[0], bid(3, 99, 11), levels[2], levels[3]] }),
    (audit) => feed(audit, { trade: { ...published, quantityLots: 6 } }),
    (audit) => feed(audit, { trade: { ...published, aggressor: 'bid' } }),
    (audit) => feed(audit, { trade: { ...published, bookSequence: 99 } }),
    (audit) =>
      feed(audit, {
        answers: answers.map((each) =>
          each.bookSequence > 3 ? { ...each, bookSequence: each.bookSequence + 1 } : each,
        ),
      }),
    (audit) => feed(audit, { answers: [answers[0], answers[2], answers[1], answers[3], answers[4]] as Answered[] }),
  ];
  for (const [index, wrong] of wrongs.entries()) {
    const audit = newAudit();
    wrong(audit);
    assert.equal(audit.finish().exact, false, `wrong ${index}`);
  }
});

function feed(
  audit: DayAudit,
  given: { levels?: readonly PublishedLevels[]; trade?: PublishedTrade; answers?: readonly Answered[] },
): void {
  for (const each of given.levels ?? levels) audit.levels(each);
  audit.trade(given.trade ?? published);
  for (const each of given.answers ?? answers) audit.answered(each);
}
