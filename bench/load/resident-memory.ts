/** The memory of this process after garbage collection; needs `--expose-gc`. */
import { setTimeout as sleep } from 'node:timers/promises';

const ROUNDS = 4; // Finalizers of one round free what the next collects.
const ROUND_MS = 100;

export async function residentBytes(): Promise<number> {
  if (!globalThis.gc) throw new Error('the process was started without --expose-gc');
  for (let round = 0; round < ROUNDS; round++) {
    globalThis.gc();
    await sleep(ROUND_MS);
  }
  return process.memoryUsage.rss();
}
