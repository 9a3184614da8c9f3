/**
 * The schema: what a field may hold, with a bound on everything. From one description come the static types (`Infer`), the
 * checks, the wire codec (shape.ts), the JSON form, the documentation and the fuzz generator.
 */

export type IntField = { readonly type: 'int'; readonly min: number; readonly max: number };
export type BoolField = { readonly type: 'bool' };
export type TextField = {
  readonly type: 'text';
  /** Bounds in UTF-8 bytes, not characters. */
  readonly minBytes: number;
  readonly maxBytes: number;
  /** Source of a regular expression that the whole text must match. */
  readonly pattern?: string;
};
export type BytesField = { readonly type: 'bytes'; readonly maxBytes: number };
export type ChoiceField<V extends string = string> = { readonly type: 'choice'; readonly values: readonly V[] };
export type ListField<F extends Field = Field> = { readonly type: 'list'; readonly of: F; readonly maxItems: number };
export type MapField<F extends Field = Field> = { readonly type: 'map'; readonly of: F; readonly maxItems: number };
export type OptionalField<F extends Field = Field> = { readonly type: 'optional'; readonly of: F };
export type RecordField<S extends Fields = Fields> = { readonly type: 'record'; readonly fields: S };

export type Field =
  | IntField
  | BoolField
  | TextField
  | BytesField
  | ChoiceField
  | { readonly type: 'list'; readonly of: Field; readonly maxItems: number }
  | { readonly type: 'map'; readonly of: Field; readonly maxItems: number }
  | { readonly type: 'optional'; readonly of: Field }
  | { readonly type: 'record'; readonly fields: Fields };

/** The fields of a command, reply, event, row or nested record, in wire order. New ones are appended, as optional. */
export type Fields = { readonly [name: string]: Field };

/** The static type of a field's value; `unknown` where the field itself is not known statically. */
export type Infer<F extends Field> = Field extends F ? unknown : InferKnown<F>;

type InferKnown<F extends Field> = F extends { type: 'int' }
  ? number
  : F extends { type: 'bool' }
    ? boolean
    : F extends { type: 'text' }
      ? string
      : F extends { type: 'bytes' }
        ? Uint8Array
        : F extends { type: 'choice'; values: readonly (infer V)[] }
          ? V
          : F extends { type: 'list'; of: infer I extends Field }
            ? Infer<I>[]
            : F extends { type: 'map'; of: infer I extends Field }
              ? Map<string, Infer<I>>
              : F extends { type: 'optional'; of: infer I extends Field }
                ? Infer<I> | undefined
                : F extends { type: 'record'; fields: infer S extends Fields }
                  ? InferFields<S>
                  : never;

type OptionalNames<S extends Fields> = { [N in keyof S]: S[N] extends { type: 'optional' } ? N : never }[keyof S];

type Flatten<T> = { [N in keyof T]: T[N] };

/** The static type of a set of fields: optional fields may be left out. */
export type InferFields<S extends Fields> = string extends keyof S
  ? { [name: string]: unknown }
  : Flatten<
      { -readonly [N in Exclude<keyof S, OptionalNames<S>>]: Infer<S[N]> } & {
        -readonly [N in OptionalNames<S>]?: Infer<S[N]>;
      }
    >;

/** An integer with both bounds, within the safe integers. */
export function int(min: number, max: number): IntField {
  if (!Number.isSafeInteger(min) || !Number.isSafeInteger(max) || min > max) {
    throw new RangeError(`int(${min}, ${max}): bounds must be safe integers in order`);
  }
  return { type: 'int', min, max };
}

/** true or false. */
export function bool(): BoolField {
  return { type: 'bool' };
}

/** Well-formed text of at most `maxBytes` UTF-8 bytes. `pattern` is the source of an expression for the whole text. */
export function text(maxBytes: number, options: { minBytes?: number; pattern?: string } = {}): TextField {
  checkBound('text', maxBytes);
  const { minBytes = 0, pattern } = options;
  return pattern === undefined ? { type: 'text', minBytes, maxBytes } : { type: 'text', minBytes, maxBytes, pattern };
}

/** Raw bytes, at most `maxBytes`. */
export function bytes(maxBytes: number): BytesField {
  checkBound('bytes', maxBytes);
  return { type: 'bytes', maxBytes };
}

/** One of some names; on the wire their index, so new ones are appended. */
export function choice<const V extends string>(...values: readonly V[]): ChoiceField<V> {
  if (values.length === 0 || values.length > 255 || new Set(values).size !== values.length) {
    throw new RangeError('choice: 1 to 255 different names');
  }
  return { type: 'choice', values };
}

/** A list of at most `maxItems` values. */
export function list<const F extends Field>(of: F, maxItems: number): ListField<F> {
  checkBound('list', maxItems);
  return { type: 'list', of, maxItems };
}

/** A map from text keys (at most 128 bytes) to values, at most `maxItems` entries. */
export function map<const F extends Field>(of: F, maxItems: number): MapField<F> {
  checkBound('map', maxItems);
  return { type: 'map', of, maxItems };
}

/** A value that may be absent (undefined; nil on the wire). */
export function optional<const F extends Field>(of: F): OptionalField<F> {
  return { type: 'optional', of };
}

/** A nested record: positional on the wire, like the outer one. */
export function record<const S extends Fields>(fields: S): RecordField<S> {
  return { type: 'record', fields };
}

/** Milliseconds of so many days, for expiries. */
export const days = (count: number): number => count * 86_400_000;

function checkBound(what: string, bound: number): void {
  if (!Number.isSafeInteger(bound) || bound < 0) throw new RangeError(`${what}: the bound must be a natural number`);
}
