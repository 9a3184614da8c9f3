/**
 * The traders of a book: the engine knows owners as numbers, the world knows principals by name. A number is given with the
 * first accepted order and never to another name; who has nothing open at the end of the day is forgotten.
 */
import { MAX_OWNER } from './order-book-events.ts';

/** The number of nobody: it owns no order. */
export const NO_TRADER = 0;

export type SavedTraders = { last: number; numbers: Map<string, number> };

export class Traders {
  private readonly numbers: Map<string, number>;
  private readonly names: Map<number, string>;
  private last: number;

  constructor(saved: SavedTraders = { last: NO_TRADER, numbers: new Map() }) {
    this.last = saved.last;
    this.numbers = new Map(saved.numbers);
    this.names = new Map([...saved.numbers].map(([name, number]) => [number, name]));
    if (this.names.size !== this.numbers.size) throw new Error('saved traders share a number');
  }

  get count(): number {
    return this.numbers.size;
  }

  /** The trader's number, `NO_TRADER` for one unknown. */
  numberOf(name: string): number {
    return this.numbers.get(name) ?? NO_TRADER;
  }

  /** The name of a number that an order of the book carries. */
  nameOf(number: number): string {
    const name = this.names.get(number);
    if (name === undefined) throw new Error(`nobody has the number ${number}`);
    return name;
  }

  /** The number that the next new trader gets, undefined when there are `most` already. */
  nextNumber(most: number): number | undefined {
    return this.numbers.size < most && this.last < MAX_OWNER ? this.last + 1 : undefined;
  }

  /** Gives the name the number that `nextNumber` told. */
  add(name: string): void {
    this.last += 1;
    this.numbers.set(name, this.last);
    this.names.set(this.last, name);
  }

  /** Forgets everybody but these. */
  keepOnly(numbers: ReadonlySet<number>): void {
    for (const [name, number] of this.numbers) {
      if (numbers.has(number)) continue;
      this.numbers.delete(name);
      this.names.delete(number);
    }
  }

  save(): SavedTraders {
    return { last: this.last, numbers: new Map(this.numbers) };
  }
}
