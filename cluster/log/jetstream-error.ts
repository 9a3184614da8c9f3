/** What the server or client says when a request fails, as one name of the registry. */
import { JetStreamApiError } from '@nats-io/jetstream';
import { ProtocolError } from '../../protocol/errors.ts';

/** Codes of nats-server's error list that mean something to us. */
export const STREAM_NOT_FOUND = 10059;
export const STREAM_NAME_IN_USE = 10058; // With another configuration.
export const SUBJECTS_OVERLAP = 10065;
const ACCOUNT_RESOURCES_EXCEEDED = 10002;
const INSUFFICIENT_RESOURCES = 10023;
export const MAXIMUM_CONSUMERS = 10026;
export const STORAGE_EXCEEDED = 10047;
const MESSAGE_TOO_LARGE = 10054;
const WRONG_STREAM = 10060;
export const WRONG_LAST_SEQUENCE = 10071;
export const REPLICAS_UNSUPPORTED = 10074;
const STORE_FAILED = 10077; // The description says why: a limit, or the disk.

/** The refusal of an append. Everything not known for certain is `log_unavailable`: the outcome is then unknown. */
export function appendError(code: number, description: string): ProtocolError {
  if (code === STORE_FAILED && description.includes('maximum')) return new ProtocolError('log_full', description);
  if (code === STORAGE_EXCEEDED || code === INSUFFICIENT_RESOURCES || code === ACCOUNT_RESOURCES_EXCEEDED) {
    return new ProtocolError('log_full', `the server's store is full: ${description}`);
  }
  if (code === WRONG_LAST_SEQUENCE) return new ProtocolError('wrong_last_sequence', description);
  if (code === MESSAGE_TOO_LARGE) return new ProtocolError('payload_too_large', description);
  if (code === WRONG_STREAM)
    return new ProtocolError('log_misconfigured', 'retired: a newer generation owns the subjects');
  return new ProtocolError('log_unavailable', `${description} (${code})`);
}

/** The number in nats-server's error list, 0 for errors that do not come from the server. */
export function apiCode(error: unknown): number {
  return error instanceof JetStreamApiError ? error.code : 0;
}

/** A failed request of the JetStream API (not an append). */
export function requestError(error: unknown): ProtocolError {
  if (error instanceof ProtocolError) return error;
  const text = error instanceof Error ? error.message : String(error);
  if (apiCode(error) === STREAM_NOT_FOUND) return new ProtocolError('log_loss', 'the stream does not exist');
  return new ProtocolError('log_unavailable', text);
}
