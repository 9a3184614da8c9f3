import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Level, LevelChange, Side } from './ladder.ts';
import { Ladder } from './ladder.ts';

const prices = (rows: readonly Level[]): number[] => rows.map(({ price }) => price);

function sample(): Ladder {
  const ladder = new Ladder();
  const bids = [
    { price: 99, quantity: 5 },
    { price: 101, quantity: 3 },
    { price: 100, quantity: 2 },
  ];
  const asks = [
    { price: 105, quantity: 4 },
    { price: 103, quantity: 1 },
    { price: 104, quantity: 0 },
  ];
  ladder.replace(bids, asks);
  return ladder;
}

test('sides are sorted with the best price first, and empty levels are left out', () => {
  const { bids, asks } = sample().rows(10);
  assert.deepEqual(prices(bids), [101, 100, 99]);
  assert.deepEqual(prices(asks), [103, 105]);
});

test('totals grow from the best level, shares are of the deepest total of both sides', () => {
  const { bids, asks } = sample().rows(10);
  assert.deepEqual(
    bids.map(({ total }) => total),
    [3, 5, 10],
  );
  assert.deepEqual(
    bids.map(({ share }) => share),
    [0.3, 0.5, 1],
  );
  assert.deepEqual(
    asks.map(({ share }) => share),
    [0.1, 0.5],
  );
});

test('depth bounds the rows and the scale of the bars', () => {
  const { bids, asks } = sample().rows(1);
  assert.deepEqual([prices(bids), prices(asks)], [[101], [103]]);
  assert.equal(bids[0]?.share, 1);
});

test('a change sets, replaces or removes a level', () => {
  const ladder = sample();
  ladder.apply([
    { side: 'bid', price: 102, quantity: 7 },
    { side: 'bid', price: 101, quantity: 0 },
    { side: 'bid', price: 100, quantity: 9 },
    { side: 'ask', price: 104, quantity: 2 },
    { side: 'ask', price: 200, quantity: 0 },
  ]);
  const { bids, asks } = ladder.rows(10);
  assert.deepEqual(
    bids.map(({ price, quantity }) => [price, quantity]),
    [
      [102, 7],
      [100, 9],
      [99, 5],
    ],
  );
  assert.deepEqual(prices(asks), [103, 104, 105]);
});

test('spread and best are undefined while a side is empty', () => {
  const ladder = new Ladder();
  assert.deepEqual([ladder.best('bid'), ladder.spread], [undefined, undefined]);
  ladder.apply([{ side: 'bid', price: 10, quantity: 1 }]);
  assert.equal(ladder.spread, undefined);
  ladder.apply([{ side: 'ask', price: 12, quantity: 1 }]);
  assert.equal(ladder.spread, 2);
  assert.deepEqual(ladder.rows(5).bids[0], { price: 10, quantity: 1, total: 1, share: 1 });
});

test('an empty book has no rows', () => {
  assert.deepEqual(new Ladder().rows(10), { bids: [], asks: [] });
});

test('property: any changes give what a sorted map gives', (context) => {
  for (let seed = 1; seed <= 20; seed++) {
    context.diagnostic(`seed ${seed}`);
    const random = generator(seed);
    const ladder = new Ladder();
    const naive = { bid: new Map<number, number>(), ask: new Map<number, number>() };
    for (let step = 0; step < 500; step++) {
      const change = randomChange(random);
      ladder.apply([change]);
      if (change.quantity > 0) naive[change.side].set(change.price, change.quantity);
      else naive[change.side].delete(change.price);
    }
    const { bids, asks } = ladder.rows(1_000);
    assert.deepEqual(
      pairs(bids),
      [...naive.bid].sort(([a], [b]) => b - a),
      `seed ${seed}`,
    );
    assert.deepEqual(
      pairs(asks),
      [...naive.ask].sort(([a], [b]) => a - b),
      `seed ${seed}`,
    );
  }
});

const pairs = (rows: readonly Level[]): number[][] => rows.map(({ price, quantity }) => [price, quantity]);

function randomChange(random: () => number): LevelChange {
  const side: Side = random() < 0.5 ? 'bid' : 'ask';
  return { side, price: 100 + Math.floor(random() * 80), quantity: Math.floor(random() * 4) };
}

/** A linear congruential generator, good enough to spread test input. */
function generator(seed: number): () => number {
  let state = seed;
  return () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return state / 2 ** 32;
  };
}
