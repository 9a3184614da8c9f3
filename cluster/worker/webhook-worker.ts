/**
 * Performs webhooks: one HTTP request per effect, at least once, under a stable `Idempotency-Key`, with retries.
 *
 * - 2xx is done. Network errors, time-outs, 408, 425, 429 and 5xx are tried again with full jitter; every other answer, and what
 *   cannot be sent at all, is final. After the last attempt the outcome is `failed`: a dead letter for the actor to see.
 * - Redirects are not followed (an address that moved is an answer for the actor, and it could point into our own network).
 * - `run` never rejects. A host that hangs takes no more than its own share of the connections.
 */
import type { WebhookRequest } from '../../actors/definition.ts';
import { type Clock, systemClock } from '../log/clock.ts';
import { cutText, readText } from './response-text.ts';
import { retryAfterMs } from './retry-after.ts';

export type WebhookLimits = {
  /** Attempts in all, the first included. */
  readonly maxAttempts: number;
  /** From the beginning of an attempt to the end of its body. */
  readonly timeoutMs: number;
  readonly maxConcurrent: number;
  readonly maxConcurrentPerHost: number;
  /** The wait before retry n is drawn from [0, min(firstDelayMs * 2^(n-1), maxDelayMs)). */
  readonly firstDelayMs: number;
  readonly maxDelayMs: number;
  /** A longer `Retry-After` counts as this. */
  readonly maxRetryAfterMs: number;
};

const WEBHOOK_LIMITS: WebhookLimits = {
  maxAttempts: 8, // With the delays below: about two minutes of trying against a host that refuses at once.
  timeoutMs: 10_000, // What the receivers of webhooks are commonly told to answer within.
  maxConcurrent: 64, // Sockets of one process; a 10 s time-out on all of them still gives 6 answers a second.
  maxConcurrentPerHost: 8, // A receiver is not flooded, and a dead one holds an eighth of the sockets.
  firstDelayMs: 1_000, // Longer than a connection that is being restarted.
  maxDelayMs: 60_000, // Longer waits only make the recovery longer.
  maxRetryAfterMs: 300_000, // A receiver may ask for patience, not for ever.
};

const MAX_BODY_BYTES = 4 * 1024; // What the `body` field of WEBHOOK_RESULT holds.
const OWN_HEADERS = new Set(['idempotency-key', 'host', 'content-length', 'connection', 'transfer-encoding', 'expect']); // Ours or the connection's.
const RETRIED_STATUSES = new Set([408, 425, 429]); // Beside all 5xx.

/** `status` and `body` are those of the last answer; status 0 means that there was none, and the body says why. */
export type WebhookResult = {
  readonly outcome: 'done' | 'failed';
  readonly status: number;
  readonly body: string;
  readonly attempts: number;
};

type Fetch = (url: URL, init: RequestInit) => Promise<Response>;

export type WebhookOptions = {
  readonly fetch?: Fetch;
  readonly clock?: Clock;
  /** Draws from [0, 1). */
  readonly random?: () => number;
  readonly limits?: Partial<WebhookLimits>;
};

type Effect = { readonly id: string; readonly request: WebhookRequest };
type Job = {
  readonly url: URL;
  readonly init: RequestInit;
  readonly resolve: (result: WebhookResult) => void;
  attempts: number;
};
type Host = { readonly ready: Job[]; running: number };
type Answer = { readonly status: number; readonly body: string; readonly retryAfterMs: number };

export class WebhookWorker {
  readonly #fetch: Fetch;
  readonly #clock: Clock;
  readonly #random: () => number;
  readonly #limits: WebhookLimits;
  /** In the order in which hosts take turns. */
  readonly #hosts = new Map<string, Host>();
  readonly #waits = new Set<() => void>();
  readonly #attempts = new Set<AbortController>();
  #stopped = false;

  constructor({ fetch = globalThis.fetch, clock = systemClock, random = Math.random, limits }: WebhookOptions = {}) {
    this.#fetch = fetch;
    this.#clock = clock;
    this.#random = random;
    this.#limits = { ...WEBHOOK_LIMITS, ...limits };
  }

