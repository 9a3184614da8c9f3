/**
 * Tokens: who a client is and what it may do. JSON Web Tokens signed with HMAC-SHA-256 by a secret that issuer and edges
 * share. A token that was verified once is remembered until it expires, since the check is asynchronous and costs 50 times a
 * look-up; expiry is looked at each time.
 */
import { createHash, randomBytes } from 'node:crypto';
import { closeSync, mkdirSync, openSync, readFileSync, statSync, writeSync } from 'node:fs';
import { dirname } from 'node:path';
import { errors, jwtVerify, SignJWT } from 'jose';
import { ProtocolError } from '../../protocol/errors.ts';
import { MAX_TOKEN_BYTES } from '../../protocol/message.ts';
import { MAX_PRINCIPAL_BYTES } from '../../protocol/record.ts';

export type Claims = {
  /** Text of at most 128 bytes. */
  readonly principal: string;
  readonly roles: readonly string[];
  /** Milliseconds since 1970. */
  readonly expiresAtMs: number;
};

const ALGORITHM = 'HS256';
const SECRET_BYTES = 32; // What HMAC-SHA-256 uses of a key without hashing it.
const MAX_ROLES = 32; // A token is read on each hello; nobody has more.
const MAX_REMEMBERED = 4_096; // A reconnect storm's or HTTP's busiest; about 1 MB. Others are checked again in 60 microseconds.
const ROLE = /^[a-z][a-zA-Z0-9_]{0,31}$/;
/** What actors, timers and effects are. No token gives it. */
const SYSTEM_ROLE = 'system';

/** Reads a secret, or makes one at first start: 32 random bytes in base64url, readable by the owner only. */
export function readOrMakeSecret(file: string): Uint8Array {
  mkdirSync(dirname(file), { recursive: true, mode: 0o700 });
  try {
    const descriptor = openSync(file, 'wx', 0o600);
    writeSync(descriptor, `${randomBytes(SECRET_BYTES).toString('base64url')}\n`);
    closeSync(descriptor);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
  }
  if ((statSync(file).mode & 0o077) !== 0)
    throw new Error(`${file} may be read by others: chmod 600 it, or remove it to get a new one`);
  const secret = Buffer.from(readFileSync(file, 'utf8').trim(), 'base64url');
  if (secret.length < SECRET_BYTES) throw new Error(`${file} does not hold a secret of ${SECRET_BYTES} bytes`);
  return new Uint8Array(secret);
}

/** A token for a principal. `lifeMs` from now on. */
export function issueToken(
  secret: Uint8Array,
  claims: { principal: string; roles: readonly string[]; lifeMs: number },
): Promise<string> {
  const nowSeconds = Math.floor(Date.now() / 1000);
  return new SignJWT({ roles: [...claims.roles] })
    .setProtectedHeader({ alg: ALGORITHM })
    .setSubject(claims.principal)
    .setIssuedAt(nowSeconds)
    .setExpirationTime(nowSeconds + Math.ceil(claims.lifeMs / 1000))
    .sign(secret);
}

export class TokenVerifier {
  readonly #secret: Uint8Array;
  readonly #toleranceMs: number;
  /** By hash of the token, oldest first: a token itself is kept nowhere. */
  readonly #verified = new Map<string, Claims>();

  constructor(secret: Uint8Array, toleranceMs: number) {
    this.#secret = secret;
    this.#toleranceMs = toleranceMs;
  }

  /** When claims end for this edge. */
  endOf(claims: Claims): number {
    return claims.expiresAtMs + this.#toleranceMs;
  }

  /** Errors: `unauthorized`, `token_expired`. */
  async verify(token: string): Promise<Claims> {
    if (token.length === 0 || token.length > MAX_TOKEN_BYTES) throw new ProtocolError('unauthorized');
    const hash = createHash('sha256').update(token).digest('base64');
    const claims = this.#verified.get(hash) ?? (await this.#check(token));
    if (Date.now() >= this.endOf(claims)) throw new ProtocolError('token_expired');
    this.#remember(hash, claims);
    return claims;
  }

  #remember(hash: string, claims: Claims): void {
    if (this.#verified.has(hash)) return;
    if (this.#verified.size >= MAX_REMEMBERED) {
      for (const oldest of this.#verified.keys()) {
        this.#verified.delete(oldest);
        break;
      }
    }
    this.#verified.set(hash, claims);
  }

  async #check(token: string): Promise<Claims> {
    try {
      const { payload } = await jwtVerify(token, this.#secret, {
        algorithms: [ALGORITHM],
        clockTolerance: this.#toleranceMs / 1000,
        requiredClaims: ['sub', 'exp'],
      });
      return asClaims(payload.sub, payload.roles, payload.exp);
    } catch (error) {
      if (error instanceof ProtocolError) throw error;
      throw new ProtocolError(error instanceof errors.JWTExpired ? 'token_expired' : 'unauthorized');
    }
  }
}

function asClaims(subject: unknown, roles: unknown, expiry: unknown): Claims {
  if (typeof subject !== 'string' || !isPrincipal(subject))
    throw new ProtocolError('unauthorized', 'the token has no valid subject');
  if (typeof expiry !== 'number') throw new ProtocolError('unauthorized', 'the token has no expiry');
  const list: unknown[] = roles === undefined ? [] : Array.isArray(roles) ? roles : [undefined];
  if (list.length > MAX_ROLES || !list.every((role) => typeof role === 'string' && ROLE.test(role))) {
    throw new ProtocolError('unauthorized', 'the roles of the token are not a list of names');
  }
  return {
    principal: subject,
    roles: (list as string[]).filter((role) => role !== SYSTEM_ROLE),
    expiresAtMs: expiry * 1000,
  };
}

/** 1 to 128 bytes, well-formed, without control characters (it is hashed with a NUL behind it, and shown). */
function isPrincipal(text: string): boolean {
  const bytes = Buffer.byteLength(text);
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is refused.
  return bytes >= 1 && bytes <= MAX_PRINCIPAL_BYTES && !/[\u0000-\u001f\u007f]/.test(text) && text.isWellFormed();
}
