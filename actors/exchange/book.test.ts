/** The book as an actor: replies, refusals by name, owners, publications, queries. The engine's rules are tested beside it. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { stateHash } from '../../cluster/host/state-hash.ts';
import { isProtocolError } from '../../protocol/errors.ts';
import { seededRandom } from '../../protocol/fuzz.ts';
import { type Outcome, type Published, TestFold } from '../test-fold.ts';
import { book } from './book.ts';
import { bookRejections, MAX_LEVELS, MAX_TRADERS } from './book-interface.ts';
import { BookState } from './book-state.ts';
import { countTrade, newDay } from './day-statistics.ts';
import { packOrders } from './packed-orders.ts';
import { Traders } from './traders.ts';

const REF = 'book:XNAS/AAPL';
const MAX = Number.MAX_SAFE_INTEGER;

type Reply = {
  bookSequence: number;
  orderNumber: number;
  status: string;
  filledLots: number;
  remainingLots: number;
  trades: number;
};
type Entry = {
  orderId: number;
  side: 'bid' | 'ask';
  priceTicks: number;
  quantityLots: number;
  orderType?: string;
  timeInForce?: string;
};

const order = (entry: Entry): object => ({ orderType: 'limit', timeInForce: 'day', ...entry });

/** A book in a phase, and the ways to speak to it. */
class Venue {
  readonly it: TestFold;

  private constructor(it: TestFold) {
    this.it = it;
  }

  static async in(phase: string): Promise<Venue> {
    const venue = new Venue(await TestFold.of([book]));
    if (phase !== 'pre_open') venue.it.ask(REF, 'setPhase', { phase });
    return venue;
  }

  phase(phase: string): void {
    this.it.ask(REF, 'setPhase', { phase });
  }

  bid(who: string, orderId: number, priceTicks: number, quantityLots: number, more: object = {}): Reply {
    return this.it.ask(REF, 'enter', order({ orderId, side: 'bid', priceTicks, quantityLots, ...more }), who);
  }

  ask(who: string, orderId: number, priceTicks: number, quantityLots: number, more: object = {}): Reply {
    return this.it.ask(REF, 'enter', order({ orderId, side: 'ask', priceTicks, quantityLots, ...more }), who);
  }

  do(who: string, command: string, fields: object): Reply {
    return this.it.ask(REF, command, fields, who);
  }

  refused(who: string, command: string, fields: object): string | undefined {
    return this.it.send(REF, command, fields, who).refused;
  }

  events(topic: string): unknown[] {
    return this.it
      .published(REF)
      .filter((one: Published) => one.topic === topic)
      .map(({ event }) => event);
  }
}

test('a reply tells how the order stands: resting, filled, cancelled', async () => {
  const venue = await Venue.in('continuous');
  const rests = { bookSequence: 2, orderNumber: 1, status: 'resting', filledLots: 0, remainingLots: 10, trades: 0 };
  assert.deepEqual(venue.ask('ann', 1, 100, 10), rests);
  const filled = { bookSequence: 3, orderNumber: 2, status: 'filled', filledLots: 4, remainingLots: 0, trades: 1 };
  assert.deepEqual(venue.bid('bob', 1, 101, 4), filled);
  const partly = { bookSequence: 4, orderNumber: 3, status: 'cancelled', filledLots: 6, remainingLots: 0, trades: 1 };
  assert.deepEqual(venue.bid('bob', 2, 0, 9, { orderType: 'market', timeInForce: 'ioc' }), partly);
  const killed = { bookSequence: 5, orderNumber: 4, status: 'cancelled', filledLots: 0, remainingLots: 0, trades: 0 };
  assert.deepEqual(venue.bid('bob', 3, 101, 1, { timeInForce: 'fok' }), killed);
});

