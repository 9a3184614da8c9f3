/**
 * MessagePack from outside, with limits. `scan` walks a value and refuses what is too deep, too large, cut off, of an
 * extension type, or has repeated or prototype keys; only what it accepted is given to msgpackr.
 */
import { Packr, Unpackr } from 'msgpackr';
import { ProtocolError } from './errors.ts';
import { isPrototypeKey } from './field-codec.ts';
import { MsgpackCursor, typeOfTag } from './msgpack-cursor.ts';
import { isUtf8 } from './utf8.ts';

export const MAX_DEPTH = 16; // Levels of arrays and maps: the deepest message of the protocol has 5, schemas may nest to this.

export type ScanLimits = {
  /** Levels of arrays and maps. */
  readonly maxDepth: number;
  /** Items of one array or entries of one map. */
  readonly maxItems: number;
  /** Bytes of one text or bin. */
  readonly maxBytes: number;
};

export const DEFAULT_LIMITS: ScanLimits = {
  maxDepth: MAX_DEPTH,
  maxItems: 65_536, // Far above any list of a schema so far; an item takes a byte at least, so the payload bounds it too.
  maxBytes: 512 * 1024, // A record's limit: nothing longer can be logged.
};

/** Scanning calls nothing of the caller's, so one cursor serves. */
const cursor = new MsgpackCursor();

/**
 * The offset behind the value that begins at `start` and ends by `end`.
 * Errors: `too_deep`, `payload_too_large` (an array, map, text or bin above its limit), `malformed_message`.
 */
export function scan(bytes: Uint8Array, start = 0, limits: ScanLimits = DEFAULT_LIMITS, end = bytes.length): number {
  cursor.reset(bytes, start, end);
  scanValue(limits, limits.maxDepth);
  return cursor.offset;
}

function scanValue(limits: ScanLimits, depthLeft: number): void {
  switch (typeOfTag(cursor.peek())) {
    case 'nil':
    case 'bool':
      cursor.offset++;
      return;
    case 'int':
      return scanInt();
    case 'float':
      return scanFloat();
    case 'text':
      scanText(limits);
      return;
    case 'bin':
      return scanBin(limits);
    case 'array':
      return scanArray(limits, depthLeft);
    case 'map':
      return scanMap(limits, depthLeft);
    case 'other':
      throw malformed('no value, or one of an extension type');
  }
}

function scanInt(): void {
  if (Number.isNaN(cursor.int())) throw malformed('an integer is cut off or beyond 2^53');
}

function scanFloat(): void {
  const value = cursor.float64();
  if (!Number.isFinite(value) || Object.is(value, -0)) throw malformed('a double is cut off, -0 or not finite');
}

function scanText(limits: ScanLimits): void {
  const length = bounded(cursor.textHeader(), limits.maxBytes);
  const start = cursor.offset;
  if (!isUtf8(cursor.bytes, start, start + length)) throw malformed('a text is not UTF-8');
  cursor.offset = start + length;
}

function scanBin(limits: ScanLimits): void {
  const length = bounded(cursor.binHeader(), limits.maxBytes); // Not in one statement: `+=` would read the offset first.
  cursor.offset += length;
}

function scanArray(limits: ScanLimits, depthLeft: number): void {
  if (depthLeft === 0) throw new ProtocolError('too_deep');
  const count = bounded(cursor.arrayHeader(), limits.maxItems);
  for (let i = 0; i < count; i++) scanValue(limits, depthLeft - 1);
}

function scanMap(limits: ScanLimits, depthLeft: number): void {
  if (depthLeft === 0) throw new ProtocolError('too_deep');
  const count = bounded(cursor.mapHeader(), limits.maxItems);
  const seen = new Set<string>();
  for (let i = 0; i < count; i++) {
    const key = scanKey(limits);
    if (seen.has(key)) throw malformed('a key is there twice');
    seen.add(key);
    scanValue(limits, depthLeft - 1);
  }
}

function scanKey(limits: ScanLimits): string {
  if (typeOfTag(cursor.peek()) !== 'text') throw malformed('keys must be texts');
  const key = cursor.takeText(bounded(cursor.textHeader(), limits.maxBytes));
  if (key === undefined) throw malformed('a key is not UTF-8');
  if (isPrototypeKey(key)) throw malformed(`key "${key}" is not allowed`);
  return key;
}

function bounded(length: number, limit: number): number {
  if (length < 0) throw malformed('a value is cut off');
  if (length > limit) throw new ProtocolError('payload_too_large');
  return length;
}

function malformed(detail: string): ProtocolError {
  return new ProtocolError('malformed_message', detail);
}

const unpackr = new Unpackr({ useRecords: false, mapsAsObjects: true, int64AsType: 'number', copyBuffers: true });
const packr = new Packr({ useRecords: false, encodeUndefinedAsNil: true });

/**
 * The value of exactly [start, end): null, booleans, numbers, texts, Uint8Array (copies), arrays, objects.
 * Errors: those of `scan`, `malformed_message` where bytes follow.
 */
export function unpack(bytes: Uint8Array, start = 0, end = bytes.length): unknown {
  if (scan(bytes, start, DEFAULT_LIMITS, end) !== end) throw malformed('bytes follow the value');
  return unpackr.unpack(plain(bytes, start, end));
}

/** The bytes of a value of plain data. Integers beyond 2^32 become float64, as msgpackr does; undefined becomes nil. */
export function pack(value: unknown): Uint8Array {
  const packed = packr.pack(value);
  return plain(packed, 0, packed.length);
}

/** Never a Buffer, from which msgpackr would make Buffers, whose slice() shares memory. */
function plain(bytes: Uint8Array, start: number, end: number): Uint8Array {
  return new Uint8Array(bytes.buffer, bytes.byteOffset + start, end - start);
}
