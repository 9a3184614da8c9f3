/** The bus within one process, for tests and simulation. Delivery is a microtask later, in order. */
import { ProtocolError } from '../../protocol/errors.ts';
import type { Bus, BusHandler } from './bus.ts';

type Subscription = { readonly pattern: string[]; readonly handler: BusHandler; closed: boolean };

export class MemoryBus implements Bus {
  readonly #subscriptions = new Set<Subscription>();
  #inboxes = 0;

  publish(subject: string, bytes: Uint8Array): void {
    this.#deliver(subject, bytes, undefined);
  }

  subscribe(subject: string, handler: BusHandler): () => void {
    const subscription = { pattern: subject.split('.'), handler, closed: false };
    this.#subscriptions.add(subscription);
    return () => {
      subscription.closed = true;
      this.#subscriptions.delete(subscription);
    };
  }

  request(subject: string, bytes: Uint8Array, timeoutMs: number): Promise<Uint8Array> {
    const inbox = `_INBOX.${++this.#inboxes}`;
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => finish(() => reject(new ProtocolError('timeout'))), timeoutMs);
      const end = this.subscribe(inbox, (answer) => finish(() => resolve(answer.slice())));
      const finish = (settle: () => void) => {
        clearTimeout(timer);
        end();
        settle();
      };
      if (this.#deliver(subject, bytes, inbox) === 0) finish(() => reject(new ProtocolError('no_owner')));
    });
  }

  async close(): Promise<void> {
    for (const subscription of this.#subscriptions) subscription.closed = true;
    this.#subscriptions.clear();
  }

  #deliver(subject: string, bytes: Uint8Array, replyTo: string | undefined): number {
    const tokens = subject.split('.');
    const copy = bytes.slice();
    let receivers = 0;
    for (const subscription of this.#subscriptions) {
      if (!matches(subscription.pattern, tokens)) continue;
      receivers++;
      queueMicrotask(() => {
        if (!subscription.closed) subscription.handler(copy, replyTo, subject);
      });
    }
    return receivers;
  }
}

function matches(pattern: readonly string[], tokens: readonly string[]): boolean {
  for (let i = 0; i < pattern.length; i++) {
    if (pattern[i] === '>') return tokens.length > i;
    if (pattern[i] !== '*' && pattern[i] !== tokens[i]) return false;
  }
  return pattern.length === tokens.length;
}