test('cancel, reduce, move and replace count what was filled before', async () => {
  const venue = await Venue.in('continuous');
  venue.ask('ann', 1, 100, 10);
  venue.bid('bob', 1, 100, 3);
  assert.deepEqual(venue.do('ann', 'reduce', { orderId: 1, quantityLots: 2 }), {
    bookSequence: 4,
    orderNumber: 1,
    status: 'resting',
    filledLots: 3,
    remainingLots: 5,
    trades: 0,
  });
  venue.bid('bob', 2, 99, 1);
  assert.deepEqual(venue.do('ann', 'move', { orderId: 1, priceTicks: 99 }), {
    bookSequence: 6,
    orderNumber: 1,
    status: 'resting',
    filledLots: 4,
    remainingLots: 4,
    trades: 1,
  });
  assert.deepEqual(venue.do('ann', 'replace', { orderId: 1, priceTicks: 101, quantityLots: 6 }), {
    bookSequence: 7,
    orderNumber: 1,
    status: 'resting',
    filledLots: 4,
    remainingLots: 2,
    trades: 0,
  });
  assert.deepEqual(venue.do('ann', 'cancel', { orderId: 1 }), {
    bookSequence: 8,
    orderNumber: 1,
    status: 'cancelled',
    filledLots: 4,
    remainingLots: 0,
    trades: 0,
  });
});

test('orders of others look unknown, and everybody has order ids of his own', async () => {
  const venue = await Venue.in('continuous');
  venue.bid('ann', 1, 100, 10);
  for (const [command, fields] of [
    ['cancel', { orderId: 1 }],
    ['reduce', { orderId: 1, quantityLots: 1 }],
    ['move', { orderId: 1, priceTicks: 99 }],
    ['replace', { orderId: 1, priceTicks: 99, quantityLots: 1 }],
  ] as const) {
    assert.equal(venue.refused('eve', command, fields), 'unknown_order', `${command} of a stranger`);
    venue.bid('bob', 7, 98, 1);
    assert.equal(venue.refused('bob', command, fields), 'unknown_order', `${command} of another trader`);
    venue.do('bob', 'cancel', { orderId: 7 });
  }
  venue.bid('bob', 1, 90, 5);
  const { it } = venue;
  assert.deepEqual(it.query(REF, 'order', { orderId: 1 }, 'ann'), {
    orderId: 1,
    orderNumber: 1,
    side: 'bid',
    timeInForce: 'day',
    priceTicks: 100,
    remainingLots: 10,
    filledLots: 0,
  });
  assert.equal(it.query<Entry>(REF, 'order', { orderId: 1 }, 'bob').priceTicks, 90);
  assert.equal(it.query(REF, 'order', { orderId: 1 }, 'eve'), undefined);
  assert.equal(it.query<Entry[]>(REF, 'orders', {}, 'ann').length, 1);
  assert.deepEqual(it.query(REF, 'orders', {}, 'eve'), []);
});

test('open orders come by order number, page by page', async () => {
  const venue = await Venue.in('continuous');
  for (let orderId = 1; orderId <= 5; orderId++) venue.bid('ann', orderId, 100 + (orderId % 3), 1);
  const first = venue.it.query<Reply[]>(REF, 'orders', { limit: 3 }, 'ann');
  assert.deepEqual(
    first.map(({ orderNumber }) => orderNumber),
    [1, 2, 3],
  );
  const second = venue.it.query<Reply[]>(REF, 'orders', { after: 3 }, 'ann');
  assert.deepEqual(
    second.map(({ orderNumber }) => orderNumber),
    [4, 5],
  );
});

/** Each refusal that a command can bring about, with what brings it. */
const refusals: { readonly [name: string]: (venue: Venue) => Outcome } = {
  invalid_price: ({ it }) => it.send(REF, 'enter', order({ orderId: 1, side: 'bid', priceTicks: 0, quantityLots: 1 })),
  invalid_time_in_force: ({ it }) =>
    it.send(REF, 'enter', order({ orderId: 1, side: 'bid', priceTicks: 0, quantityLots: 1, orderType: 'market' })),
  halted(venue) {
    venue.phase('halted');
    return venue.it.send(REF, 'enter', order({ orderId: 1, side: 'bid', priceTicks: 1, quantityLots: 1 }));
  },
  phase_forbids: ({ it }) => it.send(REF, 'uncross', {}),
  cancel_not_allowed_in_phase(venue) {
    venue.bid('tester', 1, 1, 1);
    venue.phase('closing_call');
    return venue.it.send(REF, 'cancel', { orderId: 1 });
  },
  duplicate_order(venue) {
    venue.bid('tester', 1, 1, 1);
    return venue.it.send(REF, 'enter', order({ orderId: 1, side: 'ask', priceTicks: 9, quantityLots: 1 }));
  },
  unknown_order: ({ it }) => it.send(REF, 'cancel', { orderId: 1 }),
  quantity_limit(venue) {
    venue.bid('ann', 1, 1, MAX);
    return venue.it.send(REF, 'enter', order({ orderId: 1, side: 'bid', priceTicks: 1, quantityLots: 1 }));
  },
  book_crossed(venue) {
    venue.phase('opening_call');
    venue.bid('ann', 1, 2, 1);
    venue.ask('bob', 1, 1, 1);
    return venue.it.send(REF, 'setPhase', { phase: 'continuous' });
  },
};

