/**
 * Traps for what a handler may not touch: the clock, randomness, timers and I/O. They are set while a handler runs, in
 * development and tests; in production the lint rule over actors/ and the check records do the work, since setting them costs
 * about a microsecond a frame.
 */

/** A handler touched what would make two folds of one log differ. */
export class DeterminismError extends Error {
  constructor(what: string) {
    super(`a handler may not use ${what}: use ctx.now, ctx.random(), timers and effects`);
    this.name = 'DeterminismError';
  }
}

type Trap = { readonly owner: Record<string, unknown>; readonly name: string; readonly trapped: unknown };

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
  const traps: Trap[] = FUNCTIONS.map((name) => ({ owner: global, name, trapped: refuse(name) }));
  traps.push({ owner: global, name: 'Date', trapped: trappedDate() });
  traps.push({ owner: Math as unknown as Record<string, unknown>, name: 'random', trapped: refuse('Math.random') });
  traps.push({
    owner: process as unknown as Record<string, unknown>,
    name: 'hrtime',
    trapped: refuse('process.hrtime'),
  });
  traps.push({
    owner: performance as unknown as Record<string, unknown>,
    name: 'now',
    trapped: refuse('performance.now'),
  });
  return traps.filter(({ owner, name }) => isReplaceable(owner, name));
}

function isReplaceable(owner: Record<string, unknown>, name: string): boolean {
  const descriptor = Object.getOwnPropertyDescriptor(owner, name);
  return descriptor === undefined || descriptor.writable === true;
}

let traps: Trap[] | undefined;

/** Runs `work` with the traps set, and always takes them away again. */
export function withTraps<T>(work: () => T): T {
  traps ??= makeTraps();
  const before = traps.map(({ owner, name }) => owner[name]);
  for (const { owner, name, trapped } of traps) owner[name] = trapped;
  try {
    return work();
  } finally {
    traps.forEach(({ owner, name }, i) => {
      owner[name] = before[i];
    });
  }
}
