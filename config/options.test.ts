import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { OPTIONS, OptionError, type OptionName, optionsTable, readOption, readOptions, variableOf } from './options.ts';

test('a flag wins over the environment, that over the file, that over the default', () => {
  const environment = { TROUPE_PORT: '2' };
  assert.equal(readOption('port', { port: '1' }, environment, { port: 3 }), 1);
  assert.equal(readOption('port', {}, environment, { port: 3 }), 2);
  assert.equal(readOption('port', {}, {}, { port: 3 }), 3);
  assert.equal(readOption('port', {}, {}, {}), OPTIONS.port.fallback);
});

test('what does not fit is refused with source, bounds and value', () => {
  const refused = (run: () => unknown, text: RegExp) =>
    assert.throws(run, (error) => error instanceof OptionError && text.test(error.message));
  refused(() => readOption('port', { port: '65536' }, {}, {}), /--port: a whole number from 0 to 65535.*"65536"/);
  refused(() => readOption('port', {}, { TROUPE_PORT: '-1' }, {}), /TROUPE_PORT/);
  refused(() => readOption('durability', {}, {}, { durability: 'none' }), /troupe.json: durability: one of os, disk/);
  refused(() => readOption('demo', { demo: 'perhaps' }, {}, {}), /yes or no/);
  refused(() => readOptions({}, {}, { prot: 1 }), /no option "prot"/);
});

test('defaults lie within their bounds, and variables differ', () => {
  const names = Object.keys(OPTIONS) as OptionName[];
  for (const name of names)
    assert.equal(readOption(name, { [name]: OPTIONS[name].fallback }, {}, {}), OPTIONS[name].fallback);
  assert.equal(new Set(names.map((name) => variableOf(OPTIONS[name]))).size, names.length);
});

/** Rows as lists of cells, however a formatter aligned them. */
const rowsOf = (text: string): string[] =>
  text
    .split('\n')
    .filter((line) => line.startsWith('|') && !/^[|\s-]+$/.test(line))
    .map((line) =>
      line
        .split('|')
        .map((cell) => cell.trim())
        .join('|'),
    );

test('the README shows this table of options', () => {
  // The compiled test lies in dist/config/, one folder deeper than the source.
  const readme = new Set(rowsOf(readFileSync(new URL('../../README.md', import.meta.url), 'utf8')));
  assert.deepEqual(
    rowsOf(optionsTable()).filter((row) => !readme.has(row)),
    [],
  );
});
