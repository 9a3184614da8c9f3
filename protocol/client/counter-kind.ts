/** For tests: the interface of a small kind of actor with one of everything, and an edge double that plays it. */
import { choice, int, list, optional, text } from '../schema.ts';
import { shapeOf, shapeOfField } from '../shape.ts';
import type { Behaviour, Outcome } from './edge-double.ts';

export const counter = {
  kind: 'counter',
  commands: {
    add: {
      roles: ['user'],
      fields: { amount: int(1, 1_000_000), note: optional(text(256)) },
      reply: { total: int(0, 2 ** 40) },
    },
    jump: {
      roles: ['user'],
      fields: { amount: int(1, 1_000_000), side: choice('up', 'down') },
      reply: {},
      binary: true,
    },
  },
  queries: {
    total: { fields: {}, reply: int(0, 2 ** 40) },
    history: { fields: { count: int(1, 100) }, reply: { totals: list(int(0, 2 ** 40), 100) } },
  },
  topics: {
    added: { table: 'added' },
    level: { event: { total: int(0, 2 ** 40) }, lossy: 'total' },
  },
  tables: { added: { key: { offset: int(1, 2 ** 40) }, row: { amount: int(1, 1_000_000) } } },
  rejections: { too_much: 'The counter would overflow.' },
} as const;

const added = shapeOf(counter.commands.add.fields);
const addReply = shapeOf(counter.commands.add.reply);
const totalShape = shapeOfField(counter.queries.total.reply);
const history = shapeOf(counter.queries.history.reply);

export class CounterActor implements Behaviour {
  total = 0;
  amounts: number[] = [];
  /** Comes before the command is executed: an outcome to give instead, or null to go on. */
  before: (call: Parameters<Behaviour['command']>[0]) => Outcome | undefined | null = () => null;
  /** The sequence that the last query had to wait for. */
  asked: number | undefined;

  command(call: Parameters<Behaviour['command']>[0]): Outcome | undefined {
    const early = this.before(call);
    if (early !== null) return early;
    if (call.name === 'jump') return shapeOf({}).encode({});
    const { amount } = added.decode(call.body);
    if (amount > 999_000) return { error: 'too_much', message: 'no room' };
    this.total += amount;
    this.amounts.push(amount);
    return addReply.encode({ total: this.total });
  }

  query(call: Parameters<Behaviour['query']>[0]): Outcome {
    this.asked = call.minSequence;
    if (call.name === 'history') return history.encode({ totals: this.amounts.slice(0, 100) });
    return this.snapshot('', 'level') ?? { error: 'internal' };
  }

  snapshot(_ref: string, topic: string): Uint8Array | undefined {
    return topic === 'level' ? totalShape.encode(this.total) : undefined;
  }
}
