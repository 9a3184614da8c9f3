/**
 * The port of checkpoints: the durable state of one partition's fold, as named, ordered byte maps ("spaces").
 *
 * Guarantees of every adapter (checkpoint.laws.ts):
 * - A commit is atomic: after a crash at any write, a kill or a full disk, the store holds the old or the new checkpoint, whole.
 * - When `commit` resolves, the checkpoint is on the disk (flushed) and was read back: every changed key gave its new value
 *   through a fresh read. That is what "verified" means here; damage that the disk does later is not covered.
 * - Keys are ordered bytewise; a shorter key comes before its extensions.
 * - Commits of one partition run one after another in the order of their calls.
 */
import { ProtocolError } from '../../protocol/errors.ts';

/** The maps of a checkpoint, in the order of their numbers in a packed commit: append only. */
export const SPACES = [
  'meta',
  'actor',
  'row',
  'timer',
  'session',
  'key',
  'outbox',
  'effect',
  'mark',
  'quarantine',
] as const;
export type Space = (typeof SPACES)[number];

export const MAX_KEY_BYTES = 1978; // LMDB's limit with pages of 4 KiB: two keys must fit in one page.
export const MAX_VALUE_BYTES = 16 * 1024 * 1024; // A bigger actor would hold the loop for too long when it is encoded.

/** One key's new value, or `undefined` to delete it (deleting what is not there is no error). */
export type Change = { readonly space: Space; readonly key: Uint8Array; readonly value: Uint8Array | undefined };
/** What one commit changes. The order means nothing; a key occurs at most once per space. It is gone through once. */
export type Changes = Iterable<Change>;

/** `limit`: entries at most (default: all). `reverse`: from the highest key down. */
export type RangeOptions = { readonly reverse?: boolean; readonly limit?: number };
export type Entry = [key: Uint8Array, value: Uint8Array];

/** Entries, bytes (keys and values) and CRC-32 over every entry in order: two equal stores give equal digests. */
export type Digest = { readonly entries: number; readonly bytes: number; readonly crc32: number };

/** One partition's checkpoint. What is returned belongs to the caller: changing it does not change the store. */
export interface CheckpointStore {
  readonly partition: string;

  /** The committed value. While a commit is running, a read gives the old or already the new checkpoint. */
  get(space: Space, key: Uint8Array): Uint8Array | undefined;

  /**
   * The entries with from <= key < to, in order. An empty `from` is the beginning, an absent `to` the end. The iteration must end
   * within the synchronous run that began it: across an `await` it may mix two checkpoints.
   */
  range(space: Space, from: Uint8Array, to?: Uint8Array, options?: RangeOptions): Iterable<Entry>;

  /** The number of keys of a space. */
  count(space: Space): number;

  /**
   * Replaces the checkpoint by this one with the changes applied. `changes` is gone through in slices over several turns of the
   * loop: it and its bytes must stay untouched until the commit settles.
   * Rejects with ProtocolError `storage_full` or `storage_failed` (nothing changed; the same store may be tried again),
   * or `invalid_field`/`payload_too_large` for a key or value outside the limits.
   */
  commit(changes: Changes): Promise<void>;

  /** Reads every entry of every space, away from the loop. Rejects with `storage_failed` if that is not possible. */
  verify(): Promise<Digest>;

  /** Waits for commits that were asked for, then closes. Later calls throw. */
  close(): Promise<void>;
}

/** The checkpoints of one node. A partition is open at most once at a time. */
export interface Checkpoints {
  open(partition: string): Promise<CheckpointStore>;
  /** Closes every open store. */
  close(): Promise<void>;
}

/** Refuses a change outside the limits. */
export function checkChange({ space, key, value }: Change): void {
  if (key.length === 0) throw new ProtocolError('invalid_field', `empty key in space ${space}`, 'key');
  if (key.length > MAX_KEY_BYTES) {
    throw new ProtocolError('invalid_field', `key of ${key.length} bytes, ${MAX_KEY_BYTES} allowed`, 'key');
  }
  if (value !== undefined && value.length > MAX_VALUE_BYTES) {
    throw new ProtocolError('payload_too_large', `value of ${value.length} bytes, ${MAX_VALUE_BYTES} allowed`, 'value');
  }
}

const PARTITION_NAME = /^[a-z][a-z0-9]{0,15}-[0-9]{1,5}$/; // It becomes a folder's name.

/** Throws for what is not a partition's name. */
export function checkPartition(partition: string): void {
  if (!PARTITION_NAME.test(partition)) throw new Error(`not a partition's name: ${JSON.stringify(partition)}`);
}
