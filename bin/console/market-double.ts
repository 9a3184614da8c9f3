/** For tests: a server of the console's files and of a seeded market behind an edge double, over real HTTP and websockets. */
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { extname, join } from 'node:path';
import { WebSocketServer } from 'ws';
import { bookInterface, bookQueries, bookTables, bookTopics } from '../../actors/exchange/book-interface.ts';
import type { Behaviour } from '../../protocol/client/edge-double.ts';
import { EdgeDouble } from '../../protocol/client/edge-double.ts';
import type { InferReply } from '../../protocol/interface.ts';
import { shapeOf, shapeOfField } from '../../protocol/shape.ts';
import type { Level, LevelChange, Side } from './ladder.ts';
import { Ladder } from './ladder.ts';
import { DEMO_KEY } from './market-feed.ts';

/** As the edge sends it: everything from the same origin, nothing inline. */
const CONTENT_SECURITY_POLICY =
  "default-src 'self'; connect-src 'self' ws: wss:; img-src 'self' data:; object-src 'none'; base-uri 'none'";
const TYPES: { readonly [extension: string]: string } = {
  '.html': 'text/html; charset=utf-8',
  '.js': 'text/javascript',
  '.css': 'text/css',
  '.svg': 'image/svg+xml',
};
const REF = `${bookInterface.kind}:${DEMO_KEY}`;
const MID = 10_000;

const l2Event = shapeOf(bookTopics.l2.event);
const l2Reply = shapeOf(bookQueries.l2.reply);
const status = shapeOf(bookQueries.status.reply);
const tradeRow = shapeOf(bookTables.trades.row);
const tradesReply = shapeOfField(bookQueries.trades.reply);

export class MarketDouble implements Behaviour {
  readonly ladder = new Ladder();
  bookSequence = 0;
  readonly edge: EdgeDouble;
  #state: number;
  readonly #trades: InferReply<typeof bookQueries.trades.reply> = [];

  constructor(seed: number) {
    this.#state = seed;
    this.edge = new EdgeDouble(this, { now: () => Date.now() });
    for (let offset = 1; offset <= 20; offset++) {
      this.#change({ side: 'bid', price: MID - offset, quantity: this.#draw(500) + 1 });
      this.#change({ side: 'ask', price: MID + offset, quantity: this.#draw(500) + 1 });
    }
  }

  command(): undefined {
    return undefined;
  }

  query(): Uint8Array {
    return tradesReply.encode(this.#trades.slice(-25));
  }

  snapshot(_ref: string, topic: string): Uint8Array | undefined {
    const { bookSequence } = this;
    const { bids, asks } = this.ladder.rows(1_000);
    const counts = { bidLevels: bids.length, askLevels: asks.length };
    if (topic === 'l2')
      return l2Reply.encode({ bookSequence, bids: bids.map(levelOf), asks: asks.map(levelOf), ...counts });
    const auction = { priceTicks: 0, matchedLots: 0, surplusLots: 0, surplusSide: 'none' } as const;
    return topic === 'status' ? status.encode({ bookSequence, phase: 'continuous', ...auction }) : undefined;
  }

  /** One step of the market: a level changes, sometimes a trade. */
  step(): void {
    const side: Side = this.#draw(2) === 0 ? 'bid' : 'ask';
    const price = MID + (side === 'bid' ? -1 : 1) * (1 + this.#draw(15));
    const quantity = this.#draw(8) === 0 && this.ladder.count(side) > 15 ? 0 : this.#draw(500) + 1;
    this.#change({ side, price, quantity });
    if (this.#draw(4) === 0) this.#trade(side, price);
  }

  #trade(aggressor: Side, priceTicks: number): void {
    const offset = this.#trades.length + 1;
    const numbers = { tradeNumber: offset, bidOrderNumber: 1, askOrderNumber: 2, bookSequence: this.bookSequence };
    const row = { ...numbers, priceTicks, quantityLots: this.#draw(90) + 10, aggressor, timeMs: Date.now() };
    this.#trades.push({ offset, ...row });
    this.#publish('trades', tradeRow.encode(row));
  }

  #change(change: LevelChange): void {
    this.bookSequence++;
    this.ladder.apply([change]);
    const changed = { bid: [levelOf(change)], ask: [] };
    const [bids, asks] = change.side === 'bid' ? [changed.bid, changed.ask] : [changed.ask, changed.bid];
    this.#publish('l2', l2Event.encode({ bookSequence: this.bookSequence, whole: false, bids, asks }));
  }

  #publish(topic: string, body: Uint8Array): void {
    this.edge.publish(REF, topic, body);
  }

  #draw(below: number): number {
    this.#state = (Math.imul(this.#state, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor((this.#state / 2 ** 32) * below);
  }
}

const levelOf = ({ price, quantity }: Level) => ({ priceTicks: price, quantityLots: quantity, orders: 1 });

export type ConsoleServer = {
  readonly url: string;
  readonly market: MarketDouble;
  /** Lets the market run, so many steps per second. */
  run(stepsPerSecond: number): void;
  rest(): void;
  /** Cuts every websocket; with `refuse`, new ones fail until it is called again without. */
  cut(refuse: boolean): void;
  stop(): Promise<void>;
};

/** Serves the built console in `folder` on a free port of the loopback address. */
export async function serveConsole(folder: string, seed: number): Promise<ConsoleServer> {
  const market = new MarketDouble(seed);
  let refusing = false;
  let timer: ReturnType<typeof setInterval> | undefined;
  const http = createServer((request, response) => answer(folder, request, response));
  const sockets = new WebSocketServer({ server: http, perMessageDeflate: false, verifyClient: () => !refusing });
  sockets.on('connection', (socket) => {
    const connected = market.edge.connect({
      send: (bytes) => socket.send(bytes),
      close: (code, reason) => socket.close(code, reason),
    });
    socket.on('message', (data: Buffer) => connected.receive(data));
    socket.on('close', () => connected.closed());
  });
  http.listen(0, '127.0.0.1');
  await once(http, 'listening');
  const cut = (refuse: boolean): void => {
    refusing = refuse;
    for (const socket of sockets.clients) socket.terminate();
  };
  const rest = (): void => clearInterval(timer);
  return {
    url: `http://127.0.0.1:${(http.address() as AddressInfo).port}/`,
    market,
    run: (stepsPerSecond) => {
      timer = setInterval(() => {
        for (let i = 0; i < stepsPerSecond / 50; i++) market.step();
      }, 20);
    },
    rest,
    cut,
    stop: async () => {
      rest();
      cut(true);
      http.closeAllConnections();
      http.close();
      await once(http, 'close');
    },
  };
}

function answer(folder: string, { url = '/' }: IncomingMessage, response: ServerResponse): void {
  if (url === '/v1/dev/token') {
    response.writeHead(200, { 'content-type': 'application/json' });
    response.end(JSON.stringify({ token: 'viewer' }));
    return;
  }
  const name = url === '/' ? 'index.html' : url.slice(1);
  const type = /^[a-z]+\.(html|js|css|svg)$/.test(name) ? TYPES[extname(name)] : undefined;
  if (type === undefined) {
    response.writeHead(404).end();
    return;
  }
  response.writeHead(200, { 'content-type': type, 'content-security-policy': CONTENT_SECURITY_POLICY });
  response.end(readFileSync(join(folder, name)));
}
