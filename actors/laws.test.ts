/**
 * The laws of actors, for every kind in every folder beside this file, over generated histories: a handler never throws, a
 * refusal changes nothing, folding again gives the same state, also with checkpoints and fresh starts in between, a snapshot
 * loads to what was saved, and snapshots of the past load for ever. Histories replay by their seed: TROUPE_SEED.
 */
import assert from 'node:assert/strict';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { test } from 'node:test';
import { loadActor } from '../cluster/host/actors.ts';
import { stateHash } from '../cluster/host/state-hash.ts';
import { decodeState, encodeState } from '../protocol/canonical.ts';
import { seededRandom } from '../protocol/fuzz.ts';
import type { ActorDefinition } from './definition.ts';
import { TestFold } from './test-fold.ts';
import { type Drawing, History, PRINCIPALS } from './test-history.ts';

const SEEDS = process.env.TROUPE_SEED ? [Number(process.env.TROUPE_SEED)] : [1, 2, 3, 4];
const STEPS = 1_200;

type Found = { readonly definition: ActorDefinition; readonly folder: URL; readonly drawing: Drawing };

/** Every kind: an exported value with `kind` and `handle`. */
async function findKinds(): Promise<Found[]> {
  const found: Found[] = [];
  for (const entry of readdirSync(new URL('.', import.meta.url), { withFileTypes: true })) {
    if (!entry.isDirectory()) continue;
    const folder = new URL(`./${entry.name}/`, import.meta.url);
    for (const file of readdirSync(folder).filter((name) => name.endsWith('.js') && !/\.test\.js$|^test-/.test(name))) {
      const exported: object = await import(new URL(file, folder).href);
      for (const value of Object.values(exported)) {
        if (typeof value !== 'object' || value === null || !('kind' in value && 'handle' in value)) continue;
        assert.equal(file, `${value.kind}.js`, 'a kind lies in the file of its name');
        const definition = value as ActorDefinition;
        found.push({ definition, folder, drawing: await drawingOf(folder, definition.kind) });
      }
    }
  }
  return found;
}

async function drawingOf(folder: URL, kind: string): Promise<Drawing> {
  const file = new URL(`test-${kind}.js`, folder);
  return existsSync(file) ? ((await import(file.href)) as { drawing: Drawing }).drawing : {};
}

const kinds = await findKinds();
const definitions = kinds.map(({ definition }) => definition);

/** This kind first: the fold is of its group. */
const withFirst = (first: ActorDefinition): ActorDefinition[] => [first, ...definitions.filter((one) => one !== first)];

/** A history folded as it was made; whatever throws is told with its seed. */
async function foldHistory({ definition, drawing }: Found, seed: number): Promise<{ it: TestFold; history: History }> {
  const it = await TestFold.of(withFirst(definition));
  const history = new History(it, definition.kind, seededRandom(seed), drawing);
  for (let step = 0; step < STEPS; step++) {
    try {
      history.step();
    } catch (error) {
      throw new Error(`${definition.kind}, step ${step}: replay with TROUPE_SEED=${seed}: ${String(error)}`, {
        cause: error,
      });
    }
  }
  return { it, history };
}

/** Folds the messages anew, with checkpoints, passivation and fresh starts between any two. */
async function foldWithRestarts(it: TestFold, seed: number): Promise<TestFold> {
  const random = seededRandom(seed);
  const again = await it.another();
  for (const message of it.messages) {
    again.follow(message);
    if (random() < 0.8) continue;
    await again.checkpoint();
    if (random() < 0.5) again.fold.actors.passivate(0);
    if (random() < 0.5) await again.recover();
  }
  return again;
}

/** Answers to generated queries: they show state that is not saved as it should be. */
function answersOf(it: TestFold, { kind }: ActorDefinition, seed: number): unknown[] {
  const random = seededRandom(seed);
  const answers: unknown[] = [];
  for (const ref of it.fold.actors.references().filter((one) => one.startsWith(`${kind}:`))) {
    for (const [name, { fields }] of it.kind(ref).queries) {
      for (const principal of PRINCIPALS)
        answers.push([ref, name, it.answerOf(ref, name, fields.generate(random), principal)]);
    }
  }
  return answers;
}

