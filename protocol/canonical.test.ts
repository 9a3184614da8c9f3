import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { decodeState, encodeState } from './canonical.ts';
import { ProtocolError } from './errors.ts';
import { generateHostile, seededRandom } from './fuzz.ts';

const FUZZ_MS = 1_500;

const refused = (field?: string) => (error: unknown) => {
  assert.ok(error instanceof ProtocolError, String(error));
  assert.equal(error.code, 'invalid_state');
  assert.equal(error.field, field, error.message);
  return true;
};

const anyNumber = fc.oneof(
  fc.maxSafeInteger().map((value) => value + 0),
  fc.integer({ min: -70_000, max: 70_000 }),
  fc.constantFrom(
    127,
    128,
    255,
    256,
    65_535,
    65_536,
    2 ** 31,
    2 ** 32 - 1,
    2 ** 32,
    -32,
    -33,
    -128,
    -129,
    -32_768,
    -32_769,
  ),
  fc.constantFrom(-(2 ** 31), -(2 ** 31) - 1, 2 ** 53 - 1, -(2 ** 53 - 1), 5e-324, 0.1),
  fc.double({ noNaN: true, noDefaultInfinity: true }).filter((value) => !Number.isInteger(value)),
);
const anyText = fc.string({ unit: 'grapheme', maxLength: 40 });
const anyScalar = fc.oneof(fc.constantFrom(null, true, false), anyNumber, anyText);
const anyKey = anyText.filter((key) => !/^\d+$/.test(key) && key !== '__proto__');
const anyState = fc.letrec((tie) => ({
  value: fc.oneof(
    { maxDepth: 5 },
    anyScalar,
    fc.uint8Array({ maxLength: 40 }),
    fc.array(tie('value'), { maxLength: 20 }),
    fc.dictionary(anyKey, tie('value'), { maxKeys: 20, noNullPrototype: true }),
    fc.array(fc.tuple(anyScalar, tie('value')), { maxLength: 20 }).map((entries) => new Map(entries)),
  ),
})).value;

/** deepEqual does not see the order of keys; this does. */
function ordered(value: unknown): unknown {
  if (value instanceof Map) return ['Map', ...Array.from(value, ([key, item]) => [key, ordered(item)])];
  if (Array.isArray(value)) return value.map(ordered);
  if (value instanceof Uint8Array) return ['bytes', ...value];
  if (typeof value === 'object' && value !== null)
    return ['object', ...Object.entries(value).map(([k, v]) => [k, ordered(v)])];
  return value;
}

test('what is encoded comes back exactly, with the order of keys, and encodes to the same bytes', () => {
  fc.assert(
    fc.property(anyState, (state) => {
      const bytes = encodeState(state);
      const back = decodeState(bytes);
      assert.deepEqual(back, state);
      assert.deepEqual(ordered(back), ordered(state));
      assert.deepEqual(encodeState(back), bytes);
      assert.deepEqual(encodeState(structuredClone(state)), bytes);
    }),
    { numRuns: 1_000 },
  );
});

test('different values have different bytes', () => {
  fc.assert(
    fc.property(anyState, anyState, (one, other) => {
      const same = Buffer.compare(encodeState(one), encodeState(other)) === 0;
      assert.equal(same, JSON.stringify(ordered(one)) === JSON.stringify(ordered(other)));
    }),
  );
  assert.notDeepEqual(encodeState({}), encodeState(new Map()));
  assert.notDeepEqual(encodeState([]), encodeState(new Map()));
  assert.notDeepEqual(encodeState({ a: 1, b: 2 }), encodeState({ b: 2, a: 1 }));
});

class Instance {
  x = 1;
}
const cycle: { self?: unknown } = {};
cycle.self = { again: cycle };

