/**
 * A record: one command inside a frame. The format is frozen in golden/. Reading is the hot path of the host: one reusable
 * cursor, no allocation per record, and every length is checked before anything behind it is looked at.
 *
 *   0 u32 length of the whole record   4 u8 flags   5 u8 ref length   6 u8 principal length   7 u8 reserved, 0
 *   8 u32 command id   12 u32 number   16 u32 low   20 u32 slot   24 session (16 bytes)   40 ref, principal, body
 */
import { ProtocolError } from './errors.ts';
import { MAX_RECORD } from './frame.ts';
import { readU32, writeU32 } from './little-endian.ts';

export const RECORD_HEADER = 40;
export const SESSION_BYTES = 16;
export const MAX_REF_BYTES = 161; // A kind of 32, a colon, a key of 128.
const MIN_REF_BYTES = 3; // A kind of 1, a colon, a key of 1.
export const MAX_PRINCIPAL_BYTES = 128; // Fits a UUID, an e-mail address, or the reference of most actors; the length is one byte.

/** The command came by HTTP: the session is the hash of principal and idempotency key, the number is 1. */
export const RECORD_IDEMPOTENT = 1;
/** The body has the fixed binary layout of its fields. */
export const RECORD_BINARY = 2;

const KNOWN_FLAGS = RECORD_IDEMPOTENT | RECORD_BINARY;

export type RecordFields = {
  readonly flags: number;
  readonly ref: Uint8Array;
  readonly principal: Uint8Array;
  readonly commandId: number;
  readonly number: number;
  readonly low: number;
  readonly slot: number;
  /** 16 bytes. */
  readonly session: Uint8Array;
  readonly body: Uint8Array;
};

/** Bytes that a record takes. */
export function recordLength(refLength: number, principalLength: number, bodyLength: number): number {
  return RECORD_HEADER + refLength + principalLength + bodyLength;
}

/**
 * Writes a record at `offset` and gives the offset behind it.
 * Errors: `payload_too_large` (longer than MAX_RECORD), `invalid_reference`; RangeError where `target` is too small or a
 * number does not fit (a bug of the caller).
 */
export function writeRecord(target: Uint8Array, offset: number, record: RecordFields): number {
  const { ref, principal, session, body } = record;
  const length = recordLength(ref.length, principal.length, body.length);
  assertRecord(record, length, target.length - offset);
  writeU32(target, offset, length);
  target[offset + 4] = record.flags;
  target[offset + 5] = ref.length;
  target[offset + 6] = principal.length;
  target[offset + 7] = 0;
  writeU32(target, offset + 8, record.commandId);
  writeU32(target, offset + 12, record.number);
  writeU32(target, offset + 16, record.low);
  writeU32(target, offset + 20, record.slot);
  target.set(session, offset + 24);
  target.set(ref, offset + RECORD_HEADER);
  target.set(principal, offset + RECORD_HEADER + ref.length);
  target.set(body, offset + RECORD_HEADER + ref.length + principal.length);
  return offset + length;
}

function assertRecord(record: RecordFields, length: number, room: number): void {
  const { ref, principal, session, flags } = record;
  if (length > MAX_RECORD) throw new ProtocolError('payload_too_large');
  if (ref.length < MIN_REF_BYTES || ref.length > MAX_REF_BYTES) throw new ProtocolError('invalid_reference');
  if (principal.length > MAX_PRINCIPAL_BYTES) throw new RangeError(`principal of ${principal.length} bytes`);
  if (session.length !== SESSION_BYTES) throw new RangeError(`session of ${session.length} bytes`);
  if ((flags & ~KNOWN_FLAGS) !== 0) throw new RangeError(`flags ${flags}`);
  if (length > room) throw new RangeError(`record of ${length} bytes, room for ${room}`);
  if (!isU32(record.commandId) || !isU32(record.number) || !isU32(record.low) || !isU32(record.slot)) {
    throw new RangeError('command id, number, low and slot are unsigned integers of 32 bits');
  }
}

function isU32(value: number): boolean {
  return value >>> 0 === value;
}

/**
 * A cursor over the records of a frame. `next()` moves to the following record; the fields then describe it, as offsets into
 * `bytes`. Errors: `malformed_frame` where lengths do not add up; nothing outside [start, end) is read.
 */
export class RecordReader {
  bytes: Uint8Array = new Uint8Array(0);
  /** Of the current record, counted from 0; -1 before the first. After the last `next()` it is the count of records less 1. */
  index = -1;
  /** First byte of the current record, and the one behind it. */
  start = 0;
  bodyEnd = 0;
  flags = 0;
  commandId = 0;
  number = 0;
  low = 0;
  slot = 0;
  sessionStart = 0;
  refStart = 0;
  /** Also the start of the principal. */
  refEnd = 0;
  principalEnd = 0;
  /** Equal to `principalEnd`. */
  bodyStart = 0;
  private end = 0;

  /** Begins anew at `start`; the records must fill the bytes up to `end` exactly. */
  reset(bytes: Uint8Array, start = 0, end = bytes.length): void {
    if (start < 0 || start > end || end > bytes.length) throw new RangeError(`records from ${start} to ${end}`);
    this.bytes = bytes;
    this.index = -1;
    this.start = start;
    this.bodyEnd = start;
    this.end = end;
  }

  next(): boolean {
    const start = this.bodyEnd;
    const room = this.end - start;
    if (room === 0) return false;
    const bytes = this.bytes;
    if (room < RECORD_HEADER) throw new ProtocolError('malformed_frame', 'a record is cut off');
    const length = readU32(bytes, start);
    const refLength = bytes[start + 5] as number;
    const refEnd = start + RECORD_HEADER + refLength;
    const principalEnd = refEnd + checkLengths(bytes, start, length, room, refLength);
    this.index++;
    this.start = start;
    this.flags = bytes[start + 4] as number;
    this.commandId = readU32(bytes, start + 8);
    this.number = readU32(bytes, start + 12);
    this.low = readU32(bytes, start + 16);
    this.slot = readU32(bytes, start + 20);
    this.sessionStart = start + 24;
    this.refStart = start + RECORD_HEADER;
    this.refEnd = refEnd;
    this.principalEnd = principalEnd;
    this.bodyStart = principalEnd;
    this.bodyEnd = start + length;
    return true;
  }
}

/** Gives the length of the principal. */
function checkLengths(bytes: Uint8Array, start: number, length: number, room: number, refLength: number): number {
  const principalLength = bytes[start + 6] as number;
  if (length > room || length > MAX_RECORD)
    throw new ProtocolError('malformed_frame', 'a record reaches past its frame');
  if (length < RECORD_HEADER + refLength + principalLength)
    throw new ProtocolError('malformed_frame', 'a record is too short');
  if (refLength < MIN_REF_BYTES || refLength > MAX_REF_BYTES || principalLength > MAX_PRINCIPAL_BYTES) {
    throw new ProtocolError('malformed_frame', 'a reference or principal has a wrong length');
  }
  if (((bytes[start + 4] as number) & ~KNOWN_FLAGS) !== 0 || bytes[start + 7] !== 0) {
    throw new ProtocolError('malformed_frame', 'reserved bits are set');
  }
  return principalLength;
}
