/**
 * The log of a partition: a port over one JetStream stream (or memory). The log orders and keeps messages; what they
 * mean is the fold's business.
 *
 * What every implementation gives (log.laws.ts):
 * - Sequences of a generation are dense: each stored message has the sequence one above the one before.
 * - `append` is one attempt. An error `log_unavailable` says nothing about whether the message is stored, now or later;
 *   `log_full`, `wrong_last_sequence` and `payload_too_large` say that it is not.
 * - Nothing is deduplicated: the same bytes appended twice are two messages.
 * - A reader hands over every message from its start on, in order, exactly once, also across restarts of the server,
 *   or says by name why it cannot.
 * - A message appended through a partition log of one generation never lands in another generation.
 */
import { ProtocolError } from '../../protocol/errors.ts';

export const MAX_MESSAGE_BYTES = 1_048_576; // nats-server's default max_payload; a frame with one record of 512 KiB fits.
export const MAX_DATA_BYTES = MAX_MESSAGE_BYTES - 256; // Room for the headers that an append adds.

export type Stored = {
  /** Stream sequence, from 1. */
  readonly sequence: number;
  /** When the log stored it: integer microseconds since 1970, by the log's clock, which may step back. */
  readonly timeUs: number;
  readonly subject: string;
  /** Never changed by the log afterwards. It may be a part of a larger buffer: copy what is kept for long. */
  readonly data: Uint8Array;
};

/** `duplicate` is what the server says of message ids; Troupe sends none, so it is never set in practice. */
export type Ack = { readonly sequence: number; readonly duplicate?: boolean };

/** `maxBytes`: what the stream may hold; `replicas`: 1, 3 or 5 servers. Fixed when the stream is created. */
export type LogSettings = { readonly maxBytes: number; readonly replicas: number };

export type LogState = {
  /** Sequence of the oldest message; last + 1 when the log is empty. */
  readonly first: number;
  /** Sequence of the newest message ever stored; 0 when there was none. Trimming does not lower it. */
  readonly last: number;
  readonly bytes: number;
  readonly maxBytes: number;
  /** When the stream was created (ISO 8601): another value means another stream, whatever its name. */
  readonly createdAt: string;
};

export type Reader = {
  /** Nothing is delivered after this returns. */
  stop(): void;
  /** Sequence of the last message handed over; `from` - 1 before the first. */
  readonly position: number;
};

export type PartitionLog = {
  readonly partition: string;
  readonly generation: number;
  readonly stream: string;
  /**
   * Appends one message on `p.<partition>.<token>` (token: 'own', 'epoch', 'cmd.e1', 'from.main-2'). One attempt.
   * With `expectLastOnSubject` it is stored only if the newest message on that subject has this sequence (0: none is
   * there): of many claimants exactly one wins. The data must not be changed before the promise has settled.
   * Errors: `log_full`; `wrong_last_sequence`; `log_unavailable` (outcome unknown: time-out, disconnected, election);
   * `payload_too_large` (above MAX_DATA_BYTES); `log_misconfigured` (this generation was retired by a newer one).
   */
  append(token: string, data: Uint8Array, expectLastOnSubject?: number): Promise<Ack>;
  /** The newest message on a subject, as the stream's leader knows it. Errors: `log_unavailable`. */
  lastOn(token: string): Promise<Stored | undefined>;
  /** The message with this sequence, from the leader; undefined if it was trimmed or never stored. Errors: `log_unavailable`. */
  get(sequence: number): Promise<Stored | undefined>;
  /** Errors: `log_unavailable`; `log_loss` when the stream is gone. */
  state(): Promise<LogState>;
  /**
   * Hands over every message from sequence `from` (>= 1) on. Synchronous handler; one that throws is a bug: the reader
   * stops and the error leaves as an uncaught exception. An unreachable log is waited for, without a word.
   * `onProblem` is called at most once, and the reader has then stopped: `log_trimmed` (the log begins after the next
   * message wanted), `log_loss` (it ends before it, lacks one in between, was created anew, or what was handed over last
   * is now another message).
   */
  read(from: number, handler: (message: Stored) => void, onProblem: (error: ProtocolError) => void): Reader;
  /**
   * Removes all sequences below `before` (<= last + 1, else RangeError). Never trim past the newest epoch record: the
   * expectation on a subject without messages is 0, whatever was there. Errors: `log_unavailable`.
   */
  trim(before: number): Promise<void>;
};

export type Log = {
  /**
   * Opens one generation of a partition's log, and creates it if there is none. Lower generations lose their subjects
   * to it and stay readable. The real configuration of an existing stream is compared with what is wanted.
   * Errors: `log_misconfigured` (naming the setting, or the newer generation that owns the subjects), `log_unavailable`.
   */
  open(partition: string, generation: number, settings: LogSettings): Promise<PartitionLog>;
  /** Deletes one generation with all its messages. No error if there is none. Errors: `log_unavailable`. */
  remove(partition: string, generation: number): Promise<void>;
  /** Stops all readers; outstanding appends fail with `log_unavailable`. */
  close(): Promise<void>;
};

/** `P_<group>_<index>_g<generation>` of the partition `<group>-<index>`. */
export function streamName(partition: string, generation: number): string {
  const match = /^([a-z][a-z0-9]{0,15})-(\d{1,4})$/.exec(partition);
  if (!match) throw new RangeError(`"${partition}" is not a partition name (<group>-<index>)`);
  if (!Number.isSafeInteger(generation) || generation < 1) throw new RangeError(`generation ${generation}`);
  return `P_${match[1]}_${match[2]}_g${generation}`;
}

export function subjectOf(partition: string, token: string): string {
  return `p.${partition}.${token}`;
}

/** Refuses to create a generation when a later one exists. */
export function newerOwns(partition: string, stream: string): ProtocolError {
  return new ProtocolError('log_misconfigured', `the subjects of ${partition} belong to the newer stream ${stream}`);
}

/** Refuses, by name, an existing stream that differs from what is wanted. */
export function differs(stream: string, setting: string, real: unknown, wanted: unknown): ProtocolError {
  const detail = `${stream}: ${setting} is ${JSON.stringify(real)}, wanted is ${JSON.stringify(wanted)}`;
  return new ProtocolError('log_misconfigured', detail, setting);
}

/** Whether two messages of one sequence are the same one. */
export function sameMessage(one: Stored, other: Stored): boolean {
  return one.timeUs === other.timeUs && one.subject === other.subject && Buffer.compare(one.data, other.data) === 0;
}
