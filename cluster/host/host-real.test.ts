/** Partitions over a real nats-server and real LMDB: restarts, kills, trimming, lost logs, accepted losses. */
import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { setImmediate as pause } from 'node:timers/promises';
import { pino } from 'pino';
import { Registry } from 'prom-client';
import { unpack } from '../../protocol/msgpack.ts';
import { decodeAnswer, encodeQuery } from '../bus/messages.ts';
import { NatsBus } from '../bus/nats-bus.ts';
import { queriesOf } from '../bus/subjects.ts';
import { LmdbCheckpoints } from '../checkpoint/lmdb-checkpoints.ts';
import { MemoryCheckpoints } from '../checkpoint/memory-checkpoints.ts';
import { systemClock } from '../log/clock.ts';
import { CLUSTER_BUCKET, type ClusterRecord, generationOf, joinCluster } from '../log/cluster-record.ts';
import { JetStreamLog } from '../log/jetstream-log.ts';
import type { PartitionLog } from '../log/log.ts';
import { connectToNats, type NatsLink } from '../log/nats-connection.ts';
import { NatsKeyValue } from '../log/nats-key-value.ts';
import { type NatsServer, startNatsServer } from '../log/nats-server.ts';
import { acceptLoss } from './accept-loss.ts';
import { commandFrame, sessionBytes } from './command-frames.ts';
import { DEFAULT_PARTITION_SETTINGS, Host } from './host.ts';
import { compileKinds } from './kinds.ts';
import { replay } from './replay.ts';
import { stateHash } from './state-hash.ts';
import { TEST_KINDS } from './test-kinds.ts';

const kinds = compileKinds(TEST_KINDS);
const groups = { main: 1 };
const PARTITION = 'main-0';
const cleanups: (() => Promise<unknown>)[] = [];
after(async () => {
  for (const cleanup of cleanups.reverse()) await cleanup();
});