/** The schema refuses these before the engine could, or it takes long to get there (see the engine's tests and below). */
const unreachable = [
  'invalid_order_id',
  'invalid_side',
  'invalid_order_type',
  'invalid_quantity',
  'invalid_phase',
  'book_full',
  'too_many_traders',
];

for (const [name, provoke] of Object.entries(refusals)) {
  test(`refuses by name: ${name}`, async () => {
    const venue = await Venue.in('continuous');
    const { refused, message } = provoke(venue);
    assert.equal(refused, name);
    assert.equal(message, bookRejections[name as keyof typeof bookRejections]);
    assert.deepEqual(venue.it.published(REF), [], 'a refusal publishes nothing');
  });
}

test('every refusal of the book is provoked, or known to be out of reach', () => {
  assert.deepEqual([...Object.keys(refusals), ...unreachable].sort(), Object.keys(bookRejections).sort());
});

test('the schema refuses what no order is', async () => {
  const venue = await Venue.in('continuous');
  for (const wrong of [
    { orderId: 0 },
    { side: 'both' },
    { orderType: 'peg' },
    { quantityLots: 0 },
    { quantityLots: 1.5 },
    { priceTicks: -1 },
  ]) {
    const fields = { ...order({ orderId: 1, side: 'bid', priceTicks: 1, quantityLots: 1 }), ...wrong };
    assert.throws(
      () => venue.it.send(REF, 'enter', fields),
      (error) => isProtocolError(error, 'invalid_field'),
      JSON.stringify(wrong),
    );
  }
});

test('binary bodies: fixed layouts that give back what was put in', async () => {
  const { it } = await Venue.in('continuous');
  const random = seededRandom(7);
  for (const name of ['enter', 'cancel', 'reduce', 'move', 'replace']) {
    const { body, spec } = it.kind(REF).commands.get(name) ?? assert.fail();
    assert.equal(spec.binary, true);
    for (let i = 0; i < 100; i++) {
      const fields = body.generate(random);
      const bytes = body.encode(fields);
      assert.equal(bytes.length, body.maxBytes);
      assert.deepEqual(body.decode(bytes), fields);
    }
  }
  assert.deepEqual(
    it
      .kind(REF)
      .commands.get('enter')
      ?.body.layoutTable()
      .map(({ name, offset, type }) => `${offset} ${type} ${name}`),
    [
      '0 u64 orderId',
      '8 u64 priceTicks',
      '16 u64 quantityLots',
      '24 choice side',
      '25 choice orderType',
      '26 choice timeInForce',
    ],
  );
});

test('trades: row, topic and executions of both sides; the maker learns of his from the table', async () => {
  const venue = await Venue.in('continuous');
  venue.ask('ann', 11, 100, 10);
  const { bookSequence } = venue.bid('bob', 12, 105, 4);
  const trade = {
    tradeNumber: 1,
    bookSequence,
    priceTicks: 100,
    quantityLots: 4,
    bidOrderNumber: 2,
    askOrderNumber: 1,
    aggressor: 'bid',
    timeMs: venue.it.fold.head.nowMs,
  };
  assert.deepEqual(venue.events('trades'), [trade]);
  assert.deepEqual(venue.it.query(REF, 'trades'), [{ offset: 1, ...trade }]);
  const [sold] = venue.it.query<object[]>(REF, 'executions', {}, 'ann');
  assert.deepEqual(sold, {
    tradeNumber: 1,
    side: 'ask',
    orderId: 11,
    orderNumber: 1,
    priceTicks: 100,
    quantityLots: 4,
    remainingLots: 6,
    liquidity: 'added',
    timeMs: trade.timeMs,
  });
  assert.equal(venue.it.query<object[]>(REF, 'executions', {}, 'bob').length, 1);
  assert.deepEqual(venue.it.query(REF, 'executions', {}, 'eve'), []);
  assert.deepEqual(venue.it.query(REF, 'executions', {}, 'an'), [], 'a name is not a prefix');
});

