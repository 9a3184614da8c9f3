/**
 * The one registry of error names. A name is what goes over every wire of Troupe (never a number), so a name is for ever:
 * none is renamed or given another meaning. Kinds add names of their own for refusals (`rejections` of a definition).
 */

export type ErrorEntry = {
  /** HTTP status of an answer that carries this name. */
  readonly status: number;
  /** What happened and what to do, in one sentence for the person who reads it. */
  readonly sentence: string;
  /** Whether the same request may succeed later, unchanged. */
  readonly retryable: boolean;
};

const entry = (status: number, sentence: string, retryable = false): ErrorEntry => ({ status, sentence, retryable });

export const ERRORS = {
  bad_request: entry(400, 'The request is not of the form that the protocol describes.'),
  malformed_message: entry(400, 'The message is not valid MessagePack of the protocol.'),
  malformed_frame: entry(400, 'The frame or record is damaged: lengths or checksum do not agree.'),
  unsupported_version: entry(400, 'The version of the message, frame or snapshot is not known to this release.'),
  unknown_type: entry(400, 'The message type is not known.'),
  invalid_field: entry(400, 'A field has the wrong type or lies outside its bounds.'),
  too_deep: entry(400, 'The payload is nested too deeply.'),
  invalid_reference: entry(400, 'An actor is named kind:key, with a key of 1 to 128 bytes without control characters.'),
  invalid_state: entry(500, 'The state holds a value that the canonical codec refuses.'),
  unauthorized: entry(401, 'A valid token is required.'),
  token_expired: entry(401, 'The token has expired: get a new one.'),
  forbidden: entry(403, 'The role of this token does not allow it.'),
  unknown_kind: entry(404, 'No such kind of actor.'),
  unknown_command: entry(404, 'The kind has no such command.'),
  unknown_query: entry(404, 'The kind has no such query.'),
  unknown_topic: entry(404, 'The kind has no such topic.'),
  not_found: entry(404, 'There is nothing at this address.'),
  method_not_allowed: entry(405, 'The address does not know this method.'),
  session_expired: entry(
    409,
    'The session is older than the server remembers: the command was not executed now; begin a new session.',
  ),
  sequence_passed: entry(409, 'The command number is below the numbers already answered.'),
  payload_too_large: entry(413, 'The payload is larger than the limit.'),
  unsupported_media_type: entry(415, 'The body must be application/json.'),
  idempotency_mismatch: entry(422, 'The Idempotency-Key was used before with another body.'),
  rejected: entry(422, 'The actor refused the command.'),
  rate_limited: entry(429, 'Too many requests: slow down.', true),
  too_many_in_flight: entry(429, 'Too many commands await their reply on this session.', true),
  too_many_subscriptions: entry(429, 'Too many subscriptions on this connection.'),
  too_many_connections: entry(429, 'Too many connections from this address.', true),
  internal: entry(500, 'The handler failed; the command changed nothing.'),
  no_owner: entry(503, 'No host answers for this partition now.', true),
  moving: entry(503, 'The partition is starting or moving: try again.', true),
  overloaded: entry(503, 'The partition has more work than it can take now.', true),
  partition_halted: entry(503, 'The partition is halted and waits for an operator.'),
  log_unavailable: entry(503, 'The log does not answer now.', true),
  log_full: entry(503, 'The log has reached its byte limit.', true),
  log_loss: entry(503, 'The log is shorter than, or differs from, what was folded: acknowledged records are lost.'),
  log_trimmed: entry(503, 'The log begins later than the state: the state is too old.'),
  log_misconfigured: entry(503, 'The stream is not configured as safety needs.'),
  log_outdated_server: entry(503, 'nats-server 2.15.1 or later is needed.'),
  wrong_last_sequence: entry(409, 'Another writer was first.'),
  diverged: entry(500, 'The fold gave other outputs than the recorded check: state or code differs.'),
  storage_full: entry(507, 'The disk is full: work goes on once there is space.', true),
  storage_failed: entry(500, 'The disk refused a read or write.'),
  timeout: entry(504, 'No answer in time; the command may still be executed: resend it under the same number.', true),
  disconnected: entry(503, 'The connection is down.', true),
  going_away: entry(503, 'The server is draining: connect again.', true),
  slow_reader: entry(503, 'The connection reads too slowly and fell behind.', true),
  heartbeat_missed: entry(408, 'The peer was silent for too long.', true),
  hello_timeout: entry(408, 'The first message did not come in time.'),
  protocol_error: entry(400, 'The peer broke the protocol.'),
  closed: entry(499, 'The client was closed.'),
} as const satisfies Record<string, ErrorEntry>;

export type ErrorName = keyof typeof ERRORS;

/** Whether a text is a name of the registry (kinds have further names of their own). */
export function isErrorName(name: string): name is ErrorName {
  return Object.hasOwn(ERRORS, name);
}

/** An error with a name of the registry. `field` is the path of the offending field, where there is one. */
export class ProtocolError extends Error {
  readonly code: ErrorName;
  readonly field: string | undefined;

  constructor(code: ErrorName, detail?: string, field?: string) {
    super(detail ?? ERRORS[code].sentence);
    this.name = 'ProtocolError';
    this.code = code;
    this.field = field;
  }
}

/** Whether an error is a ProtocolError, of one name if given. */
export function isProtocolError(error: unknown, code?: ErrorName): error is ProtocolError {
  return error instanceof ProtocolError && (code === undefined || error.code === code);
}
