/** The laws of checkpoints: what every adapter of the port keeps. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  type Change,
  type CheckpointStore,
  type Checkpoints,
  type Entry,
  MAX_KEY_BYTES,
  MAX_VALUE_BYTES,
  type RangeOptions,
  type Space,
} from './checkpoint.ts';
import { MemoryCheckpoints } from './memory-checkpoints.ts';

export type CheckpointRig = {
  readonly checkpoints: Checkpoints;
  /** The same disk for another process: earlier objects are closed. */
  restart(): Promise<Checkpoints>;
  remove(): Promise<void>;
};

const START = new Uint8Array(0);
const PARTITION = 'main-0';
const encoder = new TextEncoder();
const decoder = new TextDecoder();

const bytes = (text: string): Uint8Array => encoder.encode(text);
const put = (space: Space, key: string, value: string): Change => ({ space, key: bytes(key), value: bytes(value) });
const drop = (space: Space, key: string): Change => ({ space, key: bytes(key), value: undefined });
const texts = (entries: Iterable<Entry>): string[] =>
  [...entries].map(([key, value]) => `${decoder.decode(key)}=${decoder.decode(value)}`);

/** Declares the suite. Each law gets a rig of its own. */
export function checkpointLaws(name: string, makeRig: () => Promise<CheckpointRig>): void {
  const law = (title: string, check: (store: CheckpointStore, rig: CheckpointRig) => Promise<void>): void => {
    test(`${name}: ${title}`, async () => {
      const rig = await makeRig();
      try {
        await check(await rig.checkpoints.open(PARTITION), rig);
      } finally {
        await rig.remove();
      }
    });
  };
  valueLaws(law);
  rangeLaws(law);
  commitLaws(law);
  limitLaws(law);
}

type Declare = (title: string, check: (store: CheckpointStore, rig: CheckpointRig) => Promise<void>) => void;

function valueLaws(law: Declare): void {
  law('an empty checkpoint has nothing', async (store) => {
    assert.equal(store.get('meta', bytes('a')), undefined);
    assert.deepEqual([...store.range('row', START)], []);
    assert.equal(store.count('row'), 0);
    assert.deepEqual(await store.verify(), { entries: 0, bytes: 0, crc32: 0 });
  });

  law('a commit is read at once when it resolves, and spaces are apart', async (store) => {
    for (let round = 0; round < 50; round++) {
      await store.commit([put('row', 'a', `${round}`), put('timer', 'a', `t${round}`), put('meta', `${round}`, '')]);
      assert.deepEqual(store.get('row', bytes('a')), bytes(`${round}`));
      assert.deepEqual(store.get('timer', bytes('a')), bytes(`t${round}`));
      assert.equal(store.get('session', bytes('a')), undefined);
      assert.equal(store.count('meta'), round + 1);
    }
  });

  law('an empty value is a value', async (store) => {
    await store.commit([put('mark', 'a', '')]);
    assert.deepEqual(store.get('mark', bytes('a')), START);
    assert.deepEqual(texts(store.range('mark', START)), ['a=']);
  });

  law('delete and replace; deleting what is not there is no error', async (store) => {
    await store.commit([put('row', 'a', '1'), put('row', 'b', '2')]);
    await store.commit([drop('row', 'a'), put('row', 'b', '3'), drop('row', 'never')]);
    assert.deepEqual(texts(store.range('row', START)), ['b=3']);
    assert.equal(store.get('row', bytes('a')), undefined);
  });

  law('what is given and what is returned are copies', async (store) => {
    const key = bytes('a');
    const value = bytes('1');
    await store.commit([{ space: 'row', key, value }]);
    key[0] = 0;
    value[0] = 0;
    const read = store.get('row', bytes('a'))!;
    read[0] = 0;
    const [[rangeKey, rangeValue]] = [...store.range('row', START)] as [Entry];
    rangeKey[0] = 0;
    rangeValue[0] = 0;
    assert.deepEqual(texts(store.range('row', START)), ['a=1']);
    assert.deepEqual(store.get('row', bytes('a')), bytes('1'));
  });

  law('a reopened checkpoint is the one committed', async (store, rig) => {
    await store.commit([put('actor', 'book:A', 'state'), put('meta', 'sequence', '7')]);
    const digest = await store.verify();
    const again = await (await rig.restart()).open(PARTITION);
    assert.deepEqual(await again.verify(), digest);
    assert.deepEqual(again.get('actor', bytes('book:A')), bytes('state'));
  });

  law('partitions are apart, and one is open once', async (store, rig) => {
    const other = await rig.checkpoints.open('exchange-12');
    await store.commit([put('row', 'a', '1')]);
    assert.equal(other.get('row', bytes('a')), undefined);
    await assert.rejects(rig.checkpoints.open(PARTITION), /open already/);
    await store.close();
    const again = await rig.checkpoints.open(PARTITION);
    assert.deepEqual(again.get('row', bytes('a')), bytes('1'));
  });

  law('a name that is no partition opens nothing', async (_, rig) => {
    for (const name of ['', '..', 'main', 'main-1/..', 'Main-1']) {
      await assert.rejects(rig.checkpoints.open(name), /not a partition/);
    }
  });
}

