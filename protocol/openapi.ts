/**
 * The OpenAPI 3.1 document of the HTTP routes that every kind has: a POST per command, a GET per query, one path each. It is
 * made from the same schema that checks the requests, so it cannot disagree with them.
 */
import { ERRORS, type ErrorName } from './errors.ts';
import type { CommandSpec, KindInterface, QuerySpec } from './interface.ts';
import { isScalar } from './query-parameters.ts';
import type { Field } from './schema.ts';
import { shapeOf, shapeOfEither } from './shape.ts';

type Json = { readonly [key: string]: unknown };

export type OpenApiOptions = {
  readonly title: string;
  /** Of the release that serves the routes. */
  readonly version: string;
  /** Address of the server, without a trailing slash; left out: the one that serves the document. */
  readonly serverUrl?: string;
};

/** Marks what only actors, timers and effect results send: it has no route. */
const INTERNAL_ROLE = 'system';
const MAX_KEY_LENGTH = 128;
const MAX_IDEMPOTENCY_KEY_LENGTH = 128; // It is only hashed; longer ones are mistakes.

/** Names that any route may answer with. */
const COMMON_ERRORS: readonly ErrorName[] = [
  'bad_request',
  'invalid_field',
  'too_deep',
  'invalid_reference',
  'unauthorized',
  'token_expired',
  'forbidden',
  'unknown_kind',
  'not_found',
  'method_not_allowed',
  'payload_too_large',
  'rate_limited',
  'internal',
  'no_owner',
  'moving',
  'overloaded',
  'partition_halted',
  'going_away',
  'timeout',
];
const COMMAND_ERRORS: readonly ErrorName[] = [
  ...COMMON_ERRORS,
  'unknown_command',
  'idempotency_mismatch',
  'rejected',
  'too_many_in_flight',
  'log_unavailable',
  'log_full',
  'storage_full',
];
const QUERY_ERRORS: readonly ErrorName[] = [...COMMON_ERRORS, 'unknown_query'];

/** The document, as a value for JSON. */
export function openApi(kinds: readonly KindInterface[], { title, version, serverUrl }: OpenApiOptions): Json {
  return {
    openapi: '3.1.0',
    info: { title, version, description: 'Commands and queries of actors. The websocket protocol carries the same.' },
    ...(serverUrl !== undefined && { servers: [{ url: serverUrl }] }),
    security: [{ bearer: [] }],
    tags: kinds.map(({ kind }) => ({ name: kind })),
    paths: { ...Object.fromEntries(kinds.flatMap(pathsOf)), '/v1/openapi.json': { get: documentOperation() } },
    components: {
      securitySchemes: { bearer: { type: 'http', scheme: 'bearer', bearerFormat: 'JWT' } },
      parameters: { Key: keyParameter(), IdempotencyKey: idempotencyParameter() },
      schemas: { Error: errorSchema() },
    },
  };
}

function pathsOf(kind: KindInterface): [path: string, item: Json][] {
  const items = new Map<string, Json>();
  for (const [name, command] of Object.entries(kind.commands)) {
    if (isPublic(command.roles)) items.set(name, { post: commandOperation(kind, name, command) });
  }
  for (const [name, query] of Object.entries(kind.queries)) {
    if (!isPublic(query.roles) || !Object.values(query.fields).every(isScalar)) continue;
    items.set(name, { ...items.get(name), get: queryOperation(kind, name, query) });
  }
  return Array.from(items, ([name, item]) => [
    `/v1/${kind.kind}/{key}/${name}`,
    { parameters: [{ $ref: '#/components/parameters/Key' }], ...item },
  ]);
}

function isPublic(roles: readonly string[] | undefined): boolean {
  return roles === undefined || roles.some((role) => role !== INTERNAL_ROLE);
}

function commandOperation(kind: KindInterface, name: string, command: CommandSpec): Json {
  return {
    operationId: `${kind.kind}.${name}`,
    tags: [kind.kind],
    ...texts(command.about, command.roles),
    parameters: [{ $ref: '#/components/parameters/IdempotencyKey' }],
    requestBody: { required: true, content: jsonContent(shapeOf(command.fields).jsonSchema()) },
    responses: {
      200: { description: 'The reply.', content: jsonContent(shapeOf(command.reply).jsonSchema()) },
      ...errorResponses(COMMAND_ERRORS, kind.rejections),
    },
  };
}

function queryOperation(kind: KindInterface, name: string, query: QuerySpec): Json {
  return {
    operationId: `${kind.kind}.${name}.query`,
    tags: [kind.kind],
    ...texts(query.about, query.roles),
    parameters: Object.entries(query.fields).map(([field, description]) => fieldParameter(field, description)),
    responses: {
      200: { description: 'The answer.', content: jsonContent(shapeOfEither(query.reply).jsonSchema()) },
      ...errorResponses(QUERY_ERRORS, {}),
    },
  };
}

function texts(about: string | undefined, roles: readonly string[] | undefined): Json {
  const who =
    roles === undefined ? 'Any valid token.' : `Roles: ${roles.filter((role) => role !== INTERNAL_ROLE).join(', ')}.`;
  return { ...(about !== undefined && { summary: about }), description: who };
}

function fieldParameter(name: string, field: Field): Json {
  const { properties } = shapeOf({ [name]: field }).jsonSchema() as { properties: Json };
  return { name, in: 'query', required: field.type !== 'optional', schema: properties[name] };
}

const jsonContent = (schema: unknown): Json => ({ 'application/json': { schema } });

/** One response per status, whose description lists the names that may come with it. */
function errorResponses(names: readonly ErrorName[], rejections: { readonly [name: string]: string }): Json {
  const lines = new Map<number, string[]>();
  const add = (status: number, name: string, sentence: string): void => {
    lines.set(status, [...(lines.get(status) ?? []), `- \`${name}\`: ${sentence}`]);
  };
  for (const name of names) add(ERRORS[name].status, name, ERRORS[name].sentence);
  for (const [name, sentence] of Object.entries(rejections)) add(ERRORS.rejected.status, name, sentence);
  const content = jsonContent({ $ref: '#/components/schemas/Error' });
  return Object.fromEntries(
    Array.from(lines, ([status, sentences]) => [status, { description: sentences.join('\n'), content }]),
  );
}

function errorSchema(): Json {
  return {
    type: 'object',
    properties: {
      error: {
        type: 'object',
        properties: {
          code: { type: 'string', description: 'The name of the error, or of a rejection of the kind.' },
          message: { type: 'string', description: 'For people; it may change.' },
          field: { type: 'string', description: 'The path of the offending field, such as items[3].price.' },
        },
        required: ['code', 'message'],
      },
    },
    required: ['error'],
  };
}

function keyParameter(): Json {
  return {
    name: 'key',
    in: 'path',
    required: true,
    description: 'The key of the actor. A slash in it is written %2F.',
    schema: { type: 'string', minLength: 1, maxLength: MAX_KEY_LENGTH },
  };
}

function idempotencyParameter(): Json {
  return {
    name: 'Idempotency-Key',
    in: 'header',
    required: false,
    description:
      'Chosen by the client, new for each command. The same key with the same body gives the first answer again; with another body idempotency_mismatch.',
    schema: { type: 'string', minLength: 1, maxLength: MAX_IDEMPOTENCY_KEY_LENGTH },
  };
}

function documentOperation(): Json {
  const schema = { type: 'object' };
  return {
    operationId: 'openapi',
    summary: 'This document.',
    security: [],
    responses: { 200: { description: 'OpenAPI 3.1.', content: jsonContent(schema) } },
  };
}
