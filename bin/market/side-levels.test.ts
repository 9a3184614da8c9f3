import assert from 'node:assert/strict';
import { test } from 'node:test';
import { OrderBook } from '../../actors/exchange/order-book.ts';
import { ASK, BID, DAY, LIMIT, OPENING_CALL, OrderEvents } from '../../actors/exchange/order-book-events.ts';
import { indicativeOf, SideLevels } from './side-levels.ts';

const ROUNDS = 300;
const PRICES = 40;

/** A seeded generator: xorshift, 32 bits. */
function drawsOf(seed: number): (below: number) => number {
  let state = seed || 1;
  return (below) => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) % below;
  };
}

test('levels stay in order through any changes', () => {
  const seed = Date.now() & 0x7fffffff;
  console.log(`seed ${seed}`);
  const draw = drawsOf(seed);
  for (const side of ['bid', 'ask'] as const) {
    const levels = new SideLevels(side);
    const plain = new Map<number, number>();
    for (let round = 0; round < ROUNDS; round++) {
      const [price, lots] = [1 + draw(PRICES), draw(3)];
      levels.set(price, lots);
      if (lots === 0) plain.delete(price);
      else plain.set(price, lots);
      const expected = [...plain].sort(([a], [b]) => (side === 'bid' ? b - a : a - b)).slice(0, 10);
      assert.deepEqual(
        levels.best(10).map(({ priceTicks, quantityLots }) => [priceTicks, quantityLots]),
        expected,
      );
    }
  }
});

test('the indicative price is that of the engine, which was written apart', () => {
  const seed = Date.now() & 0x7fffffff;
  console.log(`seed ${seed}`);
  const draw = drawsOf(seed);
  for (let round = 0; round < ROUNDS; round++) {
    const [bids, asks] = [new SideLevels('bid'), new SideLevels('ask')];
    const book = new OrderBook(new OrderEvents());
    book.setPhase(OPENING_CALL);
    for (let order = 1; order <= 1 + draw(30); order++) {
      const [isBid, price, lots] = [draw(2) === 0, 1 + draw(PRICES), 1 + draw(5)];
      const levels = isBid ? bids : asks;
      levels.set(price, levels.lotsAt(price) + lots);
      assert.equal(book.enter(1, order, isBid ? BID : ASK, LIMIT, DAY, price, lots), undefined);
    }
    assert.deepEqual({ ...indicativeOf(bids, asks) }, { ...book.indicative() }, `round ${round}`);
  }
});
