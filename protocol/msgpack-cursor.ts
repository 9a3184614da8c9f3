/**
 * Reads MessagePack values one after the other, without allocation and never past `end`. A method that does not find what it
 * is asked for answers with a value that no such value has (-1, NaN); the caller gives that a name.
 */
import { readUtf8 } from './utf8.ts';

const TWO_32 = 0x1_0000_0000;
const float = new DataView(new ArrayBuffer(8));

/** What the first byte of a value says of it. */
export type MsgpackType = 'nil' | 'bool' | 'int' | 'float' | 'text' | 'bin' | 'array' | 'map' | 'other';

export class MsgpackCursor {
  bytes: Uint8Array = new Uint8Array(0);
  offset = 0;
  end = 0;

  reset(bytes: Uint8Array, start: number, end: number): void {
    if (start < 0 || start > end || end > bytes.length) throw new RangeError(`bytes from ${start} to ${end}`);
    this.bytes = bytes;
    this.offset = start;
    this.end = end;
  }

  /** The first byte of the next value; -1 at the end. */
  peek(): number {
    return this.offset < this.end ? (this.bytes[this.offset] as number) : -1;
  }

  /** Takes the value if it is nil. */
  nil(): boolean {
    if (this.peek() !== 0xc0) return false;
    this.offset++;
    return true;
  }

  /** 1, 0, or -1 when it is no boolean. */
  bool(): number {
    const tag = this.peek();
    if (tag !== 0xc2 && tag !== 0xc3) return -1;
    this.offset++;
    return tag - 0xc2;
  }

  /** A safe integer in any integer format, or as float64; NaN when it is none (or minus zero). */
  int(): number {
    const tag = this.peek();
    if (tag < 0) return Number.NaN;
    if (tag < 0x80) {
      this.offset++;
      return tag;
    }
    if (tag >= 0xe0) {
      this.offset++;
      return tag - 0x100;
    }
    const size = INT_BYTES[tag] as number;
    const at = this.offset + 1;
    if (size === 0 || at + size > this.end) return Number.NaN;
    this.offset = at + size;
    return intAt(this.bytes, at, tag);
  }

  /** The next float64 as it is; NaN when it is none. */
  float64(): number {
    if (this.peek() !== 0xcb || this.offset + 9 > this.end) return Number.NaN;
    this.offset += 9;
    return floatAt(this.bytes, this.offset - 8);
  }

  /** Takes the header of a text and gives its bytes, which all lie before `end`; -1 when it is none. */
  textHeader(): number {
    const tag = this.peek();
    if (tag >= 0xa0 && tag < 0xc0) return this.body(tag & 31, 1);
    if (tag === 0xd9) return this.body(this.length8(), 2);
    if (tag === 0xda) return this.body(this.length16(), 3);
    if (tag === 0xdb) return this.body(this.length32(), 5);
    return -1;
  }

  /** Takes the header of a bin and gives its bytes, which all lie before `end`; -1 when it is none. */
  binHeader(): number {
    const tag = this.peek();
    if (tag === 0xc4) return this.body(this.length8(), 2);
    if (tag === 0xc5) return this.body(this.length16(), 3);
    if (tag === 0xc6) return this.body(this.length32(), 5);
    return -1;
  }

  /** Takes the header of an array and gives its items, for which there is at least a byte each; -1 when it is none. */
  arrayHeader(): number {
    const tag = this.peek();
    if (tag >= 0x90 && tag < 0xa0) return this.body(tag & 15, 1);
    if (tag === 0xdc) return this.body(this.length16(), 3);
    if (tag === 0xdd) return this.body(this.length32(), 5);
    return -1;
  }

  /** Takes the header of a map and gives its entries, for which there are at least two bytes each; -1 when it is none. */
  mapHeader(): number {
    const tag = this.peek();
    let length = -1;
    if (tag >= 0x80 && tag < 0x90) length = this.body(tag & 15, 1);
    else if (tag === 0xde) length = this.body(this.length16(), 3);
    else if (tag === 0xdf) length = this.body(this.length32(), 5);
    return length * 2 > this.end - this.offset ? -1 : length;
  }

