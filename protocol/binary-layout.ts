/**
 * The fixed little-endian layout of binary bodies: every field at its place, aligned to its own size (8 at most), the whole
 * padded to a multiple of 8. Padding is zero and checked, so equal values have equal bytes.
 */
import { type FieldCodec, FieldRefusal, refuse, within } from './field-codec.ts';
import { readI64, readU16, readU32, readU64, writeU16, writeU32, writeU64 } from './little-endian.ts';
import { BoolCodec, BytesCodec, ChoiceCodec, IntCodec, TextCodec } from './scalar-codecs.ts';
import type { Field, Fields } from './schema.ts';
import { readUtf8, writeUtf8 } from './utf8.ts';

type SlotType = 'u8' | 'i8' | 'u16' | 'i16' | 'u32' | 'i32' | 'u64' | 'i64' | 'bool' | 'choice' | 'text' | 'bytes';

/** One field's place. `bytes` is what it takes, without padding; text and bytes begin with their length (u16). */
export type LayoutRow = {
  readonly name: string;
  readonly offset: number;
  readonly bytes: number;
  readonly type: SlotType;
};

type Slot = LayoutRow & { readonly codec: FieldCodec };
type Values = { [name: string]: unknown };

const WHOLE_ALIGNMENT = 8; // The widest field: bodies may follow each other and stay aligned.
const MAX_TEXT_BYTES = 65_535; // The length in front is a u16.

export class BinaryLayout {
  /** Of every body. */
  readonly bytes: number;
  private readonly slots: readonly Slot[];
  private readonly padding: readonly number[];

  /** Errors: TypeError for a field without a fixed place. */
  constructor(fields: Fields, codecs: readonly (readonly [name: string, codec: FieldCodec])[]) {
    this.slots = placeSlots(fields, codecs);
    const last = this.slots.at(-1);
    this.bytes = align(last ? last.offset + last.bytes : 0, WHOLE_ALIGNMENT);
    this.padding = paddingOf(this.slots, this.bytes);
  }

  rows(): LayoutRow[] {
    return this.slots.map(({ name, offset, bytes, type }) => ({ name, offset, bytes, type }));
  }

  /** Refuses (FieldRefusal) what is not exactly a body in [start, end). Allocates only for texts with a pattern. */
  check(bytes: Uint8Array, start: number, end: number): void {
    if (end - start !== this.bytes) refuse(`a body of ${this.bytes} bytes is expected`);
    for (const at of this.padding) if (bytes[start + at] !== 0) refuse('padding must be zero');
    for (const slot of this.slots) {
      try {
        checkSlot(slot, bytes, start + slot.offset);
      } catch (error) {
        throw within(error, slot.name);
      }
    }
  }

  /** The values of a checked body. */
  read(bytes: Uint8Array, start: number): Values {
    const values: Values = {};
    for (const slot of this.slots) values[slot.name] = readSlot(slot, bytes, start + slot.offset);
    return values;
  }

  /** Writes into `target`, which has room and is zero there. */
  write(target: Uint8Array, start: number, values: Values): void {
    const unknown = Object.keys(values).find((name) => !this.slots.some((slot) => slot.name === name));
    if (unknown !== undefined) throw within(new FieldRefusal('there is no such field'), unknown);
    for (const slot of this.slots) {
      try {
        writeSlot(slot, target, start + slot.offset, values[slot.name]);
      } catch (error) {
        throw within(error, slot.name);
      }
    }
  }
}

function placeSlots(fields: Fields, codecs: readonly (readonly [name: string, codec: FieldCodec])[]): Slot[] {
  const slots: Slot[] = [];
  let end = 0;
  for (const [name, codec] of codecs) {
    const { type, bytes, alignment } = slotOf(name, fields[name] as Field);
    const offset = align(end, alignment);
    slots.push({ name, offset, bytes, type, codec });
    end = offset + bytes;
  }
  return slots;
}

function slotOf(name: string, field: Field): { type: SlotType; bytes: number; alignment: number } {
  switch (field.type) {
    case 'bool':
    case 'choice':
      return { type: field.type, bytes: 1, alignment: 1 };
    case 'int': {
      const bits = intBits(field.min, field.max);
      return { type: `${field.min < 0 ? 'i' : 'u'}${bits}`, bytes: bits / 8, alignment: bits / 8 };
    }
    case 'text':
    case 'bytes':
      if (field.maxBytes > MAX_TEXT_BYTES)
        throw new TypeError(`${name}: at most ${MAX_TEXT_BYTES} bytes in a binary body`);
      return { type: field.type, bytes: 2 + field.maxBytes, alignment: 2 };
    default:
      throw new TypeError(`${name}: a field of type ${field.type} has no place in a binary body`);
  }
}

