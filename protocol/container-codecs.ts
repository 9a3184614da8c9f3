/** Codecs of the fields with parts: lists, maps, optional values and records. */
import type { Draws } from './draws.ts';
import { type FieldCodec, FieldRefusal, isPrototypeKey, type JsonSchema, refuse, within } from './field-codec.ts';
import type { MsgpackCursor } from './msgpack-cursor.ts';
import type { MsgpackWriter } from './msgpack-writer.ts';
import { utf8Length } from './utf8.ts';

const MAX_KEY_BYTES = 128; // Of a map: the bound of an actor's key, which is what most maps are keyed by.

const MISSING = 'the field is missing';
const LONGEST_HEADER = 5; // Of a text, bin, array or map.

export class ListCodec implements FieldCodec {
  readonly maxBytes: number;
  readonly depth: number;
  private readonly of: FieldCodec;
  private readonly maxItems: number;

  constructor(of: FieldCodec, maxItems: number) {
    this.of = of;
    this.maxItems = maxItems;
    this.maxBytes = LONGEST_HEADER + maxItems * of.maxBytes;
    this.depth = 1 + of.depth;
  }

  check(cursor: MsgpackCursor): void {
    const count = this.header(cursor);
    let i = 0;
    try {
      for (; i < count; i++) this.of.check(cursor);
    } catch (error) {
      throw within(error, `[${i}]`);
    }
  }

  read(cursor: MsgpackCursor): unknown[] {
    const count = this.header(cursor);
    const items: unknown[] = [];
    try {
      while (items.length < count) items.push(this.of.read(cursor));
    } catch (error) {
      throw within(error, `[${items.length}]`);
    }
    return items;
  }

  private header(cursor: MsgpackCursor): number {
    const count = cursor.arrayHeader();
    if (count < 0) refuse('a list is expected');
    this.checkCount(count);
    return count;
  }

  private checkCount(count: number): void {
    if (count > this.maxItems) refuse(`at most ${this.maxItems} items are expected`);
  }

  write(writer: MsgpackWriter, value: unknown): void {
    const items = this.checkedItems(value);
    writer.array(items.length);
    let i = 0;
    try {
      for (; i < items.length; i++) this.of.write(writer, items[i]);
    } catch (error) {
      throw within(error, `[${i}]`);
    }
  }

  private checkedItems(value: unknown): readonly unknown[] {
    if (!Array.isArray(value)) return refuse('a list is expected');
    this.checkCount(value.length);
    return value;
  }

  fromJson(json: unknown): unknown[] {
    return this.checkedItems(json).map((item, i) => {
      try {
        return this.of.fromJson(item);
      } catch (error) {
        throw within(error, `[${i}]`);
      }
    });
  }

  toJson(value: unknown): unknown {
    return (value as unknown[]).map((item) => this.of.toJson(item));
  }

  jsonSchema(): JsonSchema {
    return { type: 'array', items: this.of.jsonSchema(), maxItems: this.maxItems };
  }

  generate(draws: Draws): unknown[] {
    return Array.from({ length: draws.items(this.maxItems) }, () => this.of.generate(draws));
  }
}

/** Map<string, T>; on the wire a MessagePack map with text keys, in JSON an object. */
export class MapCodec implements FieldCodec {
  readonly maxBytes: number;
  readonly depth: number;
  private readonly of: FieldCodec;
  private readonly maxItems: number;

  constructor(of: FieldCodec, maxItems: number) {
    this.of = of;
    this.maxItems = maxItems;
    this.maxBytes = LONGEST_HEADER + maxItems * (LONGEST_HEADER + MAX_KEY_BYTES + of.maxBytes);
    this.depth = 1 + of.depth;
  }

  /** Allocates the keys of maps with more than one entry, to find repeated ones. */
  check(cursor: MsgpackCursor): void {
    const count = this.header(cursor);
    const seen = new Set<string>();
    for (let i = 0; i < count; i++) {
      const key = readKey(cursor);
      if (seen.has(key)) refuse(`key "${key}" is there twice`);
      seen.add(key);
      try {
        this.of.check(cursor);
      } catch (error) {
        throw within(error, pathOfKey(key));
      }
    }
  }

  read(cursor: MsgpackCursor): Map<string, unknown> {
    const count = this.header(cursor);
    const entries = new Map<string, unknown>();
    for (let i = 0; i < count; i++) {
      const key = readKey(cursor);
      if (entries.has(key)) refuse(`key "${key}" is there twice`);
      try {
        entries.set(key, this.of.read(cursor));
      } catch (error) {
        throw within(error, pathOfKey(key));
      }
    }
    return entries;
  }

