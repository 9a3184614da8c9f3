/**
 * What makes client commands exactly once: for each session the last window of command numbers with their replies, and for
 * each idempotency key the first reply. All of it is folded state. Expiry goes by log time, so every fold forgets alike.
 */
import { decodeState, encodeState } from '../../protocol/canonical.ts';
import type { CheckpointStore } from '../checkpoint/checkpoint.ts';

export const WINDOW = 256; // Commands in flight per session: enough for a busy trader, and at most this many replies are kept.
const SMALLEST_RING = 8; // Most sessions have a handful in flight; the ring doubles when two live numbers meet.

/** How a command ended: what is sent again when it comes a second time. */
export type Outcome = { readonly status: number; readonly bytes: Uint8Array };

/** One session's window. A number's place is number modulo ring size; numbers below `low` are dead and may be overwritten. */
export class Session {
  createdMs: number;
  activeMs: number;
  low = 1;
  dirty = false;
  /** Changed before the running checkpoint's sequence and not yet saved for it. */
  marked = false;
  #numbers: number[] = new Array(SMALLEST_RING).fill(0);
  #statuses: number[] = new Array(SMALLEST_RING).fill(0);
  #replies: (Uint8Array | undefined)[] = new Array(SMALLEST_RING).fill(undefined);

  constructor(createdMs: number, activeMs: number) {
    this.createdMs = createdMs;
    this.activeMs = activeMs;
  }

  /** The place of a live number, or -1. */
  find(number: number): number {
    const place = number & (this.#numbers.length - 1);
    return this.#numbers[place] === number && number >= this.low ? place : -1;
  }

  status(place: number): number {
    return this.#statuses[place] as number;
  }

  reply(place: number): Uint8Array {
    return this.#replies[place] as Uint8Array;
  }

  raiseLow(low: number): void {
    if (low > this.low) this.low = low;
  }

  /** Keeps an outcome. The caller has checked low <= number < low + WINDOW. */
  keep(number: number, status: number, bytes: Uint8Array): void {
    let place = number & (this.#numbers.length - 1);
    while ((this.#numbers[place] as number) >= this.low && this.#numbers[place] !== number) {
      this.#grow();
      place = number & (this.#numbers.length - 1);
    }
    this.#numbers[place] = number;
    this.#statuses[place] = status;
    this.#replies[place] = bytes;
  }

  /** Live entries in the order of their numbers. */
  entries(): [number, number, Uint8Array][] {
    const found: [number, number, Uint8Array][] = [];
    this.#numbers.forEach((number, place) => {
      if (number >= this.low) found.push([number, this.status(place), this.reply(place)]);
    });
    return found.sort((a, b) => a[0] - b[0]);
  }

  #grow(): void {
    const entries = this.entries();
    const size = this.#numbers.length * 2;
    if (size > WINDOW) throw new Error('a session holds more numbers than its window');
    this.#numbers = new Array(size).fill(0);
    this.#statuses = new Array(size).fill(0);
    this.#replies = new Array(size).fill(undefined);
    for (const [number, status, bytes] of entries) this.keep(number, status, bytes);
  }

  save(): Uint8Array {
    return encodeState([this.createdMs, this.activeMs, this.low, this.entries()]);
  }

  static load(bytes: Uint8Array): Session {
    const [createdMs, activeMs, low, entries] = decodeState(bytes) as [
      number,
      number,
      number,
      [number, number, Uint8Array][],
    ];
    const session = new Session(createdMs, activeMs);
    session.low = low;
    for (const [number, status, reply] of entries) session.keep(number, status, reply);
    return session;
  }
}

/** The first outcome under an idempotency key, and the hash of the body it was for. */
export type KeyRow = { readonly bodyHash: number; readonly atMs: number; readonly outcome: Outcome };

type SessionChange = { space: 'session' | 'key'; key: Uint8Array; value: Uint8Array | undefined };

/**
 * The sessions and idempotency keys of a partition. Those in use are in memory; the rest lie in the checkpoint.
 * Identifiers are 16 bytes, given as latin1 text (a map lookup by text is the fastest exact one).
 * A checkpoint takes them like actors: marked at one sequence, saved before the next change or in slices.
 */
export class Sessions {
  readonly #store: CheckpointStore;
  readonly #live = new Map<string, Session>();
  readonly #dirty = new Set<string>();
  readonly #keys = new Map<string, KeyRow>();
  #marked: string[] = [];
  /** Changes on their way into the checkpoint, by identifier; sessions and keys apart. */
  #frozen = new Map<string, SessionChange>();
  readonly #cursors = { session: new Uint8Array(), key: new Uint8Array() };
  readonly horizonMs: number;

  constructor(store: CheckpointStore, horizonMs: number) {
    this.#store = store;
    this.horizonMs = horizonMs;
  }

  /** A session known and not idle for longer than the horizon. */
  find(id: string, nowMs: number): Session | undefined {
    const live = this.#live.get(id) ?? this.#activate(id);
    return live && nowMs - live.activeMs <= this.horizonMs ? live : undefined;
  }

  begin(id: string, createdMs: number, nowMs: number): Session {
    const session = new Session(createdMs, nowMs);
    this.#live.set(id, session);
    return session;
  }

