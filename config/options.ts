/**
 * Every option of Troupe: its unit, bounds, default and reason. A flag wins over the environment, that over the file
 * `<data>/troupe.json`, that over the default.
 */

export type OptionSpec = {
  /** Of the flag: `--name`. The variable is TROUPE_NAME, the key in the file is the name in camel case. */
  readonly flag: string;
  readonly unit: string;
  readonly about: string;
  readonly fallback: string | number | boolean;
  /** Bounds of a number. */
  readonly min?: number;
  readonly max?: number;
  /** Allowed texts. */
  readonly values?: readonly string[];
};

const MIB = 1024 ** 2;

export const OPTIONS = {
  data: { flag: 'data', unit: 'folder', about: 'where everything is kept (made with mode 0700)', fallback: '' },
  port: {
    flag: 'port',
    unit: 'port',
    about: 'of websocket, HTTP and console, on the loopback address',
    fallback: 7070,
    min: 0,
    max: 65_535,
  },
  operationsPort: {
    flag: 'operations-port',
    unit: 'port',
    about: 'of /healthz, /readyz and /metrics; 0 chooses a free one',
    fallback: 0,
    min: 0,
    max: 65_535,
  },
  durability: {
    flag: 'durability',
    unit: 'name',
    about: 'os: acknowledged before fsync; disk: an fsync before each acknowledgement',
    fallback: 'os',
    values: ['os', 'disk'],
  },
  demo: { flag: 'demo', unit: 'yes/no', about: 'run the synthetic demo market', fallback: true },
  demoRate: { flag: 'demo-rate', unit: 'commands/s', about: 'of the demo market', fallback: 50, min: 1, max: 10_000 },
  seed: { flag: 'seed', unit: 'number', about: 'of the demo market', fallback: 1, min: 0, max: 2 ** 31 },
  mainPartitions: {
    flag: 'main-partitions',
    unit: 'partitions',
    about: 'of the group main; fixed when the data folder is first used',
    fallback: 48,
    min: 1,
    max: 4_096,
  },
  exchangePartitions: {
    flag: 'exchange-partitions',
    unit: 'partitions',
    about: 'of the group exchange; fixed likewise',
    fallback: 16,
    min: 1,
    max: 4_096,
  },
  logBytes: {
    flag: 'log-bytes',
    unit: 'bytes',
    about: "limit of one partition's log; fixed likewise",
    fallback: 256 * MIB,
    min: MIB,
    max: 1024 ** 4,
  },
  checkpointCommands: {
    flag: 'checkpoint-commands',
    unit: 'commands',
    about: 'between checkpoints of a partition at most',
    fallback: 50_000,
    min: 1,
    max: 10_000_000,
  },
  checkpointMs: {
    flag: 'checkpoint-ms',
    unit: 'ms',
    about: 'from the first change to a checkpoint at most',
    fallback: 5_000,
    min: 10,
    max: 3_600_000,
  },
  logMarginMessages: {
    flag: 'log-margin',
    unit: 'messages',
    about: 'kept in the log below the older of the last two checkpoints',
    fallback: 100_000,
    min: 0,
    max: 1_000_000_000,
  },
  maxActiveActors: {
    flag: 'max-active-actors',
    unit: 'actors',
    about: 'kept in memory per partition after a checkpoint',
    fallback: 20_000,
    min: 1,
    max: 10_000_000,
  },
  sessionHorizonMs: {
    flag: 'session-horizon',
    unit: 'ms',
    about: 'a session or idempotency key unused for longer is forgotten',
    fallback: 86_400_000,
    min: 60_000,
    max: 2_592_000_000,
  },
  traps: {
    flag: 'traps',
    unit: 'yes/no',
    about: 'trap clocks and randomness in handlers (development)',
    fallback: false,
  },
  maxPayloadBytes: {
    flag: 'max-payload',
    unit: 'bytes',
    about: "of one command's body",
    fallback: 65_536,
    min: 1_024,
    max: 512_000,
  },
  maxConnections: {
    flag: 'max-connections',
    unit: 'sockets',
    about: 'of one edge',
    fallback: 50_000,
    min: 1,
    max: 1_000_000,
  },
  commandsPerSecond: {
    flag: 'commands-per-second',
    unit: 'commands/s',
    about: 'per session',
    fallback: 50_000,
    min: 1,
    max: 10_000_000,
  },
  logLevel: {
    flag: 'log-level',
    unit: 'name',
    about: 'of the log files',
    fallback: 'info',
    values: ['debug', 'info', 'warn', 'error'],
  },
} as const satisfies Record<string, OptionSpec>;

