import assert from 'node:assert/strict';
import { test } from 'node:test';
import { seededRandom } from '../../protocol/fuzz.ts';
import type { SavedOrder } from './order-book-events.ts';
import { packOrders, unpackOrders } from './packed-orders.ts';

const MAX = Number.MAX_SAFE_INTEGER;

test('orders come back as they were, at every size of number', () => {
  const random = seededRandom(5);
  const numbers = [0, 1, 127, 128, 2 ** 31 - 1, 2 ** 31, 2 ** 32, 2 ** 49 - 1, 2 ** 49, MAX];
  const number = (): number => numbers[Math.floor(random() * numbers.length)] as number;
  const orders = Array.from({ length: 500 }, () => Array.from({ length: 7 }, number) as SavedOrder);
  assert.deepEqual(unpackOrders(packOrders(orders)), orders);
  assert.deepEqual(unpackOrders(packOrders([])), []);
});

test('bytes that nobody packed are refused: cut off, too large, longer than needed', () => {
  const bytes = packOrders([[1, 2, 3, 4, 5, 300, 7]]);
  assert.deepEqual([...bytes], [1, 2, 3, 4, 5, 0xac, 2, 7]);
  assert.throws(() => unpackOrders(bytes.subarray(0, 7)), /cut off/);
  assert.throws(() => unpackOrders(bytes.subarray(0, 6)), /cut off/);
  const huge = [255, 255, 255, 255, 255, 255, 255, 31];
  assert.throws(() => unpackOrders(Uint8Array.from([...huge, 1, 1, 1, 1, 1, 1])), /none/);
  assert.throws(() => unpackOrders(Uint8Array.from([0x81, 0, 1, 1, 1, 1, 1, 1])), /none/);
});
