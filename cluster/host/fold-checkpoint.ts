/**
 * Takes a checkpoint of a running fold: everything as it was at one sequence, while the fold goes on. At the beginning pending
 * buffers are swapped and changed actors and sessions marked; they are saved in slices, or before the next record touches them;
 * then one transaction commits. A failed one loses nothing: the next takes its changes along.
 */
import { crc32 } from 'node:zlib';
import type { Change } from '../checkpoint/checkpoint.ts';
import type { Fold } from './fold.ts';
import { encodeHead, META_KEY } from './head.ts';

const SLICE_MS = 2; // A record that waits behind a slice still answers within the latency goals.
const SESSION_IDLE_MS = 60_000; // Sessions quiet for a minute cost a read when they come back, and no memory until then.

export type CheckpointResult = {
  readonly sequence: number;
  readonly changes: number;
  readonly bytes: number;
  /** Longest time the loop was held, and the whole. */
  readonly heldMs: number;
  readonly tookMs: number;
};

/**
 * Errors: `storage_full`, `storage_failed` (the fold goes on; try again later). `pause` lets other work run between slices.
 * `nowMs` is a monotonic clock. One checkpoint of a fold at a time.
 */
export async function takeCheckpoint(
  fold: Fold,
  nowMs: () => number,
  pause: () => Promise<void>,
): Promise<CheckpointResult> {
  const startMs = nowMs();
  fold.head.crc = crc32(fold.lastData);
  const { sequence, nowMs: logMs } = fold.head;
  const head = encodeHead(fold.head);
  fold.actors.mark();
  fold.sessions.mark(logMs);
  fold.overlay.freeze();
  let heldMs = nowMs() - startMs;
  for (let isDone = false; !isDone; ) {
    await pause();
    const sliceMs = nowMs();
    const until = () => nowMs() - sliceMs >= SLICE_MS;
    isDone = fold.actors.slice(until) && fold.sessions.slice(until);
    heldMs = Math.max(heldMs, nowMs() - sliceMs);
  }
  const tally = { changes: 0, bytes: 0 };
  await commit(fold, counted(tally, fold, head), logMs);
  return { sequence, ...tally, heldMs, tookMs: nowMs() - startMs };
}

/** Handed over one by one, so that no list of all of them is ever made in one go. */
function* counted(tally: { changes: number; bytes: number }, fold: Fold, head: Uint8Array): Iterable<Change> {
  for (const changes of [fold.actors.takeFrozen(), fold.sessions.takeFrozen(), fold.overlay.takeFrozen()]) {
    for (const change of changes) {
      tally.changes++;
      tally.bytes += change.key.length + (change.value?.length ?? 0);
      yield change;
    }
  }
  yield { space: 'meta', key: META_KEY, value: head };
}

async function commit(fold: Fold, changes: Iterable<Change>, logMs: number): Promise<void> {
  try {
    await fold.store.commit(changes);
  } catch (error) {
    fold.actors.restore();
    fold.overlay.restore();
    throw error;
  }
  fold.actors.release();
  fold.overlay.release();
  fold.sessions.release(logMs, SESSION_IDLE_MS);
}
