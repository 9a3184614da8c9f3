/**
 * Where the page's figures come from: the topics of one order book, turned into the page's own terms. This is the only file of
 * the console that knows the book's interface.
 */
import { bookInterface } from '../../actors/exchange/book-interface.ts';
import type { ActorHandle, Client, TopicEvent, TroupeError } from '../../protocol/client/client.ts';
import type { Level, LevelChange, Side } from './ladder.ts';
import type { Trade } from './trade-list.ts';

/** The instrument of the demo market. */
export const DEMO_KEY = 'DEMO/ACME';
/** Decimals of a price: the demo market's tick is a cent. */
export const PRICE_DECIMALS = 2;

export type MarketHandlers = {
  /** The whole book; it replaces what was known. */
  book(bids: readonly Level[], asks: readonly Level[]): void;
  levels(changes: readonly LevelChange[]): void;
  trade(trade: Trade): void;
  /** Trades of the time before the page was opened, oldest first. */
  formerTrades(trades: readonly Trade[]): void;
  phase(name: string): void;
  /** An event came; `commands` have changed the book so far. */
  event(commands: number): void;
  /** The market cannot be followed; the text is for the reader. */
  failed(reason: string): void;
};

type Book = typeof bookInterface;
type L2Event = TopicEvent<Book, 'l2'>;
type BookLevel = L2Event['bids'][number];

/** Follows one book until the client is closed. `recentTrades`: how many former trades are wanted. */
export function followMarket(client: Client, key: string, recentTrades: number, handlers: MarketHandlers): void {
  const actor = client.actor(bookInterface, key);
  const onEnded = (error: TroupeError): void => {
    if (error.code !== 'closed') handlers.failed(error.message);
  };
  actor.subscribe('l2', {
    onSnapshot: ({ bids, asks }) => handlers.book(bids.map(levelOf), asks.map(levelOf)),
    onEvent: (event) => {
      if (event.whole) handlers.book(event.bids.map(levelOf), event.asks.map(levelOf));
      else handlers.levels([...changesOf('bid', event.bids), ...changesOf('ask', event.asks)]);
      handlers.event(event.bookSequence);
    },
    onEnded,
  });
  actor.subscribe('status', {
    onSnapshot: ({ phase }) => handlers.phase(phase),
    onEvent: ({ phase, bookSequence }) => {
      handlers.phase(phase);
      handlers.event(bookSequence);
    },
    onEnded,
  });
  void followTrades(actor, recentTrades, handlers, onEnded);
}

/** First the newest of the past, then everything after them. */
async function followTrades(
  actor: ActorHandle<Book>,
  recentTrades: number,
  handlers: MarketHandlers,
  onEnded: (error: TroupeError) => void,
): Promise<void> {
  const former = await actor.query('trades', { limit: recentTrades }).catch(onEnded);
  if (!former) return;
  handlers.formerTrades(former.map((row) => tradeOf(row)));
  actor.subscribe('trades', {
    from: former.at(-1)?.offset ?? 0,
    onEvent: (row) => {
      handlers.trade(tradeOf(row));
      handlers.event(row.bookSequence);
    },
    onEnded,
  });
}

function tradeOf({ tradeNumber, priceTicks, quantityLots, aggressor, timeMs }: TopicEvent<Book, 'trades'>): Trade {
  const side = aggressor === 'none' ? undefined : aggressor;
  return { number: tradeNumber, price: priceTicks, quantity: quantityLots, aggressor: side, timeMs };
}

const levelOf = ({ priceTicks, quantityLots }: BookLevel): Level => ({ price: priceTicks, quantity: quantityLots });

function changesOf(side: Side, levels: readonly BookLevel[]): LevelChange[] {
  return levels.map((level) => ({ side, ...levelOf(level) }));
}
