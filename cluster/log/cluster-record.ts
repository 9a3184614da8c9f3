/**
 * What a cluster is, agreed by all its nodes: the format of what it stores, how many partitions each group has (fixed when
 * the cluster is created), and which generation of each partition's log counts. Kept in KV, changed by comparing revisions.
 */
import { ProtocolError } from '../../protocol/errors.ts';
import type { KeyValue } from './key-value.ts';

/** The bucket of the cluster record. */
export const CLUSTER_BUCKET = 'troupe_cluster';
const KEY = 'cluster';
/** Of everything that a cluster stores: frames, records, checkpoints. A node refuses what it does not know. */
export const FORMAT_VERSION = 1;

export type ClusterRecord = {
  readonly formatVersion: number;
  /** Partition counts by group. */
  readonly groups: Readonly<Record<string, number>>;
  /** By partition; one that is not named is in generation 1. */
  readonly generations: Readonly<Record<string, number>>;
};

export type VersionedRecord = { readonly record: ClusterRecord; readonly revision: number };

export function generationOf(record: ClusterRecord, partition: string): number {
  return record.generations[partition] ?? 1;
}

/** Errors: `unsupported_version`, `log_misconfigured` (not a cluster record), `log_unavailable`. */
export async function readClusterRecord(store: KeyValue): Promise<VersionedRecord | undefined> {
  const entry = await store.get(KEY);
  return entry && { record: parseRecord(entry.value), revision: entry.revision };
}

/**
 * Reads the record, or writes the first one; of several nodes that start at once, all get the one that won.
 * Errors: as `readClusterRecord`; `log_misconfigured` when the groups differ from those of the cluster.
 */
export async function joinCluster(store: KeyValue, groups: Readonly<Record<string, number>>): Promise<VersionedRecord> {
  const found = await readClusterRecord(store);
  if (found) return demandSameGroups(found, groups);
  try {
    const record: ClusterRecord = { formatVersion: FORMAT_VERSION, groups, generations: {} };
    return { record, revision: await store.compareAndSet(KEY, encodeRecord(record), 0) };
  } catch (error) {
    if (error instanceof ProtocolError && error.code === 'wrong_last_sequence') return joinCluster(store, groups);
    throw error;
  }
}

/**
 * Raises a partition's generation from the one that the caller saw to the next, or to one above `above`; gives the new record.
 * Errors: `wrong_last_sequence` when it is another one by now; as `readClusterRecord`.
 */
export async function raiseGeneration(
  store: KeyValue,
  partition: string,
  from: number,
  above = from,
): Promise<VersionedRecord> {
  for (;;) {
    const found = await readClusterRecord(store);
    if (!found) throw new ProtocolError('log_misconfigured', 'there is no cluster record');
    if (generationOf(found.record, partition) !== from) {
      throw new ProtocolError(
        'wrong_last_sequence',
        `${partition} is in generation ${generationOf(found.record, partition)}`,
      );
    }
    const record = {
      ...found.record,
      generations: { ...found.record.generations, [partition]: Math.max(from, above) + 1 },
    };
    const revision = await store.compareAndSet(KEY, encodeRecord(record), found.revision).catch(ignoreLostRace);
    if (revision !== undefined) return { record, revision };
  }
}

function ignoreLostRace(error: unknown): undefined {
  if (!(error instanceof ProtocolError) || error.code !== 'wrong_last_sequence') throw error;
}

function demandSameGroups(found: VersionedRecord, groups: Readonly<Record<string, number>>): VersionedRecord {
  const [real, wanted] = [found.record.groups, groups].map((each) => JSON.stringify(Object.entries(each).sort()));
  if (real !== wanted) {
    throw new ProtocolError('log_misconfigured', `the cluster has the groups ${real}, wanted are ${wanted}`, 'groups');
  }
  return found;
}

function encodeRecord(record: ClusterRecord): Uint8Array {
  return new TextEncoder().encode(JSON.stringify(record));
}

function parseRecord(bytes: Uint8Array): ClusterRecord {
  const record = parseJson(new TextDecoder().decode(bytes));
  if (!Number.isInteger(record?.formatVersion))
    throw new ProtocolError('log_misconfigured', 'the cluster record is damaged');
  if (record?.formatVersion !== FORMAT_VERSION) {
    throw new ProtocolError(
      'unsupported_version',
      `the cluster has format ${record?.formatVersion}, known is ${FORMAT_VERSION}`,
    );
  }
  if (!isCounts(record.groups) || !isCounts(record.generations)) {
    throw new ProtocolError('log_misconfigured', 'the cluster record is damaged');
  }
  return { formatVersion: FORMAT_VERSION, groups: record.groups, generations: record.generations };
}

function parseJson(text: string): Partial<ClusterRecord> | undefined {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === 'object' && value !== null ? value : undefined;
  } catch {
    return undefined;
  }
}

function isCounts(value: unknown): value is Record<string, number> {
  return (
    typeof value === 'object' &&
    value !== null &&
    Object.values(value).every((count) => Number.isInteger(count) && count >= 1)
  );
}
