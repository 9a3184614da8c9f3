/**
 * A sample of an actor, and the yardstick of the benchmarks: a counter with a history. It shows each thing a handler may do.
 */

import { days, int, list, record, text } from '../../protocol/schema.ts';
import { defineActor, reject, WEBHOOK_RESULT } from '../definition.ts';

const MAX_VALUE = Number.MAX_SAFE_INTEGER;
const HISTORY_LENGTH = 5; // Amounts that the snapshot query shows.

type Counter = { value: number; changes: number; recent: number[] };

const view = {
  value: int(-MAX_VALUE, MAX_VALUE),
  changes: int(0, MAX_VALUE),
  recent: list(int(-1_000_000, 1_000_000), HISTORY_LENGTH),
};

function change(counter: Counter, amount: number): void {
  counter.value += amount;
  counter.changes++;
  counter.recent.push(amount);
  if (counter.recent.length > HISTORY_LENGTH) counter.recent.shift();
}

export const counter = defineActor({
  kind: 'counter',
  group: 'main',
  about: 'A number that remembers how it came about.',
  placement: (key) => key,
  commands: {
    add: {
      about: 'Adds an amount; the note is for the reader of the log.',
      roles: ['user'],
      fields: { amount: int(-1_000_000, 1_000_000), note: text(96) },
      reply: { value: int(-MAX_VALUE, MAX_VALUE) },
    },
    addOnce: {
      about: 'Adds an amount unless this note was used within the last day.',
      roles: ['user'],
      fields: { amount: int(-1_000_000, 1_000_000), note: text(64) },
      reply: { value: int(-MAX_VALUE, MAX_VALUE) },
    },
    move: {
      about: 'Takes an amount away and sends it to another counter.',
      roles: ['user'],
      fields: { to: text(128, { minBytes: 1, pattern: '[ -~]+' }), amount: int(1, 1_000_000) },
      reply: { value: int(-MAX_VALUE, MAX_VALUE) },
    },
    receive: { roles: ['system'], fields: { amount: int(1, 1_000_000) }, reply: {} },
    addLater: {
      about: 'Adds an amount after a delay.',
      roles: ['user'],
      fields: { amount: int(-1_000_000, 1_000_000), delayMs: int(0, days(1)) },
      reply: { dueMs: int(0, MAX_VALUE) },
    },
    due: { roles: ['system'], fields: { amount: int(-1_000_000, 1_000_000) }, reply: {} },
    announce: {
      about: 'Tells a web address the value.',
      roles: ['user'],
      fields: { url: text(500) },
      reply: { id: text(26) },
    },
    announced: { roles: ['system'], fields: WEBHOOK_RESULT, reply: {} },
  },
  queries: { value: { about: 'The value now.', fields: {}, reply: view } },
  topics: {
    value: { about: 'The value whenever it changes.', event: record(view), lossy: 'value' },
    history: { about: 'Every change, in order.', table: 'history' },
  },
  tables: {
    history: {
      key: { offset: int(1, MAX_VALUE) },
      row: { amount: int(-1_000_000, 1_000_000), value: int(-MAX_VALUE, MAX_VALUE) },
    },
    notes: { key: { note: text(64) }, row: {}, expireAfter: days(1) },
    answers: { key: { id: text(26) }, row: { status: int(0, 599), outcome: text(8) } },
  },
  rejections: {
    too_little: 'The counter holds less than that.',
    note_used: 'This note was used before.',
  },
  initial: (): Counter => ({ value: 0, changes: 0, recent: [] }),

  handle: {
    add(state, { amount }) {
      change(state, amount);
      return { value: state.value };
    },
    addOnce(state, { amount, note }, ctx) {
      if (ctx.table.notes.has({ note })) return reject('note_used');
      ctx.table.notes.put({ note }, {});
      change(state, amount);
      ctx.publish('history', { amount, value: state.value });
      ctx.publish('value', { ...state });
      return { value: state.value };
    },
    move(state, { to, amount }, ctx) {
      if (state.value < amount) return reject('too_little');
      change(state, -amount);
      ctx.send(`counter:${to}`, 'receive', { amount });
      ctx.publish('history', { amount: -amount, value: state.value });
      return { value: state.value };
    },
    receive(state, { amount }, ctx) {
      change(state, amount);
      ctx.publish('history', { amount, value: state.value });
      return {};
    },
    addLater(_, { amount, delayMs }, ctx) {
      const dueMs = ctx.now + delayMs;
      ctx.setTimer(ctx.id(), dueMs, 'due', { amount });
      return { dueMs };
    },
    due(state, { amount }, ctx) {
      change(state, amount);
      ctx.publish('value', { ...state });
      return {};
    },
    announce(state, { url }, ctx) {
      return { id: ctx.webhook({ url, body: `{"value":${state.value}}` }, 'announced') };
    },
    announced(_, { id, status, outcome }, ctx) {
      ctx.table.answers.put({ id }, { status, outcome });
      return {};
    },
  },

  answer: { value: ({ value, changes, recent }) => ({ value, changes, recent: [...recent] }) },

  snapshot: {
    version: 1,
    save: ({ value, changes, recent }) => [value, changes, [...recent]],
    load: ([value, changes, recent]: [number, number, number[]]) => ({ value, changes, recent: [...recent] }),
    migrate: {},
  },
});
