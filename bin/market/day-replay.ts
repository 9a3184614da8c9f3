/**
 * Sends a day of orders through one websocket, in order, whatever dies meanwhile.
 *
 * The order: commands go in batches, each one websocket message, and the next batch leaves when all answers are there. The edge
 * handles a message in one go: so it takes a batch whole, or refuses its end for one reason, and what is refused comes again in
 * one message (see turn-clock.ts). The taken part is in frames that enter the log in order or not at all; after a reconnect the
 * client sends everything unanswered again, in order and under the old numbers, and numbers that were executed are not executed
 * again. The replies prove it: their book sequences must be dense.
 */
import { bookInterface } from '../../actors/exchange/book-interface.ts';
import type { SseCommand, SsePhase } from '../../actors/exchange/sse-day.ts';
import type { ActorHandle, Client } from '../../protocol/client/client.ts';
import { Failure } from '../failure.ts';
import type { Answered, DayAudit } from './day-audit.ts';

/** A batch is one message: 64 fit, and a few places stay free for the client's own. */
const BATCH = 60;
const SNAPSHOT_TIMEOUT_MS = 10_000;
const MAX_WAITING = 1_000; // Answered commands whose trades or levels have not come: more would be skipped states after a reconnect.
const TOPICS_TIMEOUT_MS = 60_000; // For topics to come back after reconnects and restarts.
const QUIET_MS = 3_000;
const POLL_MS = 5;
const PHASES = { OPEN_AUCTION: 'opening_call', CONTINUOUS: 'continuous', CLOSE_AUCTION: 'closing_call' } as const;

type Book = ActorHandle<typeof bookInterface>;
type PhaseName = (typeof PHASES)[SsePhase] | 'closed';
type Step = { readonly phase: PhaseName } | { readonly command: SseCommand; readonly untilMs: number };

export type ReplayProgress = { readonly commands: number; readonly trades: number };

export type DayReplayOptions = {
  readonly client: Client;
  /** Key of a book that nobody has used: `XSHG/600519`. */
  readonly symbol: string;
  readonly commands: readonly SseCommand[];
  /** Market time over real time; undefined: as fast as it goes. */
  readonly speed: number | undefined;
  readonly audit: DayAudit;
  readonly onProgress: (progress: ReplayProgress) => void;
};

/** Resolves when all is sent, answered and published. Errors: Failure, TroupeError. */
export async function replayDay(options: DayReplayOptions): Promise<void> {
  const { client, symbol, commands, audit } = options;
  const book = client.actor(bookInterface, symbol);
  await demandUnused(book, symbol);
  let trades = 0;
  const ends = await follow(book, audit, () => trades++);
  try {
    const pace = new Pace(options.speed, commands[0]?.timeOfDayMs ?? 0);
    const steps = stepsOf(commands);
    let sent = 0;
    for (let at = 0; at < steps.length; ) {
      const batch = await pace.take(steps, at);
      for (const answer of await Promise.all(batch.map((step) => send(book, step)))) audit.answered(answer);
      at += batch.length;
      sent += batch.filter((step) => 'command' in step).length;
      options.onProgress({ commands: sent, trades });
      if (audit.waiting > MAX_WAITING) await caughtUp(client, () => audit.waiting < BATCH);
    }
    await caughtUp(client, () => audit.waiting === 0 && audit.statusKnown >= steps.length);
    options.onProgress({ commands: sent, trades });
  } finally {
    for (const end of ends) end();
  }
}

/** With the phases between, and the close at the end. */
function stepsOf(commands: readonly SseCommand[]): Step[] {
  const steps: Step[] = [];
  let phase: SsePhase | undefined;
  for (const [index, command] of commands.entries()) {
    if (command.phase !== phase) steps.push({ phase: PHASES[command.phase] });
    phase = command.phase;
    steps.push({ command, untilMs: commands[index + 1]?.timeOfDayMs ?? command.timeOfDayMs });
  }
  return [...steps, { phase: 'closed' }];
}

async function demandUnused(book: Book, symbol: string): Promise<void> {
  const { bookSequence } = await book.query('status', {});
  if (bookSequence === 0) return;
  const advice = [`Replay into a fresh book: --symbol ${symbol}-2`];
  throw new Failure(`the book ${symbol} was used before (book sequence ${bookSequence})`, advice, 'used_book');
}

