/**
 * Checkpoints in memory, for tests and simulation. One object is one 'disk': what was committed is there again after a close,
 * an open, or a simulated crash. Faults are switched on per partition.
 */
import { crc32 } from 'node:zlib';
import { ProtocolError } from '../../protocol/errors.ts';
import {
  type Changes,
  type CheckpointStore,
  type Checkpoints,
  checkChange,
  checkPartition,
  type Digest,
  type Entry,
  type RangeOptions,
  SPACES,
  type Space,
} from './checkpoint.ts';
import { digestEntry, EMPTY_DIGEST } from './digest.ts';
import { keyOfText, textOfKey } from './key-text.ts';
import { SortedKeys } from './sorted-keys.ts';

/** Where the simulated machine dies. The commit's promise then never settles, as it would not for a dead process. */
export type CrashPoint = 'before-commit' | 'after-commit';

type Faults = { full: number; crash: CrashPoint | undefined; onCrash: (() => void) | undefined };

class MemorySpace {
  readonly #values = new Map<string, Uint8Array>();
  readonly #keys = new SortedKeys();

  get size(): number {
    return this.#values.size;
  }

  get(key: string): Uint8Array | undefined {
    return this.#values.get(key);
  }

  set(key: string, value: Uint8Array | undefined): void {
    if (value === undefined) {
      if (this.#values.delete(key)) this.#keys.delete(key);
      return;
    }
    if (!this.#values.has(key)) this.#keys.add(key);
    this.#values.set(key, value.slice());
  }

  *range(from: string, to: string | undefined, reverse: boolean): Iterable<[string, Uint8Array]> {
    const cursor = this.#keys.cursor(from, to, reverse);
    for (let key = cursor.peek(); key !== undefined; key = cursor.peek()) {
      yield [key, this.#values.get(key)!];
      cursor.pass(key);
    }
  }
}

type Disk = ReadonlyMap<Space, MemorySpace>;

const emptyDisk = (): Disk => new Map(SPACES.map((space) => [space, new MemorySpace()]));

export class MemoryCheckpoints implements Checkpoints {
  readonly #disks = new Map<string, Disk>();
  readonly #faults = new Map<string, Faults>();
  readonly #open = new Map<string, MemoryStore>();

  async open(partition: string): Promise<CheckpointStore> {
    checkPartition(partition);
    if (this.#open.has(partition)) throw new Error(`checkpoint of ${partition} is open already`);
    const disk = this.#disks.get(partition) ?? emptyDisk();
    this.#disks.set(partition, disk);
    const store = new MemoryStore(partition, disk, this.#faultsOf(partition), () => this.#release(partition, store));
    this.#open.set(partition, store);
    return store;
  }

  async close(): Promise<void> {
    await Promise.all([...this.#open.values()].map((store) => store.close()));
  }

  /** The next `commits` commits are refused with `storage_full`. */
  fillDisk(partition: string, commits: number): void {
    this.#faultsOf(partition).full = commits;
  }

  /** The next commit kills the store: it never settles, later calls throw, and the partition can be opened anew. */
  crashAt(partition: string, point: CrashPoint, onCrash?: () => void): void {
    const faults = this.#faultsOf(partition);
    faults.crash = point;
    faults.onCrash = onCrash;
  }

  #release(partition: string, store: MemoryStore): void {
    if (this.#open.get(partition) === store) this.#open.delete(partition);
  }

  #faultsOf(partition: string): Faults {
    const faults = this.#faults.get(partition) ?? { full: 0, crash: undefined, onCrash: undefined };
    this.#faults.set(partition, faults);
    return faults;
  }
}

class MemoryStore implements CheckpointStore {
  readonly partition: string;
  readonly #disk: Disk;
  readonly #faults: Faults;
  readonly #release: () => void;
  #queue: Promise<void> = Promise.resolve();
  #closing = false;
  #ended = false;

  constructor(partition: string, disk: Disk, faults: Faults, release: () => void) {
    this.partition = partition;
    this.#disk = disk;
    this.#faults = faults;
    this.#release = release;
  }

  get(space: Space, key: Uint8Array): Uint8Array | undefined {
    return this.#space(space).get(textOfKey(key))?.slice();
  }

  *range(space: Space, from: Uint8Array, to?: Uint8Array, options: RangeOptions = {}): Iterable<Entry> {
    const { reverse = false, limit = Number.POSITIVE_INFINITY } = options;
    let left = limit;
    const entries = this.#space(space).range(textOfKey(from), to && textOfKey(to), reverse);
    for (const [key, value] of entries) {
      if (left-- <= 0) return;
      yield [keyOfText(key), value.slice()];
    }
  }

  count(space: Space): number {
    return this.#space(space).size;
  }

  async commit(changes: Changes): Promise<void> {
    this.#assertOpen();
    const checked = [...changes];
    for (const change of checked) checkChange(change);
    const done = this.#queue.then(() => this.#commit(checked));
    this.#queue = done.catch(() => undefined);
    return done;
  }

  async verify(): Promise<Digest> {
    this.#assertOpen();
    await this.#queue;
    let digest: Digest = EMPTY_DIGEST;
    for (const space of SPACES) {
      for (const [key, value] of this.#disk.get(space)!.range('', undefined, false)) {
        digest = digestEntry(digest, space, keyOfText(key), value, crc32);
      }
    }
    return digest;
  }

  async close(): Promise<void> {
    if (this.#closing) return this.#queue;
    this.#closing = true;
    if (!this.#ended) await this.#queue;
    this.#end();
  }

  async #commit(changes: Changes): Promise<void> {
    if (this.#faults.full > 0) {
      this.#faults.full--;
      throw new ProtocolError('storage_full');
    }
    if (this.#faults.crash === 'before-commit') return this.#die();
    for (const { space, key, value } of changes) this.#disk.get(space)!.set(textOfKey(key), value);
    if (this.#faults.crash === 'after-commit') return this.#die();
  }

  /** Ends as a killed process does: whoever waits, waits for ever. */
  #die(): Promise<never> {
    const onCrash = this.#faults.onCrash;
    this.#faults.crash = undefined;
    this.#faults.onCrash = undefined;
    this.#end();
    if (onCrash) queueMicrotask(onCrash);
    return new Promise(() => undefined);
  }

  #end(): void {
    this.#ended = true;
    this.#release();
  }

  #space(space: Space): MemorySpace {
    this.#assertOpen();
    return this.#disk.get(space)!;
  }

  #assertOpen(): void {
    if (this.#closing || this.#ended) throw new Error(`checkpoint of ${this.partition} is closed`);
  }
}
