import assert from 'node:assert/strict';
import test from 'node:test';
import { checkBarrels, checkNames, checkTexts, checkTopLevel } from './house-rules.ts';

/** The samples are put together here, so that the check that scans this file does not find them. */
const join = (...parts: string[]) => parts.join('');

const refusedTexts: readonly (readonly [name: string, text: string, path: string])[] = [
  ['a path of one machine', `cp ${join('/wo', 'rk')}/main/a b`, 'README.md'],
  ['a path of one machine, quoted', `'${join('/fa', 'rm')}'`, 'config/knip.json'],
  ['the folder of one shell', join('/tmp/ba', 'sh_jobs.0'), 'bin/setup'],
  ["npm's registry", join('https://registry.npm', 'js.org/a'), 'package-lock.json'],
  ["Debian's mirror", join('http://deb.deb', 'ian.org/debian'), 'bin/prepare/debian.mjs'],
  ['a loose end', join('// TO', 'DO: later'), 'cluster/node.ts'],
  ['a loose end in a script', join('# FIX', 'ME'), 'bin/setup'],
  ['a type check switched off', join('// @ts-ig', 'nore'), 'cluster/node.ts'],
  ['a cast that switches types off', join('(a as', ' any).b'), 'cluster/node.ts'],
  ['a test that keeps others from running', join('test.on', "ly('a', () => {});"), 'cluster/node.test.ts'],
  [
    'an option that keeps others from running',
    join("test('a', { on", 'ly: true }, () => {});'),
    'cluster/node.test.ts',
  ],
];

for (const [name, text, path] of refusedTexts) {
  test(`house rules: refuses ${name}`, () => {
    const findings = checkTexts([{ path, text: `\n${text}\n` }]);
    assert.deepEqual(
      findings.map((finding) => [finding.path, finding.line]),
      [[path, 2]],
    );
  });
}

test('house rules: lets through texts that only resemble them', () => {
  const text = `a /worker/pool ./work/a cluster/work/x /workers debian/ todo list "company as anything" only(1)\n`;
  assert.deepEqual(checkTexts([{ path: 'cluster/node.ts', text }]), []);
  assert.deepEqual(checkTexts([{ path: 'README.md', text: join('A TO', 'DO list is a table.') }]), []);
});

test('house rules: refuses names that say nothing', () => {
  const names = ['types', 'utils', 'util', 'helpers', 'helper', 'common', 'misc'].map(
    (name) => `cluster/log/${name}.ts`,
  );
  const files = [...names, 'bin/prepare/utils.mjs', 'protocol/schema-types.ts', 'cluster/common/log.ts'].map(
    (path) => ({ path, text: '' }),
  );
  assert.deepEqual(
    checkNames(files).map(({ path }) => path),
    [...names, 'bin/prepare/utils.mjs'],
  );
});

test('house rules: refuses barrels but for the face of the client', () => {
  const refused = [
    "export * from './a.ts';",
    "export { a } from './a.ts';",
    "import { a } from './a.ts';\nexport { a };",
  ];
  for (const text of refused) {
    assert.equal(checkBarrels([{ path: 'cluster/log/log.ts', text }]).length, 1, text);
    assert.equal(checkBarrels([{ path: 'protocol/client/client.ts', text }]).length, 0, text);
  }
  const allowed = [
    "export * from './a.ts';\nexport const b = 1;",
    "import './a.ts';",
    'export {};',
    '',
    "import { a } from './a.ts';\na();",
  ];
  for (const text of allowed) assert.equal(checkBarrels([{ path: 'cluster/log/log.ts', text }]).length, 0, text);
});

test('house rules: the top level holds what was agreed on', () => {
  assert.deepEqual(checkTopLevel(['actors', 'package.json', 'LICENSE', '.npmrc', '.ci']), []);
  assert.deepEqual(
    checkTopLevel(['src', 'docs', 'notes.md']).map(({ path }) => path),
    ['src', 'docs', 'notes.md'],
  );
});
