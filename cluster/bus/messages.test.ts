import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ProtocolError } from '../../protocol/errors.ts';
import {
  decodeAnswer,
  decodeEventsPage,
  decodeFailure,
  decodeHeads,
  decodeHeartbeat,
  decodeQuery,
  decodeSnapshot,
  EventBatchWriter,
  type EventHeader,
  encodeAnswer,
  encodeEventsPage,
  encodeFailure,
  encodeHeads,
  encodeHeartbeat,
  encodeQuery,
  encodeSnapshot,
  FAILED,
  REPLY,
  ReplyBatchWriter,
  type ReplyHeader,
  readEventBatch,
  readReplyBatch,
} from './messages.ts';

const header: ReplyHeader = {
  partition: 'main-3',
  incarnation: 2 ** 40 + 7,
  epoch: 9,
  lagMs: 12,
  fillPermille: 850,
  outboxBytes: 70_000,
  sequence: 2 ** 33 + 1,
};

function replies(bytes: Uint8Array) {
  const entries: [number, number, number, string][] = [];
  let seen: ReplyHeader | undefined;
  readReplyBatch(
    bytes,
    (given) => (seen = given),
    (all, slot, number, status, start, end) =>
      entries.push([slot, number, status, Buffer.from(all.subarray(start, end)).toString()]),
  );
  return { header: seen, entries };
}

test('a reply batch has the bytes of the format', () => {
  const writer = new ReplyBatchWriter();
  writer.begin(header);
  writer.append(0x01020304, 5, FAILED, Buffer.from('xabcx'), 1, 4);
  assert.equal(
    Buffer.from(writer.take()).toString('hex'),
    '54525031' +
      '01' +
      '06' +
      '0100' +
      '0700000000010000' +
      '09000000' +
      '0c000000' +
      '5203' +
      '0000' +
      '70110100' +
      '0100000002000000' +
      '6d61696e2d33' +
      '04030201' +
      '05000000' +
      '01000000' +
      '03000000' +
      '616263',
  );
});

test('reply batches round trip, also after the buffer grew, and a writer can be used again', () => {
  const writer = new ReplyBatchWriter();
  for (let round = 0; round < 3; round++) {
    writer.begin(header);
    const expected: [number, number, number, string][] = [];
    for (let i = 0; i < 500 * round; i++) {
      const text = 'r'.repeat(i % 130);
      writer.append(i, i * 2, i % 2 ? FAILED : REPLY, Buffer.from(text));
      expected.push([i, i * 2, i % 2 ? FAILED : REPLY, text]);
    }
    assert.equal(writer.count, expected.length);
    assert.deepEqual(replies(writer.take()), { header, entries: expected });
  }
});

test('what was taken is not changed by the next batch', () => {
  const writer = new ReplyBatchWriter();
  writer.begin(header);
  writer.append(1, 1, REPLY, Buffer.from('first'));
  const taken = writer.take();
  writer.begin({ ...header, partition: 'x' });
  writer.append(2, 2, REPLY, Buffer.from('second'));
  assert.equal(replies(taken).entries[0]?.[3], 'first');
});

test('a cut or stretched batch is refused before any entry', () => {
  const writer = new ReplyBatchWriter();
  writer.begin(header);
  for (let i = 0; i < 3; i++) writer.append(i, i, REPLY, Buffer.from('body'));
  const whole = writer.take();
  for (let cut = 0; cut < whole.length; cut++)
    assert.throws(() => replies(whole.subarray(0, cut)), ProtocolError, `cut at ${cut}`);
  assert.throws(() => replies(Buffer.concat([whole, Buffer.from([0])])), ProtocolError);
  const other = whole.slice();
  other[4] = 2;
  assert.throws(() => replies(other), { code: 'unsupported_version' });
});