  /** The text of `length` bytes that begins here; undefined when they are not well-formed UTF-8. */
  takeText(length: number): string | undefined {
    const start = this.offset;
    this.offset = start + length;
    return readUtf8(this.bytes, start, this.offset);
  }

  /** A copy of the `length` bytes that begin here. Never a Buffer, whose slice() would share memory. */
  takeBytes(length: number): Uint8Array {
    const copy = new Uint8Array(length);
    copy.set(this.bytes.subarray(this.offset, this.offset + length));
    this.offset += length;
    return copy;
  }

  /** Moves behind the header, if the header and `length` bytes behind it are there. */
  private body(length: number, header: number): number {
    const at = this.offset + header;
    if (length < 0 || at + length > this.end) return -1;
    this.offset = at;
    return length;
  }

  private length8(): number {
    return this.offset + 2 > this.end ? -1 : (this.bytes[this.offset + 1] as number);
  }

  private length16(): number {
    return this.offset + 3 > this.end ? -1 : u16(this.bytes, this.offset + 1);
  }

  private length32(): number {
    return this.offset + 5 > this.end ? -1 : u32(this.bytes, this.offset + 1);
  }
}

/** Bytes behind the tag of each integer format (and float64); 0 for other tags. */
const INT_BYTES = new Uint8Array(256);
for (const [tag, size] of [
  [0xcb, 8],
  [0xcc, 1],
  [0xcd, 2],
  [0xce, 4],
  [0xcf, 8],
  [0xd0, 1],
  [0xd1, 2],
  [0xd2, 4],
  [0xd3, 8],
] as const) {
  INT_BYTES[tag] = size;
}

function intAt(bytes: Uint8Array, at: number, tag: number): number {
  switch (tag) {
    case 0xcc:
      return bytes[at] as number;
    case 0xcd:
      return u16(bytes, at);
    case 0xce:
      return u32(bytes, at);
    case 0xd0:
      return ((bytes[at] as number) << 24) >> 24;
    case 0xd1:
      return (u16(bytes, at) << 16) >> 16;
    case 0xd2:
      return u32(bytes, at) | 0;
    case 0xcf:
      return safe(u32(bytes, at) * TWO_32 + u32(bytes, at + 4));
    case 0xd3:
      return safe((u32(bytes, at) | 0) * TWO_32 + u32(bytes, at + 4));
    default:
      return safe(floatAt(bytes, at));
  }
}

function safe(value: number): number {
  return Number.isSafeInteger(value) && !Object.is(value, -0) ? value : Number.NaN;
}

function floatAt(bytes: Uint8Array, at: number): number {
  for (let i = 0; i < 8; i++) float.setUint8(i, bytes[at + i] as number);
  return float.getFloat64(0);
}

function u16(bytes: Uint8Array, at: number): number {
  return ((bytes[at] as number) << 8) | (bytes[at + 1] as number);
}

function u32(bytes: Uint8Array, at: number): number {
  return u16(bytes, at) * 0x1_0000 + u16(bytes, at + 2);
}

/** The type that a first byte (see MsgpackCursor.peek) announces; `other`: extension, float32, unused, or the end. */
export function typeOfTag(tag: number): MsgpackType {
  if (tag < 0) return 'other';
  if (tag < 0x80 || tag >= 0xe0 || (tag >= 0xcc && tag <= 0xd3)) return 'int';
  if (tag < 0x90) return 'map';
  if (tag < 0xa0) return 'array';
  if (tag < 0xc0) return 'text';
  return TYPES[tag] ?? 'other';
}

const TYPES: { readonly [tag: number]: MsgpackType } = {
  192: 'nil',
  194: 'bool',
  195: 'bool',
  196: 'bin',
  197: 'bin',
  198: 'bin',
  203: 'float',
  217: 'text',
  218: 'text',
  219: 'text',
  220: 'array',
  221: 'array',
  222: 'map',
  223: 'map',
};