  private header(cursor: MsgpackCursor): number {
    const count = cursor.mapHeader();
    if (count < 0) refuse('a map is expected');
    this.checkCount(count);
    return count;
  }

  private checkCount(count: number): void {
    if (count > this.maxItems) refuse(`at most ${this.maxItems} entries are expected`);
  }

  write(writer: MsgpackWriter, value: unknown): void {
    if (!(value instanceof Map)) return refuse('a Map is expected');
    this.checkCount(value.size);
    writer.map(value.size);
    for (const [key, item] of value) {
      writer.text(checkedKey(key));
      try {
        this.of.write(writer, item);
      } catch (error) {
        throw within(error, pathOfKey(key));
      }
    }
  }

  fromJson(json: unknown): Map<string, unknown> {
    const keys = Object.keys(checkedObject(json));
    this.checkCount(keys.length);
    const entries = new Map<string, unknown>();
    for (const key of keys) {
      checkedKey(key);
      try {
        entries.set(key, this.of.fromJson((json as { [key: string]: unknown })[key]));
      } catch (error) {
        throw within(error, pathOfKey(key));
      }
    }
    return entries;
  }

  toJson(value: unknown): unknown {
    return Object.fromEntries(Array.from(value as Map<string, unknown>, ([key, item]) => [key, this.of.toJson(item)]));
  }

  jsonSchema(): JsonSchema {
    return {
      type: 'object',
      additionalProperties: this.of.jsonSchema(),
      maxProperties: this.maxItems,
      propertyNames: { maxLength: MAX_KEY_BYTES, not: { enum: ['__proto__', 'constructor', 'prototype'] } },
    };
  }

  generate(draws: Draws): Map<string, unknown> {
    const entries = new Map<string, unknown>();
    for (let left = draws.items(this.maxItems); left > 0; left--) {
      const key = draws.chance(0.1) ? 'ключ'.repeat(16) : draws.uniform(0, 9_999).toString(36);
      entries.set(key, this.of.generate(draws));
    }
    return entries;
  }
}

function readKey(cursor: MsgpackCursor): string {
  const length = cursor.textHeader();
  if (length < 0) refuse('text keys are expected');
  if (length > MAX_KEY_BYTES) refuse(`keys of at most ${MAX_KEY_BYTES} bytes are expected`);
  const key = cursor.takeText(length) ?? refuse('keys in well-formed UTF-8 are expected');
  if (isPrototypeKey(key)) refuse(`key "${key}" is not allowed`);
  return key;
}

function checkedKey(key: unknown): string {
  if (typeof key !== 'string') return refuse('text keys are expected');
  const length = utf8Length(key);
  if (length < 0 || length > MAX_KEY_BYTES) refuse(`keys of at most ${MAX_KEY_BYTES} bytes of UTF-8 are expected`);
  if (isPrototypeKey(key)) refuse(`key "${key}" is not allowed`);
  return key;
}

const pathOfKey = (key: string): string => `[${JSON.stringify(key)}]`;

function checkedObject(json: unknown): { [key: string]: unknown } {
  if (typeof json !== 'object' || json === null || Array.isArray(json)) return refuse('an object is expected');
  return json as { [key: string]: unknown };
}

/** undefined; nil on the wire, null in JSON (or left out, as a field of a record). */
export class OptionalCodec implements FieldCodec {
  readonly maxBytes: number;
  readonly depth: number;
  private readonly of: FieldCodec;

  constructor(of: FieldCodec) {
    this.of = of;
    this.maxBytes = of.maxBytes;
    this.depth = of.depth;
  }

  check(cursor: MsgpackCursor): void {
    if (!cursor.nil()) this.of.check(cursor);
  }

  read(cursor: MsgpackCursor): unknown {
    return cursor.nil() ? undefined : this.of.read(cursor);
  }

  write(writer: MsgpackWriter, value: unknown): void {
    if (value === undefined) writer.nil();
    else this.of.write(writer, value);
  }

  fromJson(json: unknown): unknown {
    return json === null || json === undefined ? undefined : this.of.fromJson(json);
  }

  toJson(value: unknown): unknown {
    return value === undefined ? null : this.of.toJson(value);
  }

  jsonSchema(): JsonSchema {
    return { anyOf: [this.of.jsonSchema(), { type: 'null' }] };
  }

  /** The schema as a field of a record, where absence is leaving it out. */
  presentSchema(): JsonSchema {
    return this.of.jsonSchema();
  }

  generate(draws: Draws): unknown {
    return draws.chance(0.3) ? undefined : this.of.generate(draws);
  }
}

type Values = { [name: string]: unknown };

