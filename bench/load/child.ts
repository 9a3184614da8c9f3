/**
 * A process of a measurement and how to ask it things: one request, one answer, over the channel that Node gives a child. A
 * child whose parent dies ends as well.
 */
import { type ChildProcess, fork } from 'node:child_process';

export type ChildOptions = {
  /** Shown in profiles and errors. */
  readonly name: string;
  /** Of the child's file, without the extension; see `childFile`. */
  readonly file: URL;
  /** Makes `collectGarbage` of the child possible. */
  readonly exposeGc?: boolean;
  /** Where a CPU profile is written when the child ends; none: no profile. */
  readonly profileFolder?: string | undefined;
};

type Request = { readonly id: number; readonly type: string; readonly argument: unknown };
type Answer = { readonly id: number; readonly result?: unknown; readonly problem?: string };
type Waiting = { readonly resolve: (result: unknown) => void; readonly reject: (error: Error) => void };

const STOP_TIMEOUT_MS = 10_000; // Writing a profile of a long run takes seconds.

/** The file of a child beside the module at `moduleUrl`: `.ts` or, once compiled, `.js`. */
export function childFile(moduleUrl: string, name: string): URL {
  return new URL(`./${name}${moduleUrl.slice(moduleUrl.lastIndexOf('.'))}`, moduleUrl);
}

export class Child {
  readonly name: string;
  readonly #process: ChildProcess;
  readonly #waiting = new Map<number, Waiting>();
  readonly #exited: Promise<void>;
  #lastId = 0;
  #ended = false;

  constructor({ name, file, exposeGc, profileFolder }: ChildOptions) {
    this.name = name;
    const execArgv = [
      ...(exposeGc ? ['--expose-gc'] : []),
      ...(profileFolder ? ['--cpu-prof', `--cpu-prof-dir=${profileFolder}`, `--cpu-prof-name=${name}.cpuprofile`] : []),
    ];
    this.#process = fork(file, { execArgv, serialization: 'advanced' });
    this.#process.on('message', (answer: Answer) => this.#answered(answer));
    this.#exited = new Promise((resolve) =>
      this.#process.once('exit', (code, signal) => resolve(this.#exit(code ?? signal))),
    );
  }

  get pid(): number {
    return this.#process.pid ?? 0;
  }

  /** Errors: what the child's handler threw; Error when the child ends first. */
  ask<Result>(type: string, argument?: unknown): Promise<Result> {
    if (this.#ended) return Promise.reject(new Error(`${this.name} has ended`));
    const id = ++this.#lastId;
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, { resolve: resolve as (result: unknown) => void, reject });
      this.#process.send({ id, type, argument } satisfies Request);
    });
  }

  /** Asks it to end, and kills it when it does not. */
  async stop(): Promise<void> {
    if (!this.#ended) this.#process.disconnect();
    const timer = setTimeout(() => this.#process.kill('SIGKILL'), STOP_TIMEOUT_MS);
    await this.#exited;
    clearTimeout(timer);
  }

  #answered({ id, result, problem }: Answer): void {
    const waiting = this.#waiting.get(id);
    this.#waiting.delete(id);
    if (problem === undefined) waiting?.resolve(result);
    else waiting?.reject(new Error(`${this.name}: ${problem}`));
  }

  #exit(reason: number | string | null): void {
    this.#ended = true;
    for (const { reject } of this.#waiting.values()) reject(new Error(`${this.name} ended (${reason})`));
    this.#waiting.clear();
  }
}

export type Handlers = { readonly [type: string]: (argument: never) => unknown };

/** In the child: answers requests with what the handlers return, until the parent lets go; then `stop`. */
export function serve(handlers: Handlers, stop: () => Promise<void> | void): void {
  process.on('message', ({ id, type, argument }: Request) => {
    const handler = handlers[type];
    Promise.resolve()
      .then(() => handler?.(argument as never))
      .then(
        (result) => process.send?.({ id, result } satisfies Answer),
        (error: unknown) =>
          process.send?.({
            id,
            problem: error instanceof Error ? (error.stack ?? error.message) : String(error),
          } satisfies Answer),
      );
  });
  process.on('SIGINT', () => undefined); // The terminal sends it to all; the parent decides.
  process.once('disconnect', () => {
    void Promise.resolve(stop()).finally(() => process.exit(0));
  });
}
