/** The index equals a Map of Maps on random input, with ids made to collide, long runs and removals in between. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { OrderIndex } from './order-index.ts';
import { NONE, OrderPool } from './order-pool.ts';

const key = fc.record({
  owner: fc.constantFrom(0, 1, 2 ** 32 - 1),
  orderId: fc.oneof(
    fc.integer({ min: 1, max: 40 }),
    fc.integer({ min: 1, max: 40 }).map((value) => value * 2 ** 32 + 7),
    fc.integer({ min: 1, max: 40 }).map((value) => value * 2 ** 20),
  ),
});

test('finds what was added and not removed, and nothing else', () => {
  fc.assert(
    fc.property(fc.array(key, { minLength: 1, maxLength: 400 }), (keys) => {
      const pool = new OrderPool();
      const index = new OrderIndex(pool);
      const live = new Map<string, number>();
      for (const { owner, orderId } of keys) {
        const name = `${owner}/${orderId}`;
        const known = live.get(name);
        assert.equal(index.find(owner, orderId), known ?? NONE);
        if (known === undefined) {
          const order = pool.allocate(owner, orderId, 1, 0, 0, 1, 1);
          index.add(order);
          live.set(name, order);
        } else {
          index.remove(known);
          pool.release(known);
          live.delete(name);
        }
      }
      for (const { owner, orderId } of keys) {
        assert.equal(index.find(owner, orderId), live.get(`${owner}/${orderId}`) ?? NONE);
      }
    }),
  );
});

test('thousands of orders survive the growth of the table and leave it empty', () => {
  const pool = new OrderPool();
  const index = new OrderIndex(pool);
  const orders = Array.from({ length: 20_000 }, (_, place) =>
    pool.allocate(place % 3, place * 4_096 + 1, 1, 0, 0, 1, 1),
  );
  for (const order of orders) index.add(order);
  orders.forEach((order, place) => {
    assert.equal(index.find(place % 3, place * 4_096 + 1), order);
  });
  for (const order of orders) index.remove(order);
  orders.forEach((_, place) => {
    assert.equal(index.find(place % 3, place * 4_096 + 1), NONE);
  });
});

test('one id of a thousand owners is found for each of them and for nobody else', () => {
  const pool = new OrderPool();
  const index = new OrderIndex(pool);
  for (let owner = 0; owner < 1_000; owner += 1) index.add(pool.allocate(owner, 7, 1, 0, 0, 1, 1));
  for (let owner = 0; owner < 5_000; owner += 1) {
    const order = index.find(owner, 7);
    assert.equal(order === NONE ? NONE : pool.owners[order], owner < 1_000 ? owner : NONE);
  }
});
