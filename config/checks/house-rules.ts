/**
 * Rules about files rather than imports: what may lie at the top, which names say nothing, files that only pass on
 * others' exports, and texts that must not be committed. The patterns are written so that they do not match themselves.
 */
import { parseSync } from 'oxc-parser';
import { type Finding, lineAt, type SourceFile } from './source-file.ts';

const topLevel: ReadonlySet<string> = new Set([
  'actors',
  'bench',
  'bin',
  'cluster',
  'config',
  'protocol',
  'LICENSE',
  'README.md',
  'package.json',
  'package-lock.json',
  'tsconfig.json',
]);

const namesThatSayNothing = /(^|\/)(types|utils?|helpers?|common|misc)\.(ts|mjs)$/;

/** The client library's face is the one file that may only re-export: users import one name. */
const allowedBarrels: ReadonlySet<string> = new Set(['protocol/client/client.ts', 'protocol/client/index.ts']);

type TextRule = { readonly pattern: RegExp; readonly applies: RegExp; readonly message: string };

const code = /\.(ts|mjs|html|css|sh)$|^bin\/setup$|^\.ci\//;

const textRules: readonly TextRule[] = [
  {
    pattern: /(?<![\w.])\/(w[o]rk|f[a]rm)(?![\w-])|\/tmp\/b[a]sh/,
    applies: /./,
    message: 'A path of one machine.',
  },
  {
    pattern:
      /registry\.(n[p]mjs|yarn[p]kg)|(deb|security|snapshot|ftp)\.d[e]bian\.org|archive\.u[b]untu|p[r]oxy\.golang|p[y]pi\.org/,
    applies: /./,
    message: 'A package registry named by its host.',
  },
  {
    pattern: /\b(TO[D]O|FIX[M]E|XX[X]|HAC[K])\b|not[ ]implemented/,
    applies: code,
    message: 'A loose end: finish it or write an issue.',
  },
  { pattern: /@ts-(i[g]nore|no[c]heck)|eslint-d[i]sable/, applies: code, message: 'A check switched off.' },
  { pattern: /\bas[ ]any\b/, applies: code, message: 'A cast that switches types off.' },
  {
    pattern: /\.o[n]ly\(|\bo[n]ly: true\b/,
    applies: /\.test\.(ts|mjs)$/,
    message: 'A test that keeps others from running.',
  },
];

export function checkTopLevel(entries: readonly string[]): Finding[] {
  return entries
    .filter((entry) => !topLevel.has(entry) && !entry.startsWith('.'))
    .map((path) => ({ path, line: 1, message: 'Not one of the entries agreed on for the top level.' }));
}

export function checkNames(files: readonly SourceFile[]): Finding[] {
  return files
    .filter(({ path }) => namesThatSayNothing.test(path))
    .map(({ path }) => ({ path, line: 1, message: 'A name that says nothing: call a file by its subject.' }));
}

export function checkBarrels(files: readonly SourceFile[]): Finding[] {
  return files
    .filter((file) => file.path.endsWith('.ts') && !allowedBarrels.has(file.path) && onlyPassesOn(file))
    .map(({ path }) => ({ path, line: 1, message: 'A barrel: import from the file that has the thing.' }));
}

function onlyPassesOn({ path, text }: SourceFile): boolean {
  const { body } = parseSync(path, text).program;
  const passesOn = body.map(
    (statement) =>
      statement.type === 'ExportAllDeclaration' ||
      (statement.type === 'ExportNamedDeclaration' &&
        statement.declaration === null &&
        statement.specifiers.length > 0),
  );
  return (
    passesOn.includes(true) &&
    body.every((statement, index) => passesOn[index] || statement.type === 'ImportDeclaration')
  );
}

/** Finds forbidden texts in any file that is to be committed. */
export function checkTexts(files: readonly SourceFile[]): Finding[] {
  const findings: Finding[] = [];
  for (const { path, text } of files) {
    for (const { pattern, applies, message } of textRules) {
      if (!applies.test(path)) continue;
      for (const match of text.matchAll(new RegExp(pattern, 'g'))) {
        findings.push({ path, line: lineAt(text, match.index), message: `${message} (${match[0]})` });
      }
    }
  }
  return findings;
}
