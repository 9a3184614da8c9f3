import assert from 'node:assert/strict';
import test from 'node:test';
import { refusalFor, thisPlatform } from './platform.mjs';

const tried = { system: 'linux', processor: 'x64', node: '20.20.2', glibc: '2.36' };

test('platform: lets through what was tried, this machine included', () => {
  for (const change of [
    {},
    { node: '20.19.0' },
    { node: '22.12.0' },
    { node: '22.22.3' },
    { glibc: '2.34' },
    { processor: 'arm64' },
  ]) {
    assert.equal(refusalFor({ ...tried, ...change }), undefined, JSON.stringify(change));
  }
  assert.equal(refusalFor(thisPlatform()), undefined);
});

/** @type {[Partial<typeof tried> & { glibc?: string | undefined }, RegExp, RegExp][]} */
const refused = [
  [{ system: 'darwin', glibc: undefined }, /macOS/, /container/],
  [{ system: 'win32', glibc: undefined }, /Windows/, /WSL 2/],
  [{ system: 'freebsd', glibc: undefined }, /freebsd/, /container/],
  [{ processor: 'riscv64' }, /riscv64/, /x64 and arm64/],
  [{ glibc: undefined }, /musl/, /node:22-bookworm/],
  [{ glibc: '2.31' }, /2\.31/, /Debian 12/],
  [{ node: '18.20.4' }, /Node 18\.20\.4/, /Install Node 20/],
  [{ node: '20.18.1' }, /Node 20\.18\.1/, /Install Node 20/],
  [{ node: '21.7.3' }, /Node 21\.7\.3/, /Install Node 20/],
  [{ node: '22.11.0' }, /Node 22\.11\.0/, /Install Node 20/],
  [{ node: '24.4.0' }, /Node 24\.4\.0/, /no binary/],
];

for (const [change, name, advice] of refused) {
  test(`platform: refuses ${JSON.stringify(change)} by name, with what to do`, () => {
    const refusal = refusalFor({ ...tried, ...change }) ?? '';
    assert.match(refusal, name);
    assert.match(refusal, advice);
  });
}