test('a trade with oneself is two executions', async () => {
  const venue = await Venue.in('continuous');
  venue.ask('ann', 1, 100, 1);
  venue.bid('ann', 2, 100, 1);
  const sides = venue.it.query<Entry[]>(REF, 'executions', {}, 'ann').map(({ side }) => side);
  assert.deepEqual(sides, ['bid', 'ask']);
});

test('trades and executions are read by ranges', async () => {
  const venue = await Venue.in('continuous');
  for (let i = 1; i <= 5; i++) {
    venue.ask('ann', i, 100, 1);
    venue.bid('bob', i, 100, 1);
  }
  const offsets = (fields: object): number[] =>
    venue.it.query<{ offset: number }[]>(REF, 'trades', fields).map(({ offset }) => offset);
  assert.deepEqual(offsets({ from: 2, limit: 2 }), [2, 3]);
  assert.deepEqual(offsets({ limit: 2 }), [4, 5]);
  assert.deepEqual(offsets({ from: 6 }), []);
  const numbers = venue.it
    .query<{ tradeNumber: number }[]>(REF, 'executions', { from: 4 }, 'bob')
    .map(({ tradeNumber }) => tradeNumber);
  assert.deepEqual(numbers, [4, 5]);
});

test('l2 tells the changed levels with absolute quantities, l1 only a change at the top', async () => {
  const venue = await Venue.in('continuous');
  venue.bid('ann', 1, 100, 10);
  venue.bid('ann', 2, 100, 5);
  const level = { priceTicks: 100, quantityLots: 15, orders: 2 };
  assert.deepEqual(venue.events('l2'), [{ bookSequence: 3, whole: false, bids: [level], asks: [] }]);
  assert.equal(venue.events('l1').length, 1);
  venue.bid('ann', 3, 99, 1);
  assert.deepEqual(venue.events('l1'), [], 'a level below the best');
  venue.do('ann', 'cancel', { orderId: 3 });
  assert.deepEqual(venue.events('l2'), [
    { bookSequence: 5, whole: false, bids: [{ priceTicks: 99, quantityLots: 0, orders: 0 }], asks: [] },
  ]);
  assert.deepEqual(venue.it.query(REF, 'l2', { depth: 1 }), {
    bookSequence: 5,
    bids: [level],
    asks: [],
    bidLevels: 1,
    askLevels: 0,
  });
  assert.deepEqual(venue.it.query(REF, 'l1'), {
    bookSequence: 5,
    bidPriceTicks: 100,
    bidLots: 15,
    askPriceTicks: 0,
    askLots: 0,
    lastPriceTicks: 0,
  });
  assert.equal(venue.do('ann', 'replace', { orderId: 1, priceTicks: 100, quantityLots: 10 }).status, 'resting');
  assert.deepEqual(venue.it.published(REF), [], 'a replace by the same changes no level');
});

test('a command that changes more than 1,000 levels publishes the whole book', async () => {
  const venue = await Venue.in('continuous');
  const count = MAX_LEVELS + 1;
  for (let i = 1; i <= count; i++) venue.ask('ann', i, 100 + i, 1);
  venue.ask('ann', count + 1, 5_000, 1);
  assert.equal(venue.it.query<{ asks: unknown[]; askLevels: number }>(REF, 'l2').asks.length, MAX_LEVELS);
  venue.bid('bob', 1, 4_000, count);
  const [event] = venue.events('l2');
  assert.deepEqual(event, {
    bookSequence: count + 3,
    whole: true,
    bids: [],
    asks: [{ priceTicks: 5_000, quantityLots: 1, orders: 1 }],
  });
});

test('a call: status brings the indicative price, the uncross its outcome', async () => {
  const venue = await Venue.in('opening_call');
  venue.bid('ann', 1, 105, 10);
  assert.deepEqual(venue.events('status'), [], 'nothing to match yet');
  const { bookSequence } = venue.ask('bob', 1, 100, 4);
  const indicative = { priceTicks: 105, matchedLots: 4, surplusLots: 6, surplusSide: 'bid' };
  assert.deepEqual(venue.events('status'), [{ bookSequence, phase: 'opening_call', ...indicative }]);
  assert.deepEqual(venue.it.query(REF, 'indicative'), { bookSequence, ...indicative });
  assert.deepEqual(venue.it.ask(REF, 'uncross', {}), { bookSequence: bookSequence + 1, ...indicative, trades: 1 });
  assert.deepEqual((venue.events('trades')[0] as { aggressor: string }).aggressor, 'none');
  const none = { priceTicks: 0, matchedLots: 0, surplusLots: 0, surplusSide: 'none' };
  assert.deepEqual(venue.it.query(REF, 'status'), { bookSequence: bookSequence + 1, phase: 'opening_call', ...none });
});

