/** Codecs of the fields without parts: integers, booleans, texts, bytes and choices. */
import { fromBase64url, toBase64url } from './base64url.ts';
import type { Draws } from './draws.ts';
import { type FieldCodec, type JsonSchema, refuse } from './field-codec.ts';
import type { MsgpackCursor } from './msgpack-cursor.ts';
import type { MsgpackWriter } from './msgpack-writer.ts';
import { patternGenerator } from './pattern.ts';
import type { BytesField, ChoiceField, IntField, TextField } from './schema.ts';
import { isUtf8, readUtf8, utf8Length } from './utf8.ts';

const LONGEST_INT = 9; // A tag and 8 bytes: a writer may use a longer form than it needs.
const LONGEST_HEADER = 5; // Of a text, bin, array or map.

const ILL_FORMED = 'well-formed UTF-8 is expected';

export class IntCodec implements FieldCodec {
  readonly maxBytes = LONGEST_INT;
  readonly depth = 1;
  private readonly min: number;
  private readonly max: number;

  constructor({ min, max }: IntField) {
    this.min = min;
    this.max = max;
  }

  check(cursor: MsgpackCursor): void {
    this.read(cursor);
  }

  read(cursor: MsgpackCursor): number {
    const value = cursor.int();
    if (value >= this.min && value <= this.max) return value;
    return this.refuse();
  }

  write(writer: MsgpackWriter, value: unknown): void {
    writer.int(this.checked(value));
  }

  /** The value, if it is an integer within the bounds. */
  checked(value: unknown): number {
    if (typeof value !== 'number' || !Number.isInteger(value) || Object.is(value, -0)) return this.refuse();
    return value >= this.min && value <= this.max ? value : this.refuse();
  }

  fromJson(json: unknown): number {
    return this.checked(json);
  }

  toJson(value: unknown): unknown {
    return value;
  }

  jsonSchema(): JsonSchema {
    return { type: 'integer', minimum: this.min, maximum: this.max };
  }

  generate(draws: Draws): number {
    return draws.int(this.min, this.max);
  }

  private refuse(): never {
    return refuse(`an integer from ${this.min} to ${this.max} is expected`);
  }
}

export class BoolCodec implements FieldCodec {
  readonly maxBytes = 1;
  readonly depth = 1;

  check(cursor: MsgpackCursor): void {
    this.read(cursor);
  }

  read(cursor: MsgpackCursor): boolean {
    const value = cursor.bool();
    return value < 0 ? refuse('true or false is expected') : value === 1;
  }

  write(writer: MsgpackWriter, value: unknown): void {
    writer.bool(this.fromJson(value));
  }

  fromJson(json: unknown): boolean {
    return typeof json === 'boolean' ? json : refuse('true or false is expected');
  }

  toJson(value: unknown): unknown {
    return value;
  }

  jsonSchema(): JsonSchema {
    return { type: 'boolean' };
  }

  generate(draws: Draws): boolean {
    return draws.chance(0.5);
  }
}

const TRIES = 1_000; // Texts drawn for a pattern until one fits the bounds too; none found is a mistake in the schema.
const CHARACTERS = [
  'a',
  'z',
  'Z',
  '0',
  ' ',
  '"',
  '\\',
  '<',
  '\u0000',
  '\u007f',
  'é',
  'ß',
  '中',
  '\ufeff',
  '\uffff',
  '😀',
  '𝔘',
];

export class TextCodec implements FieldCodec {
  readonly maxBytes: number;
  readonly depth = 1;
  private readonly field: TextField;
  private readonly pattern: RegExp | undefined;

  constructor(field: TextField) {
    if (field.minBytes < 0 || field.minBytes > field.maxBytes)
      throw new TypeError('text: minBytes lies above maxBytes');
    this.field = field;
    this.maxBytes = LONGEST_HEADER + field.maxBytes;
    this.pattern = field.pattern === undefined ? undefined : new RegExp(`^(?:${field.pattern})$`, 'u');
  }

  /** Without allocation, unless there is a pattern. */
  check(cursor: MsgpackCursor): void {
    const length = this.header(cursor);
    const start = cursor.offset;
    const end = start + length;
    this.checkBytes(cursor.bytes, start, end);
    cursor.offset = end;
  }

  read(cursor: MsgpackCursor): string {
    const value = cursor.takeText(this.header(cursor)) ?? refuse(ILL_FORMED);
    this.checkPattern(value);
    return value;
  }

  /** Checks raw bytes of a text, whose length is within the bounds. */
  checkBytes(bytes: Uint8Array, start: number, end: number): void {
    if (this.pattern) this.checkPattern(readUtf8(bytes, start, end) ?? refuse(ILL_FORMED));
    else if (!isUtf8(bytes, start, end)) refuse(ILL_FORMED);
  }

  checkLength(length: number): void {
    const { minBytes, maxBytes } = this.field;
    if (length < minBytes || length > maxBytes) refuse(`a text of ${minBytes} to ${maxBytes} bytes is expected`);
  }

  checkPattern(value: string): void {
    if (this.pattern && !this.pattern.test(value)) refuse(`the text does not match ${this.field.pattern}`);
  }

  private header(cursor: MsgpackCursor): number {
    const length = cursor.textHeader();
    if (length < 0) refuse('a text is expected');
    this.checkLength(length);
    return length;
  }

