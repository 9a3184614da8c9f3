/** How the laws draw commands of a book: few prices and order ids, so that orders meet, and phases in which they do, for a while. */
import { choice, int } from '../../protocol/schema.ts';
import type { Drawing } from '../test-history.ts';

export const drawing: Drawing = {
  fields: {
    orderId: int(1, 12),
    priceTicks: int(97, 103),
    quantityLots: int(1, 30),
    orderType: choice('limit'),
    phase: choice('opening_call', 'continuous'),
  },
  weights: { enter: 4, setPhase: 0.2, uncross: 0.2, endOfDay: 0.1 },
};
