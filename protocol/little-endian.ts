/**
 * Little-endian integers in byte arrays, written plainly: no DataView per array, no allocation. Callers have checked the bounds.
 */

const TWO_32 = 0x1_0000_0000;

export function readU16(bytes: Uint8Array, offset: number): number {
  return (bytes[offset] as number) | ((bytes[offset + 1] as number) << 8);
}

export function readU32(bytes: Uint8Array, offset: number): number {
  return (
    ((bytes[offset] as number) |
      ((bytes[offset + 1] as number) << 8) |
      ((bytes[offset + 2] as number) << 16) |
      ((bytes[offset + 3] as number) << 24)) >>>
    0
  );
}

/** Two u32, low first. The caller refuses what is not a safe integer. */
export function readU64(bytes: Uint8Array, offset: number): number {
  return readU32(bytes, offset) + readU32(bytes, offset + 4) * TWO_32;
}

/** Two's complement in 64 bits. The caller refuses what is not a safe integer. */
export function readI64(bytes: Uint8Array, offset: number): number {
  return readU32(bytes, offset) + (readU32(bytes, offset + 4) | 0) * TWO_32;
}

export function writeU16(bytes: Uint8Array, offset: number, value: number): void {
  bytes[offset] = value;
  bytes[offset + 1] = value >>> 8;
}

export function writeU32(bytes: Uint8Array, offset: number, value: number): void {
  bytes[offset] = value;
  bytes[offset + 1] = value >>> 8;
  bytes[offset + 2] = value >>> 16;
  bytes[offset + 3] = value >>> 24;
}

/** A safe integer as two u32, low first; negative ones in two's complement. */
export function writeU64(bytes: Uint8Array, offset: number, value: number): void {
  writeU32(bytes, offset, value >>> 0);
  writeU32(bytes, offset + 4, Math.floor(value / TWO_32) >>> 0);
}
