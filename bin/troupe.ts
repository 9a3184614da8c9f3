#!/usr/bin/env node
/** The command line of Troupe: each command is a file of commands/, loaded only when it is asked for. */
import { Command } from 'commander';
import { tellFailure } from './failure.ts';
import { troupeVersion } from './versions.ts';

type Definer = { readonly define: (command: Command) => void };

const COMMANDS: readonly { readonly name: string; readonly about: string; readonly load: () => Promise<Definer> }[] = [
  { name: 'up', about: 'start a cluster on this machine', load: () => import('./commands/up.ts') },
  { name: 'status', about: 'show how a cluster is', load: () => import('./commands/status.ts') },
  { name: 'actors', about: 'list actors', load: () => import('./commands/actors.ts') },
  { name: 'inspect', about: "show an actor's state", load: () => import('./commands/inspect.ts') },
  { name: 'query', about: 'ask an actor', load: () => import('./commands/query.ts') },
  { name: 'send', about: 'send a command to an actor', load: () => import('./commands/send.ts') },
  { name: 'tail', about: "follow a topic's events or a partition's log", load: () => import('./commands/tail.ts') },
  {
    name: 'replay',
    about: 'fold the log anew and show an actor as it was',
    load: () => import('./commands/replay.ts'),
  },
  {
    name: 'accept-loss',
    about: 'go on after records of a log were lost',
    load: () => import('./commands/accept-loss.ts'),
  },
  { name: 'token', about: 'sign a token', load: () => import('./commands/token.ts') },
  { name: 'market', about: 'replay a day of trading', load: () => import('./commands/market.ts') },
];

async function main(): Promise<void> {
  const program = new Command('troupe')
    .description('A realtime server cluster built of actors.')
    .version(troupeVersion(), '--version', 'print the version')
    .showHelpAfterError('(add --help for what there is)')
    .enablePositionalOptions();
  const words = process.argv.slice(2).filter((word) => !word.startsWith('-'));
  const chosen = words[0] === 'help' ? words[1] : words[0];
  for (const { name, about, load } of COMMANDS) {
    const command = program.command(name).description(about).showHelpAfterError('(add --help for what there is)');
    if (name === chosen) (await load()).define(command);
  }
  await program.parseAsync();
}

/** A reader that had enough (`troupe ... | head`) is no error. */
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code === 'EPIPE') process.exit(0);
  throw error;
});

main().catch((error: unknown) => {
  const failure = tellFailure(error);
  if (process.argv.includes('--json')) console.error(JSON.stringify(failure));
  else
    console.error(
      [
        `troupe: ${failure.error === 'bug' ? (failure.stack ?? failure.message) : failure.message}`,
        ...failure.advice.map((line) => `  ${line}`),
      ].join('\n'),
    );
  process.exitCode = 1;
});
