/** The history of measurements: one JSON line each, never changed afterwards. */
import { appendFileSync, existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Measurement } from './figures.ts';
import { gitCommit, type Machine } from './machine.ts';

export type ResultLine = Measurement & { readonly date: string; readonly commit: string; readonly machine: Machine };

export function resultLine(measurement: Measurement, machine: Machine): ResultLine {
  return { date: new Date().toISOString(), commit: gitCommit(), machine, ...measurement };
}

/** Appends to `bench/results.jsonl` of the package. */
export function appendResult(line: ResultLine): void {
  appendFileSync(join(packageRoot(), 'bench', 'results.jsonl'), `${JSON.stringify(line)}\n`);
}

/** The folder above this file that holds the package; compiled files lie one level deeper than sources. */
function packageRoot(): string {
  const above = dirname(dirname(fileURLToPath(import.meta.url)));
  return existsSync(join(above, 'package.json')) ? above : dirname(above);
}
