import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Trade } from './trade-list.ts';
import { TradeList } from './trade-list.ts';

const trade = (number: number, price: number): Trade => ({ number, price, quantity: 10, aggressor: 'bid', timeMs: 0 });

test('the newest trades come first, the oldest are let go, the sums go on', () => {
  const list = new TradeList(3);
  for (let id = 1; id <= 5; id++) list.add(trade(id, 100 + id));
  assert.deepEqual(
    list.newest.map(({ number }) => number),
    [5, 4, 3],
  );
  assert.deepEqual([list.count, list.volume], [5, 50]);
});

test('former trades are shown and not counted', () => {
  const list = new TradeList(3);
  list.remember(trade(1, 100));
  list.add(trade(2, 101));
  assert.deepEqual([list.newest.length, list.count, list.volume, list.direction], [2, 1, 10, 1]);
});

test('the direction is that of the last price', () => {
  const list = new TradeList(3);
  assert.equal(list.direction, 0);
  list.add(trade(1, 100));
  assert.equal(list.direction, 0);
  list.add(trade(2, 99));
  assert.equal(list.direction, -1);
  list.add(trade(3, 101));
  assert.equal(list.direction, 1);
});
