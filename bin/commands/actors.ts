/** `troupe actors [kind]`: references of the actors that exist. */
import { type Command, InvalidArgumentError } from 'commander';
import { print } from '../output.ts';
import { type AccessFlags, accessOf, addAccessOptions, askOperations } from '../server-access.ts';

const DEFAULT_LIMIT = 100;
const MAX_PAGE = 1_000; // What the server gives at once.

export function define(command: Command): void {
  addAccessOptions(command.argument('[kind]', 'only of this kind'))
    .option('--limit <count>', 'at most so many', countOf, DEFAULT_LIMIT)
    .option('--all', 'all of them')
    .action(run);
}

function countOf(text: string): number {
  if (!/^[1-9]\d{0,8}$/.test(text)) throw new InvalidArgumentError('A number above 0.');
  return Number(text);
}

async function run(kind: string | undefined, flags: AccessFlags & { limit: number; all?: boolean }): Promise<void> {
  const access = accessOf(flags);
  const limit = flags.all ? Number.POSITIVE_INFINITY : flags.limit;
  const actors: string[] = [];
  let cursor: string | undefined;
  do {
    const parameters = new URLSearchParams({ limit: String(Math.min(MAX_PAGE, limit - actors.length)) });
    if (kind !== undefined) parameters.set('kind', kind);
    if (cursor !== undefined) parameters.set('cursor', cursor);
    const page = (await askOperations(access, `actors?${parameters}`)) as { actors: string[]; cursor?: string };
    actors.push(...page.actors);
    cursor = page.cursor;
  } while (cursor !== undefined && actors.length < limit);
  const more = cursor !== undefined;
  print(flags.json === true, { actors, more }, () => {
    const end = more ? ['... and more (--limit N, --all)'] : actors.length === 0 ? ['no actors yet'] : [];
    return [...actors, ...end].join('\n');
  });
}