/** What was saved, loaded and saved again. */
function savedAgain(it: TestFold, ref: string, bytes: Uint8Array): Uint8Array {
  const { state, offsets } = loadActor(it.kind(ref), bytes);
  const { snapshot } = it.kind(ref).definition;
  return encodeState([snapshot.version, offsets, snapshot.save(state)], { refuseShared: true });
}

test('there are kinds, and no two have one name', () => {
  assert.ok(kinds.length > 0);
  assert.equal(new Set(definitions.map(({ kind }) => kind)).size, kinds.length);
});

for (const found of kinds) {
  const { definition } = found;
  for (const seed of SEEDS) {
    test(`${definition.kind}: the laws hold over a generated history (seed ${seed})`, async (t) => {
      const { it, history } = await foldHistory(found, seed);
      t.diagnostic(
        `accepted of tried: ${[...history.tried].map(([name, { tries, accepted }]) => `${name} ${accepted}/${tries}`).join(', ')}`,
      );
      t.diagnostic(`refusals: ${[...history.refusals].map(([name, count]) => `${name} ${count}`).join(', ')}`);
      const hash = stateHash(it.fold);
      const again = await it.another();
      for (const message of it.messages) again.follow(message);
      assert.equal(stateHash(again.fold), hash, 'folding again gives the same state');
      const restarted = await foldWithRestarts(it, seed);
      assert.equal(stateHash(restarted.fold), hash, 'restarts change nothing');
      assert.deepEqual(answersOf(restarted, definition, seed), answersOf(it, definition, seed), 'nor what is answered');
      for (const ref of it.fold.actors.references()) {
        const bytes = it.saved(ref) as Uint8Array;
        assert.deepEqual(savedAgain(it, ref, bytes), bytes, `${ref}: a snapshot loads to what was saved`);
      }
    });
  }

  test(`${definition.kind}: each of its commands is accepted somewhere in the generated histories`, async () => {
    const accepted = new Set<string>();
    for (const seed of SEEDS) {
      const { history } = await foldHistory(found, seed);
      for (const [name, counts] of history.tried) if (counts.accepted > 0) accepted.add(name);
    }
    const never = Object.keys(definition.commands).filter((name) => !accepted.has(name));
    assert.deepEqual(process.env.TROUPE_SEED ? [] : never, [], 'a history that never gets there proves nothing');
  });
}

/** Files of `name hex` lines, the hex being what a checkpoint of that version held of an actor. */
function goldenFiles(folder: URL, kind: string): string[] {
  const golden = new URL('golden/', folder);
  const files = existsSync(golden) ? readdirSync(golden) : [];
  return files.filter((name) => new RegExp(`^${kind}-v[0-9]+\\.hex$`).test(name));
}

/** A line that would do for a golden file of today. */
async function goldenLine(found: Found): Promise<string> {
  const { it } = await foldHistory(found, 1);
  const [ref = ''] = it.fold.actors.references();
  return `history-1 ${Buffer.from(it.saved(ref) ?? []).toString('hex')}`;
}

for (const found of kinds) {
  const { definition, folder } = found;
  const { kind, snapshot } = definition;
  test(`${kind}: snapshots of the past load (golden/)`, async () => {
    const files = goldenFiles(folder, kind);
    const needed = `${kind}-v${snapshot.version}.hex`;
    if (!files.includes(needed)) assert.fail(`golden/${needed} is missing; a line for it:\n${await goldenLine(found)}`);
    const it = await TestFold.of(withFirst(definition));
    for (const file of files) {
      for (const line of readFileSync(new URL(`golden/${file}`, folder), 'utf8')
        .trim()
        .split('\n')) {
        const [name, hex = ''] = line.split(' ');
        const bytes = new Uint8Array(Buffer.from(hex, 'hex'));
        const [version] = decodeState(bytes) as [number];
        assert.equal(file, `${kind}-v${version}.hex`, `${name} is of another version`);
        const again = savedAgain(it, `${kind}:x`, bytes);
        if (version === snapshot.version) assert.deepEqual(again, bytes, `${name}: what is loaded is saved as it was`);
      }
    }
  });
}
