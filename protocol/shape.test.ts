import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { ProtocolError } from './errors.ts';
import type { JsonSchema } from './field-codec.ts';
import { generateHostile, seededRandom } from './fuzz.ts';
import { pack } from './msgpack.ts';
import { MsgpackWriter } from './msgpack-writer.ts';
import { bool, bytes, choice, type Fields, int, list, map, optional, record, text } from './schema.ts';
import { type Shape, shapeOf, shapeOfEither, shapeOfField } from './shape.ts';

const everything = {
  small: int(-5, 5),
  large: int(-(2 ** 53 - 1), 2 ** 53 - 1),
  flag: bool(),
  name: text(20, { minBytes: 1 }),
  code: text(12, { pattern: '[A-Z]{2,4}-(?:x|y\\d+)[^q]?' }),
  raw: bytes(100),
  side: choice('buy', 'sell'),
  items: list(record({ price: int(0, 1_000), note: optional(text(5)) }), 4),
  byName: map(list(int(0, 300), 3), 5),
  gaps: list(optional(int(0, 9)), 3),
  extra: optional(record({ deep: list(list(bool(), 2), 2) })),
  last: optional(bytes(300)),
} as const satisfies Fields;

const order = {
  id: int(0, 2 ** 53 - 1),
  change: int(-(2 ** 53 - 1), 5),
  price: int(0, 2 ** 32 - 1),
  depth: int(-(2 ** 31), 2 ** 31 - 1),
  level: int(0, 65_535),
  tilt: int(-300, 300),
  tiny: int(-128, 127),
  share: int(0, 255),
  side: choice('buy', 'sell'),
  post: bool(),
  tag: text(7, { minBytes: 1 }),
  raw: bytes(5),
} as const satisfies Fields;

const shapes: { readonly [name: string]: Shape } = {
  everything: shapeOf(everything),
  nothing: shapeOf({}),
  one: shapeOf({ score: int(0, 10) }),
  'one field': shapeOfField(list(record({ user: text(8), score: int(0, 2 ** 40) }), 5)),
  'an optional field': shapeOfField(optional(text(3))),
  binary: shapeOf(order, { binary: true }),
  'empty binary': shapeOf({}, { binary: true }),
};

const refused = (field: string | undefined) => (error: unknown) => {
  assert.ok(error instanceof ProtocolError, String(error));
  assert.equal(error.code, 'invalid_field');
  assert.equal(error.field, field, error.message);
  return true;
};

/** The seed of a generated value; fast-check prints and shrinks it. */
const seeds = fc.integer({ min: 0, max: 0xffffffff });

for (const [name, shape] of Object.entries(shapes)) {
  test(`${name}: a generated value passes, and comes back from bytes and from JSON`, () => {
    fc.assert(
      fc.property(seeds, (seed) => {
        const value = shape.generate(seededRandom(seed));
        const encoded = shape.encode(value);
        assert.ok(encoded.length <= shape.maxBytes);
        shape.check(encoded, 0, encoded.length);
        const decoded = shape.decode(encoded);
        assert.deepEqual(decoded, value);
        assert.deepEqual(shape.encode(decoded), encoded);
        const json: unknown = JSON.parse(JSON.stringify(shape.toJson(value)));
        assert.deepEqual(shape.fromJson(json), value);
        assert.deepEqual(schemaProblems(shape.jsonSchema(), json), []);
      }),
      { numRuns: 500 },
    );
  });

  test(`${name}: hostile bytes are refused by name, by check and decode alike; what is accepted encodes again`, () => {
    fc.assert(
      fc.property(seeds, (seed) => {
        const random = seededRandom(seed);
        const hostile = generateHostile(random, shape.encode(shape.generate(random)));
        const checked = attempt(() => shape.check(hostile, 0, hostile.length));
        const decoded = attempt(() => shape.decode(hostile));
        assert.deepEqual([decoded.problem, decoded.field], [checked.problem, checked.field]);
        if (decoded.problem !== undefined) return;
        assert.deepEqual(shape.decode(shape.encode(decoded.value)), decoded.value);
      }),
      { numRuns: 3_000 },
    );
  });

  test(`${name}: a body is found inside other bytes`, () => {
    const body = shape.encode(shape.generate(seededRandom(7)));
    const around = new Uint8Array(body.length + 20).fill(0xc1);
    around.set(body, 9);
    assert.equal(shape.endOf(around, 9, around.length), 9 + body.length);
    assert.deepEqual(shape.decode(around, 9, 9 + body.length), shape.decode(body));
    if (body.length > 0) assert.throws(() => shape.check(around, 9, 8 + body.length), ProtocolError);
    assert.throws(() => shape.check(around, 9, 10 + body.length), refused(undefined));
  });
}

