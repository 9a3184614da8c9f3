/** The registry, the README and the types agree. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { ERRORS, type ErrorName, isErrorName, ProtocolError } from './errors.ts';
import { CLOSE_CODES, FROM_CLIENT, FROM_EDGE } from './message.ts';

/** Compiled tests lie in dist/, the README with the sources. */
const readme = readFileSync(new URL('../../protocol/README.md', import.meta.url), 'utf8');

/** The rows of a section's first table, without head. */
function tableIn(section: string): string[][] {
  const text = readme.split(/^## /m).find((part) => part.startsWith(`${section}\n`)) ?? '';
  const lines = text.split('\n').filter((line) => line.startsWith('| '));
  return lines.slice(2).map((line) =>
    line
      .slice(2, -2)
      .split(' | ')
      .map((cell) => cell.trim()),
  );
}

test('the README has a row for every name of the registry, with its status, and no others', () => {
  const rows = Object.entries(ERRORS).map(([name, { status, retryable, sentence }]) => [
    `\`${name}\``,
    String(status),
    retryable ? 'yes' : 'no',
    sentence,
  ]);
  assert.deepEqual(tableIn('Errors'), rows);
});

test('the README has a row for every close code and message type', () => {
  assert.deepEqual(
    tableIn('Closing'),
    Object.entries(CLOSE_CODES).map(([name, code]) => [String(code), name]),
  );
  for (const [section, types] of [
    ['Messages from client to edge', FROM_CLIENT],
    ['Messages from edge to client', FROM_EDGE],
  ] as const) {
    const documented = tableIn(section).map(([type, name, array]) => [type, name, array?.startsWith(`\`[${type}`)]);
    assert.deepEqual(
      documented,
      Object.entries(types).map(([name, type]) => [String(type), name, true]),
    );
  }
});

test('every entry is an HTTP error with a sentence', () => {
  for (const [name, { status, sentence }] of Object.entries(ERRORS)) {
    assert.match(name, /^[a-z][a-z_]*$/);
    assert.ok(status >= 400 && status <= 599, name);
    assert.match(sentence, /^\S.*\.$/, name);
  }
});

test('what may be retried is the fault of the moment, never of the request', () => {
  for (const [name, { status, retryable }] of Object.entries(ERRORS)) {
    if (retryable) assert.ok([408, 429, 503, 504, 507].includes(status), name);
  }
});

test('an error carries its name, sentence and field', () => {
  const name: ErrorName = 'invalid_field';
  const error = new ProtocolError(name, undefined, 'items[3].price');
  assert.deepEqual([error.code, error.message, error.field], [name, ERRORS[name].sentence, 'items[3].price']);
  assert.ok(isErrorName('log_full'));
  for (const other of ['period_closed', '__proto__', 'toString', '']) assert.equal(isErrorName(other), false);
});
