/**
 * `run.json`: what runs on a data folder and where. Written before a child gets anything to do, so that whatever a killed parent
 * left behind is found by the next start; removed at the end of a clean run.
 */
import { rmSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { type DataFolder, isRecord, parseJson, readIfThere, writePrivately } from './data-folder.ts';
import { isAlive, isIdentity, type ProcessIdentity } from './process-identity.ts';

export type RunState = {
  readonly pid: number;
  readonly startedAt: string;
  /** Empty until the edge listens. */
  readonly url: string;
  readonly operationsUrl: string;
  /** `passwordFile` holds what goes with `user`. */
  readonly nats: {
    readonly url: string;
    readonly monitorUrl: string;
    readonly user: string;
    readonly passwordFile: string;
  };
  readonly hostNode: string;
  readonly edgeNode: string;
  /** By name: host, edge, demo. */
  readonly children: Readonly<Record<string, ProcessIdentity>>;
};

const END_POLL_MS = 20;
const END_TIMEOUT_MS = 5_000; // A role whose parent died stops by itself; whoever takes longer is killed.

export function writeRunState(folder: DataFolder, state: RunState): void {
  writePrivately(folder.runFile, `${JSON.stringify(state, null, 2)}\n`);
}

/** Whatever the file says, of a run that may be over. */
export function readRunState(folder: DataFolder): RunState | undefined {
  const value = parseJson(readIfThere(folder.runFile) ?? '');
  return isRecord(value) && isRecord(value.nats) && isRecord(value.children)
    ? (value as unknown as RunState)
    : undefined;
}

export function removeRunState(folder: DataFolder): void {
  rmSync(folder.runFile, { force: true });
}

/** Ends the processes of an earlier run whose parent was killed: two owners must not write one checkpoint. */
export async function endLeftOvers(folder: DataFolder): Promise<string[]> {
  const children = Object.entries(readRunState(folder)?.children ?? {});
  const alive = children.filter(([, identity]) => isIdentity(identity) && isAlive(identity));
  for (const [, { pid }] of alive) process.kill(pid, 'SIGTERM');
  const deadline = Date.now() + END_TIMEOUT_MS;
  while (alive.some(([, identity]) => isAlive(identity))) {
    if (Date.now() > deadline) killAll(alive.map(([, identity]) => identity));
    await sleep(END_POLL_MS);
  }
  return alive.map(([name]) => name);
}

function killAll(processes: readonly ProcessIdentity[]): void {
  for (const identity of processes) if (isAlive(identity)) process.kill(identity.pid, 'SIGKILL');
}