test('the end of the day: day orders expire, statistics begin anew, who has nothing open is forgotten', async () => {
  const venue = await Venue.in('continuous');
  venue.ask('ann', 1, 100, 3, { timeInForce: 'gtc' });
  venue.bid('bob', 1, 100, 1);
  venue.bid('bob', 2, 90, 1);
  const stateOf = (): BookState => venue.it.fold.actors.get(REF, 0).state as BookState;
  assert.equal(stateOf().traders.count, 2);
  venue.phase('closed');
  assert.equal((venue.it.ask(REF, 'endOfDay', {}) as { expiredOrders: number }).expiredOrders, 1);
  assert.equal(stateOf().traders.count, 1);
  const statistics = venue.it.query<{ [name: string]: number }>(REF, 'statistics');
  assert.deepEqual([statistics.trades, statistics.volumeLots, statistics.previousClosePriceTicks], [0, 0, 100]);
  venue.phase('continuous');
  assert.equal(venue.bid('bob', 3, 100, 1).trades, 1, 'and comes back under a new number');
  assert.equal(venue.it.query<object[]>(REF, 'executions', {}, 'bob').length, 2, 'executions stay his');
  assert.equal(venue.do('ann', 'cancel', { orderId: 1 }).filledLots, 2);
});

test('a recovery in the middle changes nothing', async () => {
  const venue = await Venue.in('continuous');
  const { it } = venue;
  for (let i = 1; i <= 20; i++) venue.ask(`t${i % 3}`, i, 100 + (i % 5), i);
  await it.checkpoint();
  for (let i = 1; i <= 20; i++) venue.bid(`t${i % 4}`, 100 + i, 98 + (i % 6), i);
  const hash = stateHash(it.fold);
  await it.recover();
  assert.equal(stateHash(it.fold), hash);
  assert.equal(venue.refused('t1', 'cancel', { orderId: 9_999 }), 'unknown_order');
});

test('traders: full, forgotten, and what no book saved', () => {
  const traders = new Traders();
  for (let i = 1; i <= 3; i++) traders.add(`t${i}`);
  assert.equal(traders.nextNumber(3), undefined);
  traders.keepOnly(new Set([2]));
  assert.deepEqual([traders.numberOf('t1'), traders.numberOf('t2'), traders.nextNumber(3)], [0, 2, 4]);
  assert.throws(
    () =>
      new Traders({
        last: 1,
        numbers: new Map([
          ['a', 1],
          ['b', 1],
        ]),
      }),
  );
  const { book: empty, day } = BookState.empty().save();
  const orphan = { ...empty, lastOrderNumber: 1, bids: packOrders([[1, 1, 1, 1, 1, 0, 0]]) };
  assert.throws(() => BookState.load({ bookSequence: 0, book: orphan, traders: { last: 0, numbers: new Map() }, day }));
  assert.ok(MAX_TRADERS > 1_000);
});

test('a book that knows as many traders as it can refuses new ones by name, and serves the others', async () => {
  const venue = await Venue.in('continuous');
  venue.bid('ann', 1, 1, 1);
  const { traders } = venue.it.fold.actors.get(REF, 0).state as BookState;
  for (let i = 1; i < MAX_TRADERS; i++) traders.add(`t${i}`);
  const entry = order({ orderId: 2, side: 'bid', priceTicks: 1, quantityLots: 1 });
  assert.equal(venue.refused('new', 'enter', entry), 'too_many_traders');
  assert.equal(venue.refused('ann', 'enter', entry), undefined);
});

test('volume and turnover stop at 2^53 - 1', () => {
  const day = newDay(0);
  countTrade(day, 3, 5);
  countTrade(day, 2, 7);
  assert.deepEqual([day.volumeLots, day.turnover, day.highPriceTicks, day.lowPriceTicks], [12, 29, 3, 2]);
  countTrade(day, MAX, MAX);
  assert.deepEqual([day.volumeLots, day.turnover, day.trades], [MAX, MAX, 3]);
});

test('books of a venue share a partition', () => {
  assert.equal(book.placement('XNAS/AAPL'), book.placement('XNAS/MSFT'));
  assert.equal(book.placement('XNAS'), 'XNAS');
});
