/**
 * The session that a client can come back to: 16 bytes (creation time, randomness), given out with a signature over them and
 * the principal, so that no edge has to remember sessions and nobody can present another's.
 */
import { createHash, createHmac, randomFillSync, timingSafeEqual } from 'node:crypto';
import { writeU64 } from '../../protocol/little-endian.ts';
import { SESSION_BYTES } from '../../protocol/record.ts';

const SIGNATURE_BYTES = 16; // Half of the HMAC: 128 bits are beyond guessing.

export function newSession(nowMs: number): Uint8Array {
  const session = new Uint8Array(SESSION_BYTES);
  writeU64(session, 0, nowMs);
  randomFillSync(session, 8);
  return session;
}

export function sessionToken(secret: Uint8Array, session: Uint8Array, principal: string): string {
  return Buffer.concat([session, sign(secret, session, principal)]).toString('base64url');
}

/** The session of a token, or undefined when it is not this principal's or was signed with another secret. */
export function sessionOf(secret: Uint8Array, token: string, principal: string): Uint8Array | undefined {
  const bytes = Buffer.from(token, 'base64url');
  if (bytes.length !== SESSION_BYTES + SIGNATURE_BYTES) return undefined;
  const session = bytes.subarray(0, SESSION_BYTES);
  if (!timingSafeEqual(bytes.subarray(SESSION_BYTES), sign(secret, session, principal))) return undefined;
  return new Uint8Array(session);
}

function sign(secret: Uint8Array, session: Uint8Array, principal: string): Buffer {
  return createHmac('sha256', secret).update(session).update(principal).digest().subarray(0, SIGNATURE_BYTES);
}

/** The session field of an idempotent command (HTTP): the first 16 bytes of SHA-256(principal NUL key). */
export function idempotentSession(principal: string, key: string): Uint8Array {
  return new Uint8Array(
    createHash('sha256').update(principal).update('\0').update(key).digest().subarray(0, SESSION_BYTES),
  );
}
