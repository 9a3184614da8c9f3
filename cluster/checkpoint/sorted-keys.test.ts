import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { type Cursor, SortedKeys } from './sorted-keys.ts';

function all(cursor: Cursor): string[] {
  const keys: string[] = [];
  for (let key = cursor.peek(); key !== undefined; key = cursor.peek()) {
    keys.push(key);
    cursor.pass(key);
  }
  return keys;
}

const key = fc.integer({ min: 0, max: 3_000 }).map((n) => n.toString(36));

test('sorted keys equal a sorted set, through blocks that split and empty', () => {
  const step = fc.record({
    add: fc.boolean(),
    from: fc.nat(3_000),
    count: fc.nat(700),
    by: fc.integer({ min: 1, max: 5 }),
  });
  const property = fc.property(fc.array(key), fc.array(step, { maxLength: 12 }), key, key, (first, steps, from, to) => {
    const model = new Set(first);
    const keys = SortedKeys.of([...model]);
    for (const { add, from, count, by } of steps) {
      for (let n = from; n < from + count * by; n += by) {
        const key = n.toString(36);
        assert.equal(add ? keys.add(key) : keys.delete(key), add ? !model.has(key) : model.has(key));
        if (add) model.add(key);
        else model.delete(key);
      }
    }
    const sorted = [...model].sort();
    assert.equal(keys.size, sorted.length);
    assert.deepEqual(all(keys.cursor('', undefined, false)), sorted);
    assert.deepEqual(all(keys.cursor('', undefined, true)), sorted.toReversed());
    const inside = sorted.filter((key) => key >= from && key < to);
    assert.deepEqual(all(keys.cursor(from, to, false)), inside);
    assert.deepEqual(all(keys.cursor(from, to, true)), inside.toReversed());
  });
  fc.assert(property, { numRuns: 100 });
});

test('a cursor goes on behind the last key passed when keys come and go', () => {
  const keys = SortedKeys.of(['b', 'd', 'f']);
  const cursor = keys.cursor('', undefined, false);
  assert.equal(cursor.peek(), 'b');
  keys.add('a');
  assert.equal(cursor.peek(), 'a');
  cursor.pass('c');
  keys.add('c');
  keys.delete('d');
  keys.add('e');
  assert.deepEqual(all(cursor), ['e', 'f']);
});
