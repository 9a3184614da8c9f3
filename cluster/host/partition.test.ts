import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setImmediate as pause } from 'node:timers/promises';
import { pino } from 'pino';
import { Registry } from 'prom-client';
import { unpack } from '../../protocol/msgpack.ts';
import { MemoryBus } from '../bus/memory-bus.ts';
import { decodeAnswer, decodeFailure, encodeQuery, FAILED, readReplyBatch } from '../bus/messages.ts';
import { queriesOf, repliesTo } from '../bus/subjects.ts';
import { MemoryCheckpoints } from '../checkpoint/memory-checkpoints.ts';
import { systemClock } from '../log/clock.ts';
import type { PartitionLog } from '../log/log.ts';
import { MemoryLog, MemoryServer } from '../log/memory-log.ts';
import { partitionOf } from '../placement/partition-of.ts';
import { type CommandInput, commandFrame, sessionBytes } from './command-frames.ts';
import type { EffectWorker } from './effect-service.ts';
import { DEFAULT_PARTITION_SETTINGS, Host } from './host.ts';
import { compileKinds, resolveRef } from './kinds.ts';
import { encodeEpoch, encodeOwn } from './own-record.ts';
import { replay } from './replay.ts';
import { stateHash } from './state-hash.ts';
import { TEST_KINDS } from './test-kinds.ts';

const kinds = compileKinds(TEST_KINDS);
const groups = { main: 2 };
const logSettings = { maxBytes: 1 << 24, replicas: 1 };

/** A small cluster in memory: one log server and disk, and hosts that come and go. */
class Cluster {
  readonly server = new MemoryServer();
  readonly disk = new MemoryCheckpoints();
  readonly bus = new MemoryBus();
  readonly log = new MemoryLog(this.server);
  readonly session = sessionBytes(Date.now(), 1);
  readonly replies = new Map<number, { status: number; value: unknown }>();
  readonly logs = new Map<string, Promise<PartitionLog>>();
  effects: EffectWorker = { run: async () => ({ outcome: 'done', status: 204, body: '', attempts: 1 }) };
  /** Checkpoints pause until it resolves. */
  gate: Promise<void> | undefined;
  host!: Host;
  #frames = new Map<string, number>();
  #number = 0;

  constructor() {
    this.bus.subscribe(repliesTo('e1'), (bytes) => {
      readReplyBatch(
        bytes,
        () => {},
        (batch, _slot, number, status, start, end) => {
          const body = batch.slice(start, end);
          this.replies.set(number, { status, value: status === FAILED ? decodeFailure(body).error : unpack(body) });
        },
      );
    });
  }

  openLog = (partition: string): Promise<PartitionLog> => {
    const opened = this.logs.get(partition) ?? this.log.open(partition, 1, logSettings);
    this.logs.set(partition, opened);
    return opened;
  };

  async start(settings: Partial<typeof DEFAULT_PARTITION_SETTINGS> = {}): Promise<Host> {
    this.host = new Host({
      settings: { ...DEFAULT_PARTITION_SETTINGS, traps: true, node: 'h1', groups, ...settings },
      definitions: TEST_KINDS,
      bus: this.bus,
      clock: systemClock,
      checkpoints: this.disk,
      logger: pino({ level: 'silent' }),
      registry: new Registry(),
      effects: this.effects,
      openLog: this.openLog,
      pause: () => this.gate ?? pause(),
    });
    await this.host.start();
    return this.host;
  }

