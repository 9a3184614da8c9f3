/** `troupe status`: processes and partitions at a glance. */
import type { Command } from 'commander';
import { bytesText, grouped, print, table } from '../output.ts';
import { type Access, type AccessFlags, accessOf, addAccessOptions, askOperations } from '../server-access.ts';

type PartitionStatus = {
  readonly partition: string;
  readonly state: string;
  readonly reason?: string;
  readonly generation: number;
  readonly epoch: number;
  readonly sequence: number;
  readonly lagMs: number;
  readonly fillPermille: number;
  readonly outboxBytes: number;
  readonly pendingRecords: number;
  readonly logOpen: boolean;
  readonly ownerHeardMsAgo?: number;
};

const SHOWN = 10; // Rows without --all: the busiest.
const SILENT_MS = 2_000; // Eight heartbeats.

export function define(command: Command): void {
  addAccessOptions(command).option('--all', 'all partitions, not only those with something to tell').action(run);
}

async function run(flags: AccessFlags & { all?: boolean }): Promise<void> {
  const access = accessOf(flags);
  const { partitions } = (await askOperations(access, 'status')) as { partitions: PartitionStatus[] };
  const value = { url: access.url, data: access.folder.path, processes: processesOf(access), partitions };
  print(flags.json === true, value, () => textOf(access, partitions, flags.all === true));
}

function processesOf({ running }: Access): Record<string, number> | undefined {
  if (!running) return undefined;
  return {
    up: running.pid,
    ...Object.fromEntries(Object.entries(running.children).map(([name, { pid }]) => [name, pid])),
  };
}

function textOf(access: Access, partitions: readonly PartitionStatus[], all: boolean): string {
  const processes = Object.entries(processesOf(access) ?? {}).map(([name, pid]) => `${name} ${pid}`);
  const count = (state: string) => partitions.filter((each) => each.state === state).length;
  const states = ['live', 'recovering', 'halted', 'unknown']
    .map((state) => ({ state, count: count(state) }))
    .filter((each) => each.count > 0);
  const lines = [
    `server      ${access.url}`,
    ...(processes.length > 0 ? [`data        ${access.folder.path}`, `processes   ${processes.join(', ')}`] : []),
    `partitions  ${partitions.length}: ${states.map(({ state, count: some }) => `${some} ${state}`).join(', ')}`,
    `messages    ${grouped(partitions.reduce((sum, { sequence }) => sum + sequence, 0))} in all logs together`,
  ];
  for (const { partition, reason } of partitions.filter(({ state }) => state === 'halted')) {
    lines.push(
      `${partition} is HALTED: ${reason ?? 'for an unknown reason'}`,
      `  see: troupe accept-loss ${partition}`,
    );
  }
  const shown = all ? partitions : busiest(partitions);
  if (shown.length > 0) lines.push('', partitionTable(shown));
  return lines.join('\n');
}

function busiest(partitions: readonly PartitionStatus[]): PartitionStatus[] {
  const told = partitions.filter((each) => each.sequence > 1 || each.state !== 'live');
  return told.sort((a, b) => b.sequence - a.sequence).slice(0, SHOWN);
}

function partitionTable(partitions: readonly PartitionStatus[]): string {
  const head = ['partition', 'state', 'gen', 'epoch', 'sequence', 'lag ms', 'log full', 'outbox', 'pending', 'owner'];
  const rows = partitions.map((each) => [
    each.partition,
    each.state,
    each.generation,
    each.epoch,
    each.sequence,
    each.lagMs,
    `${(each.fillPermille / 10).toFixed(1)} %`,
    bytesText(each.outboxBytes),
    each.pendingRecords,
    (each.ownerHeardMsAgo ?? Number.POSITIVE_INFINITY) > SILENT_MS ? 'SILENT' : 'heard',
  ]);
  return table(head, rows);
}
