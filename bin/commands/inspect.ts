/** `troupe inspect <actor>`: where it lives, its hash, timers, topics and state. */
import type { Command } from 'commander';
import { actorNamed } from '../actor-reference.ts';
import { parseJson } from '../data-folder.ts';
import { bytesText, print } from '../output.ts';
import { type AccessFlags, accessOf, addAccessOptions, askOperations } from '../server-access.ts';

type Inspection = {
  readonly actor: string;
  readonly known: boolean;
  readonly partition: string;
  readonly generation: number;
  readonly epoch: number;
  readonly sequence: number;
  readonly snapshotVersion: number;
  readonly stateBytes: number;
  readonly hash: string | null;
  readonly offsets: { readonly [topic: string]: number };
  readonly timers: readonly { readonly name: string; readonly dueMs: number; readonly command: string }[];
  readonly state: string;
};

export function define(command: Command): void {
  addAccessOptions(command.argument('<actor>', 'kind:key')).action(run);
}

async function run(actor: string, flags: AccessFlags): Promise<void> {
  const { kind, key } = await actorNamed(actor);
  const found = (await askOperations(accessOf(flags), `inspect/${kind.kind}/${encodeURIComponent(key)}`)) as Inspection;
  print(flags.json === true, { ...found, state: parseJson(found.state) ?? found.state }, () => textOf(found));
}

function textOf(found: Inspection): string {
  const offsets = Object.entries(found.offsets).map(([topic, offset]) => `${topic} at ${offset}`);
  const timers = found.timers.map(
    ({ name, dueMs, command }) => `${name}: ${command} at ${new Date(dueMs).toISOString()}`,
  );
  return [
    `actor      ${found.actor}${found.known ? '' : ' (never touched: this is its initial state)'}`,
    `partition  ${found.partition}, generation ${found.generation}, epoch ${found.epoch}, sequence ${found.sequence}`,
    `snapshot   version ${found.snapshotVersion}, ${bytesText(found.stateBytes)}`,
    `hash       ${found.hash ?? 'none'}`,
    `topics     ${offsets.join(', ') || 'none yet'}`,
    `timers     ${timers.join(', ') || 'none'}`,
    `state      ${found.state}`,
  ].join('\n');
}
