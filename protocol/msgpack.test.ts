import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { ProtocolError } from './errors.ts';
import { generateHostile, seededRandom } from './fuzz.ts';
import { DEFAULT_LIMITS, pack, scan, unpack } from './msgpack.ts';

const refused = (code: string) => (error: unknown) => error instanceof ProtocolError && error.code === code;
const hex = (text: string): Uint8Array => Uint8Array.from(Buffer.from(text, 'hex'));

const FUZZ_MS = 2_000; // Of the long fuzz run.

const anyKey = fc.string({ maxLength: 6 }).filter((key) => !['__proto__', 'constructor', 'prototype'].includes(key));
const anyPlain = fc.letrec((tie) => ({
  value: fc.oneof(
    { maxDepth: 4 },
    fc.constantFrom(null, true, false),
    fc.maxSafeInteger(),
    fc.double({ noNaN: true, noDefaultInfinity: true }).filter((x) => !Number.isInteger(x)),
    fc.string({ unit: 'grapheme', maxLength: 40 }),
    fc.uint8Array({ maxLength: 40 }),
    fc.array(tie('value'), { maxLength: 20 }),
    fc.dictionary(anyKey, tie('value'), { maxKeys: 20, noNullPrototype: true }),
  ),
})).value;

test('what pack writes, scan passes and unpack gives back', () => {
  fc.assert(
    fc.property(anyPlain, fc.nat(9), (value, before) => {
      const packed = pack(value);
      const around = new Uint8Array(packed.length + before + 3).fill(0xc1);
      around.set(packed, before);
      assert.equal(scan(around, before), before + packed.length);
      assert.deepEqual(unpack(around, before, before + packed.length), value);
    }),
  );
});

for (const [bytes, code, what] of [
  ['', 'malformed_message', 'nothing'],
  ['c1', 'malformed_message', 'the unused tag'],
  ['ddffffffff', 'malformed_message', 'an array of 4 billion items and none there'],
  ['dfffffffff', 'malformed_message', 'a map of 4 billion entries and none there'],
  ['df0000000201', 'malformed_message', 'a map with room for half of it'],
  ['dbffffffff', 'malformed_message', 'a text of 4 GB and nothing there'],
  ['c6ffffffff', 'malformed_message', 'a bin of 4 GB and nothing there'],
  ['d40100', 'malformed_message', 'an extension'],
  ['d6ff00000000', 'malformed_message', 'a timestamp'],
  ['c70001', 'malformed_message', 'an empty extension'],
  ['ca3f800000', 'malformed_message', 'a float32'],
  ['9201', 'malformed_message', 'an array cut off'],
  ['cd00', 'malformed_message', 'an integer cut off'],
  ['cb00', 'malformed_message', 'a double cut off'],
  ['cb7ff8000000000000', 'malformed_message', 'NaN'],
  ['cb8000000000000000', 'malformed_message', '-0'],
  ['a2c3', 'malformed_message', 'a text cut off'],
  ['a1ff', 'malformed_message', 'a text that is not UTF-8'],
  ['cf0020000000000000', 'malformed_message', 'an integer beyond 2^53'],
  ['810101', 'malformed_message', 'a key that is no text'],
  ['82a16101a16102', 'malformed_message', 'a key there twice'],
  ['81a95f5f70726f746f5f5f01', 'malformed_message', '__proto__'],
  ['81ab636f6e7374727563746f7201', 'malformed_message', 'constructor'],
  [`${'91'.repeat(17)}c0`, 'too_deep', '17 levels'],
  ['91'.repeat(100_000), 'too_deep', '100,000 levels'],
] as const) {
  test(`refused: ${what}`, () => {
    assert.throws(() => scan(hex(bytes)), refused(code));
    assert.throws(() => unpack(hex(bytes)), refused(code));
  });
}