function attempt(action: () => unknown): { problem?: string; field?: string | undefined; value?: unknown } {
  try {
    return { value: action() };
  } catch (error) {
    assert.ok(error instanceof ProtocolError && error.code === 'invalid_field', String(error));
    return { problem: error.message, field: error.field };
  }
}

/** The naive reading of the JSON Schema keywords that shapes use. */
function schemaProblems(schema: JsonSchema, json: unknown): string[] {
  const { anyOf } = schema;
  if (Array.isArray(anyOf))
    return anyOf.some((branch) => schemaProblems(branch, json).length === 0) ? [] : ['no branch'];
  const problems: string[] = [];
  const type =
    json === null ? 'null' : Array.isArray(json) ? 'array' : typeof json === 'number' ? 'integer' : typeof json;
  if (type !== schema.type) return [`${type} where ${schema.type} is expected`];
  const within = (value: number, least: unknown, most: unknown) => {
    if (value < Number(least ?? -Infinity) || value > Number(most ?? Infinity))
      problems.push(`${value} is out of bounds`);
  };
  if (typeof json === 'number') within(json, schema.minimum, schema.maximum);
  if (typeof json === 'string') {
    within(Array.from(json).length, schema.minLength, schema.maxLength);
    if (schema.pattern && !new RegExp(String(schema.pattern), 'u').test(json)) problems.push('pattern');
    if (schema.enum && !(schema.enum as string[]).includes(json)) problems.push('enum');
  }
  if (Array.isArray(json)) {
    within(json.length, 0, schema.maxItems);
    for (const item of json) problems.push(...schemaProblems(schema.items as JsonSchema, item));
  }
  if (type === 'object') {
    const object = json as { [key: string]: unknown };
    const properties = (schema.properties ?? {}) as { [key: string]: JsonSchema };
    within(Object.keys(object).length, 0, schema.maxProperties);
    for (const name of (schema.required ?? []) as string[]) if (!(name in object)) problems.push(`${name} is missing`);
    for (const [key, value] of Object.entries(object)) {
      const inner = properties[key] ?? schema.additionalProperties;
      problems.push(...(inner ? schemaProblems(inner as JsonSchema, value) : [`${key} is unknown`]));
    }
  }
  return problems;
}

test('the schema checker of this test can say no', () => {
  const schema = shapeOf({ a: int(0, 5), b: optional(text(2)) }).jsonSchema();
  assert.deepEqual(schemaProblems(schema, { a: 5 }), []);
  for (const wrong of [{}, { a: 6 }, { a: '1' }, { a: 1, c: 1 }, { a: 1, b: 'abc' }, []]) {
    assert.notDeepEqual(schemaProblems(schema, wrong), []);
  }
});

test('integers arrive in every format that holds them exactly', () => {
  const shape = shapeOfField(int(-(2 ** 53 - 1), 2 ** 53 - 1));
  for (const [hex, value] of [
    ['05', 5],
    ['cc05', 5],
    ['cd0005', 5],
    ['ce00000005', 5],
    ['cf0000000000000005', 5],
    ['d005', 5],
    ['d10005', 5],
    ['d200000005', 5],
    ['d30000000000000005', 5],
    ['cb4014000000000000', 5],
    ['ff', -1],
    ['d0ff', -1],
    ['d1ffff', -1],
    ['d2ffffffff', -1],
    ['d3ffffffffffffffff', -1],
    ['cbbff0000000000000', -1],
    ['cf001fffffffffffff', 2 ** 53 - 1],
    ['d3ffe0000000000001', -(2 ** 53 - 1)],
    ['cb0000000000000000', 0],
    ['ceffffffff', 2 ** 32 - 1],
    ['d280000000', -(2 ** 31)],
  ] as const) {
    assert.equal(shape.decode(Buffer.from(hex, 'hex')), value, hex);
  }
});

test('what is no exact integer is refused', () => {
  const shape = shapeOfField(int(-(2 ** 53 - 1), 2 ** 53 - 1));
  for (const hex of [
    'cb8000000000000000', // -0
    'cb3ff8000000000000', // 1.5
    'cb7ff8000000000000', // NaN
    'cb7ff0000000000000', // Infinity
    'cb4340000000000000', // 2^53
    'cf0020000000000000', // 2^53
    'd38000000000000000', // -2^63
    'ca3f800000', // float32
    'c0',
    'c3',
    'a135',
    '',
    'cd00',
    'cf00000000000000',
  ]) {
    assert.throws(() => shape.decode(Buffer.from(hex, 'hex')), refused(undefined), hex);
  }
});

