/** Calls its owner at evenly spaced times, to some tens of microseconds. */
import { parentPort, workerData } from 'node:worker_threads';
import { nowMs } from './pace.ts';

const { startMs, tickMs, endMs } = workerData as { startMs: number; tickMs: number; endMs: number };
const never = new Int32Array(new SharedArrayBuffer(4));

for (let dueMs = startMs; dueMs < endMs + tickMs; ) {
  const waitMs = dueMs - nowMs();
  if (waitMs > 0) Atomics.wait(never, 0, 0, waitMs);
  parentPort?.postMessage(undefined);
  dueMs += tickMs * Math.max(1, Math.ceil((nowMs() - dueMs) / tickMs)); // Calls that are late already are left out.
}
