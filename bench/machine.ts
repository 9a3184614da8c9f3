/** On what a measurement was made, and what else that machine was doing meanwhile. */
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { cpus, totalmem } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';

const QUIET_CORES = 0.15; // What an idle system and our own waiting processes use.
const QUIET_MS = 1_000;
const TICKS_PER_SECOND = 100; // USER_HZ of Linux, whatever the kernel's own rate.

export type Machine = {
  readonly cpu: string;
  readonly cores: number;
  readonly memoryGiB: number;
  readonly kernel: string;
  readonly node: string;
  readonly natsServer: string;
};

export function describeMachine(natsServer: string): Machine {
  const [first] = cpus();
  return {
    cpu: first?.model.trim() ?? 'unknown',
    cores: cpus().length,
    memoryGiB: Math.round(totalmem() / 1024 ** 3),
    kernel: readFileSync('/proc/sys/kernel/osrelease', 'utf8').trim(),
    node: process.version,
    natsServer,
  };
}

/** The commit, with `+` when the working tree differs from it; empty outside of a clone. */
export function gitCommit(): string {
  try {
    const git = (...words: string[]) =>
      execFileSync('git', words, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }).trim();
    return git('rev-parse', '--short', 'HEAD') + (git('status', '--porcelain') === '' ? '' : '+');
  } catch {
    return '';
  }
}

/** Cores that each process used, and `others`: everything else on the machine. */
export type CoresUsed<Name extends string> = Readonly<Record<Name | 'others', number>>;

/** Measures the processor time of processes from its creation to `stop`. */
export class CoreMeter<Name extends string> {
  readonly #pids: Readonly<Record<Name, number>>;
  readonly #startMs = performance.now();
  readonly #before: Readonly<Record<string, number>>;
  readonly #busyBefore = busySeconds();
  /** From the creation to `stop`. */
  seconds = 0;

  constructor(pids: Readonly<Record<Name, number>>) {
    this.#pids = pids;
    this.#before = secondsOf(pids);
  }

  stop(): CoresUsed<Name> {
    const seconds = (performance.now() - this.#startMs) / 1_000;
    this.seconds = seconds;
    const after = secondsOf(this.#pids);
    const used = Object.fromEntries(
      Object.entries(after).map(([name, value]) => [name, (value - (this.#before[name] ?? 0)) / seconds]),
    );
    const ours = Object.values(used).reduce((sum, value) => sum + value, 0);
    const others = Math.max(0, (busySeconds() - this.#busyBefore) / seconds - ours);
    return { ...used, others } as CoresUsed<Name>;
  }
}

/**
 * Waits until nothing else uses more than QUIET_CORES of the machine for a second, at most `maxSeconds`; 0 does not wait. On a
 * shared machine a run then measures us rather than the neighbours; what they take meanwhile is recorded all the same.
 */
export async function waitForQuiet(maxSeconds: number): Promise<void> {
  const endMs = performance.now() + maxSeconds * 1_000;
  while (performance.now() < endMs) {
    const meter = new CoreMeter({});
    await sleep(QUIET_MS);
    if (meter.stop().others < QUIET_CORES) return;
  }
}

function secondsOf(pids: Readonly<Record<string, number>>): Record<string, number> {
  return Object.fromEntries(Object.entries(pids).map(([name, pid]) => [name, processSeconds(pid)]));
}

/** User and system time of all threads. */
function processSeconds(pid: number): number {
  const text = readFileSync(`/proc/${pid}/stat`, 'utf8');
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' '); // The name before may hold anything.
  return (Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND;
}

/** What all cores together were not idle, since the start of the machine; time stolen by its host counts as busy. */
function busySeconds(): number {
  const [line = ''] = readFileSync('/proc/stat', 'utf8').split('\n');
  const [user, nice, system, , , irq, softirq, steal] = line.split(/\s+/).slice(1).map(Number) as number[];
  const sum = [user, nice, system, irq, softirq, steal].reduce<number>((total, value) => total + (value ?? 0), 0);
  return sum / TICKS_PER_SECOND;
}
