/** What the compiler must infer and refuse. Nothing here runs but the definition: the assertions are made while compiling. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { bool, choice, int, list, map, optional, record, text } from '../schema.ts';
import type { ActorHandle, Client, CommandReply, TopicEvent, TopicSnapshot } from './client.ts';
import type { counter } from './counter-kind.ts';

/** Exactly the same type, in both directions. */
type Same<A, B> = (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : false;

function holds<T extends true>(..._: T[]): void {}

const shop = {
  kind: 'shop',
  commands: {
    order: {
      roles: ['user'],
      fields: { items: list(record({ name: text(64), count: int(1, 99) }), 10), express: optional(bool()) },
      reply: { id: text(26), state: choice('open', 'done') },
    },
  },
  queries: {
    stock: { fields: { name: text(64) }, reply: map(int(0, 1_000), 100) },
  },
  topics: {
    orders: { table: 'orders' },
    stock: { event: { name: text(64), left: int(0, 1_000) }, lossy: 'stock' },
  },
  tables: { orders: { key: { offset: int(1, 2 ** 40) }, row: { id: text(26), total: int(0, 2 ** 40) } } },
  rejections: { sold_out: 'Nothing is left.' },
} as const;

type Shop = typeof shop;

/** Never called: its body must compile, and each marked line must not. */
async function calls(client: Client): Promise<void> {
  const handle = client.actor(shop, 'main');
  holds<Same<typeof handle, ActorHandle<Shop>>>();
  const reply = await handle.command('order', { items: [{ name: 'tea', count: 2 }] });
  holds<Same<typeof reply, { id: string; state: 'open' | 'done' }>>();
  const stock = await handle.query('stock', { name: 'tea' });
  holds<Same<typeof stock, Map<string, number>>>();
  handle.subscribe('orders', { onEvent: ({ id, total }) => void [id.length, total.toFixed()] });
  handle.subscribe('stock', { onSnapshot: (all) => all.get('tea'), onEvent: ({ left }) => left.toFixed() });
  await handle.command('order', { items: [], express: true }, { timeoutMs: 5 });

  // @ts-expect-error no such command
  await handle.command('pay', {});
  // @ts-expect-error a field is missing
  await handle.command('order', {});
  // @ts-expect-error a field has the wrong type
  await handle.command('order', { items: [{ name: 'tea', count: '2' }] });
  // @ts-expect-error an unknown field
  await handle.command('order', { items: [], gift: true });
  // @ts-expect-error no such query
  await handle.query('orders', {});
  // @ts-expect-error no such topic
  handle.subscribe('prices', { onEvent: () => {} });
  // @ts-expect-error the event has no such field
  handle.subscribe('orders', { onEvent: ({ left }) => left });
}

test('types are inferred from the interface that is passed', () => {
  holds<Same<CommandReply<Shop, 'order'>, { id: string; state: 'open' | 'done' }>>();
  holds<Same<TopicEvent<Shop, 'orders'>, { id: string; total: number }>>();
  holds<Same<TopicEvent<Shop, 'stock'>, { name: string; left: number }>>();
  holds<Same<TopicSnapshot<Shop, 'stock'>, Map<string, number>>>();
  holds<Same<TopicSnapshot<Shop, 'orders'>, never>>();
  holds<Same<TopicSnapshot<typeof counter, 'level'>, number>>();
  assert.equal(typeof calls, 'function');
});
