/** The web console's beginning: connects as a viewer, follows the demo market, and says how the connection is. */
import type { Client, ClientState } from '../../protocol/client/client.ts';
import { connect, TroupeError } from '../../protocol/client/client.ts';
import { Ladder } from './ladder.ts';
import type { MarketHandlers } from './market-feed.ts';
import { DEMO_KEY, followMarket, PRICE_DECIMALS } from './market-feed.ts';
import type { Model } from './market-view.ts';
import { MarketView, TRADES_SHOWN } from './market-view.ts';
import { RateMeter } from './rate-meter.ts';
import { TradeList } from './trade-list.ts';

const TOKEN_ADDRESS = '/v1/dev/token';
/** Rates fall although nothing arrives: the page is drawn so often even then. */
const REDRAW_MS = 1_000;

const STATE_TEXTS: { readonly [S in ClientState]: string } = {
  connecting: 'Connecting',
  open: 'Live',
  reconnecting: 'Connection lost, connecting again',
  closed: 'Not connected',
};

start();

function start(): void {
  const model = newModel();
  const view = new MarketView(document, model, PRICE_DECIMALS);
  const client = connect({ url: socketAddress(), token: viewerToken, clientName: 'console' });
  element('symbol').textContent = DEMO_KEY;
  showState(client);
  wireControls(client, view);
  followMarket(client, DEMO_KEY, TRADES_SHOWN, handlersOf(model, view));
  setInterval(() => view.changed(), REDRAW_MS);
}

type LiveModel = Model & { phase: string; lastCommands: number | undefined };

function newModel(): LiveModel {
  return {
    ladder: new Ladder(),
    trades: new TradeList(TRADES_SHOWN),
    events: new RateMeter(),
    commands: new RateMeter(),
    phase: '',
    lastCommands: undefined,
  };
}

function handlersOf(model: LiveModel, view: MarketView): MarketHandlers {
  return {
    book: (bids, asks) => {
      model.ladder.replace(bids, asks);
      view.changed();
    },
    levels: (changes) => model.ladder.apply(changes),
    trade: (trade) => model.trades.add(trade),
    formerTrades: (trades) => {
      for (const trade of trades) model.trades.remember(trade);
      view.changed();
    },
    phase: (name) => {
      model.phase = name;
      view.changed();
    },
    event: (commands) => {
      countEvent(model, commands, performance.now());
      view.changed();
    },
    failed: (reason) => {
      element('problem').textContent = `${DEMO_KEY} cannot be followed: ${reason}`;
      element('problem').hidden = false;
    },
  };
}

/** Several events may tell of one command, in any order; only what is beyond the highest count is new. */
function countEvent(model: LiveModel, commands: number, nowMs: number): void {
  const before = model.lastCommands ?? commands;
  model.events.add(1, nowMs);
  model.commands.add(Math.max(0, commands - before), nowMs);
  model.lastCommands = Math.max(before, commands);
}

function showState(client: Client): void {
  client.onState((state, reason) => {
    document.body.dataset.state = state;
    const because = reason && state !== 'open' ? ` (${reason.message})` : '';
    element('connection').textContent = `${STATE_TEXTS[state]}${because}`;
    element('again').hidden = state !== 'closed';
  });
}

function wireControls(client: Client, view: MarketView): void {
  const pause = element('pause');
  pause.addEventListener('click', () => {
    const paused = pause.getAttribute('aria-pressed') !== 'true';
    pause.setAttribute('aria-pressed', String(paused));
    view.paused = paused;
  });
  element('again').addEventListener('click', () => location.reload());
  // The browser knows sooner than any backoff that the network is back.
  addEventListener('online', () => {
    if (client.state === 'reconnecting' || client.state === 'connecting') client.reconnect();
  });
}

function socketAddress(): string {
  return `${location.protocol === 'https:' ? 'wss:' : 'ws:'}//${location.host}/`;
}

/** A server that gives no viewer tokens (anything but a local development one) ends the attempts with its reason. */
async function viewerToken(): Promise<string> {
  const response = await fetch(TOKEN_ADDRESS, { cache: 'no-store' });
  if (response.status === 403 || response.status === 404) {
    throw new TroupeError('forbidden', 'this server gives no viewer tokens to this page');
  }
  if (!response.ok) throw new TroupeError('disconnected', `no token: status ${response.status}`);
  const { token } = (await response.json()) as { token: string };
  return token;
}

function element(id: string): HTMLElement {
  const found = document.getElementById(id);
  if (!found) throw new Error(`the page has no element "${id}"`);
  return found;
}
