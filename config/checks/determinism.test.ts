import assert from 'node:assert/strict';
import test from 'node:test';
import { checkDeterminism } from './determinism.ts';

function messagesFor(text: string, path = 'actors/board/board.ts'): string[] {
  return checkDeterminism([{ path, text }]).map(({ message }) => message);
}

/** One sample for each construct that must be refused: its name, the sample, and what the finding must mention. */
const refused: readonly (readonly [name: string, text: string, mention: RegExp])[] = [
  ['the clock as a constructor', 'export const a = () => new Date();', /^Date: /],
  ['the clock as a function', 'export const a = () => Date();', /^Date: /],
  ['the clock in milliseconds', 'export const a = () => Date.now();', /^Date: /],
  ['the clock under another name', 'const D = Date; export const a = () => new D(0);', /^Date: /],
  ['a date from a number', 'export const a = (ms: number) => new Date(ms).getDay();', /^Date: /],
  ['the monotonic clock', 'export const a = () => performance.now();', /^performance: /],
  ['random numbers', 'export const a = () => Math.random();', /Math\.random/],
  ['random numbers by a computed name', "export const a = () => Math['random']();", /Math\.random/],
  ['a member of Math that is not known', 'export const a = (name: "abs") => Math[name](1);', /Math\.\[\.\.\.\]/],
  ['Math under another name', 'const m = Math; export const a = () => m.random();', /Math may only/],
  ['Math taken apart', 'const { random } = Math; export const a = () => random();', /Math may only/],
  ...[
    'sin',
    'cos',
    'tan',
    'asin',
    'acos',
    'atan',
    'atan2',
    'sinh',
    'cosh',
    'tanh',
    'asinh',
    'acosh',
    'atanh',
    'exp',
    'expm1',
    'log',
  ]
    .concat(['log2', 'log10', 'log1p', 'pow', 'cbrt', 'hypot'])
    .map((name) => [`Math.${name}`, `export const a = (x: number) => Math.${name}(x, x);`, /not exact/] as const),
  ['a power', 'export const a = (x: number) => 10 ** x;', /Powers/],
  ['a power assigned', 'export const a = (x: number) => { let y = 2; y **= x; return y; };', /Powers/],
  ['random ids', 'export const a = () => crypto.randomUUID();', /^crypto: /],
  ...[
    'setTimeout',
    'setInterval',
    'setImmediate',
    'queueMicrotask',
    'clearTimeout',
    'clearInterval',
    'clearImmediate',
  ].map((name) => [name, `export const a = () => ${name}(() => 1);`, new RegExp(`^${name}: `)] as const),
  ['an async function', 'export async function a() {}', /synchronous/],
  ['an async arrow function', 'export const a = async () => 1;', /synchronous/],
  ['an async method', 'export class A { async a() {} }', /synchronous/],
  ['await', 'export const a = await b; const b = 1;', /synchronous/],
  ['for await', 'export async function a(b: AsyncIterable<1>) { for await (const c of b) c; }', /synchronous/],
  ['a promise', 'export const a = () => Promise.resolve(1);', /^Promise: /],
  ['Array.fromAsync', 'export const a = () => Array.fromAsync([]);', /fromAsync/],
  ['process', 'export const a = () => process.env;', /^process: /],
  ['process imported', "import process from './process.ts'; export const a = () => process.pid;", /^process: /],
  ['globalThis', "export const a = () => globalThis['Da' + 'te'];", /^globalThis: /],
  ['global', 'export const a = () => global.Date;', /^global: /],
  ['window', 'export const a = () => window.name;', /^window: /],
  ['self', 'export const a = () => self.name;', /^self: /],
  ['Intl', 'export const a = () => new Intl.NumberFormat();', /^Intl: /],
  ['toLocaleString', 'export const a = (x: number) => x.toLocaleString();', /toLocaleString/],
  ['toLocaleUpperCase', 'export const a = (x: string) => x.toLocaleUpperCase();', /toLocaleUpperCase/],
  [
    'toLocaleDateString by a computed name',
    "export const a = (x: any) => x['toLocaleDateString']();",
    /toLocaleDateString/,
  ],
  ['toLocaleLowerCase taken apart', 'export const a = ({ toLocaleLowerCase: b }: string) => b;', /toLocaleLowerCase/],
  ['localeCompare', "export const a = (x: string) => x.localeCompare('b');", /localeCompare/],
  ['WeakRef', 'export const a = (x: object) => new WeakRef(x);', /^WeakRef: /],
  ['WeakMap', 'export const a = () => new WeakMap();', /^WeakMap: /],
  ['WeakSet', 'export const a = () => new WeakSet();', /^WeakSet: /],
  ['FinalizationRegistry', 'export const a = () => new FinalizationRegistry(() => 1);', /^FinalizationRegistry: /],
  ['eval', "export const a = () => eval('1');", /^eval: /],
  ['Function', "export const a = () => new Function('1');", /^Function: /],
  ['fetch', "export const a = () => fetch('/');", /^fetch: /],
  ['console', 'export const a = () => console.log(1);', /^console: /],
  ['console in a template in a default value', `export const a = (b = \`\${console.log(1)}\`) => b;`, /^console: /],
  ['a stack trace', 'export const a = () => new Error().stack;', /^stack: /],
  ['a stack trace taken apart', 'export const a = () => { const { stack } = new Error(); return stack; };', /^stack: /],
  ['a stack trace captured', 'export const a = (x: object) => Error.captureStackTrace(x);', /captureStackTrace/],
  ['for-in', 'export const a = (x: object) => { for (const key in x) return key; return 1; };', /for-in/],
  ["one of Node's modules", "import { readFileSync } from 'node:fs'; export const a = readFileSync;", /not node:fs/],
  ["one of Node's modules for its effect", "import 'fs';", /not fs/],
  ['a package', "import { pack } from 'msgpackr'; export const a = pack;", /not msgpackr/],
  ['a package passed on', "export { pack } from 'msgpackr'; export * from 'lmdb';", /not lmdb/],
  ['a dynamic import', "export const a = () => import('./other.ts');", /dynamic import/],
  ['require', "export const a = () => require('fs');", /^require: /],
  ['import.meta', 'export const a = () => import.meta.url;', /outside/],
  ['parseFloat', "export const a = () => parseFloat('1.5');", /^parseFloat: /],
  ['shared memory', 'export const a = () => new SharedArrayBuffer(8);', /^SharedArrayBuffer: /],
  ['atomics', 'export const a = (x: Int32Array) => Atomics.load(x, 0);', /^Atomics: /],
  ['a global that is not known', 'export const a = () => navigator.hardwareConcurrency;', /navigator is not among/],
  ["a global of Node's", "export const a = () => Buffer.from('a');", /Buffer is not among/],
  ['a variable of the module', 'let count = 0; export const a = () => ++count;', /State outside/],
  ['an exported variable of the module', 'export let count = 0;', /State outside/],
  ['an old-style variable of the module', 'var count = 0; export const a = () => ++count;', /State outside/],
  [
    'an empty map of the module',
    'const seen = new Map<string, number>(); export const a = () => seen;',
    /State outside/,
  ],
  ['an empty set of the module', 'const seen = new Set(); export const a = () => seen;', /State outside/],
  ['an empty list of the module', 'const seen: string[] = []; export const a = () => seen;', /State outside/],
  ['an empty object of the module', 'const seen = {}; export const a = () => seen;', /State outside/],
  ['a static variable of a class', 'export class A { static count = 0; }', /State outside/],
  [
    'a static private variable of a class',
    'export class A { static #count = 0; a() { return ++A.#count; } }',
    /State outside/,
  ],
  ['a text that is no module', 'export const = 1;', /Not readable/],
];

