/** Actors, commands and bodies as people write them on the command line, and the kinds that they name. */
import { readFileSync } from 'node:fs';
import type { ActorDefinition } from '../actors/definition.ts';
import { loadKinds } from './all-kinds.ts';
import { Failure } from './failure.ts';

export type NamedActor = { readonly ref: string; readonly kind: ActorDefinition; readonly key: string };

/** Errors: Failure that shows the form, or the kinds that there are. */
export async function actorNamed(text: string): Promise<NamedActor> {
  const colon = text.indexOf(':');
  const key = text.slice(colon + 1);
  if (colon < 1 || key === '')
    throw new Failure(
      `"${text}" names no actor`,
      ['An actor is kind:key, for example book:DEMO/ACME'],
      'invalid_reference',
    );
  return { ref: text, kind: await kindNamed(text.slice(0, colon)), key };
}

export async function kindNamed(name: string): Promise<ActorDefinition> {
  const kinds = await loadKinds();
  const kind = kinds.find((each) => each.kind === name);
  if (kind) return kind;
  throw new Failure(
    `there is no kind "${name}"`,
    [`Kinds: ${kinds.map((each) => each.kind).join(', ')}`],
    'unknown_kind',
  );
}

/** The entry of a kind's commands, queries or topics. Errors: Failure that lists what there is. */
export function entryNamed<T>(entries: { readonly [name: string]: T }, kind: string, what: string, name: string): T {
  const entry = Object.hasOwn(entries, name) ? entries[name] : undefined;
  if (entry !== undefined) return entry;
  const names = Object.keys(entries);
  const advice = names.length === 0 ? [] : [`It has: ${names.join(', ')}`];
  throw new Failure(`${kind} has no ${what} "${name}"`, advice, `unknown_${what}`);
}

/** A body as JSON; `-` reads it from standard input, nothing is an empty one. */
export function jsonBody(text: string | undefined): unknown {
  const given = text === '-' ? readFileSync(0, 'utf8') : (text ?? '{}');
  try {
    return JSON.parse(given);
  } catch (error) {
    const advice = [`Example: '{"amount": 1, "note": "text"}' (in quotes, so that the shell leaves it whole)`];
    throw new Failure(`the body is not JSON: ${(error as Error).message}`, advice, 'bad_request');
  }
}
