/**
 * The actors of one partition that are in memory. An actor never touched costs nothing; an idle one is put back (passivated).
 * A checkpoint takes every actor as it was at one sequence: changed ones are marked, a marked one is saved before the next
 * record touches it, the rest in slices.
 */
import { decodeState, encodeState } from '../../protocol/canonical.ts';
import { ProtocolError } from '../../protocol/errors.ts';
import type { Change, CheckpointStore } from '../checkpoint/checkpoint.ts';
import { type CompiledKind, type Kinds, resolveRef } from './kinds.ts';
import { encodeKeyPrefix } from './table-key.ts';

export type ActiveActor = {
  readonly ref: string;
  readonly key: string;
  readonly kind: CompiledKind;
  /** Begin of the actor's keys in the spaces of rows and timers. */
  readonly prefix: Uint8Array;
  state: unknown;
  /** Newest offset per topic. */
  offsets: Map<string, number>;
  /** Changed since it was last saved. */
  dirty: boolean;
  /** Changed before the running checkpoint's sequence and not yet saved for it. */
  marked: boolean;
  /** Whether a record, a table row or an earlier checkpoint knows the actor; a mere question does not make one. */
  known: boolean;
  usedMs: number;
  /** Table readers and writers, made at first use (see tables.ts). */
  tables: Record<string, unknown> | undefined;
};

const utf8 = new TextEncoder();

export class Actors {
  readonly #kinds: Kinds;
  readonly #store: CheckpointStore;
  /** By the latin1 reading of the reference's UTF-8 bytes, as records give it. */
  readonly #active = new Map<string, ActiveActor>();
  /** Saved states on their way into the checkpoint: of the running one, and since it began. */
  #frozen = new Map<string, Uint8Array>();
  #saved = new Map<string, Uint8Array>();
  #marked: ActiveActor[] = [];

  constructor(kinds: Kinds, store: CheckpointStore) {
    this.#kinds = kinds;
    this.#store = store;
  }

  get count(): number {
    return this.#active.size;
  }

  /** By the reference as text. Errors: `invalid_reference`, `unknown_kind`, `unsupported_version`. */
  get(ref: string, nowMs: number): ActiveActor {
    return this.getLatin1(Buffer.from(ref).toString('latin1'), nowMs);
  }

  /** By the latin1 reading of the reference's bytes. */
  getLatin1(name: string, nowMs: number): ActiveActor {
    const active = this.#active.get(name) ?? this.#activate(name);
    active.usedMs = nowMs;
    return active;
  }

  /** To be called before a handler may change the actor: a running checkpoint wants it as it was. */
  prepare(actor: ActiveActor): void {
    if (actor.marked) this.#saveMarked(actor);
  }

  /** To be called when a handler has changed the actor. */
  changed(actor: ActiveActor): void {
    actor.dirty = true;
    actor.known = true;
  }

  /** Begins a checkpoint: everything changed so far belongs to it. Finish with `sliceUntilDone` or slices, then `takeFrozen`. */
  mark(): void {
    this.#frozen = this.#saved;
    this.#saved = new Map();
    this.#marked = [];
    for (const actor of this.#active.values()) {
      if (!actor.dirty) continue;
      actor.marked = true;
      actor.dirty = false;
      this.#marked.push(actor);
    }
  }

  /** Saves some marked actors; `true` when none is left. */
  slice(until: () => boolean): boolean {
    while (this.#marked.length > 0) {
      const actor = this.#marked.pop() as ActiveActor;
      if (actor.marked) this.#saveMarked(actor);
      if (until()) return this.#marked.length === 0;
    }
    return true;
  }