test('event batches round trip with dense offsets', () => {
  const writer = new EventBatchWriter();
  writer.begin(2, 3, 2 ** 34);
  for (const text of ['a', '', 'c'.repeat(5_000)]) writer.append(Buffer.from(text));
  const bytes = writer.take();
  assert.equal(
    Buffer.from(bytes.subarray(0, 29)).toString('hex'),
    '02000000' + '03000000' + '0000000004000000' + '03000000' + '00000000' + '01000000' + '61',
  );
  let seen: EventHeader | undefined;
  const events: [number, number][] = [];
  readEventBatch(
    bytes,
    (given) => (seen = given),
    (_, offset, start, end) => events.push([offset, end - start]),
  );
  assert.deepEqual(seen, { generation: 2, epoch: 3, firstOffset: 2 ** 34, count: 3 });
  assert.deepEqual(events, [
    [2 ** 34, 1],
    [2 ** 34 + 1, 0],
    [2 ** 34 + 2, 5_000],
  ]);
  for (let cut = 0; cut < 60; cut++) {
    assert.throws(
      () =>
        readEventBatch(
          bytes.subarray(0, cut),
          () => {},
          () => {},
        ),
      ProtocolError,
    );
  }
});

test('the MessagePack messages round trip', () => {
  const query = {
    ref: 'board:x',
    name: 'top',
    body: Buffer.from([1, 2]),
    principal: 'u',
    roles: ['player'],
    minSequence: 2 ** 40,
  };
  assert.deepEqual(decodeQuery(encodeQuery(query)), query);
  assert.deepEqual(decodeQuery(encodeQuery({ ...query, minSequence: undefined })).minSequence, undefined);
  const answer = { ok: true, body: Buffer.from([0x90]), epoch: 3, sequence: 2 ** 35 } as const;
  assert.deepEqual(decodeAnswer(encodeAnswer(answer)), answer);
  const failure = { error: 'moving', message: 'wait', retryAfterMs: 50 };
  assert.deepEqual(decodeAnswer(encodeAnswer({ ok: false, ...failure })), { ok: false, ...failure });
  assert.deepEqual(decodeFailure(encodeFailure(failure)), failure);
  const heads = { epoch: 1, generation: 1, topics: [['board:x', 'top', 2 ** 33] as const] };
  assert.deepEqual(decodeHeads(encodeHeads(heads)), heads);
  const page = { generation: 1, headOffset: 9, firstOffset: 1, events: [Buffer.from([0x91, 1])] };
  assert.deepEqual(decodeEventsPage(encodeEventsPage(page)), page);
  const snapshot = { generation: 1, offset: 4, body: Buffer.from([0x90]) };
  assert.deepEqual(decodeSnapshot(encodeSnapshot(snapshot)), snapshot);
  const beat = {
    partition: 'main-0',
    epoch: 1,
    state: 'halted' as const,
    reason: 'log_loss',
    lagMs: 1,
    fillPermille: 2,
    outboxBytes: 3,
    sequence: 4,
    generation: 5,
  };
  const heartbeat = { node: 'h1', at: 1_700_000_000_000, partitions: [beat, { ...beat, reason: undefined }] };
  assert.deepEqual(decodeHeartbeat(encodeHeartbeat(heartbeat)), heartbeat);
});

test('random bytes are refused by name, never by a crash', () => {
  const seed = (Date.now() ^ (process.pid << 8)) >>> 0;
  let state = seed;
  const random = () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state >>> 8;
  };
  const readers = [
    decodeQuery,
    decodeAnswer,
    decodeHeads,
    decodeHeartbeat,
    decodeFailure,
    decodeEventsPage,
    decodeSnapshot,
  ];
  for (let round = 0; round < 2_000; round++) {
    const bytes = Uint8Array.from({ length: random() % 40 }, () => random() & 0xff);
    for (const read of readers) {
      try {
        read(bytes);
      } catch (error) {
        assert.ok(error instanceof ProtocolError, `seed ${seed}: ${error}`);
      }
    }
  }
});
