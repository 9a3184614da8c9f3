/** Hostile input for tests, replayable by its seed: bytes that are nearly right. */
import type { Random } from './draws.ts';

/** Numbers in [0, 1) from a 32-bit seed (Mulberry32). Not for secrets. */
export function seededRandom(seed: number): Random {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 0x1_0000_0000;
  };
}

/** Tags and numbers that parsers stumble over: headers of huge values, extensions, edges of integers, broken UTF-8. */
const POISONS: readonly (readonly number[])[] = [
  [0xdd, 0xff, 0xff, 0xff, 0xff],
  [0xdf, 0x7f, 0xff, 0xff, 0xff],
  [0xdb, 0xff, 0xff, 0xff, 0xff],
  [0xc6, 0x80, 0x00, 0x00, 0x00],
  [0xc7, 0xff, 0x01],
  [0xd4, 0x01, 0x00],
  [0xc1],
  [0xca, 0x7f, 0xc0, 0x00, 0x00],
  [0xcb, 0x80, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00],
  [0xcb, 0x7f, 0xf8, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00],
  [0xcf, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
  [0xd3, 0x80, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00],
  [0xa9, 0x5f, 0x5f, 0x70, 0x72, 0x6f, 0x74, 0x6f, 0x5f, 0x5f],
  [0x91, 0x91, 0x91, 0x91, 0x91, 0x91, 0x91, 0x91, 0x91, 0x91, 0x91, 0x91, 0x91, 0x91, 0x91, 0x91, 0x91, 0x91],
  [0xed, 0xa0, 0x80],
  [0xc0],
];

/** A mutation of valid bytes: one to four bit flips, poisons, cuts, repeats, swaps or insertions. Never changes `valid`. */
export function generateHostile(random: Random, valid: Uint8Array): Uint8Array {
  let bytes = Array.from(valid);
  for (let left = 1 + below(random, 4); left > 0; left--) bytes = mutate(random, bytes);
  return Uint8Array.from(bytes);
}

function below(random: Random, limit: number): number {
  return Math.floor(random() * limit);
}

function mutate(random: Random, bytes: number[]): number[] {
  const at = below(random, bytes.length + 1);
  const length = below(random, Math.min(8, bytes.length - at) + 1);
  const piece = bytes.slice(at, at + length);
  switch (below(random, 7)) {
    case 0:
      return bytes.map((byte, i) => (i === at ? byte ^ (1 << below(random, 8)) : byte));
    case 1:
      return bytes.map((byte, i) => (i === at ? below(random, 256) : byte));
    case 2:
      return [
        ...bytes.slice(0, at),
        ...(POISONS[below(random, POISONS.length)] as readonly number[]),
        ...bytes.slice(at + 1),
      ];
    case 3:
      return bytes.slice(0, at);
    case 4:
      return [...bytes.slice(0, at), ...bytes.slice(at + length)];
    case 5:
      return [...bytes.slice(0, at), ...piece, ...piece, ...bytes.slice(at + length)];
    default:
      return [...bytes.slice(0, at), below(random, 256), ...bytes.slice(at)];
  }
}
