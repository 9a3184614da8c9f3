/**
 * `npm run bench -- <name> [options]`: measures, prints settings and medians with their spread, appends a line for each to
 * `bench/results.jsonl`. Ends with 1 when a result is wrong; a target that is not reached is told and is no failure.
 */
import { mkdirSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { findNatsServer } from '../cluster/log/nats-binary.ts';
import type { Durability } from '../cluster/log/nats-server.ts';
import { type Measurement, show } from './figures.ts';
import { benchFanout } from './load/fanout.ts';
import { benchIdle } from './load/idle.ts';
import { benchWay } from './load/way.ts';
import { CoreMeter, describeMachine, type Machine } from './machine.ts';
import { benchBook } from './micro/book.ts';
import { benchFold, FOLD_BENCH } from './micro/fold.ts';
import { benchReplay } from './micro/replay.ts';
import { profiled, summarizeFolder } from './profile.ts';
import { appendResult, resultLine } from './results.ts';

const USAGE = `Usage: npm run bench -- <book | fold | replay | way | fanout | idle | all> [options]
  --durability os|disk   os: acknowledged before fsync; disk: after it (default os)
  --runs N               measured runs; the median counts (default 5)
  --partitions N         of the group main, for way (default 4)
  --connections N        for idle (default 10000)
  --quiet N              wait before each run up to N seconds for the machine to do nothing else (default 0)
  --profile FOLDER       one run under the profiler: where the time goes, in place of a result
  --json                 the lines that are appended to bench/results.jsonl, and nothing else
Data for book: TROUPE_TEST_DATA, default ../shared/data`;

const OTHER_COMMANDS = 300_000; // Of the stream for the other order book: for all of them it needs half a minute.

type Options = {
  readonly durability: Durability;
  readonly runs: number;
  readonly partitions: number;
  readonly connections: number;
  readonly quietSeconds: number;
  readonly profileFolder: string | undefined;
};

const BENCHES: { readonly [name: string]: (options: Options) => Promise<Measurement> } = {
  book: ({ runs }) =>
    benchBook({
      dataFolder: join(process.env.TROUPE_TEST_DATA ?? '../shared/data', 'exchange'),
      runs,
      otherCommands: OTHER_COMMANDS,
    }),
  fold: ({ runs }) => benchFold({ ...FOLD_BENCH, runs }),
  replay: benchReplay,
  way: benchWay,
  fanout: benchFanout,
  idle: benchIdle,
};

process.exitCode = await main();

async function main(): Promise<number> {
  const parsed = parse();
  if (!parsed) return usage();
  const { names, options, json } = parsed;
  const machine = describeMachine((await findNatsServer()).version);
  if (!json) process.stdout.write(`${new Date().toISOString()}  ${Object.values(machine).join(', ')}\n\n`);
  let isRight = true;
  for (const name of names) {
    const measurement = await measure(name, options, machine, json);
    isRight &&= measurement.checks.every(({ passed }) => passed);
  }
  return isRight ? 0 : 1;
}

function parse(): { names: string[]; options: Options; json: boolean } | undefined {
  try {
    const { values, positionals } = parseArgs({
      allowPositionals: true,
      options: {
        durability: { type: 'string', default: 'os' },
        runs: { type: 'string', default: '5' },
        partitions: { type: 'string', default: '4' },
        connections: { type: 'string', default: '10000' },
        quiet: { type: 'string', default: '0' },
        profile: { type: 'string' },
        json: { type: 'boolean', default: false },
      },
    });
    const [name = ''] = positionals;
    const names = name === 'all' ? Object.keys(BENCHES) : [name];
    const durability = values.durability === 'os' || values.durability === 'disk' ? values.durability : undefined;
    const counts = [values.runs, values.partitions, values.connections, values.quiet].map(Number);
    if (
      !BENCHES[names[0] ?? ''] ||
      positionals.length !== 1 ||
      !durability ||
      !counts.every((count) => Number.isInteger(count) && count >= 0)
    )
      return undefined;
    const [runs = 1, partitions = 1, connections = 1, quietSeconds = 0] = counts;
    const profileFolder = values.profile === undefined ? undefined : resolve(values.profile);
    return {
      names,
      options: { durability, runs: profileFolder ? 1 : runs, partitions, connections, quietSeconds, profileFolder },
      json: values.json,
    };
  } catch {
    return undefined;
  }
}

function usage(): number {
  process.stderr.write(`${USAGE}\n`);
  return 2;
}

async function measure(name: string, options: Options, machine: Machine, json: boolean): Promise<Measurement> {
  const bench = BENCHES[name] as (options: Options) => Promise<Measurement>;
  if (options.profileFolder) return measureProfiled(bench, options, options.profileFolder);
  const meter = new CoreMeter({ bench: process.pid });
  const measurement = await bench(options);
  const line = resultLine(measurement, machine);
  appendResult(line);
  if (json) process.stdout.write(`${JSON.stringify(line)}\n`);
  else
    process.stdout.write(
      `${show(measurement)}  (${meter.stop().bench.toFixed(2)} cores were used by the measuring process)\n\n`,
    );
  return measurement;
}

/** A profiler slows what it watches: no figures are kept. */
async function measureProfiled(
  bench: (options: Options) => Promise<Measurement>,
  options: Options,
  folder: string,
): Promise<Measurement> {
  mkdirSync(folder, { recursive: true });
  const { result, summary } = await profiled(() => bench(options));
  process.stdout.write(`${show(result)}\n${summary}\n${summarizeFolder(folder)}\n`);
  return result;
}
