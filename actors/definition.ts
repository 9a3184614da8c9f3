/**
 * The one seam between rules and machine. A kind of actor is described here once; the host folds it, the edge checks and
 * documents it, the client is typed by it. A handler is synchronous and deterministic, and rejects before it changes anything.
 */
import type {
  Commands,
  InferReply,
  KindInterface,
  Queries,
  QuerySpec,
  TopicSpec,
  Topics,
} from '../protocol/interface.ts';
import { choice, type Fields, type InferFields, int, text } from '../protocol/schema.ts';

/** A keyed, ordered collection of an actor. Rows expire `expireAfter` milliseconds (log time) after they were last put. */
export type TableSpec = { readonly key: Fields; readonly row: Fields; readonly expireAfter?: number };
export type Tables = { readonly [name: string]: TableSpec };

const REJECTION: unique symbol = Symbol('rejection');

/** A refusal: a value with a name of the kind's `rejections` (or of the protocol's registry). It means nothing changed. */
export type Rejection<N extends string = string> = {
  readonly [REJECTION]: true;
  readonly name: N;
  readonly message: string | undefined;
};

/** Refuses a command. The handler must not have changed anything before. */
export function reject<const N extends string>(name: N, message?: string): Rejection<N> {
  return { [REJECTION]: true, name, message };
}

/** Whether a handler's or a call's answer is a refusal. */
export function isRejection(value: unknown): value is Rejection {
  return typeof value === 'object' && value !== null && REJECTION in value;
}

/** Where a command comes from. `principal` is the authenticated user, or the reference of the sending actor. */
export type Source = {
  readonly type: 'client' | 'actor' | 'timer' | 'effect';
  readonly principal: string;
};

/** Reads of a table: rows of checkpoint and overlay, in key order. Keys may be prefixes of the key fields in `range`. */
export type TableReader<S extends TableSpec = TableSpec> = {
  has(key: InferFields<S['key']>): boolean;
  get(key: InferFields<S['key']>): InferFields<S['row']> | undefined;
  /** Rows with from <= key < to (both optional), at most `limit` (default 1,000), backwards if asked. */
  range(options?: {
    from?: Partial<InferFields<S['key']>>;
    to?: Partial<InferFields<S['key']>>;
    limit?: number;
    reverse?: boolean;
  }): { key: InferFields<S['key']>; row: InferFields<S['row']> }[];
};

export type TableWriter<S extends TableSpec = TableSpec> = TableReader<S> & {
  put(key: InferFields<S['key']>, row: InferFields<S['row']>): void;
  delete(key: InferFields<S['key']>): void;
};

/** What `publish` takes: a lossy topic's event, or a lossless topic's row (it is appended to the table under its offset). */
export type EventOf<T extends TopicSpec, B extends Tables> = T extends { event: infer E extends QuerySpec['reply'] }
  ? InferReply<E>
  : T extends { table: infer N extends keyof B }
    ? InferFields<B[N]['row']>
    : never;

/** A webhook: one HTTP request, made at least once with a stable `Idempotency-Key`. */
export type WebhookRequest = {
  readonly url: string;
  readonly method?: 'POST' | 'PUT';
  readonly headers?: { readonly [name: string]: string };
  readonly body: string;
};

/** What a query sees. */
export type ReadContext<B extends Tables = Tables> = {
  /** Log time in milliseconds of the newest record folded. */
  readonly now: number;
  readonly self: string;
  readonly key: string;
  /** Who asks. */
  readonly principal: string;
  readonly table: { readonly [N in keyof B]: TableReader<B[N]> };
};

/** What a command handler may do beside changing its own state. Everything here leaves only after the handler returned. */
export type Context<T extends Topics = Topics, B extends Tables = Tables> = {
  /** Log time of the record in milliseconds; it never steps back. */
  readonly now: number;
  /** The handling actor, `kind:key`. */
  readonly self: string;
  readonly key: string;
  readonly source: Source;
  readonly table: { readonly [N in keyof B]: TableWriter<B[N]> };
  /** Deterministic: from generation, partition, sequence and the count of draws. In [0, 1). */
  random(): number;
  /** A text that no other call of id() in the cluster gives: 26 characters, ascending within a partition. */
  id(): string;
  publish<N extends keyof T & string>(topic: N, event: EventOf<T[N], B>): void;
  /** Sends a command to any actors, exactly once each. The body is checked against the receiver's schema at once. */
  send(to: string | readonly string[], command: string, fields: object): void;
  /** Runs a command of an actor with the same placement key within this record. */
  call(to: string, command: string, fields: object): object | Rejection;
  /** Asks to receive `command` (role `system`) at `atMs` of log time or soon after. The same name replaces the earlier wish. */
  setTimer(name: string, atMs: number, command: string, fields: object): void;
  clearTimer(name: string): void;
  /** Asks a worker for a webhook; its outcome comes back as `result` {id, outcome, status, body} (see WEBHOOK_RESULT). */
  webhook(request: WebhookRequest, result: string): string;
};

/** The fields of a command that takes the result of a webhook. `failed`: given up after the last attempt (a dead letter). */
export const WEBHOOK_RESULT = {
  id: text(26),
  outcome: choice('done', 'failed'),
  status: int(0, 599),
  body: text(4_096),
  attempts: int(0, 100),
};

export type Snapshot<State> = {
  readonly version: number;
  /** Plain values only (see protocol/canonical.ts): scalars, strings, bytes, arrays, Maps, plain objects. */
  save(state: State): unknown;
  load(saved: never): State;
  /** From version n to n + 1, by n. */
  readonly migrate: { readonly [fromVersion: number]: (saved: never) => unknown };
};

