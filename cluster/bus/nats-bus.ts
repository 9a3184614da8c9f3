/** The bus over core NATS. */
import type { NatsConnection } from 'nats';
import { ProtocolError } from '../../protocol/errors.ts';
import type { Bus, BusHandler } from './bus.ts';

export class NatsBus implements Bus {
  readonly #connection: NatsConnection;

  /** The connection is the caller's and is not closed with the bus. */
  constructor(connection: NatsConnection) {
    this.#connection = connection;
  }

  publish(subject: string, bytes: Uint8Array): void {
    if (!this.#connection.isClosed()) this.#connection.publish(subject, bytes);
  }

  subscribe(subject: string, handler: BusHandler): () => void {
    const subscription = this.#connection.subscribe(subject, {
      callback: (error, message) => {
        if (!error) handler(message.data, message.reply === '' ? undefined : message.reply, message.subject);
      },
    });
    return () => {
      if (!this.#connection.isClosed()) subscription.unsubscribe();
    };
  }

  async request(subject: string, bytes: Uint8Array, timeoutMs: number): Promise<Uint8Array> {
    try {
      return (await this.#connection.request(subject, bytes, { timeout: timeoutMs })).data;
    } catch (error) {
      throw new ProtocolError(requestError(error));
    }
  }

  async close(): Promise<void> {
    if (!this.#connection.isClosed()) await this.#connection.flush();
  }
}

function requestError(error: unknown): 'no_owner' | 'timeout' | 'disconnected' {
  const text = error instanceof Error ? `${error.name} ${error.message}`.toLowerCase() : '';
  if (text.includes('responders')) return 'no_owner';
  if (text.includes('timeout')) return 'timeout';
  return 'disconnected';
}
