/**
 * A send: one item of a partition's outbox, for one destination partition and any number of its actors. The bytes are what
 * lies in the outbox, in the frame to the destination, and in its log (format).
 *
 *   0 u32 length   4 u32 command id   8 u16 count of references   10 u8 sender length   11 u8 flags (bit 1 binary body)
 *  12 sender, then each reference with a u8 length before it, then the body
 */
import { ProtocolError } from '../../protocol/errors.ts';

const HEADER = 12;
const BINARY = 2;

export type SendItem = {
  readonly commandId: number;
  readonly binary: boolean;
  readonly sender: string;
  readonly refs: readonly string[];
  readonly body: Uint8Array;
};

export const MAX_SEND_REFS = 4_096; // One item has to stay below a record's limit: 512 KiB.

/** Errors: `payload_too_large` when references and body exceed what one message of the log carries. */
export function encodeSend({ commandId, binary, sender, refs, body }: SendItem): Uint8Array {
  const senderBytes = Buffer.from(sender);
  const refBytes = refs.map((ref) => Buffer.from(ref));
  const length = refBytes.reduce((sum, ref) => sum + 1 + ref.length, HEADER + senderBytes.length + body.length);
  if (refs.length > MAX_SEND_REFS || length > 512 * 1024)
    throw new ProtocolError('payload_too_large', 'a send is too large');
  const bytes = Buffer.alloc(length);
  bytes.writeUInt32LE(length, 0);
  bytes.writeUInt32LE(commandId, 4);
  bytes.writeUInt16LE(refs.length, 8);
  bytes[10] = senderBytes.length;
  bytes[11] = binary ? BINARY : 0;
  let offset = HEADER;
  for (const part of [senderBytes, ...refBytes.flatMap((ref) => [Uint8Array.of(ref.length), ref])]) {
    bytes.set(part, offset);
    offset += part.length;
  }
  bytes.set(body, offset);
  return bytes;
}

/** The items in [start, end). Errors: `malformed_frame`. */
export function decodeSends(bytes: Uint8Array, start: number, end: number): SendItem[] {
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const items: SendItem[] = [];
  for (let offset = start; offset < end; ) {
    const length = offset + HEADER <= end ? buffer.readUInt32LE(offset) : 0;
    if (length < HEADER || offset + length > end) throw new ProtocolError('malformed_frame', 'a send is cut off');
    items.push(decodeSend(buffer, offset, offset + length));
    offset += length;
  }
  return items;
}

function decodeSend(buffer: Buffer, start: number, end: number): SendItem {
  let offset = start + HEADER;
  const take = (length: number): Buffer => {
    if (offset + length > end) throw new ProtocolError('malformed_frame', 'a send is too short');
    offset += length;
    return buffer.subarray(offset - length, offset);
  };
  const sender = take(buffer[start + 10] as number).toString();
  const refs = Array.from({ length: buffer.readUInt16LE(start + 8) }, () => take(take(1)[0] as number).toString());
  return {
    commandId: buffer.readUInt32LE(start + 4),
    binary: ((buffer[start + 11] as number) & BINARY) !== 0,
    sender,
    refs,
    body: new Uint8Array(buffer.subarray(offset, end)),
  };
}
