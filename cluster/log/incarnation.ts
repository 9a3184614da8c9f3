/**
 * An edge's incarnation: a number taken at each start that is above all that this edge, and any other, took before. Frames
 * of a lower incarnation are dropped by every fold, so a frozen edge that wakes up can do no harm.
 */
import type { KeyValue } from './key-value.ts';

/** The bucket of `takeIncarnation`; the key is the edge's id. */
export const EDGES_BUCKET = 'troupe_edges';

/**
 * Takes the next incarnation. When the answer is lost a number may be skipped, never used twice.
 * Errors: `log_unavailable`; RangeError for what is not an edge id.
 */
export async function takeIncarnation(edges: KeyValue, edge: string): Promise<number> {
  if (!/^[a-z0-9]{1,16}$/.test(edge)) throw new RangeError(`"${edge}" is not an edge id`);
  return edges.put(edge, new TextEncoder().encode(JSON.stringify({ startedAt: new Date().toISOString() })));
}
