import assert from 'node:assert/strict';
import test from 'node:test';
import { debianMirror, parseList, parseSources } from './debian.mjs';

const sources = `
# A comment, and a stanza that is switched off.
Enabled: no
Types: deb
URIs: http://switched-off.test/debian
Suites: bookworm

Types: deb-src
URIs: http://sources-only.test/debian
Suites: bookworm

Types: deb deb-src
# URIs: http://commented-out.test/debian
URIs: http://third-party.test/apt http://mirror.test/debian
Suites: bookworm
 bookworm-updates
Components: main
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 mQINBF
 -----END PGP PUBLIC KEY BLOCK-----

Types: deb
URIs: http://mirror.test/debian-security/
Suites: bookworm-security
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
`;

test('debian: reads .sources files', () => {
  const found = parseSources(sources);
  assert.deepEqual(
    found.map(({ uri, suites }) => [uri, suites]),
    [
      ['http://third-party.test/apt', ['bookworm', 'bookworm-updates']],
      ['http://mirror.test/debian', ['bookworm', 'bookworm-updates']],
      ['http://mirror.test/debian-security/', ['bookworm-security']],
    ],
  );
  assert.match(found[1]?.signedBy ?? '', /^\n -----BEGIN[\s\S]*mQINBF\n -----END/);
  assert.equal(found[2]?.signedBy, '/usr/share/keyrings/debian-archive-keyring.gpg');
});

test('debian: reads .list files', () => {
  const found = parseList(`
    # deb http://commented-out.test/debian bookworm main
    deb-src http://sources-only.test/debian bookworm main
    deb [arch=amd64 signed-by=/etc/key.gpg] https://mirror.test/debian bookworm main contrib
    deb http://plain.test/debian bookworm-updates main
  `);
  assert.deepEqual(found, [
    { uri: 'https://mirror.test/debian', suites: ['bookworm'], signedBy: '/etc/key.gpg' },
    { uri: 'http://plain.test/debian', suites: ['bookworm-updates'], signedBy: undefined },
  ]);
});

test('debian: the mirror is the address that ends in /debian', () => {
  assert.equal(debianMirror(parseSources(sources))?.uri, 'http://mirror.test/debian');
  assert.equal(debianMirror(parseList('deb http://mirror.test/ubuntu jammy main')), undefined);
  assert.equal(debianMirror([]), undefined);
});