  /** How many requests are on their way, and how many wait for a free connection or for their next attempt. */
  get load(): { readonly running: number; readonly ready: number; readonly waiting: number } {
    const ready = [...this.#hosts.values()].reduce((sum, host) => sum + host.ready.length, 0);
    return { running: this.#attempts.size, ready, waiting: this.#waits.size };
  }

  /**
   * Performs one effect, however long it takes. Never rejects; after `stop` it never settles, since the effect is neither done
   * nor given up (whoever keeps it runs it again). The caller bounds how many are asked for at once.
   */
  run({ id, request }: Effect): Promise<WebhookResult> {
    return new Promise((resolve) => {
      let job: Job;
      try {
        job = { url: urlOf(request), init: initOf(id, request), resolve, attempts: 0 };
      } catch (error) {
        resolve({ outcome: 'failed', status: 0, body: reasonOf(error), attempts: 0 });
        return;
      }
      this.#enqueue(job);
    });
  }

  /** Ends all requests and retries; nothing settles any more. */
  stop(): void {
    this.#stopped = true;
    for (const cancel of this.#waits) cancel();
    for (const attempt of this.#attempts) attempt.abort();
    this.#waits.clear();
    this.#hosts.clear();
  }

  #enqueue(job: Job): void {
    if (this.#stopped) return;
    const host = this.#hosts.get(job.url.host) ?? { ready: [], running: 0 };
    host.ready.push(job);
    this.#hosts.set(job.url.host, host);
    this.#startReady();
  }

  #startReady(): void {
    for (let next = this.#nextHost(); next !== undefined; next = this.#nextHost()) {
      next.running++;
      void this.#perform(next.ready.shift()!, next);
    }
  }

  /** The host whose turn it is, if a connection is free; it goes to the end of the line. */
  #nextHost(): Host | undefined {
    if (this.#attempts.size >= this.#limits.maxConcurrent) return undefined;
    for (const [name, host] of this.#hosts) {
      if (host.ready.length === 0 || host.running >= this.#limits.maxConcurrentPerHost) continue;
      this.#hosts.delete(name);
      this.#hosts.set(name, host);
      return host;
    }
    return undefined;
  }

  async #perform(job: Job, host: Host): Promise<void> {
    job.attempts++;
    const answer = await this.#attempt(job);
    host.running--;
    if (this.#stopped) return;
    this.#conclude(job, answer);
    if (host.running === 0 && host.ready.length === 0) this.#hosts.delete(job.url.host);
    this.#startReady();
  }

  /** One request. An answer that did not come in time or whole is status 0 with the reason. */
  async #attempt({ url, init }: Job): Promise<Answer> {
    const attempt = new AbortController();
    this.#attempts.add(attempt);
    const timeout = new Error(`no answer within ${this.#limits.timeoutMs} ms`);
    const cancel = this.#clock.after(this.#limits.timeoutMs, () => attempt.abort(timeout));
    try {
      const response = await this.#fetch(url, { ...init, signal: attempt.signal });
      const body = await readText(response.body, MAX_BODY_BYTES);
      return { status: response.status, body, retryAfterMs: retryAfterMs(response.headers) };
    } catch (error) {
      return { status: 0, body: reasonOf(error), retryAfterMs: 0 };
    } finally {
      cancel();
      this.#attempts.delete(attempt);
    }
  }

  #conclude(job: Job, { status, body, retryAfterMs }: Answer): void {
    const { attempts } = job;
    if (status >= 200 && status < 300) job.resolve({ outcome: 'done', status, body, attempts });
    else if (!isRetried(status) || attempts >= this.#limits.maxAttempts) {
      job.resolve({ outcome: 'failed', status, body, attempts });
    } else this.#retryLater(job, retryAfterMs);
  }

  #retryLater(job: Job, retryAfterMs: number): void {
    const { firstDelayMs, maxDelayMs, maxRetryAfterMs } = this.#limits;
    const jitterMs = this.#random() * Math.min(firstDelayMs * 2 ** (job.attempts - 1), maxDelayMs);
    const cancel = this.#clock.after(Math.min(retryAfterMs, maxRetryAfterMs) + jitterMs, () => {
      this.#waits.delete(cancel);
      this.#enqueue(job);
    });
    this.#waits.add(cancel);
  }
}

function isRetried(status: number): boolean {
  return status === 0 || status >= 500 || RETRIED_STATUSES.has(status);
}

function urlOf({ url }: WebhookRequest): URL {
  const parsed = new URL(url);
  if (parsed.protocol !== 'http:' && parsed.protocol !== 'https:') throw new Error(`not an http address: ${url}`);
  if (parsed.username !== '' || parsed.password !== '') throw new Error('an address must not carry a password');
  return parsed;
}

function initOf(id: string, { method = 'POST', headers = {}, body }: WebhookRequest): RequestInit {
  if (method !== 'POST' && method !== 'PUT') throw new Error(`method ${method} is not POST or PUT`);
  const given = Object.entries(headers).filter(([name]) => !OWN_HEADERS.has(name.toLowerCase()));
  const sent = new Headers(given);
  if (!sent.has('content-type')) sent.set('content-type', 'application/json');
  sent.set('idempotency-key', id);
  return { method, headers: sent, body, redirect: 'manual' };
}

/** What went wrong, in one line; undici hides the cause one level down. */
function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return cutText(String(error), MAX_BODY_BYTES);
  const cause = error.cause instanceof Error ? `: ${error.cause.message || error.cause.name}` : '';
  return cutText(`${error.message}${cause}`, MAX_BODY_BYTES);
}
