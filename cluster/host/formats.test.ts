/** The formats of this folder: what was written once must be read for ever. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { crc32 } from 'node:zlib';
import { readFrame } from '../../protocol/frame.ts';
import { bool, bytes, choice, int, text } from '../../protocol/schema.ts';
import { allPartitions, partitionOf } from '../placement/partition-of.ts';
import { decodeHead, emptyHead, encodeHead } from './head.ts';
import { decodeOwn, encodeOwn, type OwnRecord } from './own-record.ts';
import { checkGroups, drawsOf, identifier, partitionNumber } from './random.ts';
import { decodeSends, encodeSend } from './send-item.ts';
import { afterPrefix, keyCodec } from './table-key.ts';

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');

test('partitions of keys never change', () => {
  const kind = { group: 'main', placement: (key: string) => key };
  const places = ['', 'a', 'XNAS', 'é', 'user-1', 'user-2'].map((key) => partitionOf(kind, key, { main: 48 }));
  assert.deepEqual(places, ['main-11', 'main-3', 'main-24', 'main-39', 'main-12', 'main-1']);
  assert.deepEqual(allPartitions({ exchange: 1, main: 2 }), ['exchange-0', 'main-0', 'main-1']);
  assert.throws(() => partitionOf({ ...kind, group: 'none' }, 'a', { main: 1 }), RangeError);
  const counts = new Array<number>(8).fill(0);
  for (let i = 0; i < 8_000; i++) counts[Number(partitionOf(kind, `k${i}`, { main: 8 }).slice(5))]!++;
  assert.ok(Math.min(...counts) > 850 && Math.max(...counts) < 1_150, `spread ${counts}`);
});

test('heads of checkpoints', () => {
  const head = emptyHead(3);
  Object.assign(head, {
    epoch: 7,
    sequence: 123,
    timeUs: 1_700_000_000_000_001,
    crc: 0xdeadbeef,
    nowMs: 1_700_000_000_000,
    handled: 9,
    hash: 5,
  });
  head.edges.set('e2', { incarnation: 4, generation: 3, frame: 8 });
  head.edges.set('e1', { incarnation: 2, generation: 3, frame: 1 });
  head.items.set('main-1', 3 * 2 ** 40 + 2);
  head.points.push({ sequence: 100, hash: 1 });
  head.skips.add('99.1');
  const bytes = encodeHead(head);
  assert.equal(hex(bytes), HEAD);
  assert.deepEqual(encodeHead(decodeHead(Buffer.from(HEAD, 'hex'))), bytes);
  assert.throws(() => decodeHead(Buffer.from('9102', 'hex')), { code: 'unsupported_version' });
});

const OWN: OwnRecord[] = [
  { type: 'timer', ref: 'counter:a', name: 't', arming: '5.0.0', dueMs: 1_700_000_000_000 },
  { type: 'sent', to: 'main-1', upTo: 2 ** 40 + 1 },
  { type: 'effect', id: 'X', outcome: 'failed', status: 503, body: 'no', attempts: 8 },
  { type: 'skip', sequence: 9, index: 2, reason: 'because' },
  { type: 'check', sequence: 256, hash: 77 },
];

test('own records', () => {
  const bytes = encodeOwn(OWN, 6, 2);
  assert.equal(hex(bytes), OWN_FRAME);
  const frame = readFrame(bytes, crc32);
  assert.equal(frame.incarnation, 6);
  assert.deepEqual(decodeOwn(bytes, frame), OWN);
});

test('sends', () => {
  const item = {
    commandId: 0x01020304,
    binary: true,
    sender: 'counter:a',
    refs: ['counter:b', 'counter:ü'],
    body: Uint8Array.of(1, 2),
  };
  const bytes = encodeSend(item);
  assert.equal(hex(bytes), SEND);
  const two = Buffer.concat([bytes, bytes]);
  assert.deepEqual(decodeSends(two, 0, two.length), [item, item]);
  for (let cut = 1; cut < bytes.length; cut++)
    assert.throws(() => decodeSends(two, 0, cut), { code: 'malformed_frame' });
});

test('table keys sort as their fields do, and come back', () => {
  const codec = keyCodec({
    name: text(10),
    number: int(Number.MIN_SAFE_INTEGER, Number.MAX_SAFE_INTEGER),
    flag: bool(),
    raw: bytes(4),
    way: choice('up', 'down'),
  });
  const ordered = [
    { name: '', number: -1, flag: false, raw: Uint8Array.of(), way: 'up' },
    { name: 'a', number: Number.MIN_SAFE_INTEGER, flag: false, raw: Uint8Array.of(), way: 'up' },
    { name: 'a', number: -(2 ** 32) - 1, flag: false, raw: Uint8Array.of(), way: 'up' },
    { name: 'a', number: -1, flag: false, raw: Uint8Array.of(), way: 'up' },
    { name: 'a', number: 0, flag: false, raw: Uint8Array.of(), way: 'up' },
    { name: 'a', number: 0, flag: true, raw: Uint8Array.of(), way: 'up' },
    { name: 'a', number: 0, flag: true, raw: Uint8Array.of(0), way: 'up' },
    { name: 'a', number: 0, flag: true, raw: Uint8Array.of(0, 0), way: 'up' },
    { name: 'a', number: 0, flag: true, raw: Uint8Array.of(0, 1), way: 'up' },
    { name: 'a', number: 0, flag: true, raw: Uint8Array.of(1), way: 'down' },
    { name: 'a', number: Number.MAX_SAFE_INTEGER, flag: false, raw: Uint8Array.of(), way: 'up' },
    { name: 'aa', number: 0, flag: false, raw: Uint8Array.of(), way: 'up' },
  ];
  const encoded = ordered.map((key) => codec.encode(key));
  for (let i = 1; i < encoded.length; i++) assert.ok(Buffer.compare(encoded[i - 1]!, encoded[i]!) < 0, `row ${i}`);
  assert.deepEqual(
    encoded.map((key) => codec.decode(key, 0)),
    ordered,
  );
  assert.equal(hex(codec.encode(ordered[8]!)), '61000000200000000000000100ff01000000');
  assert.throws(() => codec.encode({ name: 'a' }), { code: 'invalid_field' });
  assert.equal(hex(codec.encode({ name: 'a' }, true)), '610000');
  assert.deepEqual(afterPrefix(Uint8Array.of(1, 255)), Uint8Array.of(2));
});

test('identifiers ascend, differ, and are frozen; draws are frozen', () => {
  const position = { generation: 1, partition: partitionNumber('main-3'), sequence: 9, index: 2 };
  assert.equal(identifier(position, 0), IDENTIFIER);
  assert.ok(identifier(position, 0) < identifier(position, 1));
  assert.ok(identifier(position, 5) < identifier({ ...position, index: 3 }, 0));
  assert.ok(identifier({ ...position, index: 9 }, 5) < identifier({ ...position, sequence: 10 }, 0));
  assert.ok(
    identifier({ ...position, sequence: 10 ** 12 }, 5) < identifier({ ...position, generation: 2, sequence: 1 }, 0),
  );
  const draw = drawsOf(position);
  assert.deepEqual(
    [draw(), draw()].map((number) => Math.floor(number * 2 ** 32)),
    DRAWS,
  );
  checkGroups(['main', 'exchange']);
});

const HEAD =
  '9f01a003077bcf00060a24181e4001cedeadbeefcf0000018bcfe568000995d40100a2653193020301a265329304030891d4010093d40100a66d61696e2d31cf0000030000000002059192640191a439392e31';
const OWN_FRAME =
  '54545250010330009c000000a0f617ab06000000000000000000000000000000050000000200000000000000000000009595a574696d6572a9636f756e7465723a61a174a5352e302e30cf0000018bcfe5680093a473656e74a66d61696e2d31cf000001000000000196a6656666656374a158a66661696c6564cd01f7a26e6f0894a4736b69700902a76265636175736593a5636865636bcd01004d';
const SEND = '2c0000000403020102000902636f756e7465723a6109636f756e7465723a620a636f756e7465723ac3bc0102';
const IDENTIFIER = '01000000004G00100003N91R03';
const DRAWS = [3161374999, 881386687];
