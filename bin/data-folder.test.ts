import assert from 'node:assert/strict';
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, test } from 'node:test';
import { OptionError } from '../config/options.ts';
import { type DataFolder, locateDataFolder, optionsOf, prepareDataFolder } from './data-folder.ts';
import { Failure } from './failure.ts';

let base = '';
let folder: DataFolder;

beforeEach(() => {
  base = mkdtempSync(join(tmpdir(), 'troupe-folder-'));
  folder = locateDataFolder({ data: join(base, 'data') }, {});
});

afterEach(() => rmSync(base, { recursive: true, force: true }));

const refusedAs = (code: string) => (error: unknown) => error instanceof Failure && error.code === code;

test('the place: flag, variable, XDG, home', () => {
  assert.equal(locateDataFolder({ data: '/a' }, { TROUPE_DATA: '/b' }).path, '/a');
  assert.equal(locateDataFolder({}, { TROUPE_DATA: '/b' }).path, '/b');
  assert.equal(locateDataFolder({}, { XDG_DATA_HOME: '/x', HOME: '/h' }).path, '/x/troupe');
  assert.equal(locateDataFolder({}, { XDG_DATA_HOME: 'relative', HOME: '/h' }).path, '/h/.local/share/troupe');
});

test("a new folder is its owner's only, and is known again", () => {
  const made = prepareDataFolder(folder, optionsOf(folder, { mainPartitions: 3, logBytes: 2 ** 21 }, {}));
  assert.equal(statSync(folder.path).mode & 0o777, 0o700);
  for (const within of [folder.nats, folder.partitions, folder.logs])
    assert.equal(statSync(within).mode & 0o777, 0o700);
  assert.deepEqual(made.groups, { exchange: 16, main: 3 });
  assert.deepEqual(prepareDataFolder(folder, optionsOf(folder, {}, {})), made);
});

test('what was fixed at creation is the default later, and refused by name when it differs', () => {
  prepareDataFolder(folder, optionsOf(folder, { mainPartitions: 3 }, {}));
  assert.equal(optionsOf(folder, {}, {}).mainPartitions, 3);
  assert.equal(optionsOf(folder, { mainPartitions: 3 }, {}).mainPartitions, 3);
  assert.throws(() => optionsOf(folder, { mainPartitions: 4 }, {}), /--main-partitions is 4, but .* was made with 3/);
  assert.throws(() => optionsOf(folder, {}, { TROUPE_LOG_BYTES: '1048576' }), refusedAs('fixed_option'));
});

test('options of the file: below flag and variable, unknown ones refused', () => {
  mkdirSync(folder.path, { mode: 0o700 });
  writeFileSync(join(folder.path, 'troupe.json'), '{"demoRate": 7, "port": 7071}');
  assert.equal(optionsOf(folder, {}, {}).demoRate, 7);
  assert.equal(optionsOf(folder, {}, { TROUPE_DEMO_RATE: '8' }).demoRate, 8);
  assert.equal(optionsOf(folder, { demoRate: '9' }, { TROUPE_DEMO_RATE: '8' }).demoRate, 9);
  prepareDataFolder(folder, optionsOf(folder, {}, {}));
  writeFileSync(join(folder.path, 'troupe.json'), '{"demoRat": 7}');
  assert.throws(() => optionsOf(folder, {}, {}), OptionError);
  writeFileSync(join(folder.path, 'troupe.json'), '[1');
  assert.throws(() => optionsOf(folder, {}, {}), refusedAs('invalid_option'));
});

test('a folder with other things in it is left alone', () => {
  mkdirSync(folder.path);
  writeFileSync(join(folder.path, 'thesis.txt'), 'mine');
  assert.throws(() => prepareDataFolder(folder, optionsOf(folder, {}, {})), refusedAs('foreign_folder'));
  assert.equal(readFileSync(join(folder.path, 'thesis.txt'), 'utf8'), 'mine');
});

test('a newer format, a damaged one, and a folder that others may read are refused', () => {
  prepareDataFolder(folder, optionsOf(folder, {}, {}));
  chmodSync(folder.path, 0o755);
  assert.throws(() => prepareDataFolder(folder, optionsOf(folder, {}, {})), refusedAs('open_folder'));
  chmodSync(folder.path, 0o700);
  writeFileSync(folder.formatFile, '{"format": 2}');
  assert.throws(() => optionsOf(folder, {}, {}), refusedAs('unsupported_version'));
  writeFileSync(folder.formatFile, '{"form');
  assert.throws(() => optionsOf(folder, {}, {}), refusedAs('damaged_folder'));
});
