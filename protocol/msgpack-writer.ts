/**
 * Writes MessagePack values one after the other into a buffer that grows and is reused. Every value takes its shortest form,
 * so equal values give equal bytes.
 */
import { writeUtf8 } from './utf8.ts';

const FIRST_BYTES = 1024; // Most messages fit; the buffer doubles from here.
const KEPT_BYTES = 1024 * 1024; // A buffer that grew beyond this is let go at the next reset.
const ON_HEAP_BYTES = 64; // V8 keeps typed arrays up to this in its heap (40 ns); longer ones it allocates outside (400 to 600 ns).
const SLAB_BYTES = 8 * 1024; // Shared by copies of middling size, each then 60 to 80 ns; the size of the pool of Node's Buffer.
const SHARED_BYTES = 1024; // Above this the copying outweighs the allocation.
const TWO_32 = 0x1_0000_0000;

let slab = new Uint8Array(SLAB_BYTES);
let slabOffset = 0;

const float = new DataView(new ArrayBuffer(8));

export class MsgpackWriter {
  bytes: Uint8Array = new Uint8Array(FIRST_BYTES);
  /** Where the next byte goes: the length so far. */
  offset = 0;

  reset(): void {
    this.offset = 0;
    if (this.bytes.length > KEPT_BYTES) this.bytes = new Uint8Array(FIRST_BYTES);
  }

  /**
   * A copy of what was written since the last reset. Copies of middling size share a buffer, as Node's Buffers do: do not
   * transfer it, and copy again what is kept for long.
   */
  copy(): Uint8Array {
    const length = this.offset;
    if (length <= ON_HEAP_BYTES || length > SHARED_BYTES) return this.bytes.slice(0, length);
    if (slabOffset + length > slab.length) {
      slab = new Uint8Array(SLAB_BYTES);
      slabOffset = 0;
    }
    slab.set(this.bytes.subarray(0, length), slabOffset);
    slabOffset += length;
    return slab.subarray(slabOffset - length, slabOffset);
  }

  /** What was written since the last reset; valid until the next write or reset. */
  view(): Uint8Array {
    return this.bytes.subarray(0, this.offset);
  }

  /** Makes room for `count` bytes. */
  reserve(count: number): void {
    const needed = this.offset + count;
    if (needed <= this.bytes.length) return;
    const larger = new Uint8Array(Math.max(needed, this.bytes.length * 2));
    larger.set(this.bytes.subarray(0, this.offset));
    this.bytes = larger;
  }

  /** Bytes as they are: values encoded before. */
  raw(value: Uint8Array): void {
    this.reserve(value.length);
    this.bytes.set(value, this.offset);
    this.offset += value.length;
  }

  /** One byte as it is. */
  byte(value: number): void {
    this.reserve(1);
    this.bytes[this.offset++] = value;
  }

  nil(): void {
    this.byte(0xc0);
  }

  bool(value: boolean): void {
    this.byte(value ? 0xc3 : 0xc2);
  }

  /** A safe integer. */
  int(value: number): void {
    this.reserve(9);
    if (value >= 0) this.natural(value);
    else this.negative(value);
  }

  private natural(value: number): void {
    if (value < 0x80) this.bytes[this.offset++] = value;
    else if (value < 0x100) this.tagged8(0xcc, value);
    else if (value < 0x1_0000) this.tagged16(0xcd, value);
    else if (value < TWO_32) this.tagged32(0xce, value);
    else this.tagged64(0xcf, value);
  }

  private negative(value: number): void {
    if (value >= -32) this.bytes[this.offset++] = value & 0xff;
    else if (value >= -0x80) this.tagged8(0xd0, value);
    else if (value >= -0x8000) this.tagged16(0xd1, value);
    else if (value >= -0x8000_0000) this.tagged32(0xd2, value);
    else this.tagged64(0xd3, value);
  }

  float64(value: number): void {
    this.reserve(9);
    float.setFloat64(0, value);
    this.bytes[this.offset++] = 0xcb;
    for (let i = 0; i < 8; i++) this.bytes[this.offset++] = float.getUint8(i);
  }

  /** Gives the bytes of the text in UTF-8, or -1 (and writes nothing) when it holds a lone surrogate. */
  text(value: string): number {
    this.reserve(5 + value.length * 3);
    const start = this.offset;
    const guess = textHeader(value.length);
    const length = writeUtf8(this.bytes, start + guess, value);
    if (length < 0) return -1;
    const header = textHeader(length);
    if (header !== guess) this.bytes.copyWithin(start + header, start + guess, start + guess + length);
    this.textLength(length);
    this.offset = start + header + length;
    return length;
  }

  private textLength(length: number): void {
    if (length < 32) this.bytes[this.offset++] = 0xa0 | length;
    else if (length < 0x100) this.tagged8(0xd9, length);
    else if (length < 0x1_0000) this.tagged16(0xda, length);
    else this.tagged32(0xdb, length);
  }

  bin(value: Uint8Array): void {
    this.reserve(5 + value.length);
    const { length } = value;
    if (length < 0x100) this.tagged8(0xc4, length);
    else if (length < 0x1_0000) this.tagged16(0xc5, length);
    else this.tagged32(0xc6, length);
    this.bytes.set(value, this.offset);
    this.offset += length;
  }

  /** The header of an array; its items follow. */
  array(length: number): void {
    this.reserve(5);
    if (length < 16) this.bytes[this.offset++] = 0x90 | length;
    else if (length < 0x1_0000) this.tagged16(0xdc, length);
    else this.tagged32(0xdd, length);
  }

  /** The header of a map; its keys and values follow in turn. */
  map(length: number): void {
    this.reserve(5);
    if (length < 16) this.bytes[this.offset++] = 0x80 | length;
    else if (length < 0x1_0000) this.tagged16(0xde, length);
    else this.tagged32(0xdf, length);
  }

  private tagged8(tag: number, value: number): void {
    this.bytes[this.offset++] = tag;
    this.bytes[this.offset++] = value;
  }

  private tagged16(tag: number, value: number): void {
    this.bytes[this.offset++] = tag;
    this.bytes[this.offset++] = value >>> 8;
    this.bytes[this.offset++] = value;
  }

  private tagged32(tag: number, value: number): void {
    this.bytes[this.offset++] = tag;
    this.u32(value >>> 0);
  }

  private tagged64(tag: number, value: number): void {
    this.bytes[this.offset++] = tag;
    this.u32(Math.floor(value / TWO_32) >>> 0);
    this.u32(value >>> 0);
  }

  private u32(value: number): void {
    this.bytes[this.offset++] = value >>> 24;
    this.bytes[this.offset++] = value >>> 16;
    this.bytes[this.offset++] = value >>> 8;
    this.bytes[this.offset++] = value;
  }
}

function textHeader(length: number): number {
  return length < 32 ? 1 : length < 0x100 ? 2 : length < 0x1_0000 ? 3 : 5;
}
