/**
 * A source file as the checks see it: its path from the top of the project (with `/`), its text, and what it imports.
 * TypeScript 7 has no stable interface for tools, so files are parsed with oxc-parser, which reads TypeScript as it is.
 */
import { posix } from 'node:path';
import { parseSync } from 'oxc-parser';

export type SourceFile = { readonly path: string; readonly text: string };

/** Something wrong at a place, in one sentence. */
export type Finding = { readonly path: string; readonly line: number; readonly message: string };

export type ImportOf = {
  /** As written: `./order.ts`, `node:fs`, `lmdb`. */
  readonly specifier: string;
  /** The imported file's path from the top of the project; nothing for packages and Node's modules. */
  readonly ours: string | undefined;
  readonly line: number;
  readonly dynamic: boolean;
};

/**
 * Tests and what only tests import (`log.test.ts`, `log.laws.ts`, `test-kinds.ts`): bound by the order of the layers,
 * free to use Node, any package and any domain.
 */
export function isTestFile(path: string): boolean {
  return /\.(test|laws)\.ts$|\/test-[^/]+\.ts$/.test(path);
}

export function lineAt(text: string, offset: number): number {
  let line = 1;
  for (let index = text.indexOf('\n'); index !== -1 && index < offset; index = text.indexOf('\n', index + 1)) line++;
  return line;
}

/** Every import and re-export of a file, types included: a type ties two files together as well as a value. */
export function importsOf(file: SourceFile): ImportOf[] {
  const { module } = parseSync(file.path, file.text);
  const found: ImportOf[] = [];
  const add = (specifier: string, offset: number, dynamic: boolean) => {
    const ours = specifier.startsWith('.') ? posix.join(posix.dirname(file.path), specifier) : undefined;
    found.push({ specifier, ours, line: lineAt(file.text, offset), dynamic });
  };
  for (const { moduleRequest } of module.staticImports) add(moduleRequest.value, moduleRequest.start, false);
  for (const { entries } of module.staticExports) {
    const request = entries.find((entry) => entry.moduleRequest !== null)?.moduleRequest;
    if (request) add(request.value, request.start, false);
  }
  for (const { moduleRequest } of module.dynamicImports) {
    const literal = /^(['"`])([^'"`$]+)\1$/.exec(file.text.slice(moduleRequest.start, moduleRequest.end));
    if (literal?.[2] !== undefined) add(literal[2], moduleRequest.start, true);
  }
  return found;
}
