/**
 * Which process is meant by a number: process numbers are used again, so an identity holds the moment of its start too (clock
 * ticks since boot, and the boot).
 */
import { readFileSync } from 'node:fs';

export type ProcessIdentity = { readonly pid: number; readonly startTicks: number; readonly boot: string };

const BOOT_FILE = '/proc/sys/kernel/random/boot_id';
const STATE_FIELD = 0; // Fields of /proc/<pid>/stat behind the name in parentheses, which may hold anything.
const START_FIELD = 19;

/** The identity of a living process; undefined when there is none by this number. */
export function identityOf(pid: number): ProcessIdentity | undefined {
  const fields = statOf(pid);
  if (fields === undefined || fields[STATE_FIELD] === 'Z') return undefined;
  return { pid, startTicks: Number(fields[START_FIELD]), boot: readText(BOOT_FILE).trim() };
}

/** Whether this very process still lives. */
export function isAlive({ pid, startTicks, boot }: ProcessIdentity): boolean {
  const now = identityOf(pid);
  return now !== undefined && now.startTicks === startTicks && now.boot === boot;
}

export function isIdentity(value: unknown): value is ProcessIdentity {
  if (typeof value !== 'object' || value === null) return false;
  const { pid, startTicks, boot } = value as Partial<ProcessIdentity>;
  return Number.isSafeInteger(pid) && Number.isFinite(startTicks) && typeof boot === 'string';
}

function statOf(pid: number): string[] | undefined {
  const text = readText(`/proc/${pid}/stat`);
  if (text === '') return undefined;
  return text.slice(text.lastIndexOf(')') + 2).split(' ');
}

function readText(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return '';
  }
}
