import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import type { Entry, RangeOptions, Space } from './checkpoint.ts';
import { MemoryCheckpoints } from './memory-checkpoints.ts';
import { Overlay } from './overlay.ts';

const SPACES = ['row', 'timer'] as const;
const START = new Uint8Array(0);
const keyOf = (n: number): Uint8Array => Uint8Array.of(n & 7, 250 + (n >>> 6), n >>> 3);
const valueFor = (n: number): Uint8Array => Uint8Array.of(n, n >>> 8);
const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');

/** What an overlay means: one sorted map per space. */
class Model {
  readonly #spaces = new Map<Space, Map<string, Uint8Array>>(SPACES.map((space) => [space, new Map()]));

  put(space: Space, key: Uint8Array, value: Uint8Array): void {
    this.#spaces.get(space)!.set(hex(key), value);
  }

  delete(space: Space, key: Uint8Array): void {
    this.#spaces.get(space)!.delete(hex(key));
  }

  get(space: Space, key: Uint8Array): Uint8Array | undefined {
    return this.#spaces.get(space)!.get(hex(key));
  }

  range(space: Space, from: Uint8Array, to: Uint8Array | undefined, { reverse, limit }: RangeOptions): string[] {
    const keys = [...this.#spaces.get(space)!.keys()]
      .filter((key) => key >= hex(from) && (!to || key < hex(to)))
      .sort();
    if (reverse) keys.reverse();
    return keys.slice(0, limit).map((key) => `${key}=${hex(this.#spaces.get(space)!.get(key)!)}`);
  }
}

const KEYS = 512;
const key = fc.integer({ min: 0, max: KEYS - 1 });
const space = fc.constantFrom(...SPACES);
const step = fc.oneof(
  { weight: 6, arbitrary: fc.record({ do: fc.constant('put' as const), space, key, value: fc.nat(60_000) }) },
  { weight: 4, arbitrary: fc.record({ do: fc.constant('delete' as const), space, key }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('fill' as const), space, key, value: fc.nat(60_000) }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('eat' as const), space, key, count: fc.nat(120) }) },
  {
    weight: 6,
    arbitrary: fc.record({
      do: fc.constant('range' as const),
      space,
      from: fc.option(key, { nil: undefined, freq: 2 }),
      to: fc.option(key, { nil: undefined }),
      options: fc.record({ reverse: fc.boolean(), limit: fc.nat(5) }, { requiredKeys: [] }),
    }),
  },
  { weight: 3, arbitrary: fc.record({ do: fc.constantFrom('freeze' as const, 'commit' as const, 'fail' as const) }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('reopen' as const) }) },
);

const show = (entries: Iterable<Entry>): string[] => [...entries].map(([key, value]) => `${hex(key)}=${hex(value)}`);

test('an overlay over a store equals one sorted map, whatever is frozen, committed or restored', async () => {
  const property = fc.asyncProperty(fc.array(step, { maxLength: 200, size: 'max' }), async (steps) => {
    const checkpoints = new MemoryCheckpoints();
    let store = await checkpoints.open('main-0');
    let overlay = new Overlay(store);
    const model = new Model();
    let isFrozen = false;
    const settle = async (succeeds: boolean): Promise<void> => {
      if (!isFrozen) return;
      if (succeeds) await store.commit(overlay.takeFrozen());
      if (succeeds) overlay.release();
      else overlay.restore();
      isFrozen = false;
    };
    const put = (space: Space, n: number, value: Uint8Array): void => {
      overlay.put(space, keyOf(n), value);
      model.put(space, keyOf(n), value);
    };
    for (const act of steps) {
      switch (act.do) {
        case 'put':
          put(act.space, act.key, valueFor(act.value));
          break;
        case 'fill':
          for (let n = 0; n < 90; n++) put(act.space, (act.key + n * 8) % KEYS, valueFor(act.value + n));
          break;
        case 'delete':
          overlay.delete(act.space, keyOf(act.key));
          model.delete(act.space, keyOf(act.key));
          break;
        case 'eat': {
          const eaten = [...overlay.range(act.space, START, keyOf(act.key), { limit: act.count })];
          assert.equal(eaten.length, model.range(act.space, START, keyOf(act.key), { limit: act.count }).length);
          for (const [key] of eaten) {
            overlay.delete(act.space, key);
            model.delete(act.space, key);
          }
          break;
        }
        case 'range': {
          const from = act.from === undefined ? START : keyOf(act.from);
          const to = act.to === undefined ? undefined : keyOf(act.to);
          const found = show(overlay.range(act.space, from, to, act.options));
          assert.deepEqual(found, model.range(act.space, from, to, act.options));
          break;
        }
        case 'freeze':
          if (!isFrozen) overlay.freeze();
          isFrozen = true;
          break;
        case 'commit':
        case 'fail':
          await settle(act.do === 'commit');
          break;
        case 'reopen':
          await settle(true);
          overlay.freeze();
          isFrozen = true;
          await settle(true);
          assert.deepEqual(overlay.pending, { changes: 0, bytes: 0 });
          await store.close();
          store = await checkpoints.open('main-0');
          overlay = new Overlay(store);
      }
    }
    for (const space of SPACES) {
      assert.deepEqual(show(overlay.range(space, START)), model.range(space, START, undefined, {}));
      for (let n = 0; n < KEYS; n += 7) assert.deepEqual(overlay.get(space, keyOf(n)), model.get(space, keyOf(n)));
    }
  });
  await fc.assert(property, { numRuns: 150 });
});

