/**
 * The bytes of version 1, frozen: golden/v1.hex holds a name and bytes in each line. Today's code must write and read them. A
 * line is never changed; a new format adds lines, and the old ones stay readable.
 */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { decodeState, encodeState } from './canonical.ts';
import {
  ClientMessageReader,
  writeCommand,
  writeHello,
  writePing,
  writeQuery,
  writeRenew,
  writeSubscribe,
  writeToken,
  writeUnsubscribe,
} from './client-messages.ts';
import { encodeFrame, FRAME_COMMANDS, FRAME_EPOCH, FRAME_OWN, FRAME_SENDS, readFrame } from './frame.ts';
import { MsgpackWriter } from './msgpack-writer.ts';
import {
  RECORD_BINARY,
  RECORD_IDEMPOTENT,
  type RecordFields,
  RecordReader,
  recordLength,
  writeRecord,
} from './record.ts';
import { bool, bytes, choice, int, list, map, optional, record, text } from './schema.ts';
import {
  ServerMessageReader,
  writeAnswer,
  writeConflated,
  writeEnded,
  writeError,
  writeEvent,
  writeFailed,
  writeGoaway,
  writeMapAnswer,
  writeReply,
  writeSubscribed,
  writeWelcome,
} from './server-messages.ts';
import { type Shape, shapeOf, shapeOfField } from './shape.ts';
import { readUtf8 } from './utf8.ts';

/** Bytes as they are written now, what they mean, and the meaning read from given bytes. */
type Case = { readonly bytes: Uint8Array; readonly means: unknown; readonly read: (golden: Uint8Array) => unknown };

const utf8 = (value: string): Uint8Array => Uint8Array.from(Buffer.from(value));

const plainRecord: RecordFields = {
  flags: 0,
  ref: utf8('chat:c_81f2'),
  principal: utf8('u_42'),
  commandId: 0xcafe_f00d,
  number: 4_294_967_295,
  low: 4_294_967_040,
  slot: 7,
  session: Uint8Array.from({ length: 16 }, (_, i) => i * 16),
  body: Uint8Array.of(0x92, 0xa2, 0x68, 0x69, 0x01),
};
const fullRecord: RecordFields = {
  ...plainRecord,
  flags: RECORD_IDEMPOTENT | RECORD_BINARY,
  number: 1,
  low: 1,
  body: new Uint8Array(8),
};

function recordBytes(fields: RecordFields): Uint8Array {
  const target = new Uint8Array(recordLength(fields.ref.length, fields.principal.length, fields.body.length));
  writeRecord(target, 0, fields);
  return target;
}

function readRecord(golden: Uint8Array): RecordFields {
  const reader = new RecordReader();
  reader.reset(golden);
  assert.ok(reader.next());
  const { flags, commandId, number, low, slot, sessionStart, refStart, refEnd, principalEnd, bodyStart, bodyEnd } =
    reader;
  assert.equal(reader.next(), false);
  return {
    flags,
    ref: golden.slice(refStart, refEnd),
    principal: golden.slice(refEnd, principalEnd),
    commandId,
    number,
    low,
    slot,
    session: golden.slice(sessionStart, sessionStart + 16),
    body: golden.slice(bodyStart, bodyEnd),
  };
}

const records = [recordBytes(plainRecord), recordBytes(fullRecord)];
const frameFields = { incarnation: 2 ** 40 + 5, frameNumber: 9, generation: 2 };

function frameCase(type: 1 | 2 | 3 | 4): Case {
  const written = encodeFrame(type, frameFields, records);
  const means = { type, version: 1, ...frameFields, recordCount: 2, bodyStart: 48, bodyEnd: written.length };
  return { bytes: written, means, read: (golden) => readFrame(golden) };
}

const positional = {
  small: int(-100, 100),
  large: int(0, 2 ** 53 - 1),
  flag: bool(),
  name: text(40),
  raw: bytes(10),
  side: choice('buy', 'sell'),
  items: list(record({ price: int(0, 1_000_000), note: optional(text(9)) }), 5),
  byName: map(int(0, 300), 5),
  later: optional(int(0, 9)),
};
const positionalValue = {
  small: -33,
  large: 2 ** 53 - 1,
  flag: true,
  name: 'é中😀',
  raw: Uint8Array.of(0, 255),
  side: 'sell',
  items: [{ price: 70_000 }, { price: 5, note: 'x' }],
  byName: new Map([
    ['b', 300],
    ['a', 0],
  ]),
};

