/**
 * Pending changes above a checkpoint: the fold reads and writes here at once, and a commit takes all of it later.
 *
 * There are two generations. `freeze` sets the changes so far aside for a commit; they stay readable, below what is written from
 * then on. When the commit succeeded, `release` drops them (the store has them); when it failed, `restore` puts them back.
 * None of the three changes what a read gives. What an overlay covers is written through it only.
 */
import type { Change, Changes, CheckpointStore, Entry, RangeOptions, Space } from './checkpoint.ts';
import { keyOfText, textOfKey } from './key-text.ts';
import { type Cursor, SortedKeys } from './sorted-keys.ts';

const WORTH_A_HINT = 32; // Deleted keys passed by one range before the gap is remembered: fewer cost less than remembering.
const MAX_HINTS = 16; // Per space: each put compares its key with them.

/** The changes of one space in one generation: a deleted key is there with `undefined`. */
class Layer {
  readonly values = new Map<string, Uint8Array | undefined>();
  #order: SortedKeys | undefined;
  #bytes = 0;

  constructor(isOrdered: boolean) {
    if (isOrdered) this.#order = new SortedKeys();
  }

  get isOrdered(): boolean {
    return this.#order !== undefined;
  }

  get bytes(): number {
    return this.#bytes;
  }

  set(key: string, value: Uint8Array | undefined): void {
    const old = this.values.get(key);
    const isNew = old === undefined && !this.values.has(key);
    this.#bytes += (value?.length ?? 0) - (old?.length ?? 0) + (isNew ? key.length : 0);
    this.values.set(key, value);
    if (isNew) this.#order?.add(key);
  }

  forget(key: string): void {
    const old = this.values.get(key);
    if (!this.values.delete(key)) return;
    this.#bytes -= key.length + (old?.length ?? 0);
    this.#order?.delete(key);
  }

  /** The order is made at the first range and kept from then on: spaces that are never ranged over do not pay for it. */
  cursor(from: string, to: string | undefined, reverse: boolean): Cursor {
    this.#order ??= SortedKeys.of([...this.values.keys()]);
    return this.#order.cursor(from, to, reverse);
  }
}

/** No key of [from, live) is there: where a queue is eaten from its head, ranges need not pass all that was deleted. */
type Hint = { readonly from: string; live: string };

class PendingSpace {
  current = new Layer(false);
  frozen: Layer | undefined;
  hints: Hint[] = [];

  has(key: string): boolean {
    return this.current.values.has(key) || this.frozen?.values.has(key) === true;
  }

  freeze(): void {
    this.frozen = this.current;
    this.current = new Layer(this.frozen.isOrdered);
  }

  restore(): void {
    if (!this.frozen) return;
    for (const [key, value] of this.current.values) this.frozen.set(key, value);
    this.current = this.frozen;
    this.frozen = undefined;
  }

  /** A key that comes to life ends the gaps it lies in. */
  shrinkHints(key: string): void {
    for (const hint of this.hints) if (key >= hint.from && key < hint.live) hint.live = key;
  }

  learn(from: string, live: string): void {
    this.hints = this.hints.filter((hint) => hint.from !== from);
    if (this.hints.length === MAX_HINTS) this.hints.shift();
    this.hints.push({ from, live });
  }

  /** Where a range from `from` upwards may begin. */
  skip(from: string): string {
    for (const hint of this.hints) if (from >= hint.from && from < hint.live) return hint.live;
    return from;
  }
}

export class Overlay {
  readonly #store: CheckpointStore;
  readonly #spaces = new Map<Space, PendingSpace>();
  #isFrozen = false;

  constructor(store: CheckpointStore) {
    this.#store = store;
  }

