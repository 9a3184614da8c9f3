import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { ProtocolError } from './errors.ts';
import { MAX_RECORD } from './frame.ts';
import {
  MAX_PRINCIPAL_BYTES,
  MAX_REF_BYTES,
  RECORD_HEADER,
  type RecordFields,
  RecordReader,
  recordLength,
  writeRecord,
} from './record.ts';

const u32 = fc.integer({ min: 0, max: 0xffffffff });

const anyRecord: fc.Arbitrary<RecordFields> = fc.record({
  flags: fc.constantFrom(0, 1, 2, 3),
  ref: fc.uint8Array({ minLength: 3, maxLength: MAX_REF_BYTES }),
  principal: fc.uint8Array({ maxLength: MAX_PRINCIPAL_BYTES }),
  commandId: u32,
  number: u32,
  low: u32,
  slot: u32,
  session: fc.uint8Array({ minLength: 16, maxLength: 16 }),
  body: fc.uint8Array({ maxLength: 200 }),
});

function write(records: readonly RecordFields[], before = 0, behind = 0): Uint8Array {
  const length = records.reduce(
    (sum, { ref, principal, body }) => sum + recordLength(ref.length, principal.length, body.length),
    before + behind,
  );
  const bytes = new Uint8Array(length).fill(0xee);
  let offset = before;
  for (const record of records) offset = writeRecord(bytes, offset, record);
  assert.equal(offset, length - behind);
  return bytes;
}

function current(reader: RecordReader): RecordFields {
  const { bytes, flags, commandId, number, low, slot } = reader;
  return {
    flags,
    ref: bytes.slice(reader.refStart, reader.refEnd),
    principal: bytes.slice(reader.refEnd, reader.principalEnd),
    commandId,
    number,
    low,
    slot,
    session: bytes.slice(reader.sessionStart, reader.sessionStart + 16),
    body: bytes.slice(reader.bodyStart, reader.bodyEnd),
  };
}

test('what was written is read, in order, wherever it lies', () => {
  const reader = new RecordReader();
  fc.assert(
    fc.property(fc.array(anyRecord, { maxLength: 5 }), fc.nat(9), fc.nat(9), (records, before, behind) => {
      const bytes = write(records, before, behind);
      reader.reset(bytes, before, bytes.length - behind);
      for (const [index, record] of records.entries()) {
        assert.ok(reader.next());
        assert.equal(reader.index, index);
        assert.deepEqual(current(reader), { ...record });
      }
      assert.equal(reader.next(), false);
      assert.equal(reader.index, records.length - 1);
    }),
  );
});

const sample: RecordFields = {
  flags: 0,
  ref: new TextEncoder().encode('a:b'),
  principal: new TextEncoder().encode('u'),
  commandId: 1,
  number: 1,
  low: 1,
  slot: 1,
  session: new Uint8Array(16),
  body: new Uint8Array([0x90]),
};

const malformed = (error: unknown) => error instanceof ProtocolError && error.code === 'malformed_frame';

function readAll(bytes: Uint8Array, start = 0, end = bytes.length): number {
  const reader = new RecordReader();
  reader.reset(bytes, start, end);
  while (reader.next()) {
    assert.ok(reader.bodyEnd <= end && reader.bodyStart <= reader.bodyEnd && reader.refEnd <= reader.principalEnd);
  }
  return reader.index + 1;
}

test('every cut is refused', () => {
  const bytes = write([sample, sample]);
  const first = bytes.length / 2;
  for (let end = 1; end < bytes.length; end++) {
    if (end !== first) assert.throws(() => readAll(bytes, 0, end), malformed, `cut at ${end}`);
  }
  assert.equal(readAll(bytes, 0, first), 1);
});

const spoilt = (spoil: (bytes: Uint8Array) => void): Uint8Array => {
  const bytes = write([sample]);
  spoil(bytes);
  return bytes;
};

for (const [what, spoil] of Object.entries({
  'length 0': (bytes: Uint8Array) => bytes.fill(0, 0, 4),
  'length below header, ref and principal': (bytes: Uint8Array) => bytes.set([RECORD_HEADER + 3], 0),
  'length past the end': (bytes: Uint8Array) => bytes.set([bytes.length + 1], 0),
  'length of 4 GiB': (bytes: Uint8Array) => bytes.fill(255, 0, 4),
  'no reference': (bytes: Uint8Array) => bytes.set([0], 5),
  'long principal': (bytes: Uint8Array) => bytes.set([255], 6),
  'unknown flag': (bytes: Uint8Array) => bytes.set([4], 4),
  'reserved byte': (bytes: Uint8Array) => bytes.set([1], 7),
})) {
  test(`refused: ${what}`, () => assert.throws(() => readAll(spoilt(spoil)), malformed));
}

test('random and mutated bytes give records within bounds, or malformed_frame', () => {
  const bytes = write([sample, sample, sample]);
  const mutation = fc.tuple(fc.nat(bytes.length - 1), fc.nat(255));
  fc.assert(
    fc.property(fc.array(mutation, { minLength: 1, maxLength: 4 }), (mutations) => {
      const hostile = bytes.slice();
      for (const [at, value] of mutations) hostile[at] = value;
      try {
        readAll(hostile);
      } catch (error) {
        assert.ok(malformed(error), String(error));
      }
    }),
    { numRuns: 20_000 },
  );
});

test('a writer refuses what the reader would', () => {
  const target = new Uint8Array(MAX_RECORD + 100);
  const code = (name: string) => (error: unknown) => error instanceof ProtocolError && error.code === name;
  assert.throws(
    () => writeRecord(target, 0, { ...sample, body: new Uint8Array(MAX_RECORD) }),
    code('payload_too_large'),
  );
  assert.throws(() => writeRecord(target, 0, { ...sample, ref: new Uint8Array(162) }), code('invalid_reference'));
  assert.throws(() => writeRecord(target, 0, { ...sample, principal: new Uint8Array(129) }), RangeError);
  assert.throws(() => writeRecord(target, 0, { ...sample, session: new Uint8Array(15) }), RangeError);
  assert.throws(() => writeRecord(target, 0, { ...sample, number: -1 }), RangeError);
  assert.throws(() => writeRecord(target, 0, { ...sample, flags: 4 }), RangeError);
  assert.throws(() => writeRecord(target, target.length - 44, sample), RangeError);
});
