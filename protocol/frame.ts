/**
 * A frame: what one message of a partition's log carries. A header of 48 bytes, then records. The format is frozen in golden/.
 * A frame is whole or it is refused; nothing is read past its declared length, which must be the length of the bytes.
 *
 *   0 u32 magic "TTRP"   4 u8 version   5 u8 type   6 u16 header length   8 u32 total length   12 u32 crc32 of [16, total)
 *  16 u64 incarnation (sends, own, epoch: the epoch)   24 u64 frame number (sends: first item number; own, epoch: 0)
 *  32 u32 record count   36 u32 generation   40 u64 reserved, 0
 */
import { type Crc32, crc32 as tableCrc32 } from './crc32.ts';
import { ProtocolError } from './errors.ts';
import { readU16, readU32, readU64, writeU16, writeU32, writeU64 } from './little-endian.ts';

export const FRAME_HEADER = 48;
const FRAME_VERSION = 1;
export const MAX_FRAME = 32 * 1024; // A batch is closed before it grows past this: near here the log's bytes per second peak.
export const MAX_RECORD = 512 * 1024; // Half of the log server's message limit (1 MiB); such a record travels in a frame of its own.

const MAGIC = 0x50525454;
const CHECKED_FROM = 16; // The checksum covers everything behind itself.

export const FRAME_COMMANDS = 1;
export const FRAME_SENDS = 2;
export const FRAME_OWN = 3;
export const FRAME_EPOCH = 4;

export type FrameType = typeof FRAME_COMMANDS | typeof FRAME_SENDS | typeof FRAME_OWN | typeof FRAME_EPOCH;

export type FrameFields = {
  /** The edge's incarnation; for sends, own and epoch frames the epoch. */
  readonly incarnation: number;
  /** For sends the number of the first item; for own and epoch frames 0. */
  readonly frameNumber: number;
  readonly generation: number;
};

export type FrameHeader = FrameFields & {
  readonly type: FrameType;
  readonly totalLength: number;
  readonly recordCount: number;
};

export type Frame = FrameFields & {
  readonly type: FrameType;
  readonly version: number;
  readonly recordCount: number;
  readonly bodyStart: number;
  readonly bodyEnd: number;
};

/** Records one after the other, with their count. */
export type RecordBlock = { readonly body: Uint8Array; readonly count: number };

/**
 * Writes the header before the body that already lies in `target` from FRAME_HEADER to `totalLength`.
 * Errors: RangeError for numbers that the format cannot hold (a bug of the caller).
 */
export function writeFrameHeader(target: Uint8Array, header: FrameHeader, crc32: Crc32 = tableCrc32): void {
  assertHeader(target, header);
  writeU32(target, 0, MAGIC);
  target[4] = FRAME_VERSION;
  target[5] = header.type;
  writeU16(target, 6, FRAME_HEADER);
  writeU32(target, 8, header.totalLength);
  writeU64(target, 16, header.incarnation);
  writeU64(target, 24, header.frameNumber);
  writeU32(target, 32, header.recordCount);
  writeU32(target, 36, header.generation);
  writeU64(target, 40, 0);
  writeU32(target, 12, crc32(target.subarray(CHECKED_FROM, header.totalLength)));
}

/** A frame of records: separate ones, or a block of them that is already together. */
export function encodeFrame(
  type: FrameType,
  fields: FrameFields,
  records: readonly Uint8Array[] | RecordBlock,
  crc32: Crc32 = tableCrc32,
): Uint8Array {
  const pieces = 'body' in records ? [records.body] : records;
  const recordCount = 'body' in records ? records.count : records.length;
  const totalLength = pieces.reduce((sum, piece) => sum + piece.length, FRAME_HEADER);
  const frame = new Uint8Array(totalLength);
  let offset = FRAME_HEADER;
  for (const piece of pieces) {
    frame.set(piece, offset);
    offset += piece.length;
  }
  writeFrameHeader(frame, { ...fields, type, totalLength, recordCount }, crc32);
  return frame;
}

/**
 * Reads and checks a frame's header; the records are left to RecordReader.
 * Errors: `malformed_frame` (damaged: to be skipped and counted), `unsupported_version` (whole, but of a newer release: to halt at).
 */
export function readFrame(bytes: Uint8Array, crc32: Crc32 = tableCrc32): Frame {
  const version = checkEnvelope(bytes);
  if (crc32(bytes.subarray(CHECKED_FROM)) !== readU32(bytes, 12))
    throw new ProtocolError('malformed_frame', 'checksum differs');
  const type = bytes[5] as number;
  if (!isFrameType(type)) throw new ProtocolError('unsupported_version', `frame type ${type} is not known`);
  return {
    type,
    version,
    incarnation: readSafe(bytes, 16),
    frameNumber: readSafe(bytes, 24),
    recordCount: readU32(bytes, 32),
    generation: readU32(bytes, 36),
    bodyStart: FRAME_HEADER,
    bodyEnd: bytes.length,
  };
}

function checkEnvelope(bytes: Uint8Array): number {
  if (bytes.length < FRAME_HEADER) throw new ProtocolError('malformed_frame', 'shorter than a header');
  if (readU32(bytes, 0) !== MAGIC) throw new ProtocolError('malformed_frame', 'no frame begins here');
  const version = bytes[4] as number;
  if (version !== FRAME_VERSION)
    throw new ProtocolError('unsupported_version', `frame version ${version} is not known`);
  if (readU16(bytes, 6) !== FRAME_HEADER) throw new ProtocolError('malformed_frame', 'header length differs');
  if (readU32(bytes, 8) !== bytes.length) throw new ProtocolError('malformed_frame', 'total length differs');
  if (readU32(bytes, 40) !== 0 || readU32(bytes, 44) !== 0)
    throw new ProtocolError('malformed_frame', 'reserved bytes are set');
  return version;
}

function readSafe(bytes: Uint8Array, offset: number): number {
  const value = readU64(bytes, offset);
  if (!Number.isSafeInteger(value)) throw new ProtocolError('malformed_frame', 'a number is beyond 2^53');
  return value;
}

function isFrameType(type: number): type is FrameType {
  return type >= FRAME_COMMANDS && type <= FRAME_EPOCH;
}

function assertHeader(target: Uint8Array, header: FrameHeader): void {
  const { totalLength, incarnation, frameNumber, recordCount, generation } = header;
  if (totalLength < FRAME_HEADER || totalLength > target.length) throw new RangeError(`frame of ${totalLength} bytes`);
  if (!isNatural(incarnation, Number.MAX_SAFE_INTEGER)) throw new RangeError(`incarnation ${incarnation}`);
  if (!isNatural(frameNumber, Number.MAX_SAFE_INTEGER)) throw new RangeError(`frame number ${frameNumber}`);
  if (!isNatural(recordCount, 0xffffffff)) throw new RangeError(`record count ${recordCount}`);
  if (!isNatural(generation, 0xffffffff)) throw new RangeError(`generation ${generation}`);
}

function isNatural(value: number, max: number): boolean {
  return Number.isInteger(value) && value >= 0 && value <= max;
}
