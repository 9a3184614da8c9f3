/** The sample's tests, and a sample of tests: what a kind answers, publishes, keeps in tables, sends, and asks for later. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { encodeOwn } from '../../cluster/host/own-record.ts';
import { TestFold } from '../test-fold.ts';
import { counter } from './counter.ts';

const REF = 'counter:a';

test('adds, and remembers the newest amounts', async () => {
  const it = await TestFold.of([counter]);
  assert.deepEqual(it.ask(REF, 'add', { amount: 5, note: '' }), { value: 5 });
  for (let amount = 1; amount <= 6; amount++) it.ask(REF, 'add', { amount, note: '' });
  assert.deepEqual(it.query(REF, 'value'), { value: 26, changes: 7, recent: [2, 3, 4, 5, 6] });
});

test('a note counts once a day', async () => {
  const it = await TestFold.of([counter]);
  it.ask(REF, 'addOnce', { amount: 1, note: 'n' });
  assert.deepEqual(it.send(REF, 'addOnce', { amount: 1, note: 'n' }), {
    refused: 'note_used',
    message: 'This note was used before.',
  });
  it.nowUs += 25 * 3_600_000_000;
  assert.deepEqual(it.ask(REF, 'addOnce', { amount: 1, note: 'n' }), { value: 2 });
});

test('publishes the value and its history', async () => {
  const it = await TestFold.of([counter]);
  it.ask(REF, 'addOnce', { amount: 7, note: 'n' });
  assert.deepEqual(it.published(REF), [
    { topic: 'history', offset: 1, event: { amount: 7, value: 7 } },
    { topic: 'value', offset: 1, event: { value: 7, changes: 1, recent: [7] } },
  ]);
});

test('a move refuses what is not there, and sends what is', async () => {
  const it = await TestFold.of([counter]);
  assert.equal(it.send(REF, 'move', { to: 'b', amount: 1 }).refused, 'too_little');
  it.ask(REF, 'add', { amount: 3, note: '' });
  assert.deepEqual(it.ask(REF, 'move', { to: 'b', amount: 2 }), { value: 1 });
  assert.equal(it.fold.outbox.pending('main-0', 0, 1_000).length, 1);
});

test('a timer adds later', async () => {
  const it = await TestFold.of([counter]);
  it.ask(REF, 'addLater', { amount: 4, delayMs: 1_000 });
  it.nowUs += 2_000_000;
  const [due] = it.fold.timers.due(it.nowUs / 1_000, 10);
  assert.ok(due);
  it.feed('own', encodeOwn([{ type: 'timer', ...due }], 0, 1));
  assert.equal(it.query<{ value: number }>(REF, 'value').value, 4);
});

test('an announcement asks for a webhook and keeps its outcome', async () => {
  const it = await TestFold.of([counter]);
  const { id } = it.ask<{ id: string }>(REF, 'announce', { url: 'http://127.0.0.1:1/' });
  assert.equal(it.fold.outbox.effect(id)?.request.body, '{"value":0}');
  it.feed('own', encodeOwn([{ type: 'effect', id, outcome: 'done', status: 204, body: '', attempts: 2 }], 0, 1));
  assert.equal(it.fold.outbox.effect(id), undefined);
  const { answers } = it.fold.tables(it.fold.actors.get(REF, 0));
  assert.deepEqual(answers?.get({ id }), { status: 204, outcome: 'done' });
});
