/** `troupe tail <topic|partition>`: a topic's events as clients get them, or the records of a partition's log. */
import { once } from 'node:events';
import { type Command, InvalidArgumentError } from 'commander';
import { compileKinds } from '../../cluster/host/kinds.ts';
import { codecOf } from '../../protocol/client/kind-codec.ts';
import { actorNamed, entryNamed } from '../actor-reference.ts';
import { loadKinds } from '../all-kinds.ts';
import { locateDataFolder } from '../data-folder.ts';
import { Failure } from '../failure.ts';
import { type RecordView, viewsOf } from '../frame-text.ts';
import { openLogs } from '../nats-access.ts';
import { type AccessFlags, accessOf, addAccessOptions, connectClient } from '../server-access.ts';

type TailFlags = AccessFlags & { readonly from?: number; readonly last: number; readonly follow: boolean };

const PARTITION = /^[a-z][a-z0-9]{0,15}-\d{1,4}$/;
const DEFAULT_LAST = 10;

export function define(command: Command): void {
  addAccessOptions(command.argument('<what>', 'a topic as kind:key/topic, or a partition as main-3'))
    .option(
      '--from <offset>',
      'topic: from the event after this offset on (0: all that are kept); partition: from this sequence on',
      countOf,
    )
    .option('--last <count>', 'partition: begin so many messages before the end', countOf, DEFAULT_LAST)
    .option('--no-follow', 'partition: end at the end')
    .action(run);
}

function countOf(text: string): number {
  if (!/^\d{1,15}$/.test(text)) throw new InvalidArgumentError('A natural number.');
  return Number(text);
}

async function run(what: string, flags: TailFlags): Promise<void> {
  if (PARTITION.test(what)) return tailPartition(what, flags);
  await tailTopic(what, flags);
}

async function tailTopic(what: string, flags: TailFlags): Promise<void> {
  const slash = what.lastIndexOf('/');
  if (slash < 0)
    throw new Failure(
      `"${what}" is neither a topic nor a partition`,
      ['A topic is kind:key/topic, a partition group-number: book:DEMO/ACME/trades, main-3'],
      'bad_request',
    );
  const { kind, key, ref } = await actorNamed(what.slice(0, slash));
  const topic = what.slice(slash + 1);
  entryNamed(kind.topics, kind.kind, 'topic', topic);
  const codec = codecOf(kind).topic(topic);
  const client = await connectClient(accessOf(flags));
  const show = (type: string, offset: number, value: unknown) =>
    console.log(
      flags.json
        ? JSON.stringify({ topic: `${ref}/${topic}`, type, offset, value })
        : `${offset}${type === 'event' ? '' : ` ${type}`} ${JSON.stringify(value)}`,
    );
  try {
    await new Promise<void>((resolve, reject) => {
      process.once('SIGINT', () => resolve());
      client.actor(kind, key).subscribe(topic, {
        ...(flags.from !== undefined && { from: flags.from }),
        onSnapshot: (snapshot, offset) => show('snapshot', offset, codec.snapshot?.toJson(snapshot)),
        onEvent: (event, offset) => show('event', offset, codec.event.toJson(event)),
        onGap: ({ after, next }) => show('gap', next, { after, next }),
        onEnded: reject,
      });
    });
  } finally {
    client.close();
  }
}

async function tailPartition(partition: string, flags: TailFlags): Promise<void> {
  const kinds = compileKinds(await loadKinds());
  const logs = await openLogs(locateDataFolder(flags, process.env));
  try {
    const { log } = await logs.open(partition);
    const { first, last } = await log.state();
    const from = Math.max(first, flags.from ?? last - flags.last + 1);
    if (!flags.follow && from > last) return;
    await new Promise<void>((resolve, reject) => {
      const reader = log.read(
        from,
        (message) => {
          for (const view of viewsOf(message, kinds)) console.log(flags.json ? JSON.stringify(view) : textOf(view));
          if (!flags.follow && message.sequence >= last) resolve();
        },
        reject,
      );
      void once(process, 'SIGINT').then(() => resolve());
      void reader;
    });
  } finally {
    await logs.close();
  }
}

function textOf({ at, time, from, type, actor, command, principal, number, body }: RecordView): string {
  const what = [type, actor, command, principal && `by ${principal}`, number !== undefined && `no. ${number}`].filter(
    Boolean,
  );
  return `${at}  ${time}  ${from}  ${what.join(' ')}  ${JSON.stringify(body)}`;
}
