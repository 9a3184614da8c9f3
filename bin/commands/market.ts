/** `troupe market replay`: a day of trading through real websockets, judged by what they bring. */
import { readFileSync } from 'node:fs';
import { gunzipSync } from 'node:zlib';
import { SingleBar } from 'cli-progress';
import { type Command, InvalidArgumentError } from 'commander';
import { parseSseCommand, parseSseSnapshot, parseSseTrade, SseVerifier } from '../../actors/exchange/sse-day.ts';
import { Failure } from '../failure.ts';
import { DayAudit, type DayVerdict } from '../market/day-audit.ts';
import { replayDay } from '../market/day-replay.ts';
import { turnClock } from '../market/turn-clock.ts';
import { grouped, print } from '../output.ts';
import { type AccessFlags, accessOf, addAccessOptions, connectClient } from '../server-access.ts';

type MarketFlags = AccessFlags & {
  readonly speed?: number;
  readonly verify?: string;
  readonly books?: string;
  readonly symbol: string;
};

const REQUEST_TIMEOUT_MS = 120_000; // Longer than any restart of a part; a cluster that is down for good is then told.

export function define(command: Command): void {
  const replay = command.command('replay').description('send the orders of a day and compare what comes out');
  addAccessOptions(replay.argument('<file>', "an exchange's order feed as CSV or CSV.gz: commands in order"))
    .option('--symbol <key>', 'the book, which nobody has used yet', 'XSHG/600519')
    .option('--speed <factor>', 'market time over real time, e.g. 10 (default: as fast as it goes)', speedOf)
    .option('--verify <file>', 'the trades that must come out, in this order')
    .option('--books <file>', "the exchange's own published books and indicative prices")
    .action(run);
}

function speedOf(text: string): number {
  const speed = Number(text);
  if (!(speed > 0 && speed <= 1_000_000)) throw new InvalidArgumentError('A number above 0.');
  return speed;
}

async function run(file: string, flags: MarketFlags): Promise<void> {
  const commands = readLines(file, parseSseCommand);
  const trades = flags.verify === undefined ? [] : readLines(flags.verify, parseSseTrade);
  const books = flags.books === undefined ? [] : readLines(flags.books, parseSseSnapshot);
  const audit = new DayAudit(new SseVerifier(trades, books));
  const client = await connectClient(accessOf(flags), { platform: turnClock(), requestTimeoutMs: REQUEST_TIMEOUT_MS });
  let connections = 1;
  client.onState((state) => {
    if (state === 'open') connections++;
  });
  const bar = progressBar(commands.length, flags.json === true);
  const began = performance.now();
  let tradesSeen = 0;
  try {
    await replayDay({
      client,
      symbol: flags.symbol,
      commands,
      speed: flags.speed,
      audit,
      onProgress: (progress) => {
        tradesSeen = progress.trades;
        bar?.update(progress.commands, { trades: grouped(progress.trades) });
      },
    });
  } finally {
    bar?.stop();
    client.close();
  }
  const tookMs = Math.round(performance.now() - began);
  const commandsPerSecond = Math.round((commands.length / tookMs) * 1_000);
  const verdict = audit.finish();
  const isJudged = flags.verify !== undefined;
  const outcome = {
    symbol: flags.symbol,
    commands: commands.length,
    trades: tradesSeen,
    tookMs,
    commandsPerSecond,
    connections,
    ...(isJudged && verdict),
  };
  print(flags.json === true, outcome, () =>
    [ratesText(outcome), ...(isJudged ? [verdictText(verdict, books.length > 0)] : [])].join('\n'),
  );
  if (isJudged ? !verdict.exact : verdict.disagreements > 0) process.exitCode = 1;
}

function readLines<T>(file: string, parse: (line: string) => T): T[] {
  try {
    const bytes = readFileSync(file);
    const isZipped = bytes[0] === 0x1f && bytes[1] === 0x8b;
    const [, ...lines] = (isZipped ? gunzipSync(bytes) : bytes).toString('latin1').trim().split('\n');
    return lines.map(parse);
  } catch (error) {
    throw new Failure(
      `${file}: ${(error as Error).message}`,
      ['It must be a CSV file (or CSV.gz) with a header line, in the form that actors/exchange/sse-day.ts reads.'],
      'bad_request',
    );
  }
}

function progressBar(total: number, asJson: boolean): SingleBar | undefined {
  if (asJson || !process.stderr.isTTY) return undefined;
  const format =
    '{bar} {percentage} % | {value}/{total} commands | {trades} trades | {duration_formatted}, {eta_formatted} to go';
  const bar = new SingleBar({ format, stream: process.stderr, hideCursor: true, etaBuffer: 200 });
  bar.start(total, 0, { trades: 0 });
  return bar;
}

function ratesText(outcome: {
  commands: number;
  trades: number;
  tookMs: number;
  commandsPerSecond: number;
  connections: number;
}): string {
  const { commands, trades, tookMs, commandsPerSecond, connections } = outcome;
  return `${grouped(commands)} commands, ${grouped(trades)} trades in ${(tookMs / 1_000).toFixed(1)} s: ${grouped(commandsPerSecond)} commands/s over ${connections} connection${connections === 1 ? '' : 's'}`;
}

function verdictText(verdict: DayVerdict, withBooks: boolean): string {
  const lines = [
    `trades       ${grouped(verdict.tradesEqual)} of ${grouped(verdict.tradesExpected)} equal and in order (${grouped(verdict.tradesSeen)} seen)`,
    ...(withBooks
      ? [
          `books        ${grouped(verdict.booksEqual)} of ${grouped(verdict.booksApplicable)} published books equal on all levels`,
          `indicatives  ${verdict.indicativesEqual} of ${verdict.indicativesApplicable} published indicative prices equal`,
        ]
      : []),
    `states       ${grouped(verdict.statesFollowed)} followed event by event, ${grouped(verdict.statesBridged)} bridged by our own account; ${verdict.disagreements} disagreements`,
    ...verdict.differences.map((difference) => `  ${difference}`),
    verdict.exact ? 'EXACT' : 'NOT EXACT',
  ];
  return lines.join('\n');
}