async function until(condition: () => boolean | Promise<boolean>, deadlineMs = 20_000): Promise<void> {
  const end = performance.now() + deadlineMs;
  while (!(await condition())) {
    if (performance.now() > end) throw new Error('the condition did not come true in time');
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

/** One nats-server, one data folder, and a host that can be started again and again. */
class Machine {
  readonly folder: string;
  server!: NatsServer;
  link!: NatsLink;
  log!: JetStreamLog;
  cluster!: NatsKeyValue;
  checkpoints!: LmdbCheckpoints;
  host!: Host;
  record!: ClusterRecord;
  frames = 0;
  numbers = 0;
  readonly session = sessionBytes(Date.now(), 3);

  constructor(folder: string) {
    this.folder = folder;
  }

  static async make(): Promise<Machine> {
    const folder = await mkdtemp(join(tmpdir(), 'troupe-host-'));
    const machine = new Machine(folder);
    cleanups.push(() => rm(folder, { recursive: true, force: true }));
    machine.server = await startNatsServer({
      dataDir: join(folder, 'nats'),
      durability: 'os',
      maxFileStoreBytes: 1 << 28,
    });
    cleanups.push(() => machine.end());
    const { url, user, password } = machine.server;
    machine.link = await connectToNats({ servers: url, name: 'test', user, password });
    machine.log = await JetStreamLog.over(machine.link);
    machine.cluster = await NatsKeyValue.open(machine.link, CLUSTER_BUCKET, 1);
    machine.record = (await joinCluster(machine.cluster, groups)).record;
    return machine;
  }

  openLog = (partition: string): Promise<PartitionLog> =>
    this.log.open(partition, generationOf(this.record, partition), { maxBytes: 1 << 26, replicas: 1 });

  async start(settings: Partial<Record<keyof typeof DEFAULT_PARTITION_SETTINGS, number>> = {}): Promise<Host> {
    this.checkpoints = new LmdbCheckpoints(this.folder);
    this.host = new Host({
      settings: { ...DEFAULT_PARTITION_SETTINGS, node: 'h1', groups, ...settings, traps: true },
      definitions: TEST_KINDS,
      bus: new NatsBus(this.link.connection),
      clock: systemClock,
      checkpoints: this.checkpoints,
      logger: pino({ level: 'silent' }),
      registry: new Registry(),
      effects: { run: async () => ({ outcome: 'done', status: 200, body: '', attempts: 1 }) },
      openLog: this.openLog,
      pause: () => pause(),
    });
    await this.host.start();
    return this.host;
  }

  async stop(checkpoint = true): Promise<void> {
    await this.host.stop(checkpoint);
    await this.checkpoints.close();
  }

  async end(): Promise<void> {
    await this.stop().catch(() => undefined);
    await this.log.close();
    await this.link.close();
    await this.server.stop();
  }

  /** Appends frames of `perFrame` additions of 1 to counter:a, again while the log is away. */
  async add(frames: number, perFrame: number): Promise<void> {
    const log = await this.openLog(PARTITION);
    for (let i = 0; i < frames; i++) {
      const inputs = Array.from({ length: perFrame }, () => {
        const number = ++this.numbers;
        const low = Math.max(1, number - 100);
        return {
          ref: 'counter:a',
          command: 'add',
          fields: { amount: 1, note: '' },
          number,
          low,
          session: this.session,
        };
      });
      const frame = commandFrame(kinds, inputs, {
        frameNumber: ++this.frames,
        generation: generationOf(this.record, PARTITION),
      });
      await until(() =>
        log.append('cmd.e1', frame).then(
          () => true,
          () => false,
        ),
      );
    }
  }

  async value(): Promise<number> {
    const request = {
      ref: 'counter:a',
      name: 'value',
      body: new Uint8Array(),
      principal: 'p',
      roles: [],
      minSequence: undefined,
    };
    const bytes = await this.link.connection.request(queriesOf(PARTITION), encodeQuery(request), { timeout: 2_000 });
    const answer = decodeAnswer(bytes.data);
    return answer.ok ? (unpack(answer.body) as [number])[0] : Number.NaN;
  }

  get fold() {
    const partition = this.host.partition(PARTITION);
    if (!partition) throw new Error('no partition');
    return partition.fold;
  }
}

test('live, recovered and replayed state have one hash; recovery reads the tail of the log only', async () => {
  const machine = await Machine.make();
  await machine.start({ checkpointCommands: 500 });
  await machine.add(100, 20);
  await until(async () => (await machine.value()) === 2_000);
  await until(() => machine.fold.store.count('meta') === 1);
  const live = stateHash(machine.fold);
  const at = machine.fold.head.sequence;
  const { settings } = machine.fold;
  await machine.stop(false);
  const offline = await replay({
    settings,
    log: await machine.openLog(PARTITION),
    store: await new MemoryCheckpoints().open(PARTITION),
    until: at,
  });
  assert.equal(stateHash(offline), live);
  await machine.start();
  const recovery = machine.host.partition(PARTITION)?.recovery;
  assert.ok(recovery && recovery.commands < 2_000 && recovery.to === at + 1, JSON.stringify(recovery));
  assert.equal(await machine.value(), 2_000);
});

test('kill -9 of nats-server under load: the fold goes on where it was, nothing twice, nothing lost', async () => {
  const machine = await Machine.make();
  await machine.start();
  const adding = machine.add(300, 5);
  for (let round = 0; round < 2; round++) {
    await until(() => machine.fold.head.handled > 300 * (round + 1));
    const { port } = machine.server;
    await machine.server.kill();
    machine.server = await startNatsServer({
      dataDir: join(machine.folder, 'nats'),
      durability: 'os',
      port,
      maxFileStoreBytes: 1 << 28,
    });
  }
  await adding;
  await until(async () => (await machine.value().catch(() => 0)) >= 1_500);
  // A frame whose ack was lost was appended again under its number, and dropped.
  assert.equal(await machine.value(), 1_500);
});

test('the log is trimmed below the older of two checkpoints, the claim stays, and a restart still works', async () => {
  const machine = await Machine.make();
  await machine.start({ checkpointCommands: 400, logMarginMessages: 100 });
  await machine.add(2_500, 1);
  const log = await machine.openLog(PARTITION);
  await until(async () => (await log.state()).first > 1_000);
  assert.ok(await log.lastOn('epoch'), 'the newest claim was not trimmed');
  await machine.stop(false);
  await machine.start();
  assert.equal(await machine.value(), 2_500);
});

test('a deleted log is refused with log_loss; accept-loss goes on in the next generation', async () => {
  const machine = await Machine.make();
  await machine.start();
  await machine.add(10, 10);
  await until(async () => (await machine.value()) === 100);
  await machine.stop();
  await machine.log.remove(PARTITION, 1);
  await machine.start();
  const halted = machine.host.partition(PARTITION)?.beat();
  assert.equal(halted?.state, 'halted');
  assert.match(halted?.reason ?? '', /^log_loss: /);
  const { host, checkpoints, cluster, openLog } = machine;
  const onRecord = (record: ClusterRecord) => {
    machine.record = record;
  };
  const accepted = await acceptLoss({ host, partition: PARTITION, checkpoints, cluster, openLog, onRecord });
  assert.deepEqual([accepted.generation, accepted.state], [2, 'live']);
  assert.equal(await machine.value(), 100);
  machine.frames = 0;
  await machine.add(5, 1);
  await until(async () => (await machine.value()) === 105);
  await assert.rejects(acceptLoss({ host, partition: PARTITION, checkpoints, cluster, openLog, onRecord }), {
    code: 'bad_request',
  });
});
