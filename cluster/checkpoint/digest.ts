/** The digest of a store: the same whatever adapter holds the entries. */
import { type Digest, SPACES, type Space } from './checkpoint.ts';

export const EMPTY_DIGEST: Digest = { entries: 0, bytes: 0, crc32: 0 };

const head = new Uint8Array(7);
const headView = new DataView(head.buffer);

/** Adds the next entry in order. Lengths and space go into the checksum, so that no two lists of entries read the same. */
export function digestEntry(
  digest: Digest,
  space: Space,
  key: Uint8Array,
  value: Uint8Array,
  crc32: (bytes: Uint8Array, seed?: number) => number,
): Digest {
  headView.setUint8(0, SPACES.indexOf(space));
  headView.setUint16(1, key.length, true);
  headView.setUint32(3, value.length, true);
  return {
    entries: digest.entries + 1,
    bytes: digest.bytes + key.length + value.length,
    crc32: crc32(value, crc32(key, crc32(head, digest.crc32))),
  };
}
