import assert from 'node:assert/strict';
import { test } from 'node:test';
import { crc32 as zlibCrc32 } from 'node:zlib';
import fc from 'fast-check';
import { ProtocolError } from './errors.ts';
import {
  encodeFrame,
  FRAME_COMMANDS,
  FRAME_HEADER,
  FRAME_SENDS,
  type FrameType,
  readFrame,
  writeFrameHeader,
} from './frame.ts';

const fields = { incarnation: 2 ** 53 - 1, frameNumber: 2 ** 32 + 7, generation: 3 };
const body = new Uint8Array([1, 2, 3, 4, 5]);
const refused = (code: string) => (error: unknown) => error instanceof ProtocolError && error.code === code;

test('what was written is read', () => {
  const safe = fc.maxSafeNat();
  const anyFields = fc.record({ incarnation: safe, frameNumber: safe, generation: fc.nat(0xffffffff) });
  const type = fc.constantFrom<FrameType>(1, 2, 3, 4);
  const records = fc.array(fc.uint8Array({ maxLength: 40 }), { maxLength: 5 });
  fc.assert(
    fc.property(type, anyFields, records, (type, fields, records) => {
      const bytes = encodeFrame(type, fields, records);
      const bodyEnd = FRAME_HEADER + records.reduce((sum, { length }) => sum + length, 0);
      const expected = { ...fields, type, version: 1, recordCount: records.length, bodyStart: FRAME_HEADER, bodyEnd };
      assert.deepEqual(readFrame(bytes), expected);
      assert.deepEqual(readFrame(bytes, zlibCrc32), expected);
    }),
  );
});

test('separate records, a block of them and a header in a larger buffer give the same bytes', () => {
  const separate = encodeFrame(FRAME_SENDS, fields, [body.subarray(0, 2), body.subarray(2)]);
  assert.deepEqual(encodeFrame(FRAME_SENDS, fields, { body, count: 2 }, zlibCrc32), separate);
  const target = new Uint8Array(100).fill(0xee);
  target.set(body, FRAME_HEADER);
  writeFrameHeader(target, { ...fields, type: FRAME_SENDS, totalLength: FRAME_HEADER + 5, recordCount: 2 });
  assert.deepEqual(target.slice(0, FRAME_HEADER + 5), separate);
});

test('every flipped bit and every cut is refused, except in the type (the subject says it too)', () => {
  const frame = encodeFrame(FRAME_COMMANDS, fields, [body]);
  for (let at = 0; at < frame.length; at++) {
    for (let bit = 0; bit < 8; bit++) {
      const spoilt = frame.slice();
      spoilt[at] = (spoilt[at] as number) ^ (1 << bit);
      if (at === 5) continue;
      assert.throws(
        () => readFrame(spoilt),
        refused(at === 4 ? 'unsupported_version' : 'malformed_frame'),
        `byte ${at}`,
      );
    }
    assert.throws(() => readFrame(frame.slice(0, at)), refused('malformed_frame'));
  }
  assert.throws(() => readFrame(new Uint8Array([...frame, 0])), refused('malformed_frame'));
});

test('a whole frame of an unknown type or version is not damage', () => {
  for (const at of [4, 5]) {
    const later = encodeFrame(FRAME_COMMANDS, fields, [body]);
    later[at] = 9;
    assert.throws(() => readFrame(later), refused('unsupported_version'));
  }
});

test('numbers beyond 2^53 are refused, whatever the checksum says', () => {
  for (const at of [23, 31]) {
    const frame = encodeFrame(FRAME_COMMANDS, fields, [body]);
    frame[at] = 0x20;
    new DataView(frame.buffer).setUint32(12, zlibCrc32(frame.subarray(16)), true);
    assert.throws(() => readFrame(frame), refused('malformed_frame'));
  }
});

test('numbers that the format cannot hold are a bug of the writer', () => {
  for (const wrong of [{ incarnation: -1 }, { frameNumber: 2 ** 53 }, { generation: 1.5 }]) {
    assert.throws(() => encodeFrame(FRAME_COMMANDS, { ...fields, ...wrong }, [body]), RangeError);
  }
});
