/** The kind whose events are fanned out: what is told it, it tells everyone, as an event of 100 bytes. */
import { defineActor } from '../../actors/definition.ts';
import { int, text } from '../../protocol/schema.ts';

/** With the array's and the text's header the event has 100 bytes. */
export const NOTE_BYTES = 97;

const note = text(NOTE_BYTES);

export const beacon = defineActor({
  kind: 'beacon',
  group: 'main',
  placement: (key) => key,
  commands: {
    tell: { roles: ['user'], fields: { note }, reply: {} },
    show: { roles: ['user'], fields: { note }, reply: {} },
  },
  queries: { shown: { fields: {}, reply: { note } } },
  topics: { told: { table: 'told' }, shown: { event: { note }, lossy: 'shown' } },
  tables: { told: { key: { offset: int(1, Number.MAX_SAFE_INTEGER) }, row: { note } } },
  initial: () => ({ note: '' }),
  handle: {
    tell(state, fields, ctx) {
      state.note = fields.note;
      ctx.publish('told', { note: fields.note });
      return {};
    },
    show(state, fields, ctx) {
      state.note = fields.note;
      ctx.publish('shown', { note: fields.note });
      return {};
    },
  },
  answer: { shown: (state) => ({ note: state.note }) },
  snapshot: {
    version: 1,
    save: (state) => [state.note],
    load: ([saved]: [string]) => ({ note: saved }),
    migrate: {},
  },
});
