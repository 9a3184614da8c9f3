import assert from 'node:assert/strict';
import { test } from 'node:test';
import { describeKind } from './describe.ts';
import { ERRORS, ProtocolError } from './errors.ts';
import type { KindInterface } from './interface.ts';
import { openApi } from './openapi.ts';
import { jsonOfParameters } from './query-parameters.ts';
import { bool, bytes, choice, int, list, map, optional, record, text } from './schema.ts';
import { shapeOf } from './shape.ts';

const board = {
  kind: 'board',
  commands: {
    addPoints: {
      roles: ['game', 'system'],
      about: 'Adds points.',
      fields: { user: text(64), points: int(1, 100), tags: optional(list(text(5), 3)) },
      reply: { score: int(0, 1_000) },
    },
    close: { roles: ['system'], fields: {}, reply: {} },
    place: { roles: ['game'], binary: true, fields: { flag: bool(), id: int(0, 2 ** 40) }, reply: {} },
  },
  queries: {
    top: {
      fields: { count: int(1, 10), side: optional(choice('a', 'b')) },
      reply: list(record({ user: text(64, { pattern: 'a|b' }) }), 10),
    },
    addPoints: { roles: ['auditor'], fields: {}, reply: { raw: bytes(9) } },
    many: { fields: { users: list(text(5), 3) }, reply: {} },
  },
  topics: {
    top: { event: map(int(0, 5), 3), lossy: 'top' },
    trades: { table: 'trades' },
  },
  tables: { trades: { key: { offset: int(1, 2 ** 40) }, row: { price: int(0, 9) } } },
  rejections: { period_closed: 'The period is closed.' },
} as const satisfies KindInterface;

type Json = { readonly [key: string]: Json };

const other: KindInterface = { kind: 'other', commands: {}, queries: {}, topics: {}, tables: {}, rejections: {} };
const document = JSON.parse(JSON.stringify(openApi([board, other], { title: 'T', version: '1' }))) as Json;
const paths = document.paths as Json;

test('one path per public command and per query of scalar fields', () => {
  const routes = Object.entries(paths).flatMap(([path, item]) =>
    Object.keys(item)
      .filter((method) => method !== 'parameters')
      .map((method) => `${method} ${path}`),
  );
  assert.deepEqual(routes.sort(), [
    'get /v1/board/{key}/addPoints',
    'get /v1/board/{key}/top',
    'get /v1/openapi.json',
    'post /v1/board/{key}/addPoints',
    'post /v1/board/{key}/place',
  ]);
});

test('bodies, parameters and errors are those of the schema', () => {
  const post = paths['/v1/board/{key}/addPoints']?.post as Json;
  const schema = post.requestBody?.content?.['application/json']?.schema;
  assert.deepEqual(schema, JSON.parse(JSON.stringify(shapeOf(board.commands.addPoints.fields).jsonSchema())));
  assert.equal(post.description, 'Roles: game.');
  const refused = String(post.responses?.[422]?.description);
  for (const name of ['period_closed', 'rejected', 'idempotency_mismatch'])
    assert.match(refused, new RegExp(`\`${name}\``));
  const get = paths['/v1/board/{key}/top']?.get as Json;
  assert.deepEqual(get.parameters, [
    { name: 'count', in: 'query', required: true, schema: { type: 'integer', minimum: 1, maximum: 10 } },
    { name: 'side', in: 'query', required: false, schema: { type: 'string', enum: ['a', 'b'] } },
  ]);
  assert.equal(get.description, 'Any valid token.');
});

test('every reference leads somewhere, and operation ids differ', () => {
  const ids: unknown[] = [];
  const visit = (value: unknown): void => {
    if (typeof value !== 'object' || value === null) return;
    const { $ref, operationId } = value as { $ref?: string; operationId?: unknown };
    if ($ref !== undefined) {
      const found = $ref
        .slice(2)
        .split('/')
        .reduce<Json | undefined>((at, step) => at?.[step], document);
      assert.ok(found, $ref);
    }
    if (operationId !== undefined) ids.push(operationId);
    for (const inner of Object.values(value)) visit(inner);
  };
  visit(document);
  assert.equal(new Set(ids).size, ids.length);
  assert.equal(ids.length, 5);
});

test('statuses come from the registry', () => {
  const statuses = Object.keys(paths['/v1/board/{key}/addPoints']?.post?.responses ?? {}).map(Number);
  const known = new Set([200, ...Object.values(ERRORS).map(({ status }) => status)]);
  assert.deepEqual(
    statuses.filter((status) => !known.has(status)),
    [],
  );
  assert.ok(statuses.includes(413) && statuses.includes(503) && statuses.includes(401));
});

test('parameters become fields', () => {
  const { fields } = board.queries.top;
  const read = (query: string): unknown =>
    shapeOf(fields).fromJson(jsonOfParameters(fields, new URLSearchParams(query)));
  assert.deepEqual(read('count=5&side=b'), { count: 5, side: 'b' });
  assert.deepEqual(read('count=5'), { count: 5 });
  const field = (name: string) => (error: unknown) => error instanceof ProtocolError && error.field === name;
  assert.throws(() => read('side=b'), field('count'));
  assert.throws(() => read('count=05'), field('count'));
  assert.throws(() => read('count=11'), field('count'));
  assert.throws(() => read('count=1&count=2'), field('count'));
  assert.throws(() => read('count=1&other=2'), field('other'));
  assert.throws(() => read('count=1&__proto__=2'), field('__proto__'));
  assert.deepEqual(jsonOfParameters({ flag: bool(), who: text(9) }, new URLSearchParams('flag=true&who=7')), {
    flag: true,
    who: '7',
  });
});

test('Markdown names everything', () => {
  const markdown = describeKind(board);
  for (const line of [
    '### addPoints',
    'Roles: `game`, `system`.',
    '| 1 | `points` | integer, 1 to 100 |',
    '| 2 | `tags` | list of at most 3 (text, at most 5 bytes); may be absent |',
    'Binary layout, 16 bytes:',
    '| 8 | 8 | u64 | `id` |',
    'Answer: list of at most 10 ({ user: text, at most 64 bytes, matching `a|b` }).',
    'Event: map of at most 3 (integer, 0 to 5).',
    '| 0 | `price` | integer, 0 to 9 |',
    '| `period_closed` | The period is closed. |',
  ]) {
    assert.ok(markdown.includes(line), `${line}\n---\n${markdown}`);
  }
});
