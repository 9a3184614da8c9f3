/** Kinds for tests of the machine: what a well-behaved kind never does. */
import { type ActorDefinition, defineActor, isRejection, reject } from '../../actors/definition.ts';
import { counter } from '../../actors/sample/counter.ts';
import { int, text } from '../../protocol/schema.ts';

const amount = int(-1_000_000, 1_000_000);
const MAX_CHARACTERS = 50_000; // An answer that fills a reader's queue soon.
const value = int(Number.MIN_SAFE_INTEGER, Number.MAX_SAFE_INTEGER);

/** Throws, refuses too late, reads clocks, calls others of its placement key (the part of the key before '/'). */
export const rogue = defineActor({
  kind: 'rogue',
  group: 'main',
  placement: (key) => key.split('/')[0] as string,
  commands: {
    add: { roles: ['user'], fields: { amount }, reply: { value } },
    changeThenThrow: { roles: ['user'], fields: {}, reply: {} },
    sendThenThrow: { roles: ['user'], fields: { to: text(128), amount: int(1, 1_000) }, reply: {} },
    changeThenRefuse: { roles: ['user'], fields: {}, reply: {} },
    readClock: { roles: ['user'], fields: {}, reply: {} },
    wrongReply: { roles: ['user'], fields: {}, reply: { value: int(0, 1) } },
    callAdd: { roles: ['user'], fields: { to: text(128), amount }, reply: { value } },
    callThrow: { roles: ['user'], fields: { to: text(128) }, reply: {} },
    callRefused: { roles: ['user'], fields: { to: text(128) }, reply: {} },
    refuse: { roles: ['user'], fields: {}, reply: {} },
    throwLater: { roles: ['user'], fields: { delayMs: int(0, 1_000_000) }, reply: {} },
    sendThrow: { roles: ['user'], fields: { to: text(128) }, reply: {} },
    explode: { roles: ['system'], fields: {}, reply: {} },
    draw: { roles: ['user'], fields: {}, reply: { id: text(26), draw: int(0, 1_000_000) } },
  },
  queries: {
    value: { fields: {}, reply: value },
    long: { fields: { characters: int(0, MAX_CHARACTERS) }, reply: text(MAX_CHARACTERS) },
  },
  rejections: { refused: 'No.' },
  initial: () => ({ value: 0 }),
  handle: {
    add(state, fields) {
      state.value += fields.amount;
      return { value: state.value };
    },
    changeThenThrow(state) {
      state.value = -1;
      throw new Error('after a change');
    },
    sendThenThrow(state, { to, amount: by }, ctx) {
      state.value = -1;
      ctx.send(`counter:${to}`, 'receive', { amount: by });
      throw new Error('after a send');
    },
    changeThenRefuse(state, _, ctx) {
      state.value = -1;
      ctx.setTimer('t', ctx.now, 'explode', {});
      return reject('refused');
    },
    readClock() {
      return { at: Date.now() };
    },
    wrongReply: () => ({ value: 2 }),
    callAdd(state, { to, amount: by }, ctx) {
      const answer = ctx.call(`rogue:${to}`, 'add', { amount: by });
      if (isRejection(answer)) return answer;
      state.value++;
      return answer as { value: number };
    },
    callThrow(state, { to }, ctx) {
      state.value = -1;
      ctx.call(`rogue:${to}`, 'changeThenThrow', {});
      return {};
    },
    callRefused(state, { to }, ctx) {
      const answer = ctx.call(`rogue:${to}`, 'refuse', {});
      if (isRejection(answer)) return reject('refused');
      state.value = -1;
      return {};
    },
    refuse: () => reject('refused'),
    throwLater(_, { delayMs }, ctx) {
      ctx.setTimer('boom', ctx.now + delayMs, 'explode', {});
      return {};
    },
    sendThrow(_, { to }, ctx) {
      ctx.send(`rogue:${to}`, 'explode', {});
      return {};
    },
    explode() {
      throw new Error('as asked');
    },
    draw: (_, __, ctx) => ({ id: ctx.id(), draw: Math.floor(ctx.random() * 1_000_000) }),
  },
  answer: { value: (state) => state.value, long: (_, { characters }) => 'x'.repeat(characters) },
  snapshot: {
    version: 1,
    save: (state) => state.value,
    load: (saved: number) => ({ value: saved }),
    migrate: {},
  },
});

export const TEST_KINDS = [counter, rogue] as unknown as readonly ActorDefinition[];
