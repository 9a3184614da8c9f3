/** Where processor time goes: the functions of a V8 profile with the most time of their own. */
import { readdirSync, readFileSync } from 'node:fs';
import { Session } from 'node:inspector/promises';
import { join } from 'node:path';

type Frame = { readonly functionName: string; readonly url: string; readonly lineNumber: number };
type Node = { readonly id: number; readonly callFrame: Frame };
type Profile = {
  readonly nodes: readonly Node[];
  readonly samples?: readonly number[];
  readonly timeDeltas?: readonly number[];
};

const SHOWN = 18; // What lies below has less than a percent mostly.

/** Runs work under the profiler of this process, and gives its summary. */
export async function profiled<Result>(work: () => Promise<Result>): Promise<{ result: Result; summary: string }> {
  const session = new Session();
  session.connect();
  await session.post('Profiler.enable');
  await session.post('Profiler.start');
  const result = await work();
  const { profile } = await session.post('Profiler.stop');
  session.disconnect();
  return { result, summary: summarize('bench', profile) };
}

/** Summaries of all profiles in a folder. */
export function summarizeFolder(folder: string): string {
  const files = readdirSync(folder).filter((file) => file.endsWith('.cpuprofile'));
  return files
    .map((file) => summarize(file, JSON.parse(readFileSync(join(folder, file), 'utf8')) as Profile))
    .join('\n');
}

function summarize(name: string, { nodes, samples = [], timeDeltas = [] }: Profile): string {
  const frames = new Map(nodes.map(({ id, callFrame }) => [id, callFrame]));
  const times = new Map<string, number>();
  for (const [i, id] of samples.entries()) {
    const key = placeOf(frames.get(id));
    times.set(key, (times.get(key) ?? 0) + (timeDeltas[i] ?? 0));
  }
  const idle = times.get('(idle)') ?? 0;
  times.delete('(idle)');
  const busy = [...times.values()].reduce((sum, time) => sum + time, 0);
  const top = [...times].sort(([, left], [, right]) => right - left).slice(0, SHOWN);
  const lines = top.map(([key, time]) => `  ${((100 * time) / busy).toFixed(1).padStart(5)} %  ${key}`);
  return [
    `${name}: busy ${(busy / 1e6).toFixed(1)} s, idle ${(idle / 1e6).toFixed(1)} s; of the busy time`,
    ...lines,
  ].join('\n');
}

function placeOf(frame: Frame | undefined): string {
  if (!frame) return '(unknown)';
  const file = frame.url.split('/').slice(-3).join('/');
  return `${frame.functionName || '(anonymous)'}${file ? ` ${file}:${frame.lineNumber + 1}` : ''}`;
}
