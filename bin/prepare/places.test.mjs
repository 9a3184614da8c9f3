import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, readdirSync, rmSync, utimesSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'node:test';
import { cacheFolder, project, withDownloadFolder } from './places.mjs';

test('places: the cache follows the standard, and a home that cannot be written is done without', (context) => {
  const home = mkdtempSync(join(tmpdir(), 'troupe-places-'));
  context.after(() => rmSync(home, { recursive: true }));
  assert.equal(cacheFolder({ HOME: home }), join(home, '.cache', 'troupe'));
  assert.equal(cacheFolder({ HOME: home, XDG_CACHE_HOME: join(home, 'x') }), join(home, 'x', 'troupe'));
  assert.equal(cacheFolder({ HOME: home, XDG_CACHE_HOME: 'relative' }), join(home, '.cache', 'troupe'));
  writeFileSync(join(home, 'file'), '');
  assert.equal(cacheFolder({ HOME: join(home, 'file') }), join(project, 'node_modules', '.cache', 'troupe'));
});

test('places: a download folder is gone afterwards, and abandoned ones with it', (context) => {
  const cache = mkdtempSync(join(tmpdir(), 'troupe-places-'));
  context.after(() => rmSync(cache, { recursive: true }));
  withDownloadFolder(cache, (folder) => utimesSync(folder, 0, 0));
  assert.deepEqual(readdirSync(cache), []);
  assert.throws(() =>
    withDownloadFolder(cache, (folder) => {
      assert.ok(existsSync(folder));
      throw new Error('broken off');
    }),
  );
  assert.deepEqual(readdirSync(cache), []);
});
