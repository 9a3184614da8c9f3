/**
 * The book as whoever entered all of its orders knows it: what was entered, less what replies and published trades took away. It
 * shares nothing with the server's book and stands in where a lossy topic left states out.
 */
import type { SideName } from '../../actors/exchange/order-book-events.ts';
import { SideLevels } from './side-levels.ts';

type OwnOrder = {
  readonly orderId: number;
  readonly side: SideName;
  readonly priceTicks: number;
  remainingLots: number;
  rests: boolean;
};

/** What the server says after a command on an order. */
export type OrderReply = { readonly orderNumber: number; readonly status: string; readonly remainingLots: number };

export class OwnOrders {
  readonly bids = new SideLevels('bid');
  readonly asks = new SideLevels('ask');
  /** Levels that the last command touched. */
  readonly touched: { readonly side: SideName; readonly priceTicks: number }[] = [];
  readonly #byId = new Map<number, OwnOrder>();
  readonly #byNumber = new Map<number, OwnOrder>();

  /** The exchange's id of an order, by the number that the book gave it; 0 if none of ours has it. */
  idOf(orderNumber: number): number {
    return this.#byNumber.get(orderNumber)?.orderId ?? 0;
  }

  /** A command begins. */
  begin(): void {
    this.touched.length = 0;
  }

  /** Before its trades. */
  entered(
    orderId: number,
    side: SideName,
    priceTicks: number,
    quantityLots: number,
    { orderNumber }: OrderReply,
  ): void {
    const order = { orderId, side, priceTicks, remainingLots: quantityLots, rests: false };
    this.#byId.set(orderId, order);
    this.#byNumber.set(orderNumber, order);
  }

  traded(orderNumber: number, quantityLots: number): void {
    const order = this.#byNumber.get(orderNumber);
    if (!order) return;
    order.remainingLots -= quantityLots;
    if (order.rests) this.#change(order, -quantityLots);
  }

  /** After its trades. Returns whether the reply agrees with them. */
  settled(orderId: number, { status, remainingLots }: OrderReply): boolean {
    const order = this.#byId.get(orderId);
    if (!order) return false;
    if (status === 'resting') {
      order.rests = true;
      this.#change(order, order.remainingLots);
      return order.remainingLots === remainingLots;
    }
    return status !== 'filled' || order.remainingLots === 0;
  }

  cancelled(orderId: number): boolean {
    const order = this.#byId.get(orderId);
    if (!order?.rests) return false;
    this.#change(order, -order.remainingLots);
    order.rests = false;
    return true;
  }

  levels(side: SideName): SideLevels {
    return side === 'bid' ? this.bids : this.asks;
  }

  #change({ side, priceTicks }: OwnOrder, lots: number): void {
    const levels = this.levels(side);
    levels.set(priceTicks, levels.lotsAt(priceTicks) + lots);
    this.touched.push({ side, priceTicks });
  }
}
