/**
 * The canonical codec of state: equal values give equal bytes, and decoding gives back exactly what was encoded. Values are
 * null, booleans, safe integers, finite doubles that are no integers, well-formed strings, Uint8Array, arrays, plain objects
 * and Maps, both in insertion order. Everything else is refused by `invalid_state` with its path, and so are bytes that
 * `encodeState` would not have written: what decodes, encodes to the same bytes.
 *
 * An own walker, since msgpackr cannot be made exact: it writes integers above 2^32 as doubles, replaces lone surrogates,
 * turns -0 into 0 and undefined into null, and writes a Map and an object alike. Here a Map is an array that begins with
 * the extension MAP_MARK, followed by its keys and values in turn; any MessagePack reader can show it.
 */
import { ProtocolError } from './errors.ts';
import { FieldRefusal, refuse, within } from './field-codec.ts';
import { MsgpackCursor, typeOfTag } from './msgpack-cursor.ts';
import { MsgpackWriter } from './msgpack-writer.ts';

const MAX_STATE_DEPTH = 64; // Deeper is a cycle or a list linked by hand, which recursion would not survive at length.
const MAX_STATE_BYTES = 64 * 1024 * 1024; // One actor's; a state that large stops the world when saved: it belongs in tables.
const MAP_MARK = [0xd4, 1, 0] as const; // fixext 1 of type 1.

export type EncodeStateOptions = {
  /** Refuses an object that is reachable twice: after loading it would be two. For development and tests. */
  readonly refuseShared?: boolean;
};

type Walk = { readonly writer: MsgpackWriter; readonly seen: Set<object> | undefined };

/** The bytes of a state, new. Errors: `invalid_state`, with the path of the offending value in `field`. */
export function encodeState(value: unknown, options: EncodeStateOptions = {}): Uint8Array {
  const writer = new MsgpackWriter();
  try {
    writeValue({ writer, seen: options.refuseShared ? new Set() : undefined }, value, MAX_STATE_DEPTH);
  } catch (error) {
    throw named(error);
  }
  return writer.bytes.slice(0, writer.offset);
}

/** The state of exactly these bytes. Errors: `invalid_state` where `encodeState` would have written others. */
export function decodeState(bytes: Uint8Array, start = 0, end = bytes.length): unknown {
  const cursor = new MsgpackCursor();
  cursor.reset(bytes, start, end);
  try {
    const value = readValue(cursor, MAX_STATE_DEPTH);
    if (cursor.offset !== end) refuse('bytes follow the state');
    return value;
  } catch (error) {
    throw named(error);
  }
}

function named(error: unknown): unknown {
  if (!(error instanceof FieldRefusal)) return error;
  const { path, detail } = error;
  return new ProtocolError(
    'invalid_state',
    path === '' ? detail : `${path}: ${detail}`,
    path === '' ? undefined : path,
  );
}

function writeValue(walk: Walk, value: unknown, depthLeft: number): void {
  switch (typeof value) {
    case 'number':
      return writeNumber(walk.writer, value);
    case 'string':
      if (walk.writer.text(value) < 0) refuse('the text holds a lone surrogate');
      return;
    case 'boolean':
      return walk.writer.bool(value);
    case 'object':
      if (value === null) return walk.writer.nil();
      return writeObject(walk, value, depthLeft);
    default:
      return refuse(`a state holds no ${typeof value}`);
  }
}

function writeNumber(writer: MsgpackWriter, value: number): void {
  if (Number.isSafeInteger(value)) {
    if (Object.is(value, -0)) refuse('a state holds no -0');
    writer.int(value);
  } else if (Number.isFinite(value) && !Number.isInteger(value)) writer.float64(value);
  else refuse(`a state holds no ${value}: integers lie within 2^53, other numbers are finite`);
}

function writeObject(walk: Walk, value: object, depthLeft: number): void {
  if (depthLeft === 0) refuse(`a state is at most ${MAX_STATE_DEPTH} levels deep: a cycle?`);
  if (walk.writer.offset > MAX_STATE_BYTES) refuse(`a state has at most ${MAX_STATE_BYTES} bytes`);
  if (walk.seen) refuseShared(walk.seen, value);
  switch (Object.getPrototypeOf(value)) {
    case Object.prototype:
      return writePlain(walk, value as { [key: string]: unknown }, depthLeft);
    case Array.prototype:
      return writeArray(walk, value as unknown[], depthLeft);
    case Map.prototype:
      return writeMap(walk, value as Map<unknown, unknown>, depthLeft);
    case Uint8Array.prototype:
      return walk.writer.bin(value as Uint8Array);
    default:
      // A Buffer too: its slice() shares memory where a Uint8Array's copies, so live and restored state would differ.
      return refuse(`a state holds no instance of ${value.constructor?.name ?? 'an object without prototype'}`);
  }
}

function refuseShared(seen: Set<object>, value: object): void {
  if (seen.has(value)) refuse('the same object is there twice; after loading it would be two');
  seen.add(value);
}

function writeArray(walk: Walk, items: readonly unknown[], depthLeft: number): void {
  walk.writer.array(items.length);
  let i = 0;
  try {
    for (; i < items.length; i++) writeValue(walk, items[i], depthLeft - 1);
  } catch (error) {
    throw within(error, `[${i}]`);
  }
}

function writePlain(walk: Walk, value: { readonly [key: string]: unknown }, depthLeft: number): void {
  const keys = Object.keys(value);
  walk.writer.map(keys.length);
  for (const key of keys) {
    checkKey(key);
    if (walk.writer.text(key) < 0) refuse('a key holds a lone surrogate');
    try {
      writeValue(walk, value[key], depthLeft - 1);
    } catch (error) {
      throw within(error, key);
    }
  }
}