async function freshOverlay(): Promise<{ overlay: Overlay; commit(): Promise<void> }> {
  const store = await new MemoryCheckpoints().open('main-0');
  const overlay = new Overlay(store);
  const commit = async (): Promise<void> => {
    overlay.freeze();
    await store.commit(overlay.takeFrozen());
    overlay.release();
  };
  return { overlay, commit };
}

test('what is put and deleted in one generation leaves nothing to commit', async () => {
  const { overlay } = await freshOverlay();
  overlay.put('timer', keyOf(1), valueFor(1));
  assert.deepEqual(overlay.pending, { changes: 1, bytes: 5 });
  overlay.delete('timer', keyOf(1));
  overlay.delete('timer', keyOf(2));
  assert.deepEqual(overlay.pending, { changes: 0, bytes: 0 });
  overlay.freeze();
  assert.deepEqual([...overlay.takeFrozen()], []);
});

test('frozen changes are counted, given anew at each iteration, and only once frozen', async () => {
  const { overlay } = await freshOverlay();
  overlay.put('row', keyOf(1), valueFor(1));
  overlay.freeze();
  overlay.put('row', keyOf(1), valueFor(2));
  assert.deepEqual(overlay.frozen, { changes: 1, bytes: 5 });
  const expected = [{ space: 'row', key: keyOf(1), value: valueFor(1) }];
  assert.deepEqual([...overlay.takeFrozen()], expected);
  assert.deepEqual([...overlay.takeFrozen()], expected);
  assert.throws(() => overlay.freeze(), /frozen/);
  overlay.restore();
  assert.deepEqual(overlay.get('row', keyOf(1)), valueFor(2));
  assert.deepEqual(overlay.pending, { changes: 1, bytes: 5 });
});

test('a range goes on while what is ahead and behind of it is changed', async () => {
  for (const reverse of [false, true]) {
    const { overlay, commit } = await freshOverlay();
    for (let n = 0; n < 8; n += 2) overlay.put('row', keyOf(n), valueFor(n));
    await commit();
    overlay.put('row', keyOf(1), valueFor(1));
    const seen: number[] = [];
    for (const [key] of overlay.range('row', START, undefined, { reverse })) {
      seen.push(key[0]!);
      overlay.delete('row', key);
      if (seen.length === 1) overlay.put('row', keyOf(5), valueFor(5));
      if (seen.length === 2) overlay.put('row', keyOf(reverse ? 7 : 0), valueFor(9)); // Behind: not seen.
    }
    assert.deepEqual(seen, reverse ? [6, 5, 4, 2, 1, 0] : [0, 1, 2, 4, 5, 6]);
    assert.equal([...overlay.range('row', START)].length, 1);
  }
});

test('a queue of stored rows is eaten from its head in about linear time', async () => {
  const { overlay, commit } = await freshOverlay();
  const rows = 10_000;
  const at = (n: number): Uint8Array => Uint8Array.of(n >>> 16, n >>> 8, n);
  for (let n = 0; n < rows; n++) overlay.put('timer', at(n), valueFor(n));
  await commit();
  const started = performance.now();
  for (let n = 0; n < rows; n++) {
    const [entry] = overlay.range('timer', START, undefined, { limit: 1 });
    assert.deepEqual(entry![0], at(n));
    overlay.delete('timer', entry![0]);
  }
  assert.deepEqual([...overlay.range('timer', START)], []);
  assert.ok(performance.now() - started < 5_000, `${performance.now() - started} ms`); // Quadratic: half a minute; as it is, 0.2 s.
});

test('200,000 pending rows with a short range after each put are not quadratic', async () => {
  const { overlay } = await freshOverlay();
  const rows = 200_000;
  const key = new Uint8Array(12);
  const view = new DataView(key.buffer);
  const started = performance.now();
  let found = 0;
  for (let n = 0; n < rows; n++) {
    view.setUint32(0, Math.imul(n, 0x9e3779b1) >>> 0);
    overlay.put('row', key, START);
    for (const _ of overlay.range('row', key, undefined, { limit: 3 })) found++;
  }
  const tookMs = performance.now() - started;
  assert.ok(found > rows * 2);
  assert.ok(tookMs < 15_000, `${tookMs} ms`); // About 1,000 ms alone on two cores; a sorted array takes minutes.
});