function rangeLaws(law: Declare): void {
  law('ranges equal a sorted model: bytewise order, from, to, reverse, limit', async (store) => {
    const key = fc.oneof(
      fc.uint8Array({ minLength: 1, maxLength: 3 }),
      fc
        .array(fc.constantFrom(0, 1, 127, 128, 255), { minLength: 1, maxLength: 4 })
        .map((list) => Uint8Array.from(list)),
    );
    const bound = fc.oneof(key, fc.constant(START));
    const options = fc.record({ reverse: fc.boolean(), limit: fc.integer({ min: 0, max: 8 }) }, { requiredKeys: [] });
    const query = fc.record({ from: bound, to: fc.option(bound, { nil: undefined }), options });
    const round = fc.asyncProperty(
      fc.array(key, { maxLength: 60 }),
      fc.array(query, { maxLength: 30 }),
      async (keys, queries) => {
        await store.commit(clearing(store));
        const model = new Map(keys.map((bytes) => [Buffer.from(bytes).toString('hex'), Uint8Array.from(bytes)]));
        await store.commit([...model.values()].map((bytes) => ({ space: 'row', key: bytes, value: bytes })));
        assert.equal(store.count('row'), model.size);
        for (const { from, to, options } of queries) {
          const found = [...store.range('row', from, to, options)];
          for (const [key, value] of found) assert.deepEqual(key, value);
          const expected = modelRange([...model.values()], from, to, options);
          assert.deepEqual(
            found.map(([key]) => key),
            expected,
          );
        }
      },
    );
    await fc.assert(round, { numRuns: 60 });
  });

  law('a range may be left early, nested, and used while values are read', async (store) => {
    await store.commit(Array.from({ length: 100 }, (_, i) => put('row', String(i).padStart(3, '0'), 'x')));
    const seen: string[] = [];
    for (const [outer] of store.range('row', bytes('010'))) {
      for (const [inner] of store.range('row', outer, undefined, { reverse: true })) {
        assert.deepEqual(store.get('row', outer), bytes('x'));
        seen.push(decoder.decode(outer) + decoder.decode(inner));
        break;
      }
      if (seen.length === 3) break;
    }
    assert.deepEqual(seen, ['010099', '011099', '012099']);
  });
}

function commitLaws(law: Declare): void {
  law('commits asked for together happen in order, each whole', async (store) => {
    const commits = Array.from({ length: 20 }, (_, i) =>
      store.commit([put('meta', 'n', `${i}`), put('row', `${i}`, '')]),
    );
    await Promise.all(commits);
    assert.deepEqual(store.get('meta', bytes('n')), bytes('19'));
    assert.equal(store.count('row'), 20);
  });

  law('an empty commit is one', async (store) => {
    await store.commit([]);
    assert.equal(store.count('meta'), 0);
  });

  law('many keys', async (store, rig) => {
    await store.commit(numbered(30_000));
    assert.equal(store.count('row'), 30_000);
    assert.equal([...store.range('row', START)].length, 30_000);
    const digest = await store.verify();
    const again = await (await rig.restart()).open(PARTITION);
    assert.deepEqual(await again.verify(), digest);
  });

  law('close waits for the commits asked for before; afterwards every call throws', async (store, rig) => {
    const commit = store.commit([put('row', 'a', '1')]);
    const closed = store.close();
    assert.throws(() => store.get('row', bytes('a')), /closed/);
    await Promise.all([commit, closed, store.close()]);
    await assert.rejects(store.commit([]), /closed/);
    assert.throws(() => store.count('row'), /closed/);
    const again = await rig.checkpoints.open(PARTITION);
    assert.deepEqual(again.get('row', bytes('a')), bytes('1'));
  });
}

function limitLaws(law: Declare): void {
  law('keys up to the limit; longer and empty ones are refused and the commit changes nothing', async (store) => {
    const longest = new Uint8Array(MAX_KEY_BYTES).fill(255);
    await store.commit([{ space: 'key', key: longest, value: bytes('1') }]);
    assert.deepEqual(store.get('key', longest), bytes('1'));
    assert.deepEqual(
      [...store.range('key', longest)].map(([key]) => key),
      [longest],
    );
    const refused = [new Uint8Array(MAX_KEY_BYTES + 1), START];
    for (const key of refused) {
      const commit = store.commit([put('key', 'b', '2'), { space: 'key', key, value: bytes('3') }]);
      await assert.rejects(commit, { code: 'invalid_field' });
    }
    assert.equal(store.count('key'), 1);
    await store.commit([put('key', 'c', '4')]);
    assert.equal(store.count('key'), 2);
  });

  law('a refusal late in a big commit leaves nothing of it behind', async (store) => {
    const changes = [...numbered(5_000), { space: 'row', key: START, value: START } as Change];
    await assert.rejects(store.commit(changes), { code: 'invalid_field' });
    await store.commit([put('row', 'a', '1')]);
    assert.equal(store.count('row'), 1);
  });

  law('values up to 16 MiB; bigger ones are refused', async (store, rig) => {
    const biggest = new Uint8Array(MAX_VALUE_BYTES);
    for (let i = 0; i < biggest.length; i += 997) biggest[i] = i;
    await store.commit([{ space: 'actor', key: bytes('big'), value: biggest }, put('actor', 'small', 'x')]);
    assert.equal(Buffer.compare(store.get('actor', bytes('big'))!, biggest), 0);
    assert.deepEqual(store.get('actor', bytes('small')), bytes('x'));
    const tooBig = { space: 'actor', key: bytes('big'), value: new Uint8Array(MAX_VALUE_BYTES + 1) } as const;
    await assert.rejects(store.commit([tooBig]), { code: 'payload_too_large' });
    const again = await (await rig.restart()).open(PARTITION);
    const [[, value]] = [...again.range('actor', START, undefined, { limit: 1 })] as [Entry];
    assert.equal(Buffer.compare(value, biggest), 0);
  });
}

