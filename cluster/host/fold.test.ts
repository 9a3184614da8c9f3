import assert from 'node:assert/strict';
import { test } from 'node:test';
import { RECORD_IDEMPOTENT } from '../../protocol/record.ts';
import { DROPPED, decodeFailure, FAILED, REPLY, readReplyBatch } from '../bus/messages.ts';
import type { CheckpointStore } from '../checkpoint/checkpoint.ts';
import { MemoryCheckpoints } from '../checkpoint/memory-checkpoints.ts';
import { type CommandInput, commandFrame, sessionBytes } from './command-frames.ts';
import { Fold, HandlerFault } from './fold.ts';
import { takeCheckpoint } from './fold-checkpoint.ts';
import { compileKinds } from './kinds.ts';
import { stateHash } from './state-hash.ts';
import { TEST_KINDS } from './test-kinds.ts';

const kinds = compileKinds(TEST_KINDS);
const START_US = 1_700_000_000_000_000;
const settings = {
  partition: 'main-0',
  groups: { main: 1 },
  kinds,
  generation: 1,
  traps: true,
  sessionHorizonMs: 60_000,
};

type Reply = { slot: number; number: number; status: number; value: unknown };

/** Feeds frames to a fold as its log would. */
class Driver {
  fold: Fold;
  readonly messages: { sequence: number; timeUs: number; subject: string; data: Uint8Array }[] = [];
  readonly store: CheckpointStore;
  frameNumber = 0;
  nowUs = START_US;

  constructor(store: CheckpointStore, skips: string[] = []) {
    this.store = store;
    this.fold = new Fold(settings, store, skips);
  }

  send(
    inputs: CommandInput[],
    options: { frameNumber?: number; incarnation?: number; generation?: number } = {},
  ): Reply[] {
    const frameNumber = options.frameNumber ?? ++this.frameNumber;
    return this.message('cmd.e1', commandFrame(kinds, inputs, { ...options, frameNumber }));
  }

  message(token: string, data: Uint8Array): Reply[] {
    this.nowUs += 1_000;
    const message = { sequence: this.fold.head.sequence + 1, timeUs: this.nowUs, subject: `p.main-0.${token}`, data };
    this.messages.push(message);
    this.fold.fold(message);
    return repliesOf(this.fold);
  }
}

function repliesOf(fold: Fold): Reply[] {
  const found: Reply[] = [];
  const seen = (bytes: Uint8Array, slot: number, number: number, status: number, start: number, end: number) => {
    const body = bytes.subarray(start, end);
    const value = status === REPLY ? replyOf(body) : status === FAILED ? decodeFailure(body).error : undefined;
    found.push({ slot, number, status, value });
  };
  for (const batch of fold.replies) readReplyBatch(batch, () => {}, seen);
  return found;
}

const addReply = kinds.get('counter')?.commands.get('add')?.reply;

/** The reply of `add`; other commands' replies do not matter here. */
function replyOf(body: Uint8Array): unknown {
  try {
    return addReply?.decode(body);
  } catch {
    return 'another reply';
  }
}

async function driver(): Promise<Driver> {
  return new Driver(await new MemoryCheckpoints().open('main-0'));
}

const session = sessionBytes(START_US / 1_000, 7);
const add = (number: number, amount: number, low = number): CommandInput => ({
  ref: 'counter:a',
  command: 'add',
  fields: { amount, note: 'n' },
  number,
  low,
  session,
});

test('commands change state and are answered with the record of their session', async () => {
  const it = await driver();
  assert.deepEqual(it.send([add(1, 5), add(2, 6, 1)]), [
    { slot: 1, number: 1, status: REPLY, value: { value: 5 } },
    { slot: 1, number: 2, status: REPLY, value: { value: 11 } },
  ]);
  assert.equal(it.fold.head.sequence, 1);
});

test('a number seen before gives the first reply again; one below the lowest unanswered is dropped', async () => {
  const it = await driver();
  it.send([add(1, 5)]);
  assert.deepEqual(it.send([add(1, 5, 1)])[0]?.value, { value: 5 });
  assert.deepEqual(it.send([add(2, 1, 2)])[0]?.value, { value: 6 });
  assert.equal(it.send([add(1, 5, 1)])[0]?.status, DROPPED);
  assert.deepEqual(it.send([add(3, 0, 2)])[0]?.value, { value: 6 });
});

test('more than 256 numbers in flight are refused, and not kept', async () => {
  const it = await driver();
  it.send([add(1, 1)]);
  assert.equal(it.send([add(257, 1, 1)])[0]?.value, 'too_many_in_flight');
  assert.deepEqual(it.send([add(256, 1, 1)])[0]?.value, { value: 2 });
  assert.deepEqual(it.send([add(257, 1, 2)])[0]?.value, { value: 3 });
});

test('a session older than the horizon that is not known was forgotten: session_expired, not executed', async () => {
  const it = await driver();
  const old = { ...add(1, 1), session: sessionBytes(START_US / 1_000 - 61_000, 8) };
  assert.equal(it.send([old])[0]?.value, 'session_expired');
  it.send([add(1, 1)]);
  it.nowUs += 61_000_000;
  assert.equal(it.send([add(2, 1)])[0]?.value, 'session_expired');
});

test('an idempotency key gives the first answer again, and refuses another body', async () => {
  const it = await driver();
  const once = { ...add(1, 3), flags: RECORD_IDEMPOTENT };
  assert.deepEqual(it.send([once])[0]?.value, { value: 3 });
  assert.deepEqual(it.send([once])[0]?.value, { value: 3 });
  assert.equal(it.send([{ ...add(1, 4), flags: RECORD_IDEMPOTENT }])[0]?.value, 'idempotency_mismatch');
  it.nowUs += 61_000_000;
  assert.deepEqual(it.send([once])[0]?.value, { value: 6 });
});

