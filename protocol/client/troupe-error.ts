/** The error that the client gives for everything that went wrong: refusals of kinds, answers of the server, its own limits. */
import { ERRORS, isErrorName, ProtocolError } from '../errors.ts';

/** `code` is a name of the protocol's registry or of the kind's `rejections`. It is never renamed, so programs may compare it. */
export class TroupeError extends Error {
  readonly code: string;
  /** Whether the same request may succeed later, unchanged. */
  readonly retryable: boolean;
  /** How long the server asks to wait before that, in milliseconds. */
  readonly retryAfterMs: number | undefined;
  /** The path of the offending field, where there is one. */
  readonly field: string | undefined;

  constructor(code: string, message?: string, retryAfterMs?: number, field?: string) {
    const entry = isErrorName(code) ? ERRORS[code] : undefined;
    super(message || entry?.sentence || code);
    this.name = 'TroupeError';
    this.code = code;
    this.retryable = entry?.retryable ?? false;
    this.retryAfterMs = retryAfterMs;
    this.field = field;
  }
}

/** Whatever was thrown, as a TroupeError: codec errors keep their name and field, others become `code`. */
export function asTroupeError(thrown: unknown, code: string): TroupeError {
  if (thrown instanceof TroupeError) return thrown;
  if (thrown instanceof ProtocolError) return new TroupeError(thrown.code, thrown.message, undefined, thrown.field);
  return new TroupeError(code, thrown instanceof Error ? thrown.message : String(thrown));
}
