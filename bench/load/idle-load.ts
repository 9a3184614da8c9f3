/** Connections that have said hello and nothing more. */
import { EdgeConnection } from './edge-connection.ts';

const OPENED_AT_ONCE = 100; // Below the length of the listener's queue.

export class IdleLoad {
  #connections: EdgeConnection[] = [];
  #closing = false;

  async open(port: number, tokens: readonly string[]): Promise<number> {
    this.#closing = false;
    for (let opened = 0; opened < tokens.length; opened += OPENED_AT_ONCE) {
      const group = tokens.slice(opened, opened + OPENED_AT_ONCE);
      this.#connections.push(...(await Promise.all(group.map((token) => this.#open(port, token)))));
    }
    return this.#connections.length;
  }

  close(): void {
    this.#closing = true;
    for (const connection of this.#connections.splice(0)) connection.close();
  }

  #open(port: number, token: string): Promise<EdgeConnection> {
    return EdgeConnection.open(port, token, {
      hot: (_, start) => start,
      message: (reader) => {
        throw new Error(`an unexpected message of type ${reader.type}`);
      },
      readEnd: () => undefined,
      lost: (reason) => {
        if (!this.#closing) throw new Error(`an idle connection was lost: ${reason}`);
      },
    });
  }
}
