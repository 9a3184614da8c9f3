/** What a codec of one field does, and how it refuses a value: by a path that grows on the way out. */
import type { Draws } from './draws.ts';
import type { MsgpackCursor } from './msgpack-cursor.ts';
import type { MsgpackWriter } from './msgpack-writer.ts';

export type JsonSchema = { [keyword: string]: unknown };

export type FieldCodec = {
  /** Upper bound of any encoding that `check` accepts. */
  readonly maxBytes: number;
  /** Levels of nesting, this one included. */
  readonly depth: number;
  /** Moves the cursor behind the value, or refuses it. */
  check(cursor: MsgpackCursor): void;
  /** The same checks, giving the value. */
  read(cursor: MsgpackCursor): unknown;
  write(writer: MsgpackWriter, value: unknown): void;
  fromJson(json: unknown): unknown;
  /** Of a value that `read` or `fromJson` gave. */
  toJson(value: unknown): unknown;
  jsonSchema(): JsonSchema;
  generate(draws: Draws): unknown;
};

/** A refused value. Not an Error: taking a stack for each bad message of a flood would cost more than refusing it. */
export class FieldRefusal {
  readonly detail: string;
  path = '';

  constructor(detail: string) {
    this.detail = detail;
  }
}

export function refuse(detail: string): never {
  throw new FieldRefusal(detail);
}

/** For `throw within(error, name)` in a catch: puts a field's name or an item's `[index]` before the path. */
export function within(error: unknown, step: string): unknown {
  if (!(error instanceof FieldRefusal)) return error;
  const { path } = error;
  error.path = path === '' || path.startsWith('[') ? step + path : `${step}.${path}`;
  return error;
}

const PROTOTYPE_KEYS = new Set(['__proto__', 'constructor', 'prototype']);

/** Keys that reach an object's prototype in careless code: never accepted from outside. */
export function isPrototypeKey(key: string): boolean {
  return PROTOTYPE_KEYS.has(key);
}