export type Definition<
  State,
  C extends Commands,
  Q extends Queries,
  T extends Topics,
  B extends Tables,
  R extends { readonly [name: string]: string },
> = {
  readonly kind: string;
  readonly group: string;
  /** What is hashed to choose the partition: actors with one placement key share a partition and may `call` each other. */
  readonly placement: (key: string) => string;
  readonly about?: string;
  readonly commands: C;
  readonly queries?: Q;
  readonly topics?: T;
  readonly tables?: B;
  readonly rejections?: R;
  readonly initial: (key: string) => State;
  readonly handle: {
    readonly [N in keyof C]: (
      state: State,
      fields: InferFields<C[N]['fields']>,
      ctx: Context<T, B>,
    ) => InferFields<C[N]['reply']> | Rejection;
  };
  readonly answer?: {
    readonly [N in keyof Q]: (
      state: State,
      fields: InferFields<Q[N]['fields']>,
      ctx: ReadContext<B>,
    ) => InferReply<Q[N]['reply']>;
  };
  readonly snapshot: Snapshot<State>;
};

/** A definition whose types are forgotten, as the machine handles it. */
export type ActorDefinition = KindInterface & {
  readonly group: string;
  readonly placement: (key: string) => string;
  readonly about: string;
  readonly tables: Tables;
  readonly initial: (key: string) => unknown;
  readonly handle: { readonly [name: string]: (state: unknown, fields: unknown, ctx: Context) => object | Rejection };
  readonly answer: { readonly [name: string]: (state: unknown, fields: unknown, ctx: ReadContext) => unknown };
  readonly snapshot: {
    readonly version: number;
    save(state: unknown): unknown;
    load(saved: unknown): unknown;
    readonly migrate: { readonly [fromVersion: number]: (saved: unknown) => unknown };
  };
};

/** The typed face of a definition, for clients and tests. */
export type Kind<
  C extends Commands = Commands,
  Q extends Queries = Queries,
  T extends Topics = Topics,
  B extends Tables = Tables,
> = Omit<ActorDefinition, 'commands' | 'queries' | 'topics' | 'tables'> & {
  readonly commands: C;
  readonly queries: Q;
  readonly topics: T;
  readonly tables: B;
};

/**
 * Checks a definition and gives it the form that the machine uses.
 * Errors: TypeError that names the kind and what is wrong (names, missing handlers, unknown tables, colliding command ids).
 */
export function defineActor<
  State,
  const C extends Commands,
  const Q extends Queries = Record<never, never>,
  const T extends Topics = Record<never, never>,
  const B extends Tables = Record<never, never>,
  const R extends { readonly [name: string]: string } = Record<never, never>,
>(definition: Definition<State, C, Q, T, B, R>): Kind<C, Q, T, B> {
  const complete = {
    about: '',
    queries: {},
    topics: {},
    tables: {},
    rejections: {},
    answer: {},
    ...definition,
  } as unknown as ActorDefinition;
  checkNames(complete);
  checkTopics(complete);
  return complete as unknown as Kind<C, Q, T, B>;
}

const NAME = /^[a-z][a-zA-Z0-9_]{0,31}$/;
const KIND = /^[a-z][a-z0-9_]{0,31}$/;
const GROUP = /^[a-z][a-z0-9]{0,15}$/;

function checkNames(definition: ActorDefinition): void {
  const { kind, group, commands, queries, topics, tables, handle, answer } = definition;
  if (!KIND.test(kind)) throw new TypeError(`kind "${kind}": lower case letters, digits and _ only, at most 32`);
  if (!GROUP.test(group)) throw new TypeError(`${kind}: group "${group}" is not a name of a group`);
  for (const names of [commands, queries, topics, tables]) {
    for (const name of Object.keys(names))
      if (!NAME.test(name)) throw new TypeError(`${kind}: "${name}" is not a name`);
  }
  for (const name of Object.keys(commands)) if (!handle[name]) throw new TypeError(`${kind}: no handler for "${name}"`);
  for (const name of Object.keys(queries)) if (!answer[name]) throw new TypeError(`${kind}: no answer for "${name}"`);
  const ids = new Map<number, string>();
  for (const name of Object.keys(commands)) {
    const id = commandId(name);
    const other = ids.get(id);
    if (other) throw new TypeError(`${kind}: commands "${other}" and "${name}" have the same id: rename one`);
    ids.set(id, name);
  }
}

/** The key of a table behind a lossless topic: the event's offset. */
const isOffsetKey = (key: Fields): boolean => Object.keys(key).length === 1 && key.offset?.type === 'int';

function checkTopics({ kind, topics, tables, queries }: ActorDefinition): void {
  for (const [name, topic] of Object.entries(topics)) {
    if ('lossy' in topic) {
      if (!queries[topic.lossy]) throw new TypeError(`${kind}: topic "${name}" names no query by "${topic.lossy}"`);
      continue;
    }
    const table = tables[topic.table];
    if (!table) throw new TypeError(`${kind}: topic "${name}" names no table by "${topic.table}"`);
    if (!isOffsetKey(table.key))
      throw new TypeError(`${kind}: table "${topic.table}" needs the key { offset: int(...) }`);
  }
}

/** The id of a command in a record: FNV-1a, 32 bits, of its name (Fowler, Noll, Vo). */
export function commandId(name: string): number {
  let hash = 0x811c9dc5;
  for (let i = 0; i < name.length; i++) hash = Math.imul(hash ^ name.charCodeAt(i), 0x01000193) >>> 0;
  return hash;
}
