/**
 * The port for those who run the edge: `/healthz` (the process turns), `/readyz` (send traffic here) and `/metrics`, on
 * 127.0.0.1 only. It shares nothing with the clients' port, so that it answers whatever happens there.
 */
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { Registry } from 'prom-client';

export class OperationsPort {
  readonly #server = createServer((request, response) => void this.#answer(request, response));
  readonly #registry: Registry;
  readonly #unready: () => string | undefined;
  readonly #remarks: () => readonly string[];

  /** `unready` gives the reason why not to send traffic, if there is one; `remarks`, what is wrong all the same. */
  constructor(registry: Registry, unready: () => string | undefined, remarks: () => readonly string[] = () => []) {
    this.#registry = registry;
    this.#unready = unready;
    this.#remarks = remarks;
  }

  listen(port: number): Promise<number> {
    return new Promise((resolve, reject) => {
      this.#server.once('error', reject);
      this.#server.listen(port, '127.0.0.1', () => resolve((this.#server.address() as AddressInfo).port));
    });
  }

  close(): Promise<void> {
    this.#server.closeAllConnections();
    return new Promise((resolve) => this.#server.close(() => resolve()));
  }

  async #answer({ method, url }: IncomingMessage, response: ServerResponse): Promise<void> {
    if (method !== 'GET') return end(response, 405, 'text/plain', 'only GET\n');
    if (url === '/healthz') return end(response, 200, 'text/plain', 'ok\n');
    if (url === '/readyz') return this.#ready(response);
    if (url !== '/metrics') return end(response, 404, 'text/plain', '/healthz, /readyz, /metrics\n');
    try {
      end(response, 200, this.#registry.contentType, await this.#registry.metrics());
    } catch (error) {
      end(response, 500, 'text/plain', `${error}\n`);
    }
  }

  #ready(response: ServerResponse): void {
    const reason = this.#unready();
    const lines = [reason ?? 'ready', ...this.#remarks()];
    end(response, reason === undefined ? 200 : 503, 'text/plain', `${lines.join('\n')}\n`);
  }
}

function end(response: ServerResponse, status: number, type: string, body: string): void {
  response.writeHead(status, { 'content-type': type, 'cache-control': 'no-store' });
  response.end(body);
}
