/**
 * A few small values that the whole cluster agrees on, each changed only by comparing revisions. A port: NATS KV, memory.
 * A revision is an integer from 1 that rises with every write to the bucket, whatever the key.
 */

export type Entry = { readonly value: Uint8Array; readonly revision: number };

export type KeyValue = {
  /** As the leader knows it. Errors: `log_unavailable`. */
  get(key: string): Promise<Entry | undefined>;
  /** Writes without condition; gives the new revision. Errors: `log_unavailable` (it may be written all the same). */
  put(key: string, value: Uint8Array): Promise<number>;
  /**
   * Writes if the key's revision still is `revision` (0: the key does not exist); gives the new one.
   * Errors: `wrong_last_sequence` (somebody was first), `log_unavailable` (it may be written all the same).
   */
  compareAndSet(key: string, value: Uint8Array, revision: number): Promise<number>;
};

/** Keys are at most these characters, so that they are tokens of a subject as they are. */
export function demandKey(key: string): string {
  if (!/^[A-Za-z0-9_-]{1,64}$/.test(key)) throw new RangeError(`"${key}" is not a key`);
  return key;
}