  /** Changes not yet frozen: keys, and bytes of keys and values. */
  get pending(): { readonly changes: number; readonly bytes: number } {
    return total([...this.#spaces.values()].map((space) => space.current));
  }

  /** Changes set aside for a commit. */
  get frozen(): { readonly changes: number; readonly bytes: number } {
    return total([...this.#spaces.values()].flatMap((space) => space.frozen ?? []));
  }

  /** The newest value. It must not be changed. */
  get(space: Space, key: Uint8Array): Uint8Array | undefined {
    const pending = this.#spaces.get(space);
    if (pending === undefined) return this.#store.get(space, key);
    const text = textOfKey(key);
    const { current, frozen } = pending;
    const value = current.values.get(text);
    if (value !== undefined || current.values.has(text)) return value;
    if (frozen?.values.has(text)) return frozen.values.get(text);
    return this.#store.get(space, key);
  }

  has(space: Space, key: Uint8Array): boolean {
    return this.get(space, key) !== undefined;
  }

  /** Keeps `value` itself: it must not be changed afterwards. */
  put(space: Space, key: Uint8Array, value: Uint8Array): void {
    const pending = this.#pendingOf(space);
    const text = textOfKey(key);
    if (pending.hints.length > 0) pending.shrinkHints(text);
    pending.current.set(text, value);
  }

  /** Deletes a key, whether it is there or not. What lived only in this generation leaves no trace. */
  delete(space: Space, key: Uint8Array): void {
    const pending = this.#pendingOf(space);
    const text = textOfKey(key);
    const below = pending.frozen?.values.has(text) ? pending.frozen.values.get(text) : this.#store.get(space, key);
    if (below === undefined) pending.current.forget(text);
    else pending.current.set(text, undefined);
  }

  /**
   * The entries with from <= key < to (absent: to the end), of all generations, in order. The overlay may be changed while it is
   * iterated: changes ahead are seen. It must end within the synchronous run that began it.
   */
  range(space: Space, from: Uint8Array, to?: Uint8Array, options: RangeOptions = {}): Iterable<Entry> {
    const pending = this.#spaces.get(space);
    if (pending === undefined) return this.#store.range(space, from, to, options);
    return this.#merged(space, pending, from, to, options);
  }

  /** Sets the pending changes aside for a commit. */
  freeze(): void {
    if (this.#isFrozen) throw new Error('a frozen generation awaits release or restore');
    this.#isFrozen = true;
    for (const pending of this.#spaces.values()) pending.freeze();
  }

  /** What to commit: each iteration makes the changes anew, one at a time. */
  takeFrozen(): Changes {
    const spaces = this.#spaces;
    return {
      *[Symbol.iterator](): Generator<Change> {
        for (const [space, { frozen }] of spaces) {
          if (frozen === undefined) continue;
          for (const [key, value] of frozen.values) yield { space, key: keyOfText(key), value };
        }
      },
    };
  }

  /** The store has the frozen changes now. */
  release(): void {
    this.#isFrozen = false;
    for (const pending of this.#spaces.values()) pending.frozen = undefined;
  }

  /** The commit failed: the frozen changes are pending again, below what was written since. */
  restore(): void {
    this.#isFrozen = false;
    for (const pending of this.#spaces.values()) pending.restore();
  }

  *#merged(
    space: Space,
    pending: PendingSpace,
    from: Uint8Array,
    to: Uint8Array | undefined,
    { reverse = false, limit = Number.POSITIVE_INFINITY }: RangeOptions,
  ): Generator<Entry> {
    if (limit <= 0) return;
    const asked = textOfKey(from);
    const start = reverse ? asked : pending.skip(asked);
    const end = to && textOfKey(to);
    if (end !== undefined && start >= end) return;
    const stored = this.#store
      .range(space, start === asked ? from : keyOfText(start), to, { reverse })
      [Symbol.iterator]();
    const layers = [pending.current, pending.frozen].filter((layer) => layer !== undefined);
    const merge = new Merge(stored, layers, start, end, reverse);
    try {
      let count = 0;
      for (let entry = merge.next(); ; entry = merge.next()) {
        if (count === 0 && !reverse && merge.passed >= WORTH_A_HINT) {
          const live = entry ? merge.key : end;
          if (live !== undefined) pending.learn(asked, live);
        }
        if (entry === undefined) return;
        yield entry;
        if (++count >= limit) return;
      }
    } finally {
      stored.return?.();
    }
  }

  #pendingOf(space: Space): PendingSpace {
    let pending = this.#spaces.get(space);
    if (pending === undefined) {
      pending = new PendingSpace();
      this.#spaces.set(space, pending);
    }
    return pending;
  }
}

/** One run over layers (newest first) and the store: at each key the newest wins; deleted ones are passed over. */
class Merge {
  /** The key of the last entry given. */
  key = '';
  /** Deleted keys passed so far. */
  passed = 0;
  readonly #stored: Iterator<Entry>;
  readonly #sources: readonly { readonly layer: Layer; readonly cursor: Cursor }[];
  readonly #reverse: boolean;
  #storedEntry: Entry | undefined;
  #storedKey: string | undefined;

  constructor(
    stored: Iterator<Entry>,
    layers: readonly Layer[],
    from: string,
    to: string | undefined,
    reverse: boolean,
  ) {
    this.#stored = stored;
    this.#reverse = reverse;
    this.#sources = layers.map((layer) => ({ layer, cursor: layer.cursor(from, to, reverse) }));
    this.#nextStored();
  }

  next(): Entry | undefined {
    for (let key = this.#nextKey(); key !== undefined; key = this.#nextKey()) {
      const entry = this.#take(key);
      if (entry !== undefined) {
        this.key = key;
        return entry;
      }
      this.passed++;
    }
    return undefined;
  }

  #nextKey(): string | undefined {
    let next = this.#storedKey;
    for (const { cursor } of this.#sources) {
      const key = cursor.peek();
      if (key !== undefined && (next === undefined || this.#isBefore(key, next))) next = key;
    }
    return next;
  }

  /** Steps every source past the key and gives the newest one's entry, or undefined where that is a deletion. */
  #take(key: string): Entry | undefined {
    for (const { cursor } of this.#sources) cursor.pass(key);
    const stored = this.#storedKey === key ? this.#storedEntry : undefined;
    if (stored !== undefined) this.#nextStored();
    for (const { layer } of this.#sources) {
      const value = layer.values.get(key);
      if (value !== undefined) return [stored?.[0] ?? keyOfText(key), value];
      if (layer.values.has(key)) return undefined;
    }
    return stored;
  }

  #nextStored(): void {
    const { done, value } = this.#stored.next();
    this.#storedEntry = done ? undefined : value;
    this.#storedKey = done ? undefined : textOfKey(value[0]);
  }

  #isBefore(a: string, b: string): boolean {
    return this.#reverse ? a > b : a < b;
  }
}

function total(layers: readonly Layer[]): { readonly changes: number; readonly bytes: number } {
  return {
    changes: layers.reduce((sum, layer) => sum + layer.values.size, 0),
    bytes: layers.reduce((sum, layer) => sum + layer.bytes, 0),
  };
}
