/** What the client needs of the machine under it: clock, timers, chance and sockets. All of it can be put in from outside. */

export type Platform = {
  /** Milliseconds of a clock that never steps back. */
  now(): number;
  /** Runs once, after `delayMs`. */
  setTimer(run: () => void, delayMs: number): unknown;
  clearTimer(timer: unknown): void;
  /** In [0, 1). */
  random(): number;
};

export const systemPlatform: Platform = {
  now: () => performance.now(),
  setTimer: (run, delayMs) => setTimeout(run, delayMs),
  clearTimer: (timer) => clearTimeout(timer as ReturnType<typeof setTimeout>),
  random: Math.random,
};

/** The part of the WebSocket interface that the client uses. Handlers take `never` so that every implementation fits. */
export type Socket = {
  binaryType: string;
  onopen: ((event: never) => void) | null;
  onmessage: ((event: never) => void) | null;
  onclose: ((event: never) => void) | null;
  onerror: ((event: never) => void) | null;
  send(data: Uint8Array): void;
  close(code?: number, reason?: string): void;
};

/** A browser's or Node 22's WebSocket, or the class that the npm package `ws` exports. */
export type SocketClass = new (url: string, protocol: string) => Socket;

/** The WebSocket class to use. Errors: TypeError where the platform has none (Node 20) and none was given. */
export function socketClass(given: SocketClass | undefined): SocketClass {
  const found = given ?? (globalThis as { WebSocket?: SocketClass }).WebSocket;
  if (!found) throw new TypeError('this platform has no WebSocket: pass one, e.g. that of the npm package ws');
  return found;
}

/** Lets an error of the application's own callback surface as uncaught, without harming the client that called it. */
export function throwLater(error: unknown): void {
  queueMicrotask(() => {
    throw error;
  });
}
