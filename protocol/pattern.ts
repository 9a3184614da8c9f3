/**
 * Texts that match a `pattern` of the schema, for generated values. It understands what patterns of fields are made of:
 * literals, escapes, classes, groups, alternatives and counts. Lookaround, backreferences and \p are refused by name.
 */
import type { Draws } from './draws.ts';

type Node =
  | { readonly type: 'one'; readonly codes: readonly number[] }
  | { readonly type: 'repeat'; readonly of: Node; readonly min: number; readonly max: number }
  | { readonly type: 'sequence'; readonly parts: readonly Node[] }
  | { readonly type: 'either'; readonly branches: readonly Node[] };

const UNBOUNDED = 20; // Repetitions that `*` and `+` are given at most.
const FIRST_PRINTABLE = 0x20;
const LAST_PRINTABLE = 0x7e;

const range = (from: number, to: number): number[] => Array.from({ length: to - from + 1 }, (_, i) => from + i);
const codesOf = (text: string): number[] => Array.from(text, (character) => character.codePointAt(0) as number);

const PRINTABLE = range(FIRST_PRINTABLE, LAST_PRINTABLE);
const DIGITS = codesOf('0123456789');
const WORD = codesOf('0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz');
const except = (codes: readonly number[]): number[] => PRINTABLE.filter((code) => !codes.includes(code));

const ESCAPES: { readonly [letter: string]: readonly number[] } = {
  d: DIGITS,
  D: except(DIGITS),
  w: WORD,
  W: except(WORD),
  s: codesOf(' \t'),
  S: except([FIRST_PRINTABLE]),
  t: [9],
  n: [10],
  r: [13],
};

/** A generator of texts for the source of a regular expression. Errors: TypeError for what it does not understand. */
export function patternGenerator(source: string): (draws: Draws) => string {
  const tree = new PatternParser(source).parse();
  return (draws) => generate(tree, draws);
}

function generate(node: Node, draws: Draws): string {
  switch (node.type) {
    case 'one':
      return String.fromCodePoint(draws.pick(node.codes));
    case 'sequence':
      return node.parts.map((part) => generate(part, draws)).join('');
    case 'either':
      return generate(draws.pick(node.branches), draws);
    case 'repeat':
      return Array.from({ length: draws.bytes(node.min, node.max) }, () => generate(node.of, draws)).join('');
  }
}

class PatternParser {
  private readonly source: readonly string[];
  private readonly text: string;
  private at = 0;

  constructor(text: string) {
    this.text = text;
    this.source = Array.from(text);
  }

  parse(): Node {
    const node = this.either();
    if (this.at < this.source.length) throw this.unknown();
    return node;
  }

  private unknown(): TypeError {
    return new TypeError(`pattern /${this.text}/: cannot generate texts for what stands at character ${this.at}`);
  }

  private take(expected: string): boolean {
    if (this.source[this.at] !== expected) return false;
    this.at++;
    return true;
  }

  private either(): Node {
    const branches = [this.sequence()];
    while (this.take('|')) branches.push(this.sequence());
    return branches.length === 1 ? (branches[0] as Node) : { type: 'either', branches };
  }

  private sequence(): Node {
    const parts: Node[] = [];
    for (
      let next = this.source[this.at];
      next !== undefined && next !== '|' && next !== ')';
      next = this.source[this.at]
    ) {
      if (this.take('^') || this.take('$')) continue; // The whole text is matched in any case.
      parts.push(this.counted(this.atom()));
    }
    return { type: 'sequence', parts };
  }

  private atom(): Node {
    if (this.take('(')) return this.group();
    if (this.take('[')) return this.characterClass();
    if (this.take('.')) return { type: 'one', codes: PRINTABLE };
    if (this.take('\\')) return { type: 'one', codes: this.escape() };
    const literal = this.source[this.at] as string;
    if ('*+?{}]'.includes(literal)) throw this.unknown();
    this.at++;
    return { type: 'one', codes: codesOf(literal) };
  }

  private group(): Node {
    if (this.take('?') && !this.take(':')) throw this.unknown();
    const node = this.either();
    if (!this.take(')')) throw this.unknown();
    return node;
  }

  private escape(): readonly number[] {
    const letter = this.source[this.at] ?? '';
    if (!ESCAPES[letter] && /[a-zA-Z0-9]|^$/.test(letter)) throw this.unknown();
    this.at++;
    return ESCAPES[letter] ?? codesOf(letter);
  }

  private characterClass(): Node {
    const negated = this.take('^');
    const codes: number[] = [];
    while (!this.take(']')) codes.push(...this.classPart());
    const allowed = negated ? except(codes) : codes;
    if (allowed.length === 0) throw this.unknown();
    return { type: 'one', codes: allowed };
  }

  private classPart(): readonly number[] {
    const first = this.classAtom();
    if (this.source[this.at] !== '-' || this.source[this.at + 1] === ']') return first;
    this.at++;
    const last = this.classAtom();
    if (first.length !== 1 || last.length !== 1) throw this.unknown();
    return range(first[0] as number, last[0] as number);
  }

  private classAtom(): readonly number[] {
    if (this.take('\\')) return this.escape();
    const literal = this.source[this.at];
    if (literal === undefined) throw this.unknown();
    this.at++;
    return codesOf(literal);
  }

  private counted(of: Node): Node {
    const count = this.count();
    if (!count) return of;
    this.take('?'); // A lazy count matches the same texts.
    return { type: 'repeat', of, ...count };
  }

  private count(): { min: number; max: number } | undefined {
    if (this.take('*')) return { min: 0, max: UNBOUNDED };
    if (this.take('+')) return { min: 1, max: UNBOUNDED };
    if (this.take('?')) return { min: 0, max: 1 };
    if (!this.take('{')) return undefined;
    const min = this.number();
    const max = !this.take(',') ? min : this.source[this.at] === '}' ? min + UNBOUNDED : this.number();
    if (!this.take('}')) throw this.unknown();
    return { min, max };
  }

  private number(): number {
    let digits = '';
    while (/[0-9]/.test(this.source[this.at] ?? '')) digits += this.source[this.at++];
    if (digits === '') throw this.unknown();
    return Number(digits);
  }
}
