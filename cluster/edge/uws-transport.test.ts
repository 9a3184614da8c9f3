import assert from 'node:assert/strict';
import { test } from 'node:test';
import { transportLaws } from './transport.laws.ts';
import { nativeBinary, UwsTransport } from './uws-transport.ts';

transportLaws('uWebSockets.js', (settings, handlers) => new UwsTransport(settings, handlers));

test('the native binary is named with its hash', () => {
  const { file, sha256 } = nativeBinary();
  assert.match(file, /^uws_\w+_\w+_\d+\.node$/);
  assert.match(sha256, /^[0-9a-f]{64}$/);
});
