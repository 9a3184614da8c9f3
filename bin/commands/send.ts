/** `troupe send <actor> <command> [json]`: one command, and its reply or refusal. */
import type { Command } from 'commander';
import { shapeOf } from '../../protocol/shape.ts';
import { actorNamed, entryNamed, jsonBody } from '../actor-reference.ts';
import { print } from '../output.ts';
import { type AccessFlags, accessOf, addAccessOptions, connectClient } from '../server-access.ts';

export function define(command: Command): void {
  addAccessOptions(
    command
      .argument('<actor>', 'kind:key')
      .argument('<command>')
      .argument('[json]', 'its fields; - reads them from standard input'),
  ).action(run);
}

async function run(actor: string, name: string, body: string | undefined, flags: AccessFlags): Promise<void> {
  const { kind, key } = await actorNamed(actor);
  const spec = entryNamed(kind.commands, kind.kind, 'command', name);
  const fields = shapeOf(spec.fields).fromJson(jsonBody(body));
  const client = await connectClient(accessOf(flags));
  try {
    const reply = await client.actor(kind, key).command(name, fields as Record<string, unknown>);
    const value = shapeOf(spec.reply).toJson(reply);
    print(flags.json === true, value, () => JSON.stringify(value, null, 2));
  } finally {
    client.close();
  }
}