test('limits name what is too large', () => {
  const limits = { ...DEFAULT_LIMITS, maxItems: 2, maxBytes: 3 };
  for (const value of [[1, 2, 3], { a: 1, b: 2, c: 3 }, 'abcd', new Uint8Array(4), { abcd: 1 }]) {
    assert.throws(() => scan(pack(value), 0, limits), refused('payload_too_large'));
  }
  assert.equal(scan(pack(['abc', 1]), 0, limits), 6);
});

test('16 levels pass; what follows is the business of the caller', () => {
  assert.equal(scan(hex(`${'91'.repeat(16)}c0c0`)), 17);
  assert.throws(() => unpack(hex('c0c0')), refused('malformed_message'));
  assert.throws(() => scan(hex('9201'), 0, DEFAULT_LIMITS, 2), refused('malformed_message'));
});

test('bytes are copies', () => {
  const packed = Buffer.from(pack([Uint8Array.of(1, 2, 3)]));
  const [raw] = unpack(packed) as [Uint8Array];
  packed.fill(0);
  assert.deepEqual([...raw], [1, 2, 3]);
});

const valid = pack({
  a: [1, -1, 2 ** 40, 1.5, 'é', new Uint8Array(5)],
  b: { c: null, d: [[[true]]] },
  e: 'x'.repeat(50),
});
const seed = Number(process.env.SEED ?? Date.now() % 2 ** 32);

test('mutated bytes: refused by name, or consistent', (t) => {
  const random = seededRandom(seed);
  let accepted = 0;
  for (let i = 0; i < 20_000; i++) accepted += isConsistent(generateHostile(random, valid)) ? 1 : 0;
  t.diagnostic(`seed ${seed}: ${accepted} of 20,000 accepted`);
  assert.ok(accepted > 0 && accepted < 20_000);
});

function isConsistent(bytes: Uint8Array): boolean {
  try {
    const end = scan(bytes);
    assert.ok(end > 0 && end <= bytes.length);
    const value = unpack(bytes, 0, end);
    assert.deepEqual(unpack(pack(value)), value);
    return true;
  } catch (error) {
    if (error instanceof ProtocolError) return false;
    throw new Error(`seed ${seed}, bytes ${Buffer.from(bytes).toString('hex')}`, { cause: error });
  }
}

test('hundreds of thousands of spoilt and random bytes: no crash, no hang, no wild allocation', (t) => {
  const random = seededRandom(seed);
  const scratch = new Uint8Array(valid.length);
  const stackFrames = Error.stackTraceLimit;
  Error.stackTraceLimit = 0; // Taking stacks would be nine tenths of the time.
  const heapBefore = process.memoryUsage().heapUsed;
  let inputs = 0;
  let slowestMs = 0;
  for (const end = performance.now() + FUZZ_MS; performance.now() < end; ) {
    const startedAt = performance.now();
    for (let i = 0; i < 1_000; i++, inputs++) scanSpoilt(random, scratch);
    slowestMs = Math.max(slowestMs, performance.now() - startedAt);
  }
  Error.stackTraceLimit = stackFrames;
  const heapMb = (process.memoryUsage().heapUsed - heapBefore) / 2 ** 20;
  t.diagnostic(
    `seed ${seed}: ${inputs} inputs, slowest 1,000 in ${slowestMs.toFixed(1)} ms, heap grew by ${heapMb.toFixed(1)} MB`,
  );
  assert.ok(inputs > 50_000);
  assert.ok(heapMb < 200);
});

function scanSpoilt(random: () => number, scratch: Uint8Array): void {
  if (random() < 0.3) for (let i = 0; i < scratch.length; i++) scratch[i] = random() * 256;
  else scratch.set(valid);
  for (let left = random() * 4; left > 0; left--) scratch[Math.floor(random() * scratch.length)] = random() * 256;
  try {
    scan(scratch, 0, DEFAULT_LIMITS, Math.ceil(random() * scratch.length));
  } catch (error) {
    assert.ok(error instanceof ProtocolError, `seed ${seed}, bytes ${Buffer.from(scratch).toString('hex')}`);
  }
}
