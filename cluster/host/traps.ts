/**
 * Traps for what a handler may not touch: the clock, randomness, timers and I/O. They are set while a handler runs, in
 * development and tests; in production the lint rule over actors/ and the check records do the work, since setting them costs
 * about a microsecond a frame.
 */
import type { Changes, CheckpointStore, Digest, Entry, RangeOptions, Space } from '../checkpoint/checkpoint.ts';

/** A handler touched what would make two folds of one log differ. */
export class DeterminismError extends Error {
  constructor(what: string) {
    super(`a handler may not use ${what}: use ctx.now, ctx.random(), timers and effects`);
    this.name = 'DeterminismError';
  }
}

type Trap = {
  readonly owner: Record<string, unknown>;
  readonly name: string;
  readonly real: unknown;
  readonly trapped: unknown;
};

const refuse = (what: string) =>
  function trapped(): never {
    throw new DeterminismError(what);
  };

/** A Date whose constructor with arguments works (it is a pure function of them in UTC) and whose clock does not. */
function trappedDate(): unknown {
  return new Proxy(Date, {
    construct(target, parameters) {
      if (parameters.length === 0) throw new DeterminismError('new Date()');
      return Reflect.construct(target, parameters);
    },
    apply: refuse('Date()'),
    get: (target, name) => (name === 'now' ? refuse('Date.now') : Reflect.get(target, name)),
  });
}

const FUNCTIONS = ['setTimeout', 'setInterval', 'setImmediate', 'queueMicrotask', 'fetch'] as const;

function makeTraps(): Trap[] {
  const global = globalThis as unknown as Record<string, unknown>;
  const trap = (owner: object, name: string, trapped: unknown): Trap => {
    const named = owner as Record<string, unknown>;
    return { owner: named, name, real: named[name], trapped };
  };
  const traps = [
    ...FUNCTIONS.map((name) => trap(global, name, refuse(name))),
    trap(global, 'Date', trappedDate()),
    trap(Math, 'random', refuse('Math.random')),
    trap(process, 'hrtime', refuse('process.hrtime')),
    trap(performance, 'now', refuse('performance.now')),
  ];
  return traps.filter(({ owner, name }) => isReplaceable(owner, name));
}

function isReplaceable(owner: Record<string, unknown>, name: string): boolean {
  const descriptor = Object.getOwnPropertyDescriptor(owner, name);
  return descriptor === undefined || descriptor.writable === true;
}

let traps: Trap[] | undefined;
let isSet = false;

function set(wanted: boolean): void {
  for (const { owner, name, real, trapped } of traps ?? []) owner[name] = wanted ? trapped : real;
  isSet = wanted;
}

/** Runs `work` with the traps set (or not), and leaves them as they were. */
function run<T>(trapped: boolean, work: () => T): T {
  if (isSet === trapped) return work();
  set(trapped);
  try {
    return work();
  } finally {
    set(!trapped);
  }
}

/** Runs `work` with the traps set, and always takes them away again. */
export function withTraps<T>(work: () => T): T {
  traps ??= makeTraps();
  return run(true, work);
}

/** A store that may use clocks and timers, as LMDB does for its reads, in the middle of a handler that may not. */
export class UntrappedStore implements CheckpointStore {
  readonly #store: CheckpointStore;

  constructor(store: CheckpointStore) {
    this.#store = store;
  }

  get partition(): string {
    return this.#store.partition;
  }

  get(space: Space, key: Uint8Array): Uint8Array | undefined {
    return run(false, () => this.#store.get(space, key));
  }

  *range(space: Space, from: Uint8Array, to?: Uint8Array, options?: RangeOptions): Iterable<Entry> {
    const entries = run(false, () => this.#store.range(space, from, to, options)[Symbol.iterator]());
    try {
      for (let next = run(false, () => entries.next()); !next.done; next = run(false, () => entries.next())) {
        yield next.value;
      }
    } finally {
      run(false, () => entries.return?.());
    }
  }

  count(space: Space): number {
    return run(false, () => this.#store.count(space));
  }

  commit(changes: Changes): Promise<void> {
    return this.#store.commit(changes);
  }

  verify(): Promise<Digest> {
    return this.#store.verify();
  }

  close(): Promise<void> {
    return this.#store.close();
  }
}
