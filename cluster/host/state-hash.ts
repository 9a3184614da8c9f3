/**
 * Hashes over folded state, for comparison of two folds: live, recovered, replayed. What reads cannot see (expired rows and
 * sessions that no sweep has met yet) is left out, since it says nothing about the fold.
 */
import { createHash, type Hash } from 'node:crypto';
import type { Fold } from './fold.ts';
import { encodeHead } from './head.ts';
import { afterPrefix, encodeKeyPrefix } from './table-key.ts';
import { isExpired } from './tables.ts';

/** SHA-256 over everything a checkpoint at this moment would hold. Reads the whole state: for tools, not for each record. */
export function stateHash(fold: Fold): string {
  const hash = createHash('sha256');
  add(hash, 'head', encodeHead({ ...fold.head, crc: 0 }));
  for (const ref of fold.actors.references()) add(hash, ref, fold.actors.saved(ref) as Uint8Array);
  for (const space of ['row', 'timer', 'outbox', 'effect', 'quarantine'] as const) {
    for (const [key, value] of fold.overlay.range(space, new Uint8Array())) {
      if (space !== 'row' || isVisible(fold, key, value)) add(hash, space, key, value);
    }
  }
  for (const [space, id, bytes] of fold.sessions.dump(fold.head.nowMs)) add(hash, space, id, bytes);
  return hash.digest('hex');
}

/** SHA-256 over one actor: its saved state and its rows. `undefined` for one never touched. */
export function actorHash(fold: Fold, ref: string): string | undefined {
  const saved = fold.actors.saved(ref);
  if (!saved) return undefined;
  const hash = createHash('sha256');
  add(hash, ref, saved);
  const prefix = encodeKeyPrefix(ref);
  for (const [key, value] of fold.overlay.range('row', prefix, afterPrefix(prefix))) {
    if (isVisible(fold, key, value)) add(hash, 'row', key, value);
  }
  return hash.digest('hex');
}

function add(hash: Hash, name: string, ...parts: readonly Uint8Array[]): void {
  hash.update(`${name}\0`);
  for (const part of parts) {
    hash.update(`${part.length}\0`);
    hash.update(part);
  }
}

function isVisible(fold: Fold, key: Uint8Array, value: Uint8Array): boolean {
  const [ref, table] = Buffer.from(key).toString('latin1').split('\0', 2) as [string, string];
  const kind = fold.settings.kinds.get(ref.slice(0, ref.indexOf(':')));
  const expireAfter = kind?.tables.get(table)?.spec.expireAfter;
  return expireAfter === undefined || !isExpired(value, expireAfter, fold.head.nowMs);
}
