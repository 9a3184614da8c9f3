/**
 * Which partition an actor lives in. The answer may never change for a cluster that exists: it is a format, frozen by
 * golden values in its test.
 */

/** Partition counts by group, fixed when a cluster is created. */
export type Groups = Readonly<Record<string, number>>;

/** The name of one partition: `<group>-<index>`. */
export function partitionName(group: string, index: number): string {
  return `${group}-${index}`;
}

/** All partition names of a cluster, group by group. */
export function allPartitions(groups: Groups): string[] {
  return Object.entries(groups).flatMap(([group, count]) =>
    Array.from({ length: count }, (_, index) => partitionName(group, index)),
  );
}

/**
 * The partition of an actor. Actors of one group with equal placement keys share it.
 * Errors: RangeError when the cluster has no such group.
 */
export function partitionOf(
  kind: { group: string; placement: (key: string) => string },
  key: string,
  groups: Groups,
): string {
  const count = groups[kind.group];
  if (!count) throw new RangeError(`the cluster has no group "${kind.group}"`);
  return partitionName(kind.group, hashText(kind.placement(key)) % count);
}

const encoder = new TextEncoder();

/** FNV-1a over the UTF-8 bytes, then MurmurHash3's 32-bit finaliser, since FNV alone leaves the low bits of short keys poor. */
function hashText(text: string): number {
  let hash = 0x811c9dc5;
  for (const byte of encoder.encode(text)) hash = Math.imul(hash ^ byte, 0x01000193);
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  return (hash ^ (hash >>> 16)) >>> 0;
}
