/**
 * Answers queries from the folded state: those of the kinds, and built-in ones (their names begin with `~`) that serve edges and
 * operators. A query changes nothing; an actor never touched answers from its initial state and stays untouched.
 */
import type { ReadContext } from '../../actors/definition.ts';
import { decodeState } from '../../protocol/canonical.ts';
import { ProtocolError } from '../../protocol/errors.ts';
import { pack, unpack } from '../../protocol/msgpack.ts';
import {
  decodeEventsRequest,
  decodeSnapshotRequest,
  encodeEventsPage,
  encodeSnapshot,
  type QueryRequest,
} from '../bus/messages.ts';
import type { ActiveActor } from './actors.ts';
import type { Fold } from './fold.ts';
import type { CompiledTopic } from './kinds.ts';
import { MAX_OUTPUT_BYTES } from './outputs.ts';
import { actorHash } from './state-hash.ts';
import type { Table } from './tables.ts';

const MAX_PAGE = 1_000; // Rows in one answer of ~events: at 100 bytes each, 100 KB.
const MAX_PAGE_BYTES = 256 * 1024; // Large rows make a shorter page.
const NO_BODY = new Uint8Array(0);

/** Bytes of the answer's body. Errors: the protocol's names. */
export function answerQuery(fold: Fold, request: QueryRequest): Uint8Array {
  const bytes = answerAny(fold, request);
  if (bytes.length <= MAX_OUTPUT_BYTES) return bytes;
  throw new ProtocolError('payload_too_large', `the answer has ${bytes.length} bytes: ask for less at a time`);
}

function answerAny(fold: Fold, { ref, name, body, principal }: QueryRequest): Uint8Array {
  if (name === '~actors') return answerActors(fold, body);
  const actor = fold.actors.get(ref, fold.head.nowMs);
  if (name === '~inspect') return answerInspect(fold, actor);
  if (name === '~events') return answerEvents(fold, actor, body);
  if (name === '~snapshot') return answerSnapshot(fold, actor, body);
  return answerKind(fold, actor, name, body, principal);
}

function answerKind(fold: Fold, actor: ActiveActor, name: string, body: Uint8Array, principal: string): Uint8Array {
  const query = actor.kind.queries.get(name);
  if (!query) throw new ProtocolError('unknown_query', `${actor.kind.definition.kind} has no query "${name}"`);
  const fields = body.length === 0 ? {} : query.fields.decode(body);
  const context: ReadContext = {
    now: fold.head.nowMs,
    self: actor.ref,
    key: actor.key,
    principal,
    table: fold.tables(actor),
  };
  return query.reply.encode(query.answer(actor.state, fields, context));
}

function topicOf(actor: ActiveActor, name: string): CompiledTopic {
  const topic = actor.kind.topics.get(name);
  if (!topic) throw new ProtocolError('unknown_topic', `${actor.kind.definition.kind} has no topic "${name}"`);
  return topic;
}

function answerEvents(fold: Fold, actor: ActiveActor, body: Uint8Array): Uint8Array {
  const { topic: name, after, limit } = decodeEventsRequest(body);
  const { table: compiled } = topicOf(actor, name);
  if (!compiled) throw new ProtocolError('bad_request', `the topic "${name}" keeps no events`);
  const table = fold.tables(actor)[compiled.name] as Table;
  const headOffset = actor.offsets.get(name) ?? 0;
  const oldest = table.rangeBytes({ limit: 1 })[0]?.key.offset;
  const rows = table.rangeBytes({ from: { offset: after + 1 }, limit: Math.max(1, Math.min(limit, MAX_PAGE)) });
  return encodeEventsPage({
    generation: fold.head.generation,
    headOffset,
    firstOffset: typeof oldest === 'number' ? oldest : headOffset + 1,
    events: pageOf(rows.map(({ row }) => row)),
  });
}

/** The leading rows that fit, at least one. */
function pageOf(rows: readonly Uint8Array[]): readonly Uint8Array[] {
  let bytes = 0;
  const end = rows.findIndex((row, i) => {
    bytes += row.length;
    return i > 0 && bytes > MAX_PAGE_BYTES;
  });
  return end < 0 ? rows : rows.slice(0, end);
}

function answerSnapshot(fold: Fold, actor: ActiveActor, body: Uint8Array): Uint8Array {
  const name = decodeSnapshotRequest(body);
  const { lossy } = topicOf(actor, name);
  if (!lossy) throw new ProtocolError('bad_request', `the topic "${name}" has no snapshot: its events are rows`);
  return encodeSnapshot({
    generation: fold.head.generation,
    offset: actor.offsets.get(name) ?? 0,
    body: answerKind(fold, actor, lossy, NO_BODY, ''),
  });
}

/** [kind or '', limit, after] -> [[references], more]. */
function answerActors(fold: Fold, body: Uint8Array): Uint8Array {
  const [kind, limit, after] = unpack(body) as [string, number, string];
  const all = fold.actors.references().filter((ref) => (kind === '' || ref.startsWith(`${kind}:`)) && ref > after);
  return pack([all.slice(0, limit), all.length > limit]);
}

/** A map for operators; `state` is the snapshot as text, since it may hold any plain value. */
function answerInspect(fold: Fold, actor: ActiveActor): Uint8Array {
  const saved = fold.actors.saved(actor.ref);
  const [version, , state] = saved
    ? (decodeState(saved) as [number, unknown, unknown])
    : [actor.kind.definition.snapshot.version, 0, null];
  return pack({
    actor: actor.ref,
    known: saved !== undefined,
    partition: fold.settings.partition,
    generation: fold.head.generation,
    epoch: fold.head.epoch,
    sequence: fold.head.sequence,
    snapshotVersion: version,
    stateBytes: saved?.length ?? 0,
    hash: actorHash(fold, actor.ref) ?? null,
    offsets: Object.fromEntries(actor.offsets),
    timers: fold.timers.of(actor.ref).map(({ name, wish }) => ({ name, dueMs: wish.dueMs, command: wish.command })),
    state: stateAsText(state),
  });
}

const MAX_STATE_TEXT = 200_000; // A page of text; `troupe replay` prints states of any size.

/** JSON of a snapshot; Maps as lists of pairs, bytes as hex. Cut off where it is too long to look at. */
export function stateAsText(state: unknown): string {
  const text = JSON.stringify(
    state,
    (_, value) => {
      if (value instanceof Map) return [...value];
      return value instanceof Uint8Array ? Buffer.from(value).toString('hex') : value;
    },
    1,
  );
  return text.length > MAX_STATE_TEXT ? `${text.slice(0, MAX_STATE_TEXT)}... (${text.length} characters)` : text;
}
