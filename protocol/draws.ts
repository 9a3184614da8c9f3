/**
 * Random draws for generated values, from a given source of numbers in [0, 1), so that a seed replays them. Edges (least,
 * greatest, empty, full) are drawn far more often than chance would.
 */

export type Random = () => number;

const MAX_GENERATED_ITEMS = 200; // Of all lists and maps of one value: nested ones would multiply.
const MAX_GENERATED_BYTES = 4096; // Of one text or bytes whose bound is larger: generated values stay cheap to send around.

export class Draws {
  private readonly random: Random;
  private itemsLeft = MAX_GENERATED_ITEMS;

  constructor(random: Random) {
    this.random = random;
  }

  chance(probability: number): boolean {
    return this.random() < probability;
  }

  /** An integer in [min, max], both safe. */
  uniform(min: number, max: number): number {
    const drawn = Math.floor(min + this.random() * (max - min + 1));
    return Math.min(max, Math.max(min, drawn));
  }

  pick<T>(choices: readonly T[]): T {
    return choices[this.uniform(0, choices.length - 1)] as T;
  }

  /** An integer in [min, max]: half of the time an edge or a number near zero. */
  int(min: number, max: number): number {
    if (this.chance(0.5)) return this.uniform(min, max);
    const edges = [
      min,
      max,
      min + 1,
      max - 1,
      0,
      1,
      -1,
      127,
      128,
      255,
      256,
      65_535,
      65_536,
      2 ** 31,
      2 ** 32 - 1,
      2 ** 32,
    ];
    return this.pick(edges.filter((edge) => edge >= min && edge <= max));
  }

  /** A length in [min, max], in bytes. */
  bytes(min: number, max: number): number {
    return this.length(min, Math.max(min, Math.min(max, MAX_GENERATED_BYTES)));
  }

  /** A number of items up to `max`, less the more were drawn before. */
  items(max: number): number {
    const count = this.length(0, Math.min(max, this.itemsLeft));
    this.itemsLeft -= count;
    return count;
  }

  private length(min: number, max: number): number {
    const kind = this.uniform(0, 9);
    if (kind === 0) return min;
    if (kind === 1) return max;
    return this.uniform(min, Math.min(max, min + 16));
  }
}