for (const [name, text, mention] of refused) {
  test(`determinism: refuses ${name}`, () => {
    const messages = messagesFor(text);
    assert.ok(
      messages.some((message) => mention.test(message)),
      `no finding mentions ${mention}: ${JSON.stringify(messages)}`,
    );
  });
}

test('determinism: lets through what is the same on every machine', () => {
  const text = `
    import { defineActor, reject } from '../definition.ts';
    import type { Order as Wish } from './order.ts';
    export { type Wish };
    export { Level } from './level.ts';
    const precision = 2 ** 53 - 1;
    const scale = 10n ** 18n;
    const sides = new Map([['buy', 1], ['sell', -1]]);
    const none: readonly string[] = [];
    const { value: renamed, ...rest } = { value: 1, other: 2 };
    type Later = Promise<Date>;
    interface Clock { process(): void; stack: string[]; performance: number }
    export abstract class Book<T extends Wish = Wish> implements Iterable<T> {
      static readonly largest = 64;
      #orders: T[] = [];
      constructor(private readonly levels: Uint32Array = new Uint32Array(8), readonly date?: number) {}
      get size(): number { return this.#orders.length; }
      *[Symbol.iterator](): Iterator<T> { yield* this.#orders; }
      process(clock: Clock, { fetch, Math: other = 1 }: { fetch: number; Math?: number }) {
        outer: for (const order of this.#orders) { if (!order) continue outer; }
        try { clock.performance += Math.max(Math.sqrt(2), Math.PI, other as number); } catch (error) { throw new RangeError(String(error)); }
        for (const [key, value] of Object.entries(rest)) if (key) return value!;
        const view = new DataView(new ArrayBuffer(8)) satisfies DataView;
        return { date: 1, console: view.getInt8(0), Date: precision, renamed, none, sides, scale };
      }
    }
    export const board = defineActor({ handle: { close: (_, { random, date }, ctx) => reject('closed', ctx.now, random, date) } });
  `;
  assert.deepEqual(messagesFor(text), [
    'fetch: A handler reaches nothing outside; ask for an effect. (If it is a name of yours, choose another.)',
  ]);
  assert.deepEqual(messagesFor(text.replaceAll('fetch', 'wanted')), []);
});

test('determinism: binds actors, not their tests and not other layers', () => {
  const text = 'export const a = () => Date.now();';
  assert.equal(messagesFor(text, 'actors/definition.ts').length, 1);
  assert.equal(messagesFor(text, 'actors/chat/chat.test.ts').length, 0);
  assert.equal(messagesFor(text, 'cluster/log/log.ts').length, 0);
});

test('determinism: a finding names the line', () => {
  const [finding] = checkDeterminism([
    { path: 'actors/a/a.ts', text: 'const a = 1;\n\nexport const b = () => a + Date.now();\n' },
  ]);
  assert.equal(finding?.line, 3);
});
