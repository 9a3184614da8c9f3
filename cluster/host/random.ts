/**
 * Randomness and identifiers of a record: functions of generation, partition, sequence and index, so every fold draws alike.
 */

/** Where a record stands; with it, everything drawn for it is determined. */
export type Position = {
  readonly generation: number;
  /** A number for the partition, see partitionNumber. */
  readonly partition: number;
  readonly sequence: number;
  readonly index: number;
};

/** sfc32 (Chris Doty-Humphrey's Small Fast Counting generator, 32 bits, PractRand): numbers in [0, 1). */
export function drawsOf({ generation, partition, sequence, index }: Position): () => number {
  let a = sequence >>> 0;
  let b = (Math.floor(sequence / 2 ** 32) ^ (generation << 16)) >>> 0;
  let c = (index ^ partition) >>> 0;
  let counter = 1;
  const next = (): number => {
    const mixed = (a + b + counter) >>> 0;
    counter = (counter + 1) >>> 0;
    a = b ^ (b >>> 9);
    b = (c + (c << 3)) >>> 0;
    c = ((c << 21) | (c >>> 11)) >>> 0;
    c = (c + mixed) >>> 0;
    return mixed;
  };
  for (let i = 0; i < 15; i++) next(); // The author's count of rounds that mix the seed in.
  return () => next() / 2 ** 32;
}

const ALPHABET = '0123456789ABCDEFGHJKMNPQRSTVWXYZ'; // Crockford's base 32: sorts as the numbers do, and has no I, L, O, U.

/**
 * The n-th identifier of a record: 26 characters = 130 bits, of generation (10), sequence (46), index (20), n (22) and
 * partition (32). Ascending within a partition, and never given twice in a cluster.
 */
export function identifier({ generation, partition, sequence, index }: Position, n: number): string {
  const high = (BigInt(generation) << 46n) | BigInt(sequence);
  const low = (BigInt(index) << 22n) | BigInt(n);
  let value = (((high << 42n) | low) << 32n) | BigInt(partition);
  let text = '';
  for (let i = 0; i < 26; i++) {
    text = ALPHABET[Number(value & 31n)] + text;
    value >>= 5n;
  }
  return text;
}

/** 20 bits of the group's name and 12 of the index. Errors: RangeError beyond 4,096 partitions of a group. */
export function partitionNumber(partition: string): number {
  const dash = partition.lastIndexOf('-');
  const index = Number(partition.slice(dash + 1));
  if (!(index < 4_096)) throw new RangeError(`partition ${partition}: at most 4,096 of a group`);
  let hash = 0x811c9dc5;
  for (const char of partition.slice(0, dash)) hash = Math.imul(hash ^ char.charCodeAt(0), 0x01000193) >>> 0;
  return (((hash >>> 12) << 12) | index) >>> 0;
}

/** Errors: TypeError when two groups would give the same identifiers. */
export function checkGroups(groups: readonly string[]): void {
  const seen = new Map<number, string>();
  for (const group of groups) {
    const number = partitionNumber(`${group}-0`);
    const other = seen.get(number);
    if (other) throw new TypeError(`the groups "${other}" and "${group}" would give equal identifiers: rename one`);
    seen.set(number, group);
  }
}
