/**
 * The owner's own records, which only it may write: what happened outside the fold and must happen inside it at one place of
 * the log. A frame of type own carries a list of them (format: the canonical codec, positional).
 */

import { crc32 } from 'node:zlib';
import { decodeState, encodeState } from '../../protocol/canonical.ts';
import { ProtocolError } from '../../protocol/errors.ts';
import { encodeFrame, FRAME_EPOCH, FRAME_OWN, type Frame } from '../../protocol/frame.ts';

export type OwnRecord =
  /** A timer is due. `arming` is the sequence that set it: another wish of the same name is not meant. */
  | {
      readonly type: 'timer';
      readonly ref: string;
      readonly name: string;
      readonly arming: string;
      readonly dueMs: number;
    }
  /** The destination's log holds all items up to and with this one. */
  | { readonly type: 'sent'; readonly to: string; readonly upTo: number }
  /** A worker is done with an effect, for good or bad. */
  | {
      readonly type: 'effect';
      readonly id: string;
      readonly outcome: 'done' | 'failed';
      readonly status: number;
      readonly body: string;
      readonly attempts: number;
    }
  /** The handler of this record threw: every fold leaves it out. */
  | { readonly type: 'skip'; readonly sequence: number; readonly index: number; readonly reason: string }
  /** The rolling hash over all outputs up to and with this sequence, for comparison. */
  | { readonly type: 'check'; readonly sequence: number; readonly hash: number };

const FIELDS = {
  timer: ['ref', 'name', 'arming', 'dueMs'],
  sent: ['to', 'upTo'],
  effect: ['id', 'outcome', 'status', 'body', 'attempts'],
  skip: ['sequence', 'index', 'reason'],
  check: ['sequence', 'hash'],
} as const;

/** A frame of own records. */
export function encodeOwn(records: readonly OwnRecord[], epoch: number, generation: number): Uint8Array {
  const list = records.map((record) => [
    record.type,
    ...FIELDS[record.type].map((name) => (record as unknown as Record<string, unknown>)[name]),
  ]);
  const block = { body: encodeState(list), count: records.length };
  return encodeFrame(FRAME_OWN, { incarnation: epoch, frameNumber: 0, generation }, block, crc32);
}

/** Reads a frame's own records. Errors: `malformed_frame`, `unsupported_version` for a type of a newer release. */
export function decodeOwn(bytes: Uint8Array, frame: Frame): OwnRecord[] {
  const list = decodeState(bytes.subarray(frame.bodyStart, frame.bodyEnd));
  if (!Array.isArray(list)) throw new ProtocolError('malformed_frame', 'no list of own records');
  return list.map((entry) => {
    const [type, ...values] = entry as [string, ...unknown[]];
    if (!Object.hasOwn(FIELDS, type))
      throw new ProtocolError('unsupported_version', `own record "${type}" is not known`);
    const names = FIELDS[type as OwnRecord['type']];
    return Object.fromEntries([['type', type], ...names.map((name, i) => [name, values[i]])]) as OwnRecord;
  });
}

/** The claim of a partition: its number is the frame's incarnation. */
export function encodeEpoch(epoch: number, generation: number, node: string): Uint8Array {
  return encodeFrame(
    FRAME_EPOCH,
    { incarnation: epoch, frameNumber: 0, generation },
    { body: encodeState([node]), count: 1 },
    crc32,
  );
}