  write(writer: MsgpackWriter, value: unknown): void {
    if (typeof value !== 'string') return refuse('a text is expected');
    if (value.length > this.field.maxBytes) this.checkLength(value.length);
    const length = writer.text(value);
    if (length < 0) refuse('the text holds a lone surrogate');
    this.checkLength(length);
    this.checkPattern(value);
  }

  fromJson(json: unknown): string {
    if (typeof json !== 'string') return refuse('a text is expected');
    const length = utf8Length(json);
    if (length < 0) refuse('the text holds a lone surrogate');
    this.checkLength(length);
    this.checkPattern(json);
    return json;
  }

  toJson(value: unknown): unknown {
    return value;
  }

  jsonSchema(): JsonSchema {
    const { minBytes, maxBytes, pattern } = this.field;
    return {
      type: 'string',
      ...(minBytes > 0 && { minLength: Math.ceil(minBytes / 4) }), // A character has up to 4 bytes.
      maxLength: maxBytes,
      ...(pattern !== undefined && { pattern: `^(?:${pattern})$` }),
      description: `${minBytes > 0 ? `${minBytes} to ${maxBytes}` : `At most ${maxBytes}`} bytes in UTF-8.`,
    };
  }

  generate(draws: Draws): string {
    return this.field.pattern === undefined
      ? this.generatePlain(draws)
      : this.generateMatching(draws, this.field.pattern);
  }

  private generatePlain(draws: Draws): string {
    const length = draws.bytes(this.field.minBytes, this.field.maxBytes);
    const plain = draws.chance(0.5);
    let text = '';
    for (let left = length; left > 0; ) {
      const character = plain ? draws.pick(CHARACTERS.slice(0, 5)) : draws.pick(CHARACTERS);
      const bytes = utf8Length(character);
      text += bytes <= left ? character : 'x';
      left -= bytes <= left ? bytes : 1;
    }
    return text;
  }

  private generateMatching(draws: Draws, pattern: string): string {
    const next = patternGenerator(pattern);
    const { minBytes, maxBytes } = this.field;
    for (let i = 0; i < TRIES; i++) {
      const text = next(draws);
      const length = utf8Length(text);
      if (length >= minBytes && length <= maxBytes && this.pattern?.test(text)) return text;
    }
    throw new TypeError(`pattern /${pattern}/: no text of ${minBytes} to ${maxBytes} bytes found in ${TRIES} tries`);
  }
}

export class BytesCodec implements FieldCodec {
  readonly maxBytes: number;
  readonly depth = 1;
  private readonly most: number;

  constructor({ maxBytes }: BytesField) {
    this.most = maxBytes;
    this.maxBytes = LONGEST_HEADER + maxBytes;
  }

  check(cursor: MsgpackCursor): void {
    const length = this.header(cursor);
    cursor.offset += length;
  }

  read(cursor: MsgpackCursor): Uint8Array {
    return cursor.takeBytes(this.header(cursor));
  }

  checkLength(length: number): void {
    if (length > this.most) refuse(`at most ${this.most} bytes are expected`);
  }

  private header(cursor: MsgpackCursor): number {
    const length = cursor.binHeader();
    if (length < 0) refuse('bytes are expected');
    this.checkLength(length);
    return length;
  }

  write(writer: MsgpackWriter, value: unknown): void {
    writer.bin(this.checked(value));
  }

  checked(value: unknown): Uint8Array {
    if (!(value instanceof Uint8Array)) return refuse('bytes are expected');
    this.checkLength(value.length);
    return value;
  }

  fromJson(json: unknown): Uint8Array {
    if (typeof json !== 'string') return refuse('bytes as base64url text are expected');
    const value = fromBase64url(json);
    return value ? this.checked(value) : refuse('bytes as base64url text without padding are expected');
  }

  toJson(value: unknown): string {
    return toBase64url(value as Uint8Array);
  }

  jsonSchema(): JsonSchema {
    const maxLength = Math.ceil((this.most * 4) / 3);
    const description = `At most ${this.most} bytes, in base64url without padding.`;
    return { type: 'string', contentEncoding: 'base64url', maxLength, pattern: '^[A-Za-z0-9_-]*$', description };
  }

  generate(draws: Draws): Uint8Array {
    return Uint8Array.from({ length: draws.bytes(0, this.most) }, () => draws.uniform(0, 255));
  }
}

export class ChoiceCodec implements FieldCodec {
  readonly maxBytes = LONGEST_INT;
  readonly depth = 1;
  private readonly values: readonly string[];
  private readonly indexes: ReadonlyMap<unknown, number>;

  constructor({ values }: ChoiceField) {
    this.values = values;
    this.indexes = new Map(values.map((value, index) => [value, index]));
  }

  check(cursor: MsgpackCursor): void {
    this.read(cursor);
  }

  read(cursor: MsgpackCursor): string {
    return this.nameOf(cursor.int());
  }

  write(writer: MsgpackWriter, value: unknown): void {
    writer.int(this.indexOf(value));
  }

  nameOf(index: number): string {
    return this.values[index] ?? refuse(`an index below ${this.values.length} is expected`);
  }

  indexOf(value: unknown): number {
    return this.indexes.get(value) ?? refuse(`one of ${this.values.join(', ')} is expected`);
  }

  fromJson(json: unknown): string {
    return this.nameOf(this.indexOf(json));
  }

  toJson(value: unknown): unknown {
    return value;
  }

  jsonSchema(): JsonSchema {
    return { type: 'string', enum: this.values };
  }

  generate(draws: Draws): string {
    return draws.pick(this.values);
  }
}
