/**
 * The files of the console. The folder is read once: a request can only name what was found then, so no path leads out of it.
 */
import { createHash } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { extname, join, relative, sep } from 'node:path';
import { ProtocolError } from '../../protocol/errors.ts';
import type { Exchange } from './transport.ts';

const MAX_FILE_BYTES = 8 * 1024 * 1024; // A console is a page and a script; anything larger is in the folder by mistake.

const TYPES: { readonly [extension: string]: string } = {
  '.html': 'text/html; charset=utf-8',
  '.js': 'text/javascript; charset=utf-8',
  '.css': 'text/css; charset=utf-8',
  '.json': 'application/json',
  '.map': 'application/json',
  '.svg': 'image/svg+xml',
  '.png': 'image/png',
  '.ico': 'image/x-icon',
  '.txt': 'text/plain; charset=utf-8',
  '.woff2': 'font/woff2',
};

/** Everything from the edge itself, nothing inline; its own websocket is `self` too. */
const CONTENT_SECURITY_POLICY =
  "default-src 'self'; connect-src 'self' ws: wss:; img-src 'self' data:; object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

type File = { readonly type: string; readonly bytes: Uint8Array; readonly tag: string };

export class StaticFiles {
  readonly #files = new Map<string, File>();

  /** No folder: every file is `not_found`. Errors: those of the file system. */
  constructor(folder: string | undefined) {
    if (folder === undefined) return;
    for (const entry of readdirSync(folder, { withFileTypes: true, recursive: true })) {
      const type = TYPES[extname(entry.name)];
      if (!entry.isFile() || type === undefined || entry.name.startsWith('.')) continue;
      const path = join(entry.parentPath, entry.name);
      const bytes = readFileSync(path);
      if (bytes.length > MAX_FILE_BYTES) continue;
      const tag = `"${createHash('sha256').update(bytes).digest('base64url').slice(0, 22)}"`;
      this.#files.set(`/${relative(folder, path).split(sep).join('/')}`, { type, bytes, tag });
    }
  }

  /** Errors: `not_found`. */
  answer(exchange: Exchange): void {
    const file = this.#files.get(exchange.path.endsWith('/') ? `${exchange.path}index.html` : exchange.path);
    if (!file) throw new ProtocolError('not_found');
    const headers = {
      'content-type': file.type,
      etag: file.tag,
      'cache-control': 'no-cache', // Asked for again each time, and mostly not sent: a new release is seen at once.
      'content-security-policy': CONTENT_SECURITY_POLICY,
      'x-content-type-options': 'nosniff',
      'referrer-policy': 'no-referrer',
      'cross-origin-opener-policy': 'same-origin',
    };
    if (exchange.header('if-none-match') === file.tag) return exchange.answer(304, headers, '');
    exchange.answer(200, headers, file.bytes);
  }
}
