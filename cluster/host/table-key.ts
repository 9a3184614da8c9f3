/**
 * Keys of table rows as bytes whose bytewise order is the order of the key fields: integers by value, text and bytes by their
 * bytes, a shorter one before its extensions, false before true, choices by declaration. The format is frozen by its test.
 */
import { ProtocolError } from '../../protocol/errors.ts';
import type { Field, Fields } from '../../protocol/schema.ts';

export type KeyCodec = {
  /** Bytes of a key, or of its leading fields (for ranges). Errors: `invalid_field`. */
  encode(key: { readonly [name: string]: unknown }, leadingOnly?: boolean): Uint8Array;
  decode(bytes: Uint8Array, start: number): Record<string, unknown>;
};

const MAX_KEY_BYTES = 1_024; // LMDB holds keys up to 1,978 bytes; reference and table name take up to 200.
const INT_BYTES = 8;
const OFFSET = 2 ** 53; // Shifts safe integers to naturals, so that their big-endian bytes are in order.

/** The codec of a table's key. Errors: TypeError where a field cannot be part of a key. */
export function keyCodec(fields: Fields): KeyCodec {
  const parts = Object.entries(fields);
  for (const [name, field] of parts) {
    if (!['int', 'text', 'bytes', 'bool', 'choice'].includes(field.type)) {
      throw new TypeError(`"${name}" (${field.type}) cannot be part of a table's key`);
    }
  }
  return {
    encode(key, leadingOnly = false) {
      const target: number[] = [];
      for (const [name, field] of parts) {
        const value = key[name];
        if (value === undefined && leadingOnly) break;
        encodePart(target, field, value, name);
      }
      if (target.length > MAX_KEY_BYTES) throw new ProtocolError('invalid_field', 'the key is too long');
      return Uint8Array.from(target);
    },
    decode(bytes, start) {
      const cursor = { bytes, offset: start };
      return Object.fromEntries(parts.map(([name, field]) => [name, decodePart(cursor, field)]));
    },
  };
}

function encodePart(target: number[], field: Field, value: unknown, name: string): void {
  switch (field.type) {
    case 'int':
      if (typeof value !== 'number' || !Number.isSafeInteger(value) || value < field.min || value > field.max) break;
      return encodeInt(target, value);
    case 'text':
      if (typeof value !== 'string' || !value.isWellFormed() || Buffer.byteLength(value) > field.maxBytes) break;
      return encodeBytes(target, Buffer.from(value));
    case 'bytes':
      if (!(value instanceof Uint8Array) || value.length > field.maxBytes) break;
      return encodeBytes(target, value);
    case 'bool':
      if (typeof value !== 'boolean') break;
      target.push(value ? 1 : 0);
      return;
    case 'choice': {
      const index = field.values.indexOf(value as string);
      if (index < 0) break;
      target.push(index);
      return;
    }
  }
  throw new ProtocolError('invalid_field', `the key field "${name}" is missing or out of bounds`, name);
}

function encodeInt(target: number[], value: number): void {
  // OFFSET + value may need 54 bits: split before adding, so that nothing is rounded.
  const high = Math.floor(value / 2 ** 32) + OFFSET / 2 ** 32;
  const low = value - Math.floor(value / 2 ** 32) * 2 ** 32;
  for (const half of [high, low]) for (let shift = 24; shift >= 0; shift -= 8) target.push((half >>> shift) & 255);
}

/** A zero byte inside is doubled as 0 255, and 0 0 ends: so a prefix sorts before its extensions. */
function encodeBytes(target: number[], bytes: Uint8Array): void {
  for (const byte of bytes) {
    target.push(byte);
    if (byte === 0) target.push(255);
  }
  target.push(0, 0);
}

type Cursor = { readonly bytes: Uint8Array; offset: number };

function decodePart(cursor: Cursor, field: Field): unknown {
  switch (field.type) {
    case 'int':
      return decodeInt(cursor);
    case 'text':
      return Buffer.from(decodeBytes(cursor)).toString();
    case 'bytes':
      return decodeBytes(cursor);
    case 'bool':
      return cursor.bytes[cursor.offset++] === 1;
    case 'choice':
      return field.values[cursor.bytes[cursor.offset++] as number];
    default:
      throw new TypeError(`no key holds a ${field.type}`);
  }
}

function decodeInt(cursor: Cursor): number {
  const view = new DataView(cursor.bytes.buffer, cursor.bytes.byteOffset + cursor.offset, INT_BYTES);
  cursor.offset += INT_BYTES;
  return (view.getUint32(0) - OFFSET / 2 ** 32) * 2 ** 32 + view.getUint32(4);
}

function decodeBytes(cursor: Cursor): Uint8Array {
  const found: number[] = [];
  for (;;) {
    const byte = cursor.bytes[cursor.offset++];
    if (byte === undefined) throw new ProtocolError('storage_failed', 'a stored key is cut off');
    if (byte === 0 && cursor.bytes[cursor.offset++] === 0) return Uint8Array.from(found);
    found.push(byte);
  }
}

/** A name and the zero that ends it: the beginning of all keys under that name. Names and references hold no zero. */
export function encodeKeyPrefix(name: string): Uint8Array {
  return Buffer.from(`${name}\0`);
}

/** The least key above all that begin with `prefix`. */
export function afterPrefix(prefix: Uint8Array): Uint8Array {
  const next = Uint8Array.from(prefix);
  for (let i = next.length - 1; i >= 0; i--) {
    if ((next[i] as number) < 255) {
      next[i] = (next[i] as number) + 1;
      return next.subarray(0, i + 1);
    }
  }
  return Uint8Array.of(255, 255, 255, 255); // Nothing sorts above: no key of ours begins with 255.
}

/** Several byte strings as one. */
export function joinBytes(...parts: readonly Uint8Array[]): Uint8Array {
  return Buffer.concat(parts);
}