for (const [what, value, field] of [
  ['undefined', { a: undefined }, 'a'],
  ['NaN', [1, Number.NaN], '[1]'],
  ['Infinity', { a: [{ b: -Infinity }] }, 'a[0].b'],
  ['-0', { a: -0 }, 'a'],
  ['2^53', 2 ** 53, undefined],
  ['a large double', 1e300, undefined],
  ['a bigint', 1n, undefined],
  ['a function', { f: () => 1 }, 'f'],
  ['a symbol', Symbol('x'), undefined],
  ['an instance', { a: new Instance() }, 'a'],
  ['a Date', new Date(0), undefined],
  ['a Set', new Set([1]), undefined],
  ['a Buffer', Buffer.from('x'), undefined],
  ['another typed array', new Uint16Array(1), undefined],
  ['no prototype', Object.create(null), undefined],
  ['a lone surrogate', { a: '\udc00' }, 'a'],
  ['a lone surrogate in a long text', `${'x'.repeat(100)}\ud800`, undefined],
  ['an integer-like key', { 7: 1 }, undefined],
  ['__proto__', JSON.parse('{"__proto__": 1}'), undefined],
  ['a hole', { a: new Array(1) }, 'a[0]'],
  ['an object as key of a Map', new Map([[{}, 1]]), undefined],
  ['a wrong value in a Map', { m: new Map([['k', -0]]) }, 'm["k"]'],
] as const) {
  test(`refused: ${what}`, () => assert.throws(() => encodeState(value), refused(field)));
}

test('cycles and depth are refused; 64 levels pass', () => {
  assert.throws(() => encodeState(cycle), /64 levels/);
  let deep: unknown = 1;
  for (let i = 0; i < 64; i++) deep = i % 2 ? [deep] : new Map([[0, deep]]);
  assert.deepEqual(decodeState(encodeState(deep)), deep);
  assert.throws(() => encodeState([deep]), ProtocolError);
  const bytes = Uint8Array.of(...Array.from({ length: 65 }, () => 0x91), 0xc0);
  assert.throws(() => decodeState(bytes), refused());
  assert.throws(() => decodeState(new Uint8Array(1_000_000).fill(0x91)), refused());
});

test('an object there twice is refused on request', () => {
  const shared = { price: 1 };
  const state = { one: shared, other: [shared] };
  assert.throws(() => encodeState(state, { refuseShared: true }), refused('other[0]'));
  assert.deepEqual(decodeState(encodeState(state)), state);
});

for (const [hex, what] of [
  ['', 'nothing'],
  ['c0c0', 'bytes behind'],
  ['cc05', 'an integer longer than needed'],
  ['d005', 'a natural number in a signed form'],
  ['d200011170', 'a natural number in a signed form of equal length'],
  ['d0ff', 'a negative integer longer than needed'],
  ['cb4014000000000000', 'an integer as double'],
  ['cb8000000000000000', '-0'],
  ['cb7ff8000000000000', 'NaN'],
  ['d90161', 'a text header longer than needed'],
  ['da000161', 'a text header longer than needed'],
  ['c5000100', 'a bin header longer than needed'],
  ['dc0000', 'an array header longer than needed'],
  ['de0000', 'a map header longer than needed'],
  ['82a16101a16101', 'a key there twice'],
  ['81a13701', 'an integer-like key'],
  ['810101', 'a key that is no text'],
  ['92d4010001', 'a Map with a key and no value'],
  ['91d40101', 'another extension'],
  ['d40100', 'the mark of a Map alone'],
  ['95d40100a16101a16101', 'a key of a Map there twice'],
  ['93d401009001', 'an array as key of a Map'],
  ['a1ff', 'no UTF-8'],
  ['ddffffffff', 'items that are not there'],
] as const) {
  test(`not decoded: ${what} (${hex})`, () => assert.throws(() => decodeState(Buffer.from(hex, 'hex')), refused()));
}

test('mutated bytes: refused, or they encode to themselves', (t) => {
  const seed = Number(process.env.SEED ?? Date.now() % 2 ** 32);
  const random = seededRandom(seed);
  const valid = encodeState({
    a: [1, -200, 2 ** 40, 0.5],
    m: new Map<unknown, unknown>([
      [1, 'x'],
      ['k', new Uint8Array(4)],
    ]),
  });
  let inputs = 0;
  let accepted = 0;
  for (const end = performance.now() + FUZZ_MS; performance.now() < end; ) {
    for (let i = 0; i < 500; i++, inputs++) {
      const bytes = generateHostile(random, valid);
      const state = decodeOrRefuse(bytes);
      if (state === REFUSED) continue;
      accepted++;
      assert.deepEqual(encodeState(state), bytes, `seed ${seed}, bytes ${Buffer.from(bytes).toString('hex')}`);
    }
  }
  t.diagnostic(`seed ${seed}: ${inputs} inputs, ${accepted} accepted`);
  assert.ok(accepted > 0);
});

const REFUSED = Symbol('refused');

function decodeOrRefuse(bytes: Uint8Array): unknown {
  try {
    return decodeState(bytes);
  } catch (error) {
    assert.ok(error instanceof ProtocolError && error.code === 'invalid_state', String(error));
    return REFUSED;
  }
}
