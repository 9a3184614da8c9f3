/** Which Troupe this is, and which native parts it runs on. */
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { isRecord, parseJson } from './data-folder.ts';

const NOT_FOUND = 'not found';

/** Of package.json, above this file: one level up for sources, two for the build. */
export function troupeVersion(): string {
  const here = dirname(fileURLToPath(import.meta.url));
  for (const folder of [join(here, '..', '..'), join(here, '..')]) {
    const value = parseJson(read(join(folder, 'package.json')).toString());
    if (isRecord(value) && value.name === 'troupe' && typeof value.version === 'string') return value.version;
  }
  return NOT_FOUND;
}

/** Name and SHA-256 of the websocket server's binary: it comes compiled from its makers, so its bytes are what can be compared. */
export function websocketBinary(): { readonly name: string; readonly sha256: string } {
  const name = `uws_${process.platform}_${process.arch}_${process.versions.modules}.node`;
  const folder = dirname(fileURLToPath(import.meta.resolve('uWebSockets.js')));
  const bytes = read(join(folder, 'bin', name));
  return { name, sha256: bytes.length === 0 ? NOT_FOUND : createHash('sha256').update(bytes).digest('hex') };
}

function read(path: string): Buffer {
  try {
    return readFileSync(path);
  } catch {
    return Buffer.alloc(0);
  }
}