  /** To be called before a session is changed. */
  prepare(id: string, session: Session, nowMs: number): void {
    if (session.marked) this.#save(id, session);
    session.activeMs = nowMs;
    if (session.dirty) return;
    session.dirty = true;
    this.#dirty.add(id);
  }

  key(id: string, nowMs: number): KeyRow | undefined {
    const row = this.#keys.get(id) ?? this.#storedKey(id);
    return row && nowMs - row.atMs <= this.horizonMs ? row : undefined;
  }

  keepKey(id: string, row: KeyRow): void {
    this.#keys.set(id, row);
  }

  /** Begins a checkpoint: everything changed so far belongs to it. Changes of a failed one are still there and go along. */
  mark(nowMs: number): void {
    for (const id of this.#dirty) {
      const session = this.#live.get(id) as Session;
      session.dirty = false;
      session.marked = true;
    }
    this.#marked = [...this.#dirty];
    this.#dirty.clear();
    for (const [id, row] of this.#keys) this.#freeze('key', id, saveKey(row));
    this.#sweep('session', nowMs);
    this.#sweep('key', nowMs);
  }

  /** Saves some marked sessions; `true` when none is left. */
  slice(until: () => boolean): boolean {
    while (this.#marked.length > 0) {
      const id = this.#marked.pop() as string;
      const session = this.#live.get(id);
      if (session?.marked) this.#save(id, session);
      if (until()) return this.#marked.length === 0;
    }
    return true;
  }

  takeFrozen(): Iterable<SessionChange> {
    return this.#frozen.values();
  }

  /** The checkpoint is on disk: keys and idle sessions may leave memory. */
  release(nowMs: number, idleMs: number): void {
    for (const { space, key, value } of this.#frozen.values()) {
      const id = Buffer.from(key).toString('latin1');
      const row = space === 'key' ? this.#keys.get(id) : undefined;
      if (row && value && Buffer.compare(saveKey(row), value) === 0) this.#keys.delete(id);
    }
    this.#frozen = new Map();
    for (const [id, session] of this.#live) {
      if (!session.dirty && !session.marked && nowMs - session.activeMs > idleMs) this.#live.delete(id);
    }
  }

  /** All live entries, in the order of their identifiers, for the state hash: [space, id, bytes]. */
  *dump(nowMs: number): Iterable<[string, Uint8Array, Uint8Array]> {
    for (const space of ['session', 'key'] as const) {
      const ids = new Set<string>(space === 'session' ? this.#live.keys() : this.#keys.keys());
      for (const [key] of this.#store.range(space, new Uint8Array())) ids.add(Buffer.from(key).toString('latin1'));
      for (const id of [...ids].sort()) {
        const bytes = space === 'session' ? this.find(id, nowMs)?.save() : saveKeyOf(this.key(id, nowMs));
        if (bytes) yield [space, Buffer.from(id, 'latin1'), bytes];
      }
    }
  }

  get count(): number {
    return this.#live.size;
  }

  #save(id: string, session: Session): void {
    session.marked = false;
    this.#freeze('session', id, session.save());
  }

  #freeze(space: 'session' | 'key', id: string, value: Uint8Array | undefined): void {
    this.#frozen.set(`${space}${id}`, { space, key: Buffer.from(id, 'latin1'), value });
  }

  #activate(id: string): Session | undefined {
    const bytes = this.#store.get('session', Buffer.from(id, 'latin1'));
    if (!bytes) return undefined;
    const session = Session.load(bytes);
    this.#live.set(id, session);
    return session;
  }

  #storedKey(id: string): KeyRow | undefined {
    const bytes = this.#store.get('key', Buffer.from(id, 'latin1'));
    if (!bytes) return undefined;
    const [bodyHash, atMs, status, reply] = decodeState(bytes) as [number, number, number, Uint8Array];
    return { bodyHash, atMs, outcome: { status, bytes: reply } };
  }

  /** Looks at some stored entries per checkpoint and deletes the expired: nobody sees the difference, since reads check the age. */
  #sweep(space: 'session' | 'key', nowMs: number): void {
    let last: Uint8Array | undefined;
    for (const [key, value] of this.#store.range(space, this.#cursors[space], undefined, {
      limit: SWEPT_PER_CHECKPOINT,
    })) {
      last = key;
      const id = Buffer.from(key).toString('latin1');
      const storedMs = (decodeState(value) as number[])[1] as number;
      const usedMs = Math.max(
        storedMs,
        space === 'session' ? (this.#live.get(id)?.activeMs ?? 0) : (this.#keys.get(id)?.atMs ?? 0),
      );
      if (nowMs - usedMs <= this.horizonMs) continue;
      if (space === 'session') this.#live.delete(id);
      this.#freeze(space, id, undefined);
    }
    this.#cursors[space] = last ? Buffer.concat([last, Uint8Array.of(0)]) : new Uint8Array();
  }
}

const SWEPT_PER_CHECKPOINT = 16; // Each is decoded: 200 held the loop 3 ms. At a checkpoint each five seconds it is 276,000 a day.

function saveKey({ bodyHash, atMs, outcome }: KeyRow): Uint8Array {
  return encodeState([bodyHash, atMs, outcome.status, outcome.bytes]);
}

function saveKeyOf(row: KeyRow | undefined): Uint8Array | undefined {
  return row && saveKey(row);
}
