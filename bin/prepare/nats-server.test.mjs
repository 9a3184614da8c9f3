import assert from 'node:assert/strict';
import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'node:test';
import { instructions, leastVersion, parseServerVersion, provideNatsServer } from './nats-server.mjs';
import { Refusal } from './refusal.mjs';

/**
 * @param {import('node:test').TestContext} context
 * @returns {string} an empty folder, gone after the test
 */
function emptyFolder(context) {
  const folder = mkdtempSync(join(tmpdir(), 'troupe-nats-server-'));
  context.after(() => rmSync(folder, { recursive: true }));
  return folder;
}

/**
 * @param {string} folder
 * @param {string} output of `--version`
 */
function writeServer(folder, output) {
  mkdirSync(folder, { recursive: true });
  const path = join(folder, 'nats-server');
  writeFileSync(path, `#!/bin/sh\necho '${output}'\n`);
  chmodSync(path, 0o755);
  return path;
}

/**
 * @param {NodeJS.ProcessEnv} environment
 * @param {string} cache
 */
function provide(environment, cache) {
  return provideNatsServer({ environment, cache, log: () => {} });
}

test('nats-server: reads the version', () => {
  assert.equal(parseServerVersion('nats-server: v2.15.1\n'), '2.15.1');
  assert.equal(parseServerVersion('nats-server: v2.16.0-RC.1\n'), '2.16.0-RC.1');
  assert.equal(parseServerVersion('nginx version: 1.2.3\n'), undefined);
});

test('nats-server: NATS_SERVER goes first, and is refused rather than passed over when it is wrong', (context) => {
  const folder = emptyFolder(context);
  const named = writeServer(join(folder, 'named'), 'nats-server: v2.15.1');
  const old = writeServer(join(folder, 'old'), 'nats-server: v2.9.25');
  const other = writeServer(join(folder, 'other'), 'hello');
  const PATH = join(folder, 'named');
  assert.equal(provide({ NATS_SERVER: named, PATH: '' }, folder), named);
  const refuses = (/** @type {RegExp} */ message) => (/** @type {unknown} */ error) =>
    error instanceof Refusal && message.test(error.message);
  assert.throws(() => provide({ NATS_SERVER: old, PATH }, folder), refuses(/is 2\.9\.25.*2\.15\.1 or later/));
  assert.throws(() => provide({ NATS_SERVER: other, PATH }, folder), refuses(/does not answer/));
  assert.throws(() => provide({ NATS_SERVER: join(folder, 'none'), PATH }, folder), refuses(/does not answer/));
});

test('nats-server: takes one of the PATH that is new enough, then the newest of the cache that runs', (context) => {
  const folder = emptyFolder(context);
  writeServer(join(folder, 'old'), 'nats-server: v2.15.0');
  const newer = writeServer(join(folder, 'newer'), 'nats-server: v2.15.2');
  const cache = join(folder, 'cache');
  const good = writeServer(join(cache, 'nats-server-2.16.9'), 'nats-server: v2.16.9');
  writeServer(join(cache, 'nats-server-2.16.10'), 'broken');
  writeServer(join(cache, 'nats-server-2.15.1'), 'nats-server: v2.15.1');
  assert.equal(provide({ PATH: `${folder}/old:${folder}/newer` }, cache), newer);
  assert.equal(provide({ PATH: `${folder}/old` }, cache), good);
});

test('nats-server: the instructions name the version, the ways and the variable', () => {
  const text = instructions('there is none');
  for (const word of [leastVersion, 'there is none', 'Debian', 'Ubuntu', 'Fedora', 'NATS_SERVER='])
    assert.ok(text.includes(word));
});