const layout = {
  flag: bool(),
  id: int(0, 2 ** 53 - 1),
  change: int(-(2 ** 53 - 1), 2 ** 53 - 1),
  price: int(0, 2 ** 32 - 1),
  step: int(-40_000, 40_000),
  level: int(0, 65_535),
  tilt: int(-300, 300),
  tiny: int(-128, 127),
  share: int(0, 255),
  side: choice('buy', 'sell'),
  tag: text(5),
  raw: bytes(4),
};
const layoutValue = {
  flag: true,
  id: 2 ** 53 - 1,
  change: -(2 ** 40),
  price: 4_294_967_295,
  step: -40_000,
  level: 65_535,
  tilt: -300,
  tiny: -128,
  share: 255,
  side: 'sell',
  tag: 'é',
  raw: Uint8Array.of(1, 2, 3),
};

function shapeCase(shape: Shape, value: unknown): Case {
  return { bytes: shape.encode(value), means: value, read: (golden) => shape.decode(golden) };
}

const state = {
  text: 'state é',
  numbers: [0, 127, 128, 65_536, 2 ** 32, 2 ** 53 - 1, -1, -33, -129, -(2 ** 31) - 1, 0.5, 5e-324],
  bytes: Uint8Array.of(1, 2, 3),
  byNumber: new Map<unknown, unknown>([
    [2, 'two'],
    [1, { nested: new Map() }],
    [null, true],
  ]),
  nothing: null,
};

const body = Uint8Array.of(0x92, 0x01, 0xa1, 0x78);

function clientCase(
  write: (writer: MsgpackWriter) => void,
  means: unknown,
  get: (reader: ClientMessageReader) => unknown,
): Case {
  const read = (golden: Uint8Array): unknown => {
    const reader = new ClientMessageReader();
    reader.reset(golden);
    assert.ok(reader.next());
    return [reader.type, get(reader)];
  };
  return { bytes: written(write), means, read };
}

function serverCase(
  write: (writer: MsgpackWriter) => void,
  means: unknown,
  get: (reader: ServerMessageReader) => unknown,
): Case {
  const read = (golden: Uint8Array): unknown => {
    const reader = new ServerMessageReader();
    reader.reset(golden);
    assert.ok(reader.next());
    return [reader.type, get(reader)];
  };
  return { bytes: written(write), means, read };
}

function written(write: (writer: MsgpackWriter) => void): Uint8Array {
  const writer = new MsgpackWriter();
  write(writer);
  return writer.copy();
}

const target = (reader: ClientMessageReader): unknown[] => [
  readUtf8(reader.bytes, reader.refStart, reader.refEnd),
  readUtf8(reader.bytes, reader.nameStart, reader.nameEnd),
];
const bodyOf = (reader: ClientMessageReader | ServerMessageReader): unknown =>
  reader.bytes.slice(reader.bodyStart, reader.bodyEnd);

const hello = { token: 'aaa.bbb.ccc', session: 'c2Vzc2lvbg', client: 'test/1' };
const command = { number: 300, low: 290, ref: 'board:2026-11/3', name: 'addPoints', body, binary: false };
const welcome = {
  session: 'c2Vzc2lvbg',
  principal: 'u_42',
  node: 'n1',
  now: 1_790_000_000_000,
  heartbeatMs: 25_000,
  maxPayloadBytes: 65_536,
  maxInFlight: 256,
  tokenExpiresAt: 1_790_000_360_000,
  resumed: false,
  sessionHorizonMs: 86_400_000,
};
const subscribed = { topicId: 3, generation: 1, offset: 70_000, recovered: true, snapshot: body };