  *takeFrozen(): Iterable<Change> {
    for (const [ref, value] of this.#frozen) yield { space: 'actor', key: utf8.encode(ref), value };
  }

  /** The checkpoint is on disk. */
  release(): void {
    this.#frozen = new Map();
  }

  /** The checkpoint failed: its states go with the next, unless they are saved anew before. */
  restore(): void {
    this.#saved = new Map([...this.#frozen, ...this.#saved]);
    this.#frozen = new Map();
  }

  /** Puts idle actors back, the longest unused first, until at most `maxActive` are left. */
  passivate(maxActive: number): number {
    const excess = this.#active.size - maxActive;
    if (excess <= 0) return 0;
    const oldest = [...this.#active].sort(([, a], [, b]) => a.usedMs - b.usedMs).slice(0, excess);
    for (const [name, actor] of oldest) this.#passivate(name, actor);
    return oldest.length;
  }

  /** All references known, in bytewise order: in memory, waiting, or stored. */
  references(): string[] {
    const found = new Set<string>([...this.#frozen.keys(), ...this.#saved.keys()]);
    for (const actor of this.#active.values()) if (actor.known) found.add(actor.ref);
    for (const [key] of this.#store.range('actor', new Uint8Array())) found.add(Buffer.from(key).toString());
    return [...found].sort((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)));
  }

  /** The bytes that a checkpoint would hold of an actor now, or undefined for one never touched. */
  saved(ref: string): Uint8Array | undefined {
    const active = this.#active.get(Buffer.from(ref).toString('latin1'));
    if (active) return active.known ? saveActor(active) : undefined;
    return this.#stored(ref);
  }

  #stored(ref: string): Uint8Array | undefined {
    return this.#saved.get(ref) ?? this.#frozen.get(ref) ?? this.#store.get('actor', utf8.encode(ref));
  }

  #activate(name: string): ActiveActor {
    const ref = Buffer.from(name, 'latin1').toString();
    // Bytes that are not UTF-8 would decode to the name of another actor.
    if (Buffer.from(ref).toString('latin1') !== name)
      throw new ProtocolError('invalid_reference', 'a reference is not UTF-8');
    const { kind, key } = resolveRef(this.#kinds, ref);
    const bytes = this.#stored(ref);
    const { state, offsets } = bytes
      ? loadActor(kind, bytes)
      : { state: kind.definition.initial(key), offsets: new Map() };
    const actor: ActiveActor = {
      ref,
      key,
      kind,
      prefix: encodeKeyPrefix(ref),
      state,
      offsets,
      dirty: false,
      marked: false,
      known: bytes !== undefined,
      usedMs: 0,
      tables: undefined,
    };
    this.#active.set(name, actor);
    return actor;
  }

  #saveMarked(actor: ActiveActor): void {
    actor.marked = false;
    this.#frozen.set(actor.ref, saveActor(actor));
  }

  #passivate(name: string, actor: ActiveActor): void {
    if (actor.marked) this.#saveMarked(actor);
    if (actor.dirty) this.#saved.set(actor.ref, saveActor(actor));
    this.#active.delete(name);
  }
}

function saveActor({ kind, state, offsets }: ActiveActor): Uint8Array {
  const { snapshot } = kind.definition;
  return encodeState([snapshot.version, new Map([...offsets].sort()), snapshot.save(state)]);
}

/**
 * Reads a saved actor, migrating older versions step by step.
 * Errors: `unsupported_version` for a newer version than the code's, or one without a migration.
 */
export function loadActor(kind: CompiledKind, bytes: Uint8Array): { state: unknown; offsets: Map<string, number> } {
  const { snapshot, kind: name } = kind.definition;
  const [version, offsets, saved] = decodeState(bytes) as [number, Map<string, number>, unknown];
  let value = saved;
  for (let from = version; from !== snapshot.version; from++) {
    const step = snapshot.migrate[from];
    if (from > snapshot.version || !step) {
      throw new ProtocolError(
        'unsupported_version',
        `${name}: no way from snapshot version ${version} to ${snapshot.version}`,
      );
    }
    value = step(value);
  }
  return { state: snapshot.load(value), offsets };
}
