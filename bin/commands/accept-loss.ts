/** `troupe accept-loss <partition>`: after a log was lost, goes on from the checkpoint in a new generation. */
import { readFileSync } from 'node:fs';
import type { Command } from 'commander';
import { NatsBus } from '../../cluster/bus/nats-bus.ts';
import { operationsOf } from '../../cluster/bus/subjects.ts';
import type { AcceptedLoss } from '../../cluster/host/accept-loss.ts';
import { connectToNats } from '../../cluster/log/nats-connection.ts';
import { pack, unpack } from '../../protocol/msgpack.ts';
import { locateDataFolder } from '../data-folder.ts';
import { Failure } from '../failure.ts';
import { grouped, print } from '../output.ts';
import { addDataOption, runningOn } from '../server-access.ts';

type AcceptFlags = { readonly data?: string; readonly yes?: boolean; readonly json?: boolean };

const TIMEOUT_MS = 60_000; // The partition is started anew meanwhile.

const EXPLANATION = `A partition halts when its log is shorter than, or differs from, what was already folded from it:
replies were given for records that are not there any more (a lost or replaced disk, a power failure with
durability os, a deleted stream). Before you accept that, restore the log from a copy if there is one.

Accepting means: the partition goes on from its newest checkpoint. Commands that were answered after that
checkpoint and are not in the log are lost for good. A new generation of the log begins, so that no offset,
item number or id is given out twice. Clients are told of the gap in topics. The old log's stream stays
where it is, for you to look at.`;

export function define(command: Command): void {
  addDataOption(command.argument('<partition>', 'as in troupe status: main-3'))
    .option('--yes', 'accept the loss')
    .option('--json', 'print JSON')
    .addHelpText('after', `\n${EXPLANATION}`)
    .action(run);
}

async function run(partition: string, { data, yes = false, json = false }: AcceptFlags): Promise<void> {
  const folder = locateDataFolder({ data }, process.env);
  const running = runningOn(folder);
  if (!running)
    throw new Failure(
      `nothing runs on ${folder.path}`,
      ['Start it first: troupe up. The partition stays halted and waits for you.'],
      'disconnected',
    );
  if (!yes)
    throw new Failure(
      `${partition}: not done yet\n\n${EXPLANATION}\n`,
      [`If that is what you want: troupe accept-loss ${partition} --yes`],
      'not_confirmed',
    );
  const { url, user, passwordFile } = running.nats;
  const link = await connectToNats({
    servers: url,
    user,
    password: readFileSync(passwordFile, 'utf8').trim(),
    name: 'troupe cli',
  });
  try {
    const answer = await new NatsBus(link.connection).request(
      operationsOf(running.hostNode),
      pack(['accept-loss', partition]),
      TIMEOUT_MS,
    );
    const [failed, ...rest] = unpack(answer) as [0, AcceptedLoss] | [1, string, string];
    if (failed === 1)
      throw new Failure(String(rest[1]), ['troupe status   shows which partitions are halted'], String(rest[0]));
    const { generation, stateSequence, state } = rest[0] as AcceptedLoss;
    print(
      json,
      rest[0],
      () =>
        `${partition} is ${state}: generation ${generation}, from the checkpoint that had folded ${grouped(stateSequence)} messages of the old log`,
    );
  } finally {
    await link.close();
  }
}