function intBits(min: number, max: number): 8 | 16 | 32 | 64 {
  const fits = (bits: number): boolean =>
    min < 0 ? min >= -(2 ** (bits - 1)) && max < 2 ** (bits - 1) : max < 2 ** bits;
  return fits(8) ? 8 : fits(16) ? 16 : fits(32) ? 32 : 64;
}

function align(offset: number, alignment: number): number {
  return Math.ceil(offset / alignment) * alignment;
}

function paddingOf(slots: readonly Slot[], total: number): number[] {
  const used = new Set(slots.flatMap(({ offset, bytes }) => Array.from({ length: bytes }, (_, i) => offset + i)));
  return Array.from({ length: total }, (_, i) => i).filter((at) => !used.has(at));
}

function checkSlot(slot: Slot, bytes: Uint8Array, at: number): void {
  const { codec } = slot;
  if (codec instanceof IntCodec) codec.checked(readInt(slot.type, bytes, at));
  else if (codec instanceof ChoiceCodec) codec.nameOf(bytes[at] as number);
  else if (codec instanceof BoolCodec) {
    if ((bytes[at] as number) > 1) refuse('0 or 1 is expected');
  } else checkSized(slot, bytes, at);
}

function checkSized({ codec, bytes: room }: Slot, bytes: Uint8Array, at: number): void {
  const length = readU16(bytes, at);
  if (length > room - 2) refuse(`at most ${room - 2} bytes are expected`);
  const end = at + 2 + length;
  if (codec instanceof TextCodec) {
    codec.checkLength(length);
    codec.checkBytes(bytes, at + 2, end);
  }
  for (let i = end; i < at + room; i++) if (bytes[i] !== 0) refuse('what follows the text or bytes must be zero');
}

function readSlot({ codec, type }: Slot, bytes: Uint8Array, at: number): unknown {
  if (codec instanceof IntCodec) return readInt(type, bytes, at);
  if (codec instanceof ChoiceCodec) return codec.nameOf(bytes[at] as number);
  if (codec instanceof BoolCodec) return bytes[at] === 1;
  const end = at + 2 + readU16(bytes, at);
  return codec instanceof TextCodec ? readUtf8(bytes, at + 2, end) : Uint8Array.from(bytes.subarray(at + 2, end));
}

function readInt(type: SlotType, bytes: Uint8Array, at: number): number {
  switch (type) {
    case 'u8':
      return bytes[at] as number;
    case 'i8':
      return ((bytes[at] as number) << 24) >> 24;
    case 'u16':
      return readU16(bytes, at);
    case 'i16':
      return (readU16(bytes, at) << 16) >> 16;
    case 'u32':
      return readU32(bytes, at);
    case 'i32':
      return readU32(bytes, at) | 0;
    case 'u64':
      return readU64(bytes, at);
    default:
      return readI64(bytes, at);
  }
}

function writeSlot(slot: Slot, target: Uint8Array, at: number, value: unknown): void {
  const { codec } = slot;
  if (codec instanceof IntCodec) writeInt(slot.bytes, target, at, codec.checked(value));
  else if (codec instanceof ChoiceCodec) target[at] = codec.indexOf(value);
  else if (codec instanceof BoolCodec) target[at] = codec.fromJson(value) ? 1 : 0;
  else if (codec instanceof TextCodec) writeText(target, at, codec.fromJson(value));
  else if (codec instanceof BytesCodec) {
    const content = codec.checked(value);
    writeU16(target, at, content.length);
    target.set(content, at + 2);
  }
}

function writeText(target: Uint8Array, at: number, text: string): void {
  writeU16(target, at, writeUtf8(target, at + 2, text));
}

function writeInt(size: number, target: Uint8Array, at: number, value: number): void {
  if (size === 1) target[at] = value;
  else if (size === 2) writeU16(target, at, value);
  else if (size === 4) writeU32(target, at, value >>> 0);
  else writeU64(target, at, value);
}
