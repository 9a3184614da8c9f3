/** `troupe query <actor> <query> [json]`. */
import type { Command } from 'commander';
import { shapeOf, shapeOfEither } from '../../protocol/shape.ts';
import { actorNamed, entryNamed, jsonBody } from '../actor-reference.ts';
import { print } from '../output.ts';
import { type AccessFlags, accessOf, addAccessOptions, connectClient } from '../server-access.ts';

export function define(command: Command): void {
  addAccessOptions(
    command
      .argument('<actor>', 'kind:key')
      .argument('<query>')
      .argument('[json]', 'its fields; - reads them from standard input'),
  ).action(run);
}

async function run(actor: string, name: string, body: string | undefined, flags: AccessFlags): Promise<void> {
  const { kind, key } = await actorNamed(actor);
  const spec = entryNamed(kind.queries, kind.kind, 'query', name);
  const fields = shapeOf(spec.fields).fromJson(jsonBody(body));
  const client = await connectClient(accessOf(flags));
  try {
    const reply = await client.actor(kind, key).query(name, fields as Record<string, unknown>);
    const value = shapeOfEither(spec.reply).toJson(reply);
    print(flags.json === true, value, () => JSON.stringify(value, null, 2) ?? 'nothing');
  } finally {
    client.close();
  }
}
