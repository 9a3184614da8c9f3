/**
 * The demo market: a client like any other, in a process of its own, that trades synthetic orders with itself through the
 * websocket. Everything that it does is made up.
 */
import type { Logger } from 'pino';
import WebSocket from 'ws';
import { bookInterface } from '../../actors/exchange/book-interface.ts';
import { issueToken, readOrMakeSecret } from '../../cluster/edge/tokens.ts';
import { type ActorHandle, type Client, connect, type SocketClass, TroupeError } from '../../protocol/client/client.ts';
import { DemoOrders, type DemoWish } from '../market/demo-orders.ts';
import { describe, fileLogger, type LogTarget, runRole, type Stop } from './role.ts';

export type DemoRoleSettings = {
  readonly url: string;
  readonly secretFile: string;
  readonly commandsPerSecond: number;
  readonly seed: number;
  readonly log: LogTarget;
};

/** `DEMO` is no venue of the world. */
export const DEMO_KEY = 'DEMO/ACME';
const PRINCIPAL = 'demo';
const TOKEN_LIFE_MS = 3_600_000; // The client asks for a new one before its end.
const STEP_MS = 20; // Commands of one step leave together: 50 steps a second look fluent.
const MAX_UNANSWERED = 200; // While the server is away nothing piles up.
const MAX_ORDERS_ASKED = 1_000; // One page: a former demo had hardly more.

type Book = ActorHandle<typeof bookInterface>;

export async function startDemo(settings: DemoRoleSettings): Promise<{ report: unknown; stop: Stop }> {
  const logger = fileLogger('demo', settings.log);
  const secret = readOrMakeSecret(settings.secretFile);
  const client = connect({
    url: `${settings.url.replace(/^http/, 'ws')}/v1/socket`,
    token: () => issueToken(secret, { principal: PRINCIPAL, roles: ['trader', 'operator'], lifeMs: TOKEN_LIFE_MS }),
    WebSocket: WebSocket as unknown as SocketClass,
    clientName: 'demo market',
  });
  const market = new DemoMarket(client, settings, logger);
  await market.start();
  return { report: { key: DEMO_KEY }, stop: () => market.stop() };
}

class DemoMarket {
  readonly #client: Client;
  readonly #book: Book;
  readonly #orders: DemoOrders;
  readonly #perStep: number;
  readonly #logger: Logger;
  /** Above all ids of former runs. */
  #nextOrderId = Date.now() * 1_000;
  #owed = 0;
  #unanswered = 0;
  #timer: NodeJS.Timeout | undefined;

  constructor(client: Client, settings: DemoRoleSettings, logger: Logger) {
    this.#client = client;
    this.#book = client.actor(bookInterface, DEMO_KEY);
    this.#orders = new DemoOrders(settings.seed);
    this.#perStep = (settings.commandsPerSecond * STEP_MS) / 1_000;
    this.#logger = logger;
  }

  async start(): Promise<void> {
    const { phase } = await this.#book.query('status', {});
    if (phase !== 'continuous') await this.#book.command('setPhase', { phase: 'continuous' });
    for (const { orderId } of await this.#book.query('orders', { limit: MAX_ORDERS_ASKED }))
      this.#orders.rests(orderId);
    this.#timer = setInterval(() => this.#step(), STEP_MS);
  }

  async stop(): Promise<void> {
    clearInterval(this.#timer);
    this.#client.close();
  }

  #step(): void {
    this.#owed = Math.min(this.#owed + this.#perStep, MAX_UNANSWERED);
    while (this.#owed >= 1 && this.#unanswered < MAX_UNANSWERED && this.#client.state === 'open') {
      this.#owed--;
      this.#unanswered++;
      void this.#do(this.#orders.next()).finally(() => this.#unanswered--);
    }
  }

  /** Refusals are a market's daily bread: an order to be cancelled may have been filled meanwhile. */
  async #do(wish: DemoWish): Promise<void> {
    try {
      if (wish.type === 'cancel') await this.#book.command('cancel', { orderId: wish.orderId });
      else await this.#enter(wish);
    } catch (error) {
      const isExpected =
        error instanceof TroupeError && (error.code === 'unknown_order' || error.retryable || error.code === 'closed');
      if (!isExpected) this.#logger.warn({ wish, reason: describe(error) }, 'refused');
    }
  }

  async #enter({ side, priceTicks, quantityLots, timeInForce }: Extract<DemoWish, { type: 'enter' }>): Promise<void> {
    const orderId = this.#nextOrderId++;
    const { status } = await this.#book.command('enter', {
      orderId,
      side,
      priceTicks,
      quantityLots,
      timeInForce,
      orderType: 'limit',
    });
    if (status === 'resting') this.#orders.rests(orderId);
  }
}

if (process.send) runRole(startDemo);