test('the path names the offending field', () => {
  const shape = shapeOf(everything);
  const good = shape.generate(seededRandom(1));
  const spoil = (change: object): unknown => ({ ...(good as object), ...change });
  const wrong: readonly (readonly [string, object])[] = [
    ['small', { small: 6 }],
    ['small', { small: -0 }],
    ['large', { large: 2 ** 53 }],
    ['flag', { flag: 1 }],
    ['name', { name: '' }],
    ['name', { name: 'é'.repeat(11) }],
    ['name', { name: '\ud800' }],
    ['code', { code: 'XX' }],
    ['side', { side: 'hold' }],
    ['items', { items: [1, 2, 3, 4, 5] }],
    ['items[1].price', { items: [{ price: 1 }, { price: 1_001 }] }],
    ['items[0].note', { items: [{ price: 1, note: 'abcdef' }] }],
    ['items[0].other', { items: [{ price: 1, other: 1 }] }],
    ['gaps[2]', { gaps: [1, undefined, 10] }],
    ['extra.deep[1][0]', { extra: { deep: [[true], [1]] } }],
    ['unknown', { unknown: 1 }],
    ['small', { small: undefined }],
  ];
  for (const [field, change] of wrong) {
    assert.throws(() => shape.encode(spoil(change) as never), refused(field), field);
    assert.throws(() => shape.fromJson({ ...(shape.toJson(good) as object), ...change }), refused(field), field);
  }
  assert.throws(() => shape.encode(spoil({ byName: new Map([['a', [1, 301]]]) }) as never), refused('byName["a"][1]'));
  assert.throws(() => shape.fromJson({ ...(shape.toJson(good) as object), raw: 'a' }), refused('raw'));
  assert.throws(() => shape.fromJson({ ...(shape.toJson(good) as object), raw: 'QQ==' }), refused('raw'));
  assert.throws(() => shape.fromJson({ ...(shape.toJson(good) as object), raw: 'QR' }), refused('raw'));
});

test('an error leaves the writer as it was', () => {
  for (const shape of [
    shapeOf({ a: text(5), b: int(0, 1) }),
    shapeOf({ a: text(5), b: int(0, 1) }, { binary: true }),
  ]) {
    const writer = new MsgpackWriter();
    shape.write(writer, { a: 'x', b: 1 });
    const before = writer.copy();
    assert.throws(() => shape.write(writer, { a: 'x', b: 2 }), refused('b'));
    assert.deepEqual(writer.copy(), before);
  }
});

test('trailing optional fields may be missing; longer arrays are refused', () => {
  const shape = shapeOf({ a: int(0, 9), b: optional(int(0, 9)), c: optional(bool()) });
  assert.deepEqual(shape.encode({ a: 1 }), Uint8Array.of(0x91, 1));
  assert.deepEqual(shape.encode({ a: 1, c: true }), Uint8Array.of(0x93, 1, 0xc0, 0xc3));
  assert.deepEqual(shape.decode(Uint8Array.of(0x91, 1)), { a: 1 });
  assert.deepEqual(shape.decode(Uint8Array.of(0x93, 1, 0xc0, 0xc0)), { a: 1 });
  assert.throws(() => shape.decode(Uint8Array.of(0x90)), refused('a'));
  assert.throws(() => shape.decode(Uint8Array.of(0x91, 0xc0)), refused('a'));
  assert.throws(() => shape.decode(Uint8Array.of(0x94, 1, 1, 0xc3, 0xc0)), refused(undefined));
});

test('maps refuse prototype keys, repeated keys and long keys', () => {
  const shape = shapeOfField(map(int(0, 9), 4));
  const entry = (key: string): number[] => [0xa0 | key.length, ...Buffer.from(key), 1];
  for (const key of ['__proto__', 'constructor', 'prototype']) {
    assert.throws(() => shape.decode(Uint8Array.of(0x81, ...entry(key))), refused(undefined));
    assert.throws(() => shape.fromJson(JSON.parse(`{"${key}": 1}`)), refused(undefined));
    assert.throws(() => shape.encode(new Map([[key, 1]])), refused(undefined));
  }
  const twice = Uint8Array.of(0x82, ...entry('a'), ...entry('a'));
  assert.throws(() => shape.decode(twice), refused(undefined));
  assert.throws(() => shape.check(twice, 0, twice.length), refused(undefined));
  assert.throws(() => shape.encode(new Map([['x'.repeat(129), 1]])), refused(undefined));
  assert.throws(
    () => shapeOf({ a: int(0, 1) }).fromJson(JSON.parse('{"a": 1, "__proto__": {}}')),
    refused('__proto__'),
  );
});