  /** Appends one frame with these commands to their partition's log. */
  async append(...commands: Omit<CommandInput, 'number'>[]): Promise<number[]> {
    const numbered = commands.map((command) => {
      const number = ++this.#number;
      return { low: Math.max(1, number - 100), session: this.session, ...command, number };
    });
    const partition = placeOf(numbered[0]?.ref as string);
    const frameNumber = (this.#frames.get(partition) ?? 0) + 1;
    this.#frames.set(partition, frameNumber);
    await (await this.openLog(partition)).append('cmd.e1', commandFrame(kinds, numbered, { frameNumber }));
    return numbered.map(({ number }) => number);
  }

  /** Appends and waits for the replies. */
  async ask(...commands: Omit<CommandInput, 'number'>[]): Promise<unknown[]> {
    const numbers = await this.append(...commands);
    await until(() => numbers.every((number) => this.replies.has(number)));
    return numbers.map((number) => this.replies.get(number)?.value);
  }

  async query(ref: string, name: string): Promise<unknown> {
    const request = { ref, name, body: new Uint8Array(), principal: 'p', roles: [], minSequence: undefined };
    const answer = decodeAnswer(await this.bus.request(queriesOf(placeOf(ref)), encodeQuery(request), 2_000));
    return answer.ok ? unpack(answer.body) : answer.error;
  }

  /** As after kill -9: nothing is saved. */
  async crash(): Promise<void> {
    await this.host.stop(false);
  }

  fold(ref: string) {
    const partition = this.host.partition(placeOf(ref));
    if (!partition) throw new Error('no partition');
    return partition.fold;
  }
}

function placeOf(ref: string): string {
  const { kind, key } = resolveRef(kinds, ref);
  return partitionOf(kind.definition, key, groups);
}

async function until(condition: () => boolean | Promise<boolean>, deadlineMs = 5_000): Promise<void> {
  const end = performance.now() + deadlineMs;
  while (!(await condition())) {
    if (performance.now() > end) throw new Error('the condition did not come true in time');
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
}

const add = (key: string, amount: number) => ({ ref: `counter:${key}`, command: 'add', fields: { amount, note: '' } });
const rogue = (command: string, fields: object = {}) => ({ ref: 'rogue:r', command, fields });

/** Keys of counters in different partitions. */
const [here, there] = (() => {
  const keys = Array.from({ length: 50 }, (_, i) => `k${i}`);
  const first = keys[0] as string;
  return [first, keys.find((key) => placeOf(`counter:${key}`) !== placeOf(`counter:${first}`)) as string];
})();

test('replies come from the log; after a crash the state is folded again, and after a clean stop there is nothing to fold', async () => {
  const cluster = new Cluster();
  await cluster.start();
  assert.deepEqual(await cluster.ask(add(here, 1), add(here, 2)), [[1], [3]]);
  await cluster.crash();
  await cluster.start();
  assert.deepEqual(await cluster.ask(add(here, 4)), [[7]]);
  const hash = stateHash(cluster.fold(`counter:${here}`));
  assert.ok((cluster.host.partition(placeOf(`counter:${here}`))?.recovery?.commands ?? 0) >= 2);
  await cluster.host.stop();
  await cluster.start();
  assert.equal(cluster.host.partition(placeOf(`counter:${here}`))?.recovery?.commands, 0);
  assert.notEqual(stateHash(cluster.fold(`counter:${here}`)), hash, 'the new epoch is part of the state');
  assert.deepEqual(await cluster.query(`counter:${here}`, 'value'), [7, 3, [1, 2, 4]]);
  await cluster.host.stop();
});

test('a handler that throws costs its own record only, before and after a restart; offline replay agrees', async () => {
  const cluster = new Cluster();
  await cluster.start();
  const ref = 'rogue:r';
  const key = Array.from({ length: 99 }, (_, i) => `x${i}`).find(
    (name) => placeOf(`counter:${name}`) === placeOf(ref),
  ) as string;
  const answers = await cluster.ask(
    add(key, 1),
    rogue('changeThenThrow'),
    add(key, 2),
    rogue('callThrow', { to: 'r/2' }),
    add(key, 3),
  );
  assert.deepEqual(answers, [[1], 'internal', [3], 'internal', [6]]);
  assert.equal(await cluster.query(ref, 'value'), 0);
  assert.deepEqual(await cluster.ask(rogue('add', { amount: 5 })), [[5]]);
  await cluster.crash();
  await cluster.start();
  assert.equal(await cluster.query(ref, 'value'), 5);
  const { settings, head } = cluster.fold(ref);
  const offline = await replay({
    settings,
    log: await cluster.openLog(placeOf(ref)),
    store: await new MemoryCheckpoints().open(placeOf(ref)),
    until: head.sequence,
  });
  assert.equal(stateHash(offline), stateHash(cluster.fold(ref)));
  await cluster.host.stop();
});

test('a throw in a timer and in the receiver of a send harms nothing else', async () => {
  const cluster = new Cluster();
  await cluster.start();
  await cluster.ask(rogue('throwLater', { delayMs: 5 }), rogue('sendThrow', { to: 'other' }));
  await until(() => {
    const skipped = cluster.host.all.map(({ fold }) => [...fold.overlay.range('quarantine', new Uint8Array())].length);
    return skipped.reduce((sum, count) => sum + count, 0) === 2;
  });
  assert.deepEqual(await cluster.ask(rogue('add', { amount: 1 })), [[1]]);
  assert.ok(cluster.host.all.every(({ state }) => state === 'live'));
  await until(() => cluster.host.all.every(({ fold }) => fold.outbox.totalBytes === 0));
  await cluster.host.stop();
});

test('sends arrive exactly once, also when the sender dies before it knows that they arrived', async () => {
  const cluster = new Cluster();
  await cluster.start();
  await cluster.ask(add(here, 1_000));
  for (let round = 0; round < 5; round++) {
    const moves = Array.from({ length: 10 }, () => ({
      ref: `counter:${here}`,
      command: 'move',
      fields: { to: there, amount: 1 },
    }));
    await cluster.append(...moves);
    await pause();
    await cluster.crash();
    await cluster.start();
  }
  await until(async () => ((await cluster.query(`counter:${there}`, 'value')) as number[])[0] === 50);
  await until(() => cluster.fold(`counter:${here}`).outbox.totalBytes === 0);
  assert.equal(((await cluster.query(`counter:${there}`, 'value')) as number[])[1], 50, 'fifty changes, none twice');
  assert.equal(((await cluster.query(`counter:${here}`, 'value')) as number[])[0], 950);
  await cluster.host.stop();
});

test('timers fire once, also over a restart', async () => {
  const cluster = new Cluster();
  await cluster.start();
  const later = (delayMs: number) => ({ ref: `counter:${here}`, command: 'addLater', fields: { amount: 1, delayMs } });
  await cluster.ask(later(1), later(2), later(30));
  await cluster.crash();
  await cluster.start();
  await until(async () => ((await cluster.query(`counter:${here}`, 'value')) as number[])[0] === 3);
  assert.equal(cluster.fold(`counter:${here}`).timers.nextDueMs(), undefined);
  await cluster.host.stop();
});

test('webhooks: the result comes back as a command; after a crash an effect without a result is given out again', async () => {
  const cluster = new Cluster();
  const given: string[] = [];
  cluster.effects = {
    run: ({ id }) => {
      given.push(id);
      return new Promise(() => {});
    },
  };
  await cluster.start();
  await cluster.ask({ ref: `counter:${here}`, command: 'announce', fields: { url: 'http://127.0.0.1:9/' } });
  await until(() => given.length === 1);
  await cluster.crash();
  cluster.effects = {
    run: async ({ id }) => {
      given.push(id);
      return { outcome: 'failed', status: 500, body: 'no', attempts: 8 };
    },
  };
  await cluster.start();
  await until(() => cluster.fold(`counter:${here}`).outbox.effects(1).length === 0);
  assert.equal(given[0], given[1]);
  await cluster.host.stop();
});

test('a log that lost what was folded halts the partition with log_loss', async () => {
  const cluster = new Cluster();
  await cluster.start();
  cluster.server.save();
  await cluster.ask(add(here, 1));
  await cluster.host.stop();
  cluster.server.restore();
  await cluster.start();
  const beat = cluster.host.partition(placeOf(`counter:${here}`))?.beat();
  assert.equal(beat?.state, 'halted');
  assert.match(beat?.reason ?? '', /log_loss/);
  assert.equal(await cluster.query(`counter:${here}`, 'value'), 'partition_halted');
  await cluster.host.stop();
});

test('a recorded check that differs from the outputs halts the partition', async () => {
  const cluster = new Cluster();
  await cluster.start();
  for (let i = 0; i < 300; i++) await cluster.ask(add(here, 1));
  const partition = placeOf(`counter:${here}`);
  const { points, epoch } = cluster.fold(`counter:${here}`).head;
  const point = points.at(-1);
  assert.ok(point);
  const frame = encodeOwn([{ type: 'check', sequence: point.sequence, hash: point.hash ^ 1 }], epoch, 1);
  await (await cluster.openLog(partition)).append('own', frame);
  await until(() => cluster.host.partition(partition)?.state === 'halted');
  assert.match(cluster.host.partition(partition)?.beat().reason ?? '', /^diverged: /);
  await cluster.host.stop();
});

test('a record that the log says was skipped is left out, although its handler does not throw here', async () => {
  const cluster = new Cluster();
  await cluster.start();
  await cluster.ask(add(here, 1));
  await cluster.ask(add(here, 10));
  const { sequence, epoch } = cluster.fold(`counter:${here}`).head;
  const skip = encodeOwn([{ type: 'skip', sequence, index: 0, reason: 'elsewhere' }], epoch, 1);
  await (await cluster.openLog(placeOf(`counter:${here}`))).append('own', skip);
  await until(async () => ((await cluster.query(`counter:${here}`, 'value')) as number[])[0] === 1);
  assert.deepEqual(await cluster.ask(add(here, 2)), [[3]]);
  await cluster.host.stop();
});

test('own records of an older owner are dropped; a newer claim ends this owner', async () => {
  const cluster = new Cluster();
  await cluster.start();
  await cluster.ask(add(here, 1));
  const partition = placeOf(`counter:${here}`);
  const { sequence, epoch } = cluster.fold(`counter:${here}`).head;
  const log = await cluster.openLog(partition);
  await log.append('own', encodeOwn([{ type: 'skip', sequence, index: 0, reason: 'stale' }], epoch - 1, 1));
  assert.deepEqual(await cluster.ask(add(here, 1)), [[2]]);
  await log.append('epoch', encodeEpoch(epoch + 1, 1, 'h2'));
  await until(() => cluster.host.partition(partition)?.state === 'halted');
  await cluster.host.stop();
});

test('a full log: nothing is lost, and after trimming the partition can still be taken over', async () => {
  const cluster = new Cluster();
  const partition = placeOf(`counter:${here}`);
  cluster.logs.set(partition, cluster.log.open(partition, 1, { maxBytes: 200_000, replicas: 1 }));
  await cluster.start({ checkpointCommands: 50 as never, logMarginMessages: 0 as never });
  let accepted = 0;
  const fill = async () => {
    for (;;) {
      await cluster.append(...Array.from({ length: 20 }, () => add(here, 1)));
      accepted += 20;
    }
  };
  await assert.rejects(fill(), { code: 'log_full' });
  await until(async () => ((await cluster.query(`counter:${here}`, 'value')) as number[])[0] === accepted);
  await cluster.crash();
  await (await cluster.openLog(partition)).trim(2);
  await cluster.start();
  assert.deepEqual(((await cluster.query(`counter:${here}`, 'value')) as number[])[0], accepted);
  await cluster.host.stop();
});

test('between a throw and the fold taken anew nothing of the void one is seen, sent or kept', async () => {
  const cluster = new Cluster();
  await cluster.start({ checkpointCommands: 1 as never });
  const key = Array.from({ length: 99 }, (_, i) => `x${i}`).find(
    (name) => placeOf(`counter:${name}`) === placeOf('rogue:r'),
  ) as string;
  const far = Array.from({ length: 99 }, (_, i) => `y${i}`).find(
    (name) => placeOf(`counter:${name}`) !== placeOf('rogue:r'),
  ) as string;
  let open = () => {};
  cluster.gate = new Promise((resolve) => {
    open = resolve;
  });
  await cluster.ask(add(key, 100)); // Begins a checkpoint, which stays at the gate: the rewind has to wait for it.
  const move = (amount: number) => ({ ref: `counter:${key}`, command: 'move', fields: { to: far, amount } });
  const moved = cluster.append(move(5));
  const thrown = cluster.append(rogue('sendThenThrow', { to: far, amount: 900 }));
  await Promise.all([moved, thrown]);
  for (let turn = 0; turn < 50; turn++) await pause();
  const seen = cluster.query('rogue:r', 'value');
  for (let turn = 0; turn < 50; turn++) await pause();
  cluster.gate = undefined;
  open();
  assert.equal(await seen, 0, 'the question waits for the fold without the record');
  assert.deepEqual(await cluster.ask(move(7)), [[88]]);
  await until(async () => ((await cluster.query(`counter:${far}`, 'value')) as number[])[1] === 2);
  assert.deepEqual(await cluster.query(`counter:${far}`, 'value'), [12, 2, [5, 7]]);
  await cluster.host.stop();
});

test('a stop between a throw and the fold taken anew keeps nothing of the void one', async () => {
  const cluster = new Cluster();
  await cluster.start({ checkpointCommands: 1 as never });
  let open = () => {};
  cluster.gate = new Promise((resolve) => {
    open = resolve;
  });
  await cluster.ask(rogue('add', { amount: 3 }));
  await cluster.append(rogue('changeThenThrow'));
  for (let turn = 0; turn < 50; turn++) await pause();
  const stopped = cluster.host.stop();
  cluster.gate = undefined;
  open();
  await stopped;
  await cluster.start();
  assert.equal(await cluster.query('rogue:r', 'value'), 3);
  await cluster.host.stop();
});
