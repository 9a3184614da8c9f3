/**
 * Tokens for the development console: a viewer's, to browsers on this machine only. The address alone does not prove that (any
 * page can send a browser to 127.0.0.1 under a name of its own), so the host asked for must be a local one as well.
 */
import { ProtocolError } from '../../protocol/errors.ts';
import { issueToken } from './tokens.ts';
import type { Exchange } from './transport.ts';

const LIFE_MS = 3_600_000; // An hour; the console asks again.
const LOCAL_HOST = /^(localhost|127\.0\.0\.1|\[::1\])(:\d{1,5})?$/i;

export class DevelopmentTokens {
  readonly #enabled: boolean;
  readonly #secret: Uint8Array;

  constructor(enabled: boolean, secret: Uint8Array) {
    this.#enabled = enabled;
    this.#secret = secret;
  }

  /** Errors: `not_found` when not enabled, `forbidden` from elsewhere. */
  async answer(exchange: Exchange): Promise<void> {
    if (!this.#enabled) throw new ProtocolError('not_found');
    const { address } = exchange;
    const host = exchange.header('host');
    const origin = exchange.header('origin');
    if (!isLoopback(address) || !LOCAL_HOST.test(host))
      throw new ProtocolError('forbidden', 'only for browsers on this machine');
    if (origin !== '' && origin !== `http://${host}`)
      throw new ProtocolError('forbidden', 'only for the console itself');
    const token = await issueToken(this.#secret, { principal: 'viewer', roles: ['viewer'], lifeMs: LIFE_MS });
    exchange.answer(
      200,
      { 'content-type': 'application/json', 'cache-control': 'no-store' },
      JSON.stringify({ token, lifeMs: LIFE_MS }),
    );
  }
}

/** As the transport writes addresses: IPv6 in full groups, IPv4 also mapped into it. */
function isLoopback(address: string): boolean {
  return (
    /^127\.\d+\.\d+\.\d+$/.test(address) ||
    /^(0000:){7}0001$/.test(address) ||
    address === '::1' ||
    /^(0000:){5}ffff:7f/.test(address)
  );
}
