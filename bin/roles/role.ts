/**
 * What every role process has in common: its settings come as one message from the process that started it, its life ends with
 * that process, and it says when it is ready or why it cannot be.
 */
import pino, { type Logger } from 'pino';
import { LogFile } from './log-file.ts';

export type LogTarget = { readonly folder: string; readonly level: string };

export type RoleMessage =
  | { readonly type: 'ready'; readonly report: unknown }
  | { readonly type: 'failed'; readonly reason: string };

/** A logger to rotating files `<folder>/<name>.<n>.log`. */
export function fileLogger(name: string, { folder, level }: LogTarget): Logger {
  return pino({ level, base: { role: name, pid: process.pid } }, new LogFile(`${folder}/${name}`));
}

/** How a role stops, given to `runRole` by its body. */
export type Stop = () => Promise<void>;

/**
 * Runs a role in this process: waits for the settings, starts it, reports, and stops it on SIGTERM, on the message `stop`, or
 * when the parent is gone.
 */
export function runRole<S>(start: (settings: S) => Promise<{ report: unknown; stop: Stop }>): void {
  let stop: Stop | undefined;
  let isStopping = false;
  const end = async (code: number) => {
    if (isStopping) return;
    isStopping = true;
    await stop?.().catch((error) => console.error(error));
    process.exit(code);
  };
  process.on('SIGTERM', () => void end(0));
  process.on('SIGINT', () => undefined); // The terminal sends it to all; the parent decides.
  process.on('disconnect', () => void end(1));
  process.on('message', (message: { type: string; settings: S }) => {
    if (message.type === 'stop') void end(0);
    if (message.type !== 'start') return;
    start(message.settings).then(
      (started) => {
        stop = started.stop;
        process.send?.({ type: 'ready', report: started.report } satisfies RoleMessage);
      },
      (error) => {
        process.send?.({ type: 'failed', reason: describe(error) } satisfies RoleMessage, () => void end(1));
      },
    );
  });
}

/** An error for people: its name in the registry where it has one, and its message. */
export function describe(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const code = 'code' in error ? `${String(error.code)}: ` : '';
  return `${code}${error.message}`;
}
