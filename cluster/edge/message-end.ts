/** Where a MessagePack value ends, whatever its depth: nothing is decoded, and nesting costs no stack. */

const EXTRA = new Uint8Array(256); // Bytes behind the tag, for values of a fixed size.
const LENGTH_BYTES = new Uint8Array(256); // Bytes of the length behind the tag, for the others.
for (const [tag, bytes] of [
  [0xca, 4],
  [0xcb, 8],
  [0xcc, 1],
  [0xcd, 2],
  [0xce, 4],
  [0xcf, 8],
  [0xd0, 1],
  [0xd1, 2],
  [0xd2, 4],
  [0xd3, 8],
] as const) {
  EXTRA[tag] = bytes;
}
for (const [tag, bytes] of [
  [0xc4, 1],
  [0xc5, 2],
  [0xc6, 4],
  [0xd9, 1],
  [0xda, 2],
  [0xdb, 4],
  [0xdc, 2],
  [0xdd, 4],
  [0xde, 2],
  [0xdf, 4],
] as const) {
  LENGTH_BYTES[tag] = bytes;
}

/** The offset behind the value at `start`; -1 when it is cut off by `end` or of an extension type. */
export function endOfValue(bytes: Uint8Array, start: number, end: number): number {
  let at = start;
  for (let left = 1; left > 0; left--) {
    if (at >= end) return -1;
    const tag = bytes[at++] as number;
    if (tag < 0x80 || tag >= 0xe0 || (tag >= 0xc0 && tag <= 0xc3 && tag !== 0xc1)) continue;
    if (tag < 0x90) left += 2 * (tag & 15);
    else if (tag < 0xa0) left += tag & 15;
    else if (tag < 0xc0) at += tag & 31;
    else if ((EXTRA[tag] as number) > 0) at += EXTRA[tag] as number;
    else {
      const size = LENGTH_BYTES[tag] as number;
      if (size === 0 || at + size > end) return -1;
      const length = lengthAt(bytes, at, size);
      at += size;
      if (tag >= 0xde) left += 2 * length;
      else if (tag >= 0xdc) left += length;
      else at += length;
    }
    if (left > end - at + 1) return -1; // Each value takes a byte at least: no walk through promised emptiness.
  }
  return at > end ? -1 : at;
}

function lengthAt(bytes: Uint8Array, at: number, size: number): number {
  let length = 0;
  for (let i = 0; i < size; i++) length = length * 256 + (bytes[at + i] as number);
  return length;
}
