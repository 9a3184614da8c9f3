import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { Kvm } from '@nats-io/kv';
import { ProtocolError } from '../../protocol/errors.ts';
import { FORMAT_VERSION, generationOf, joinCluster, raiseGeneration, readClusterRecord } from './cluster-record.ts';
import { takeIncarnation } from './incarnation.ts';
import type { KeyValue } from './key-value.ts';
import { MemoryKeyValue } from './memory-key-value.ts';
import { connectToNats, type NatsLink } from './nats-connection.ts';
import { NatsKeyValue } from './nats-key-value.ts';
import { type NatsServer, startNatsServer } from './nats-server.ts';

const bytes = (text: string) => new TextEncoder().encode(text);
const text = (value: Uint8Array | undefined) => new TextDecoder().decode(value);
const named = (code: string) => (error: unknown) => error instanceof ProtocolError && error.code === code;

/** What every implementation gives. `open`: the bucket of this name, as another client would see it. */
function keyValueLaws(name: string, open: (bucket: string) => Promise<KeyValue>): void {
  describe(`key and value: ${name}`, () => {
    it('gives what was put, with rising revisions', async () => {
      const store = await open('laws_put');
      assert.equal(await store.get('a'), undefined);
      const one = await store.put('a', bytes('1'));
      const two = await store.put('b', bytes('2'));
      const three = await store.put('a', bytes('3'));
      assert.ok(one < two && two < three);
      const found = await store.get('a');
      assert.deepEqual([text(found?.value), found?.revision], ['3', three]);
      await assert.rejects(store.put('a.b', bytes('')), RangeError);
    });

    it('lets one of many win', async () => {
      const stores = await Promise.all([open('laws_race'), open('laws_race')]);
      let revision = 0;
      for (let round = 0; round < 5; round++) {
        const tries = Array.from({ length: 8 }, (_, i) =>
          (stores[i % 2] as KeyValue).compareAndSet('k', bytes(`${i}`), revision),
        );
        const results = await Promise.allSettled(tries);
        const won = results.flatMap((result) => (result.status === 'fulfilled' ? [result.value] : []));
        assert.equal(won.length, 1);
        assert.ok(
          results.every((result) => result.status === 'fulfilled' || named('wrong_last_sequence')(result.reason)),
        );
        revision = won[0] ?? 0;
      }
    });

    it('gives each start of an edge a higher incarnation', async () => {
      const store = await open('laws_edges');
      const taken = [];
      for (const edge of ['e1', 'e2', 'e1', 'e1']) taken.push(await takeIncarnation(store, edge));
      assert.deepEqual(
        taken,
        [...new Set(taken)].sort((a, b) => a - b),
      );
      await assert.rejects(takeIncarnation(store, 'E-1'), RangeError);
    });

    it('agrees on the cluster record', async () => {
      const stores = await Promise.all([open('laws_cluster'), open('laws_cluster')]);
      const store = stores[0] as KeyValue;
      assert.equal(await readClusterRecord(store), undefined);
      const groups = { main: 48, exchange: 16 };
      const joined = await Promise.all([...stores, ...stores].map((each) => joinCluster(each, groups)));
      for (const each of joined) assert.deepEqual(each, joined[0]);
      assert.deepEqual(joined[0]?.record, { formatVersion: FORMAT_VERSION, groups, generations: {} });
      await joinCluster(store, { exchange: 16, main: 48 });
      await assert.rejects(joinCluster(store, { main: 64 }), named('log_misconfigured'));
      const raised = await Promise.allSettled(stores.map((each) => raiseGeneration(each, 'main-3', 1)));
      assert.deepEqual(raised.map((each) => each.status).sort(), ['fulfilled', 'rejected']);
      await Promise.all([raiseGeneration(store, 'main-4', 1), raiseGeneration(stores[1] as KeyValue, 'main-5', 1)]);
      const { record } = (await readClusterRecord(store)) ?? assert.fail();
      assert.deepEqual(
        ['main-2', 'main-3', 'main-4', 'main-5'].map((each) => generationOf(record, each)),
        [1, 2, 2, 2],
      );
    });

    it('refuses a record of another format, or a damaged one', async () => {
      const store = await open('laws_format');
      await store.put('cluster', bytes('{"formatVersion":99,"groups":{},"generations":{}}'));
      await assert.rejects(readClusterRecord(store), named('unsupported_version'));
      for (const damaged of ['', 'null', '{}', '{"formatVersion":1,"groups":{"main":0},"generations":{}}']) {
        await store.put('cluster', bytes(damaged));
        await assert.rejects(readClusterRecord(store), named('log_misconfigured'), damaged);
      }
    });
  });
}

const buckets = new Map<string, MemoryKeyValue>();
keyValueLaws('memory', async (bucket) => {
  const store = buckets.get(bucket) ?? new MemoryKeyValue();
  buckets.set(bucket, store);
  return store;
});

describe('NATS', () => {
  let folder: string;
  let server: NatsServer;
  let link: NatsLink;
  before(async () => {
    folder = await mkdtemp(join(tmpdir(), 'troupe-kv-'));
    server = await startNatsServer({ dataDir: folder, durability: 'os', maxFileStoreBytes: 1e9 });
    link = await connectToNats({ servers: server.url, name: 'test', user: server.user, password: server.password });
  });
  after(async () => {
    await link.close();
    await server.stop();
    await rm(folder, { recursive: true });
  });

  keyValueLaws('NATS', (bucket) => NatsKeyValue.open(link, bucket, 1));

  it('refuses a bucket that lets lagging replicas answer', async () => {
    await new Kvm(link.connection).create('lagging', { allow_direct: true });
    await assert.rejects(NatsKeyValue.open(link, 'lagging', 1), named('log_misconfigured'));
    await assert.rejects(NatsKeyValue.open(link, 'three', 3), named('log_misconfigured'));
  });

  it('survives a restart, and says when it is down', async () => {
    const store = await NatsKeyValue.open(link, 'restart', 1);
    const revision = await takeIncarnation(store, 'e1');
    const { port } = server;
    await server.kill();
    await assert.rejects(store.get('e1'), named('log_unavailable'));
    server = await startNatsServer({ dataDir: folder, durability: 'os', maxFileStoreBytes: 1e9, port });
    const again = await connectToNats({
      servers: server.url,
      name: 'test',
      user: server.user,
      password: server.password,
    });
    const reopened = await NatsKeyValue.open(again, 'restart', 1);
    assert.equal((await reopened.get('e1'))?.revision, revision);
    assert.ok((await takeIncarnation(reopened, 'e1')) > revision);
    await again.close();
  });
});