const CASES: { readonly [name: string]: Case } = {
  record: { bytes: records[0] as Uint8Array, means: plainRecord, read: readRecord },
  'record-idempotent-binary': { bytes: records[1] as Uint8Array, means: fullRecord, read: readRecord },
  'frame-commands': frameCase(FRAME_COMMANDS),
  'frame-sends': frameCase(FRAME_SENDS),
  'frame-own': frameCase(FRAME_OWN),
  'frame-epoch': frameCase(FRAME_EPOCH),
  'shape-positional': shapeCase(shapeOf(positional), positionalValue),
  'shape-field': shapeCase(shapeOfField(list(bool(), 3)), [true, false]),
  'shape-binary': shapeCase(shapeOf(layout, { binary: true }), layoutValue),
  state: { bytes: encodeState(state), means: state, read: decodeState },
  'client-hello': clientCase(
    (writer) => writeHello(writer, hello),
    [1, hello],
    (reader) => reader.hello(),
  ),
  'client-command': clientCase(
    (writer) => writeCommand(writer, command),
    [2, [300, 290, 'board:2026-11/3', 'addPoints', false, body]],
    (reader) => [reader.number, reader.low, ...target(reader), reader.isBinary, bodyOf(reader)],
  ),
  'client-command-binary': clientCase(
    (writer) => writeCommand(writer, { ...command, binary: true }),
    [2, [true, body]],
    (reader) => [reader.isBinary, bodyOf(reader)],
  ),
  'client-query': clientCase(
    (writer) => writeQuery(writer, 9, 'a:b', 'top', body, 2 ** 33),
    [3, [9, 'a:b', 'top', body, 2 ** 33]],
    (reader) => [reader.request, ...target(reader), bodyOf(reader), reader.minSequence],
  ),
  'client-subscribe': clientCase(
    (writer) => writeSubscribe(writer, 10, 'a:b', 'trades', { from: 5, generation: 1, rate: 2.5 }),
    [4, [10, 'a:b', 'trades', { from: 5, generation: 1, rate: 2.5 }]],
    (reader) => [reader.request, ...target(reader), reader.subscribeOptions()],
  ),
  'client-unsubscribe': clientCase(
    (writer) => writeUnsubscribe(writer, 11, 'a:b', 'trades'),
    [5, [11, 'a:b', 'trades']],
    (reader) => [reader.request, ...target(reader)],
  ),
  ping: clientCase(writePing, [6, 0], (reader) => reader.request),
  'client-token': clientCase(
    (writer) => writeToken(writer, 12, 'x.y.z'),
    [7, [12, 'x.y.z']],
    (reader) => [reader.request, reader.token()],
  ),
  'client-renew': clientCase(
    (writer) => writeRenew(writer, 13),
    [8, 13],
    (reader) => reader.request,
  ),
  'server-welcome': serverCase(
    (writer) => writeWelcome(writer, welcome),
    [1, welcome],
    (reader) => reader.welcome(),
  ),
  'server-reply': serverCase(
    (writer) => writeReply(writer, 300, body),
    [2, [300, body]],
    (reader) => [reader.about, bodyOf(reader)],
  ),
  'server-answer': serverCase(
    (writer) => writeAnswer(writer, 9, body, 2 ** 33),
    [3, [9, body, 2 ** 33]],
    (reader) => [reader.about, bodyOf(reader), reader.sequence()],
  ),
  'server-subscribed': serverCase(
    (writer) => writeSubscribed(writer, 10, subscribed),
    [3, [10, subscribed, undefined]],
    (reader) => [reader.about, reader.subscribed(), reader.sequence()],
  ),
  'server-renewed': serverCase(
    (writer) => writeMapAnswer(writer, 13, { session: 'bmV3' }),
    [3, { session: 'bmV3' }],
    (reader) => reader.map(2),
  ),
  'server-event': serverCase(
    (writer) => writeEvent(writer, 3, 70_001, body),
    [4, [3, 70_001, body]],
    (reader) => [reader.about, reader.offset, bodyOf(reader)],
  ),
  'server-failed': serverCase(
    (writer) => writeFailed(writer, 300, 'period_closed', 'The period is closed.'),
    [5, [300, { name: 'period_closed', message: 'The period is closed.', retryAfterMs: undefined }]],
    (reader) => [reader.about, reader.problem()],
  ),
  'server-error': serverCase(
    (writer) => writeError(writer, 9, 'overloaded', 'Later.', 250),
    [7, [9, { name: 'overloaded', message: 'Later.', retryAfterMs: 250 }]],
    (reader) => [reader.about, reader.problem()],
  ),
  'server-goaway': serverCase(
    (writer) => writeGoaway(writer, 2_000, 'drain'),
    [8, { afterMs: 2_000, reason: 'drain' }],
    (reader) => reader.goaway(),
  ),
  'server-conflated': serverCase(
    (writer) => writeConflated(writer, 3, 70_001, body),
    [9, [3, 70_001, body]],
    (reader) => [reader.about, reader.offset, bodyOf(reader)],
  ),
  'server-ended': serverCase(
    (writer) => writeEnded(writer, 3, 'forbidden', 'The role was taken.'),
    [10, [3, { name: 'forbidden', message: 'The role was taken.', retryAfterMs: undefined }]],
    (reader) => [reader.about, reader.problem()],
  ),
};

/** Compiled tests lie in dist/, the golden bytes with the sources. */
const file = new URL('../../protocol/golden/v1.hex', import.meta.url);
const golden = new Map(
  readFileSync(file, 'utf8')
    .trim()
    .split('\n')
    .map((line) => line.split(' ') as [string, string]),
);

test('every golden line has a case, and every case a line', () => {
  assert.deepEqual([...golden.keys()].sort(), Object.keys(CASES).sort());
});

for (const [name, { bytes: now, means, read }] of Object.entries(CASES)) {
  test(`golden ${name}: written and read today as ever`, () => {
    const frozen = golden.get(name) ?? '';
    assert.equal(Buffer.from(now).toString('hex'), frozen);
    assert.deepEqual(read(Uint8Array.from(Buffer.from(frozen, 'hex'))), means);
  });
}