test('texts keep a byte order mark, NUL and every plane; bytes are copies', () => {
  const shape = shapeOf({ name: text(100), raw: bytes(10) });
  const value = { name: `\ufeff\u0000é中😀${'x'.repeat(40)}\u{10ffff}`, raw: Uint8Array.of(1, 2) };
  const encoded = Buffer.from(shape.encode(value));
  const decoded = shape.decode(encoded);
  assert.deepEqual(decoded, value);
  encoded.fill(0);
  assert.deepEqual(decoded.raw, Uint8Array.of(1, 2));
  assert.equal(Object.getPrototypeOf(decoded.raw), Uint8Array.prototype);
});

for (const hex of ['c080', 'e080af', 'eda080', 'f0808080', 'f4908080', 'f8888080', '80', 'c2', 'e282', 'f09f98']) {
  test(`text refuses the bytes ${hex}`, () => {
    for (const filling of [0, 40]) {
      const body = Buffer.concat([Buffer.alloc(filling, 'x'), Buffer.from(hex, 'hex')]);
      const encoded = Buffer.concat([Buffer.from([0xd9, body.length]), body]);
      const shape = shapeOfField(text(100));
      assert.throws(() => shape.check(encoded, 0, encoded.length), refused(undefined));
      assert.throws(() => shape.decode(encoded), refused(undefined));
    }
  });
}

test('what msgpackr packs is read', () => {
  const shape = shapeOf({ a: int(0, 2 ** 53 - 1), b: text(10), c: bytes(9), d: map(bool(), 3) });
  const packed = pack([2 ** 40, 'héllo', Uint8Array.of(1), { x: true }]);
  assert.deepEqual(shape.decode(packed), { a: 2 ** 40, b: 'héllo', c: Uint8Array.of(1), d: new Map([['x', true]]) });
});

test('a binary layout aligns every field to its size', () => {
  assert.deepEqual(
    shapeOf(order, { binary: true })
      .layoutTable()
      .map(({ name, offset, bytes, type }) => `${offset} ${type} ${bytes} ${name}`),
    [
      '0 u64 8 id',
      '8 i64 8 change',
      '16 u32 4 price',
      '20 i32 4 depth',
      '24 u16 2 level',
      '26 i16 2 tilt',
      '28 i8 1 tiny',
      '29 u8 1 share',
      '30 choice 1 side',
      '31 bool 1 post',
      '32 text 9 tag',
      '42 bytes 7 raw',
    ],
  );
  assert.equal(shapeOf(order, { binary: true }).maxBytes, 56);
  assert.deepEqual(shapeOf({ a: bool(), b: int(0, 2 ** 40) }, { binary: true }).layoutTable()[1]?.offset, 8);
});

test('padding of a binary body must be zero, so that equal values have equal bytes', () => {
  const shape = shapeOf({ a: bool(), b: int(0, 300), c: text(3) }, { binary: true });
  const good = shape.encode({ a: true, b: 1, c: 'x' });
  for (let at = 0; at < good.length; at++) {
    if (at === 2) continue; // The low byte of b, which may be 0x80.
    const spoilt = good.slice();
    spoilt[at] = 0x80;
    assert.throws(() => shape.decode(spoilt), ProtocolError, `byte ${at}`);
  }
  assert.throws(() => shape.check(good, 0, good.length - 1), refused(undefined));
});

test('what cannot be compiled is refused at definition', () => {
  let deep: Fields[string] = int(0, 1);
  for (let i = 0; i < 17; i++) deep = list(deep, 1);
  for (const wrong of [
    () => shapeOf({ constructor: int(0, 1) }),
    () => shapeOf({ 'no name': int(0, 1) }),
    () => shapeOfField(optional(optional(bool()))),
    () => shapeOfEither(deep),
    () => shapeOf({ a: optional(bool()) }, { binary: true }),
    () => shapeOf({ a: list(bool(), 1) }, { binary: true }),
    () => shapeOf({ a: text(70_000) }, { binary: true }),
    () => shapeOf({ a: text(3, { minBytes: 4 }) }),
    () => shapeOfField(text(9, { pattern: '(?=x)' })).generate(seededRandom(1)),
  ]) {
    assert.throws(wrong, TypeError);
  }
});
