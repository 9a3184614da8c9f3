import assert from 'node:assert/strict';
import { test } from 'node:test';
import { DemoOrders, type DemoWish } from './demo-orders.ts';

const WISHES = 20_000;

/** What a seed does in a market where every order rests. */
function wishesOf(seed: number): DemoWish[] {
  const orders = new DemoOrders(seed);
  return Array.from({ length: WISHES }, (_, index) => {
    const wish = orders.next();
    if (wish.type === 'enter' && wish.timeInForce === 'gtc') orders.rests(index + 1);
    return wish;
  });
}

test('a seed always wishes the same, another one something else', () => {
  assert.deepEqual(wishesOf(7), wishesOf(7));
  assert.notDeepEqual(wishesOf(7), wishesOf(8));
});

test('prices and quantities are valid, and the orders at rest do not grow for ever', () => {
  const wishes = wishesOf(1);
  const entered = wishes.filter((wish) => wish.type === 'enter');
  assert.ok(entered.every(({ priceTicks, quantityLots }) => priceTicks > 0 && quantityLots > 0));
  const resting =
    entered.filter(({ timeInForce }) => timeInForce === 'gtc').length -
    wishes.filter(({ type }) => type === 'cancel').length;
  assert.ok(resting > 50 && resting < 800, `${resting} at rest`);
});

test('an order is cancelled once', () => {
  const cancelled = wishesOf(2).flatMap((wish) => (wish.type === 'cancel' ? [wish.orderId] : []));
  assert.equal(new Set(cancelled).size, cancelled.length);
});