/** Subscribes to everything and waits until all of it is followed. Gives the ends. */
async function follow(book: Book, audit: DayAudit, onTrade: () => void): Promise<(() => void)[]> {
  let waiting = 2;
  let failed: Error | undefined;
  const onEnded = (error: Error) => {
    failed = error;
  };
  const first = once(() => waiting--);
  const second = once(() => waiting--);
  const subscriptions = [
    book.subscribe('trades', {
      from: 0,
      onEvent: (trade) => {
        onTrade();
        audit.trade(trade);
      },
      onGap: ({ after, next }) => onEnded(new Failure(`trades ${after + 1} to ${next - 1} cannot be had any more`)),
      onEnded,
    }),
    book.subscribe('l2', {
      onSnapshot: (levels) => {
        first();
        audit.levels({ ...levels, replaces: true, isSnapshot: true });
      },
      onEvent: ({ whole, ...levels }) => audit.levels({ ...levels, replaces: whole, isSnapshot: false }),
      onEnded,
    }),
    book.subscribe('status', {
      onSnapshot: (status) => {
        second();
        audit.status({ ...status, isSnapshot: true });
      },
      onEvent: (status) => audit.status({ ...status, isSnapshot: false }),
      onEnded,
    }),
  ];
  await until(() => waiting === 0 || failed !== undefined, SNAPSHOT_TIMEOUT_MS);
  if (failed) throw failed;
  if (waiting > 0)
    throw new Failure(
      'the topics of the book do not answer',
      ['troupe status   shows how its partition is'],
      'timeout',
    );
  return subscriptions.map((subscription) => () => subscription.unsubscribe());
}

function once(run: () => void): () => void {
  let done = false;
  return () => {
    if (!done) run();
    done = true;
  };
}

async function send(book: Book, step: Step): Promise<Answered> {
  if ('phase' in step) {
    const { bookSequence } = await book.command('setPhase', { phase: step.phase });
    return { bookSequence, trades: 0, untilMs: 0 };
  }
  const { command, untilMs } = step;
  if (command.command === 'UNCROSS') return { ...(await book.command('uncross', {})), command, untilMs };
  const { orderId, priceTicks, side, timeInForce, quantityLots } = command;
  if (command.command === 'CANCEL') {
    const order = await book.command('cancel', { orderId });
    return { bookSequence: order.bookSequence, trades: order.trades, order, command, untilMs };
  }
  const order = await book.command('enter', {
    orderId,
    priceTicks,
    quantityLots,
    side,
    timeInForce,
    orderType: 'limit',
  });
  return { bookSequence: order.bookSequence, trades: order.trades, order, command, untilMs };
}

/**
 * Topics may be behind the replies, and far behind after a reconnect. An event that was lost inside the cluster is missed there
 * only when the next one comes, and none comes while we wait: so after a while of silence we connect anew, which asks for it.
 */
async function caughtUp(client: Client, holds: () => boolean): Promise<void> {
  const deadline = performance.now() + TOPICS_TIMEOUT_MS;
  while (performance.now() < deadline) {
    await until(holds, QUIET_MS);
    if (holds()) return;
    if (client.state === 'open') client.reconnect();
  }
  throw new Failure(
    'the topics of the book do not come any more',
    ['troupe status   shows how its partition is'],
    'timeout',
  );
}

async function until(holds: () => boolean, timeoutMs: number): Promise<void> {
  const deadline = performance.now() + timeoutMs;
  while (!holds() && performance.now() < deadline) await new Promise((resolve) => setTimeout(resolve, POLL_MS));
}

/** How much of the day is due. */
class Pace {
  readonly #speed: number | undefined;
  readonly #firstMs: number;
  readonly #began = performance.now();

  constructor(speed: number | undefined, firstMs: number) {
    this.#speed = speed;
    this.#firstMs = firstMs;
  }

  /** The next batch, as soon as its first step is due. */
  async take(steps: readonly Step[], at: number): Promise<readonly Step[]> {
    const batch = steps.slice(at, at + BATCH);
    if (this.#speed === undefined) return batch;
    const waitMs = this.#dueMs(batch[0] as Step) - performance.now();
    if (waitMs > 0) await new Promise((resolve) => setTimeout(resolve, waitMs));
    const now = performance.now();
    const early = batch.findIndex((step, index) => index > 0 && this.#dueMs(step) > now);
    return early < 0 ? batch : batch.slice(0, early);
  }

  /** Phases change with the command behind them. */
  #dueMs(step: Step): number {
    if (!('command' in step) || this.#speed === undefined) return 0;
    return this.#began + (step.command.timeOfDayMs - this.#firstMs) / this.#speed;
  }
}
