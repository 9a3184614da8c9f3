/**
 * The orders of one book as columns of numbers: an order is a slot, its fields are cells of typed arrays, and freed slots are
 * used again. Nothing is allocated per order. Which slot an order got is nobody's business: it never reaches an event or a
 * saved book.
 */

const FIRST_CAPACITY = 1024;
/** Ends a list of slots. */
export const NONE = -1;

/** Columns are public because the book's hot path reads them flat; only this file changes their length. */
export class OrderPool {
  owners = new Uint32Array(FIRST_CAPACITY);
  orderIds = new Float64Array(FIRST_CAPACITY);
  orderNumbers = new Float64Array(FIRST_CAPACITY);
  pricesTicks = new Float64Array(FIRST_CAPACITY);
  remainingLots = new Float64Array(FIRST_CAPACITY);
  executedLots = new Float64Array(FIRST_CAPACITY);
  sides = new Uint8Array(FIRST_CAPACITY);
  timesInForce = new Uint8Array(FIRST_CAPACITY);
  /** Neighbours in the queue of a price level, and that level's slot. */
  next = new Int32Array(FIRST_CAPACITY);
  previous = new Int32Array(FIRST_CAPACITY);
  levels = new Int32Array(FIRST_CAPACITY);
  /** Slots in use. */
  size = 0;
  private capacity = FIRST_CAPACITY;
  private firstFree = NONE;
  private neverUsed = 0;

  /** A slot with the given fields, nothing executed yet, in no queue. */
  allocate(
    owner: number,
    orderId: number,
    orderNumber: number,
    side: number,
    timeInForce: number,
    priceTicks: number,
    quantityLots: number,
  ): number {
    const order = this.takeSlot();
    this.owners[order] = owner;
    this.orderIds[order] = orderId;
    this.orderNumbers[order] = orderNumber;
    this.sides[order] = side;
    this.timesInForce[order] = timeInForce;
    this.pricesTicks[order] = priceTicks;
    this.remainingLots[order] = quantityLots;
    this.executedLots[order] = 0;
    return order;
  }

  /** Gives a slot back. The caller holds no reference to it any more. */
  release(order: number): void {
    this.next[order] = this.firstFree;
    this.firstFree = order;
    this.size -= 1;
  }

  private takeSlot(): number {
    this.size += 1;
    const order = this.firstFree;
    if (order !== NONE) {
      this.firstFree = this.next[order]!;
      return order;
    }
    if (this.neverUsed === this.capacity) this.grow();
    this.neverUsed += 1;
    return this.neverUsed - 1;
  }

  private grow(): void {
    this.capacity *= 2;
    this.owners = widen(this.owners, new Uint32Array(this.capacity));
    this.orderIds = widen(this.orderIds, new Float64Array(this.capacity));
    this.orderNumbers = widen(this.orderNumbers, new Float64Array(this.capacity));
    this.pricesTicks = widen(this.pricesTicks, new Float64Array(this.capacity));
    this.remainingLots = widen(this.remainingLots, new Float64Array(this.capacity));
    this.executedLots = widen(this.executedLots, new Float64Array(this.capacity));
    this.sides = widen(this.sides, new Uint8Array(this.capacity));
    this.timesInForce = widen(this.timesInForce, new Uint8Array(this.capacity));
    this.next = widen(this.next, new Int32Array(this.capacity));
    this.previous = widen(this.previous, new Int32Array(this.capacity));
    this.levels = widen(this.levels, new Int32Array(this.capacity));
  }
}

/** Copies `from` to the beginning of the longer `to` and returns `to`. */
export function widen<Column extends Uint8Array | Uint32Array | Int32Array | Float64Array>(
  from: Column,
  to: Column,
): Column {
  to.set(from);
  return to;
}
