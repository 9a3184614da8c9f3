/** Runs our own checks over this project and prints what they find; ends with 1 if that is anything. */
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { checkDeterminism } from './determinism.ts';
import { checkBarrels, checkNames, checkTexts, checkTopLevel } from './house-rules.ts';
import { checkLayers } from './layers.ts';
import type { SourceFile } from './source-file.ts';

/** Never committed. */
const ignored: ReadonlySet<string> = new Set(['.git', 'node_modules', 'dist', 'coverage', '.troupe']);

/** Larger files are data, not text that a person wrote. */
const largestBytes = 2 ** 21;

const project = fileURLToPath(new URL('../../..', import.meta.url));

function readTree(folder: string): SourceFile[] {
  return readdirSync(join(project, folder), { withFileTypes: true }).flatMap((entry): SourceFile[] => {
    const path = folder === '' ? entry.name : `${folder}/${entry.name}`;
    if (ignored.has(entry.name)) return [];
    if (entry.isDirectory()) return readTree(path);
    if (!entry.isFile() || statSync(join(project, path)).size > largestBytes) return [];
    return [{ path, text: readFileSync(join(project, path), 'utf8') }];
  });
}

const files = readTree('');
const modules = files.filter(({ path }) => path.endsWith('.ts') && path.includes('/'));
const findings = [
  ...checkTopLevel(readdirSync(project).filter((entry) => !ignored.has(entry))),
  ...checkNames(files),
  ...checkBarrels(modules),
  ...checkTexts(files),
  ...checkLayers(modules),
  ...checkDeterminism(modules),
];
for (const { path, line, message } of findings) console.log(`${path}:${line}: ${message}`);
console.log(`${modules.length} modules checked, ${findings.length} findings.`);
if (modules.length === 0 || findings.length > 0) process.exitCode = 1;