const INTEGER_LIKE = /^(?:0|[1-9][0-9]*)$/;

function checkKey(key: string): void {
  if (INTEGER_LIKE.test(key)) refuse(`key "${key}" of an object: integer-like keys lose their order, use a Map`);
  if (key === '__proto__') refuse('key "__proto__" of an object: use a Map');
}

function writeMap(walk: Walk, value: ReadonlyMap<unknown, unknown>, depthLeft: number): void {
  const { writer } = walk;
  writer.array(1 + value.size * 2);
  for (const byte of MAP_MARK) writer.byte(byte);
  for (const [key, item] of value) {
    if (typeof key === 'object' && key !== null) refuse('keys of a Map are scalars');
    writeValue(walk, key, 0);
    try {
      writeValue(walk, item, depthLeft - 1);
    } catch (error) {
      throw within(error, `[${JSON.stringify(key)}]`);
    }
  }
}

function readValue(cursor: MsgpackCursor, depthLeft: number): unknown {
  const type = typeOfTag(cursor.peek());
  if (depthLeft === 0 && (type === 'array' || type === 'map' || type === 'bin')) refuse('the state is too deep');
  switch (type) {
    case 'array':
      return readArrayOrMap(cursor, depthLeft);
    case 'map':
      return readPlain(cursor, depthLeft);
    case 'bin':
      return readBin(cursor);
    default:
      return readScalar(cursor);
  }
}

function readScalar(cursor: MsgpackCursor): unknown {
  switch (typeOfTag(cursor.peek())) {
    case 'nil':
      cursor.offset++;
      return null;
    case 'bool':
      return cursor.bool() === 1;
    case 'int':
      return readInt(cursor);
    case 'float':
      return readFloat(cursor);
    case 'text':
      return readText(cursor);
    default:
      return refuse('no value of a state');
  }
}

function readInt(cursor: MsgpackCursor): number {
  const before = cursor.offset;
  const tag = cursor.peek();
  const value = cursor.int();
  if (Number.isNaN(value)) refuse('an integer is cut off or beyond 2^53');
  const signed = tag >= 0xd0; // The negative formats, which no natural number may use.
  if (signed !== value < 0 || cursor.offset - before !== intBytes(value))
    refuse('an integer is not in its shortest form');
  return value;
}

function intBytes(value: number): number {
  const natural = value < 0 ? -1 - value : value;
  if (value >= 0 ? value < 0x80 : value >= -32) return 1;
  const bits = value < 0 ? 1 : 0;
  if (natural < 2 ** (8 - bits)) return 2;
  if (natural < 2 ** (16 - bits)) return 3;
  return natural < 2 ** (32 - bits) ? 5 : 9;
}

function readFloat(cursor: MsgpackCursor): number {
  const value = cursor.float64();
  return Number.isFinite(value) && !Number.isInteger(value)
    ? value
    : refuse('no finite double, or one that is an integer');
}

function readText(cursor: MsgpackCursor): string {
  const length = checkHeader(cursor, cursor.offset, cursor.textHeader(), 32, true);
  return cursor.takeText(length) ?? refuse('a text is not UTF-8');
}

function readBin(cursor: MsgpackCursor): Uint8Array {
  return cursor.takeBytes(checkHeader(cursor, cursor.offset, cursor.binHeader(), 0, true));
}

/** Gives `length` if its header, taken from `before` on, has the shortest form: 1 byte for lengths below `fixed`. */
function checkHeader(
  cursor: MsgpackCursor,
  before: number,
  length: number,
  fixed: number,
  hasByteForm: boolean,
): number {
  if (length < 0) refuse('a value is cut off');
  const shortest = length < fixed ? 1 : hasByteForm && length < 0x100 ? 2 : length < 0x1_0000 ? 3 : 5;
  return cursor.offset - before === shortest ? length : refuse('a length is not in its shortest form');
}

function readArrayOrMap(cursor: MsgpackCursor, depthLeft: number): unknown {
  const count = checkHeader(cursor, cursor.offset, cursor.arrayHeader(), 16, false);
  if (count > 0 && cursor.peek() === MAP_MARK[0]) return readMap(cursor, count, depthLeft);
  const items: unknown[] = [];
  for (let i = 0; i < count; i++) items.push(readValue(cursor, depthLeft - 1));
  return items;
}

function readMap(cursor: MsgpackCursor, count: number, depthLeft: number): Map<unknown, unknown> {
  if (count % 2 === 0) refuse('a Map with a key without value');
  for (const byte of MAP_MARK) {
    if (cursor.peek() !== byte) refuse('no mark of a Map');
    cursor.offset++;
  }
  const entries = new Map<unknown, unknown>();
  for (let i = 1; i < count; i += 2) {
    const key = readScalar(cursor);
    if (entries.has(key)) refuse('a key is there twice');
    entries.set(key, readValue(cursor, depthLeft - 1));
  }
  return entries;
}

function readPlain(cursor: MsgpackCursor, depthLeft: number): object {
  const count = checkHeader(cursor, cursor.offset, cursor.mapHeader(), 16, false);
  const value: { [key: string]: unknown } = {};
  for (let i = 0; i < count; i++) {
    const key = readText(cursor);
    checkKey(key);
    if (Object.hasOwn(value, key)) refuse('a key is there twice');
    value[key] = readValue(cursor, depthLeft - 1);
  }
  return value;
}