/** An array with a place for each field, in the order of declaration; trailing optional fields may be missing. */
export class RecordCodec implements FieldCodec {
  readonly maxBytes: number;
  readonly depth: number;
  private readonly names: readonly string[];
  private readonly codecs: readonly FieldCodec[];
  /** Places up to and with the last field that is not optional. */
  private readonly required: number;

  constructor(fields: readonly (readonly [name: string, codec: FieldCodec])[]) {
    this.names = fields.map(([name]) => name);
    this.codecs = fields.map(([, codec]) => codec);
    this.required = this.codecs.findLastIndex((codec) => !(codec instanceof OptionalCodec)) + 1;
    this.maxBytes = this.codecs.reduce((sum, codec) => sum + codec.maxBytes, LONGEST_HEADER);
    this.depth = 1 + Math.max(0, ...this.codecs.map((codec) => codec.depth));
  }

  check(cursor: MsgpackCursor): void {
    const count = this.header(cursor);
    const codecs = this.codecs;
    let i = 0;
    try {
      for (; i < count; i++) (codecs[i] as FieldCodec).check(cursor);
    } catch (error) {
      throw within(error, this.names[i] as string);
    }
  }

  /** Absent fields are left out of the object: a state may keep it, and states hold no undefined. */
  read(cursor: MsgpackCursor): Values {
    const count = this.header(cursor);
    const { names, codecs } = this;
    const values: Values = {};
    let i = 0;
    try {
      for (; i < count; i++) {
        const value = (codecs[i] as FieldCodec).read(cursor);
        if (value !== undefined) values[names[i] as string] = value;
      }
    } catch (error) {
      throw within(error, names[i] as string);
    }
    return values;
  }

  private header(cursor: MsgpackCursor): number {
    const count = cursor.arrayHeader();
    if (count < 0) refuse('an array with a place for each field is expected');
    if (count < this.required) throw within(new FieldRefusal(MISSING), this.names[count] as string);
    if (count > this.codecs.length) refuse(`at most ${this.codecs.length} fields are known, ${count} were sent`);
    return count;
  }

  write(writer: MsgpackWriter, value: unknown): void {
    const values = checkedObject(value);
    const count = this.countPlaces(values);
    const { names, codecs } = this;
    writer.array(count);
    let i = 0;
    try {
      for (; i < count; i++) (codecs[i] as FieldCodec).write(writer, values[names[i] as string]);
    } catch (error) {
      throw within(error, names[i] as string);
    }
  }

  /** Places up to the last present field. Refuses unknown ones, which are searched only when there is one too many. */
  private countPlaces(values: Values): number {
    const { names } = this;
    let present = 0;
    let places = this.required;
    for (let i = 0; i < names.length; i++) {
      if (values[names[i] as string] === undefined) continue;
      present++;
      if (i >= places) places = i + 1;
    }
    if (Object.keys(values).length > present) this.refuseUnknown(values);
    return places;
  }

  private refuseUnknown(values: Values): void {
    const unknown = Object.keys(values).find((name) => !this.names.includes(name));
    if (unknown === undefined) return;
    throw within(new FieldRefusal('there is no such field'), unknown);
  }

  fromJson(json: unknown): Values {
    const source = checkedObject(json);
    this.refuseUnknown(source);
    const values: Values = {};
    for (let i = 0; i < this.names.length; i++) {
      const name = this.names[i] as string;
      const value = this.fieldFromJson(i, Object.hasOwn(source, name) ? source[name] : undefined);
      if (value !== undefined) values[name] = value;
    }
    return values;
  }

  private fieldFromJson(i: number, json: unknown): unknown {
    try {
      if (json === undefined && !(this.codecs[i] instanceof OptionalCodec)) refuse(MISSING);
      return (this.codecs[i] as FieldCodec).fromJson(json);
    } catch (error) {
      throw within(error, this.names[i] as string);
    }
  }

  toJson(value: unknown): unknown {
    const values = value as Values;
    const json: Values = {};
    for (const [i, name] of this.names.entries()) {
      if (values[name] !== undefined) json[name] = (this.codecs[i] as FieldCodec).toJson(values[name]);
    }
    return json;
  }

  jsonSchema(): JsonSchema {
    const schemas = this.codecs.map((codec) =>
      codec instanceof OptionalCodec ? codec.presentSchema() : codec.jsonSchema(),
    );
    return {
      type: 'object',
      properties: Object.fromEntries(this.names.map((name, i) => [name, schemas[i]])),
      required: this.names.filter((_, i) => !(this.codecs[i] instanceof OptionalCodec)),
      additionalProperties: false,
    };
  }

  generate(draws: Draws): Values {
    const values: Values = {};
    for (const [i, name] of this.names.entries()) {
      const value = (this.codecs[i] as FieldCodec).generate(draws);
      if (value !== undefined) values[name] = value;
    }
    return values;
  }
}