export type OptionName = keyof typeof OPTIONS;

type Widen<T> = T extends string ? string : T extends number ? number : boolean;
export type Options = { readonly [N in OptionName]: Widen<(typeof OPTIONS)[N]['fallback']> };

export class OptionError extends Error {}

/** `TROUPE_LOG_BYTES` for `--log-bytes`. */
export function variableOf({ flag }: OptionSpec): string {
  return `TROUPE_${flag.toUpperCase().replaceAll('-', '_')}`;
}

/**
 * The value of one option from what was given, the first source that has it.
 * Errors: OptionError that names the source, the bounds and the value.
 */
export function readOption<N extends OptionName>(
  name: N,
  flags: Readonly<Record<string, unknown>>,
  environment: Readonly<Record<string, string | undefined>>,
  file: Readonly<Record<string, unknown>>,
): Options[N] {
  const spec: OptionSpec = OPTIONS[name];
  const sources: [string, unknown][] = [
    [`--${spec.flag}`, flags[name]],
    [variableOf(spec), environment[variableOf(spec)]],
    [`troupe.json: ${name}`, file[name]],
  ];
  const given = sources.find(([, value]) => value !== undefined);
  return (given ? parse(spec, given[0], given[1]) : spec.fallback) as Options[N];
}

/** All options. Errors: OptionError, also for unknown keys of the file. */
export function readOptions(
  flags: Readonly<Record<string, unknown>>,
  environment: Readonly<Record<string, string | undefined>>,
  file: Readonly<Record<string, unknown>>,
): Options {
  for (const key of Object.keys(file)) {
    if (!Object.hasOwn(OPTIONS, key)) throw new OptionError(`troupe.json: there is no option "${key}"`);
  }
  const names = Object.keys(OPTIONS) as OptionName[];
  return Object.fromEntries(names.map((name) => [name, readOption(name, flags, environment, file)])) as Options;
}

function parse(spec: OptionSpec, source: string, value: unknown): string | number | boolean {
  if (typeof spec.fallback === 'number') return parseNumber(spec, source, value);
  if (typeof spec.fallback === 'boolean') return parseYesNo(source, value);
  const text = String(value);
  if (spec.values && !spec.values.includes(text))
    throw new OptionError(`${source}: one of ${spec.values.join(', ')}, not "${text}"`);
  return text;
}

function parseNumber(
  { min = 0, max = Number.MAX_SAFE_INTEGER, unit }: OptionSpec,
  source: string,
  value: unknown,
): number {
  const number = typeof value === 'number' ? value : /^\d+$/.test(String(value)) ? Number(value) : Number.NaN;
  if (Number.isSafeInteger(number) && number >= min && number <= max) return number;
  throw new OptionError(`${source}: a whole number from ${min} to ${max} (${unit}), not "${String(value)}"`);
}

function parseYesNo(source: string, value: unknown): boolean {
  if (value === true || value === 'yes' || value === 'true' || value === '1') return true;
  if (value === false || value === 'no' || value === 'false' || value === '0') return false;
  throw new OptionError(`${source}: yes or no, not "${String(value)}"`);
}

/** The table of all options for the README; a test holds the two together. */
export function optionsTable(): string {
  const rows = Object.entries(OPTIONS).map(([name, spec]: [string, OptionSpec]) => {
    const bounds = spec.values?.join(', ') ?? (spec.min === undefined ? '' : `${spec.min} to ${spec.max}`);
    const fallback = String(spec.fallback === true ? 'yes' : spec.fallback === false ? 'no' : spec.fallback);
    return `| \`--${spec.flag}\` | \`${variableOf(spec)}\` | \`${name}\` | ${spec.unit} | ${bounds} | ${fallback} | ${spec.about} |`;
  });
  const head = [
    '| flag | environment | troupe.json | unit | bounds | default | what |',
    '|---|---|---|---|---|---|---|',
  ];
  return [...head, ...rows].join('\n');
}
