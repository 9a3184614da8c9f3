import assert from 'node:assert/strict';
import test from 'node:test';
import { checkLayers } from './layers.ts';

/** Checks files given as path -> text. */
function messagesFor(texts: Readonly<Record<string, string>>): string[] {
  return checkLayers(Object.entries(texts).map(([path, text]) => ({ path, text }))).map(
    ({ path, line, message }) => `${path}:${line}: ${message}`,
  );
}

function imports(...specifiers: string[]): string {
  return specifiers.map((specifier, index) => `import { a as a${index} } from '${specifier}';`).join('\n');
}

const refused: readonly (readonly [name: string, path: string, specifier: string, mention: RegExp])[] = [
  ['protocol to actors', 'protocol/a.ts', '../actors/definition.ts', /protocol\/ must not import actors\//],
  ['protocol to config', 'protocol/a.ts', '../config/options.ts', /protocol\/ must not import config\//],
  ['protocol to Node', 'protocol/a.ts', 'node:buffer', /runs in browsers/],
  ['config to actors', 'config/options.ts', '../actors/definition.ts', /config\/ must not import actors\//],
  ['config to bin', 'config/options.ts', '../bin/troupe.ts', /config\/ must not import bin\//],
  ['actors to cluster', 'actors/definition.ts', '../cluster/host/host.ts', /actors\/ must not import cluster\//],
  ['actors to config', 'actors/definition.ts', '../config/options.ts', /actors\/ must not import config\//],
  ['a domain to another', 'actors/chat/chat.ts', '../friends/friends.ts', /A domain is imported by itself only/],
  ['the definition to a domain', 'actors/definition.ts', './chat/chat.ts', /A domain is imported by itself only/],
  ['cluster to a domain', 'cluster/host/host.ts', '../../actors/chat/chat.ts', /cluster\/ knows no domain/],
  ['cluster to bin', 'cluster/node.ts', '../bin/troupe.ts', /cluster\/ must not import bin\//],
  ['cluster to config', 'cluster/node.ts', '../config/options.ts', /cluster\/ must not import config\//],
  ['cluster to bench', 'cluster/node.ts', '../bench/bench.ts', /cluster\/ must not import bench\//],
  ['bin to bench', 'bin/troupe.ts', '../bench/bench.ts', /bin\/ must not import bench\//],
  ['bench to bin', 'bench/bench.ts', '../bin/troupe.ts', /bench\/ must not import bin\//],
  ['a test upwards', 'protocol/a.test.ts', '../cluster/node.ts', /protocol\/ must not import cluster\//],
  ['code to a test', 'cluster/log/log.ts', './log.laws.ts', /Only tests/],
  [
    'uWebSockets.js outside its adapter',
    'cluster/edge/edge.ts',
    'uWebSockets.js',
    /Only cluster\/edge\/uws-transport\.ts/,
  ],
  ['lmdb outside the checkpoints', 'cluster/host/host.ts', 'lmdb', /Only cluster\/checkpoint\//],
  ['nats in the protocol', 'protocol/client/client.ts', 'nats', /Only cluster\//],
  ['a part of nats in the protocol', 'protocol/a.ts', '@nats-io/jetstream', /Only cluster\//],
];

for (const [name, path, specifier, mention] of refused) {
  test(`layers: refuses ${name}`, () => {
    const messages = messagesFor({ [path]: `\n${imports(specifier)}` });
    assert.equal(messages.length, 1, JSON.stringify(messages));
    assert.match(messages[0] as string, mention);
    assert.ok(messages[0]?.startsWith(`${path}:2: `));
  });
}

const ways: Readonly<Record<string, string>> = {
  'an import of types': "import type { A } from './b.ts';",
  'an import for its effect': "import './b.ts';",
  'a re-export': "export { a } from './b.ts';",
  'a re-export of everything': "export * from './b.ts';",
  'a dynamic import': "export const a = () => import('./b.ts');",
};

for (const [name, text] of Object.entries(ways)) {
  test(`layers: sees ${name}`, () => {
    assert.equal(messagesFor({ 'cluster/a.ts': text.replace('./b.ts', '../bin/b.ts') }).length, 1);
    assert.match(
      String(messagesFor({ 'cluster/a.ts': text, 'cluster/b.ts': imports('./a.ts') })),
      /in a circle: cluster\/a\.ts, cluster\/b\.ts/,
    );
  });
}

test('layers: refuses a file that imports itself, and a longer circle once', () => {
  assert.equal(messagesFor({ 'cluster/a.ts': imports('./a.ts') }).length, 1);
  const circle = {
    'bin/a.ts': imports('./b.ts', './d.ts'),
    'bin/b.ts': imports('./c.ts'),
    'bin/c.ts': imports('./a.ts'),
    'bin/d.ts': '',
  };
  assert.deepEqual(messagesFor(circle), [
    'bin/a.ts:1: These files import each other in a circle: bin/a.ts, bin/b.ts, bin/c.ts.',
  ]);
});

test('layers: lets through what the order allows', () => {
  const tree = {
    'protocol/codec.ts': imports('./errors.ts', 'msgpackr'),
    'protocol/errors.ts': '',
    'protocol/codec.test.ts': imports('node:test', 'fast-check', './codec.ts'),
    'config/options.ts': imports('../protocol/errors.ts', 'node:os'),
    'actors/definition.ts': imports('../protocol/codec.ts'),
    'actors/exchange/book.ts': imports('../definition.ts', './level.ts', '../../protocol/codec.ts'),
    'actors/exchange/level.ts': '',
    'actors/laws.test.ts': imports('./exchange/book.ts', '../cluster/host/fold.ts', 'node:fs'),
    'cluster/host/fold.ts': '',
    'cluster/log/log.laws.ts': imports('node:test', './log.ts'),
    'cluster/log/log.ts': imports(
      'nats',
      '@nats-io/jetstream',
      '../../actors/definition.ts',
      '../../protocol/codec.ts',
      'node:fs',
    ),
    'cluster/host/test-kinds.ts': imports('../../actors/chat/chat.ts'),
    'cluster/log/log.test.ts': imports(
      '../host/test-kinds.ts',
      './log.laws.ts',
      '../../actors/exchange/book.ts',
      'lmdb',
    ),
    'cluster/checkpoint/lmdb-store.ts': imports('lmdb'),
    'cluster/edge/uws-transport.ts': imports('uWebSockets.js'),
    'bin/troupe.ts': imports('../cluster/log/log.ts', '../config/options.ts', '../actors/exchange/book.ts', 'nats'),
    'bench/bench.ts': imports('../cluster/log/log.ts', '../actors/exchange/book.ts', 'uWebSockets.js', 'lmdb', 'nats'),
  };
  assert.deepEqual(messagesFor(tree), []);
});