/** A disk that fills: refused by name, what was committed stays readable, nothing hangs, and it goes on once there is space. */
export async function fullDiskLaw(checkpoints: Checkpoints, disk: { fill(): void; free(): void }): Promise<void> {
  let store = await checkpoints.open(PARTITION);
  await store.commit([...numbered(500), put('meta', 'sequence', '1')]);
  const before = await store.verify();
  disk.fill();
  for (let attempt = 0; attempt < 3; attempt++) {
    await assert.rejects(store.commit([...bulk(), put('meta', 'sequence', '2')]), { code: 'storage_full' });
    assert.deepEqual(store.get('meta', bytes('sequence')), bytes('1'));
    assert.deepEqual(await store.verify(), before);
  }
  await store.close();
  store = await checkpoints.open(PARTITION);
  assert.deepEqual(await store.verify(), before);
  await assert.rejects(store.commit(bulk()), { code: 'storage_full' });
  disk.free();
  await store.commit([...bulk(), put('meta', 'sequence', '3')]);
  assert.deepEqual(store.get('meta', bytes('sequence')), bytes('3'));
  assert.equal(store.count('actor'), BULK_VALUES);
  await store.close();
}

const BULK_VALUES = 40;

function bulk(): Change[] {
  const value = new Uint8Array(50_000).fill(7);
  return Array.from({ length: BULK_VALUES }, (_, i) => ({ space: 'actor', key: bytes(`bulk${i}`), value }));
}

function numbered(count: number): Change[] {
  return Array.from({ length: count }, (_, i) => put('row', `${Math.imul(i, 0x9e3779b1) >>> 0}/${i}`, `value ${i}`));
}

/** Commit `n` of a history: meta `n` says n, and rows, timers and actors come, change and go by the seed. */
export function historyChanges(seed: number, n: number): Change[] {
  const changes = new Map<string, Change>();
  let state = (seed ^ Math.imul(n, 0x9e3779b1)) >>> 0;
  const draw = (below: number): number => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
  const rows = 1 + draw(400);
  for (let i = 0; i < rows; i++) {
    const space = (['row', 'timer', 'outbox', 'actor'] as const)[draw(4)]!;
    const key = `k${draw(2_000)}`;
    const value = draw(4) === 0 ? undefined : new Uint8Array(draw(space === 'actor' ? 6_000 : 200)).fill(n);
    changes.set(`${space}/${key}`, { space, key: bytes(key), value });
  }
  return [...changes.values(), put('meta', 'n', `${n}`)];
}

/** The number of the last commit of the history that the store holds. */
export function historyNumber(store: CheckpointStore): number {
  return Number(decoder.decode(store.get('meta', bytes('n')) ?? bytes('0')));
}

/** Asserts that the store is the history after exactly the commits 1..historyNumber, and that this is `least` or one more. */
export async function assertHistory(store: CheckpointStore, seed: number, least: number): Promise<void> {
  const number = historyNumber(store);
  assert.ok(number === least || number === least + 1, `commit ${least} was acknowledged, the store holds ${number}`);
  const model = await new MemoryCheckpoints().open(PARTITION);
  for (let n = 1; n <= number; n++) await model.commit(historyChanges(seed, n));
  assert.deepEqual(await store.verify(), await model.verify(), `seed ${seed}, commit ${number}`);
}

function clearing(store: CheckpointStore): Change[] {
  return [...store.range('row', START)].map(([key]) => ({ space: 'row', key, value: undefined }));
}

function modelRange(
  keys: Uint8Array[],
  from: Uint8Array,
  to: Uint8Array | undefined,
  { reverse, limit }: RangeOptions,
): Uint8Array[] {
  const inside = keys.filter((key) => Buffer.compare(key, from) >= 0 && (!to || Buffer.compare(key, to) < 0));
  inside.sort(Buffer.compare);
  if (reverse) inside.reverse();
  return inside.slice(0, limit);
}