test('frames count only in order: duplicates, gaps, retired incarnations and other generations are dropped', async () => {
  const it = await driver();
  assert.equal(it.send([add(1, 1)]).length, 1);
  assert.equal(it.send([add(2, 1)], { frameNumber: 1 }).length, 0);
  assert.equal(it.send([add(2, 1)], { frameNumber: 3 }).length, 0);
  assert.equal(it.send([add(2, 1)], { frameNumber: 2, generation: 2 }).length, 0);
  assert.equal(it.send([add(2, 1)], { frameNumber: 1, incarnation: 2 }).length, 1);
  assert.equal(it.send([add(3, 1)], { frameNumber: 2, incarnation: 1 }).length, 0);
  assert.equal(it.fold.counters.staleFrames, 4);
});

test('junk in the log is skipped and counted; time never steps back', async () => {
  const it = await driver();
  it.message('cmd.e1', Buffer.from('junk'));
  assert.equal(it.fold.counters.malformedFrames, 1);
  const before = it.fold.head.nowMs;
  it.nowUs -= 5_000_000;
  it.send([add(1, 1)]);
  assert.equal(it.fold.head.nowMs, before);
});

test('refusals: unknown kind, unknown command by id, bounds, a system command from outside', async () => {
  const it = await driver();
  const refused = it.send([{ ...add(1, 1), command: 'due', fields: { amount: 1 } }]);
  assert.equal(refused[0]?.value, 'forbidden');
  assert.equal(it.fold.actors.references().length, 0, 'a refusal makes no actor');
});

test('a handler that throws voids the fold; without the record the rest is as if it had been refused', async () => {
  const it = await driver();
  it.send([add(1, 5)]);
  const bad: CommandInput = { ref: 'rogue:r', command: 'changeThenThrow', fields: {}, number: 2, low: 1, session };
  assert.throws(() => it.send([add(3, 1, 1), bad, add(4, 1, 1)]), HandlerFault);
  const again = new Driver(it.store, ['2.1']);
  for (const message of it.messages) {
    again.nowUs = message.timeUs;
    again.fold.fold(message);
  }
  const replies = repliesOf(again.fold);
  assert.deepEqual(
    replies.map(({ value }) => value),
    [{ value: 6 }, 'internal', { value: 7 }],
  );
  assert.equal([...again.fold.overlay.range('quarantine', new Uint8Array())].length, 1);
});

test('other faults: refusing after a change, the clock, a wrong reply, a call that throws', async () => {
  for (const command of ['changeThenRefuse', 'readClock', 'wrongReply', 'callThrow']) {
    const it = await driver();
    const fields = command === 'callThrow' ? { to: 'r/2' } : {};
    const input: CommandInput = { ref: 'rogue:r', command, fields, number: 1, session };
    assert.throws(() => it.send([input]), HandlerFault, command);
  }
});

test('a call changes both actors in one record; its refusal is a value', async () => {
  const it = await driver();
  const call = (number: number, command: string, fields: object): CommandInput => ({
    ref: 'rogue:r',
    command,
    fields,
    number,
    session,
  });
  assert.deepEqual(it.send([call(1, 'callAdd', { to: 'r/2', amount: 4 })])[0]?.value, { value: 4 });
  assert.equal(it.send([call(2, 'callRefused', { to: 'r/2' })])[0]?.value, 'refused');
  assert.throws(() => it.send([call(3, 'callAdd', { to: 'other', amount: 1 })]), HandlerFault);
});

test('two folds of one log are equal, also with a checkpoint and a fresh start between any two messages', async () => {
  const it = await driver();
  let seed = 42;
  const draw = (n: number) => {
    seed = (Math.imul(seed, 1_103_515_245) + 12_345) >>> 0;
    return (seed >>> 8) % n;
  };
  for (let i = 1; i <= 300; i++) it.send([randomCommand(i, draw)]);
  const straight = stateHash(it.fold);
  const disk = new MemoryCheckpoints();
  let store = await disk.open('main-0');
  let fold = new Fold(settings, store);
  for (const message of it.messages) {
    fold.fold(message);
    if (draw(4) > 0) continue;
    await takeCheckpoint(
      fold,
      () => 0,
      async () => {},
    );
    if (draw(2) > 0) fold.actors.passivate(1);
    if (draw(2) > 0) continue;
    await store.close();
    store = await disk.open('main-0');
    fold = new Fold(settings, store);
  }
  assert.equal(stateHash(fold), straight, 'seed 42');
});

function randomCommand(number: number, draw: (n: number) => number): CommandInput {
  const ref = `counter:${'abc'[draw(3)]}`;
  const base = { ref, number, low: Math.max(1, number - draw(10)), session };
  switch (draw(5)) {
    case 0:
      return { ...base, command: 'addOnce', fields: { amount: draw(100), note: `n${draw(20)}` } };
    case 1:
      return { ...base, command: 'move', fields: { to: `${'abc'[draw(3)]}`, amount: 1 + draw(50) } };
    case 2:
      return { ...base, command: 'addLater', fields: { amount: draw(9), delayMs: draw(1_000) } };
    case 3:
      return { ...base, command: 'announce', fields: { url: 'http://127.0.0.1:1/x' } };
    default:
      return { ...base, command: 'add', fields: { amount: draw(100), note: 'note' } };
  }
}
