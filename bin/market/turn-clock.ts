/**
 * Clock and chance for a client that must keep the order of its commands: time stands still within one turn of the event loop,
 * and waits are not spread at random. So whatever was refused together is due again together, and leaves again in one message
 * and in the old order.
 */
import { type Platform, systemPlatform } from '../../protocol/client/platform.ts';

const NO_SPREAD = 0.1; // One client has nobody to keep out of step with: waits are always at their short end.

export function turnClock(): Platform {
  let nowMs: number | undefined;
  return {
    ...systemPlatform,
    now: () => {
      if (nowMs !== undefined) return nowMs;
      nowMs = performance.now();
      setImmediate(() => {
        nowMs = undefined;
      });
      return nowMs;
    },
    random: () => NO_SPREAD,
  };
}
