/** What lies in a message of a partition's log, in a form for people and programs: one value per record. */
import { crc32 } from 'node:zlib';
import { type Kinds, resolveRef } from '../cluster/host/kinds.ts';
import { decodeOwn } from '../cluster/host/own-record.ts';
import { decodeSends } from '../cluster/host/send-item.ts';
import type { Stored } from '../cluster/log/log.ts';
import { decodeState } from '../protocol/canonical.ts';
import { isProtocolError } from '../protocol/errors.ts';
import { FRAME_COMMANDS, FRAME_EPOCH, FRAME_OWN, type Frame, readFrame } from '../protocol/frame.ts';
import { RecordReader } from '../protocol/record.ts';
import type { Shape } from '../protocol/shape.ts';

/** `from`: the edge, partition or owner that wrote it. */
export type RecordView = {
  readonly at: string;
  readonly time: string;
  readonly from: string;
  readonly type: 'command' | 'send' | 'epoch' | 'damaged' | 'timer' | 'sent' | 'effect' | 'skip' | 'check';
  readonly actor?: string;
  readonly command?: string;
  readonly principal?: string;
  readonly number?: number;
  readonly body?: unknown;
};

type Place = Pick<RecordView, 'at' | 'time' | 'from'>;

/** The records of one message; a damaged one gives one view that says so. */
export function viewsOf(message: Stored, kinds: Kinds): RecordView[] {
  const place = (index: number): Place => ({
    at: `${message.sequence}.${index}`,
    time: new Date(Math.floor(message.timeUs / 1_000)).toISOString(),
    from: message.subject.split('.').slice(2).join('.'),
  });
  try {
    const frame = readFrame(message.data, crc32);
    if (frame.type === FRAME_COMMANDS) return commandsOf(message.data, frame, kinds, place);
    if (frame.type === FRAME_OWN)
      return decodeOwn(message.data, frame).map(({ type, ...body }, index) => ({ ...place(index), type, body }));
    if (frame.type === FRAME_EPOCH)
      return [
        { ...place(0), type: 'epoch', number: frame.incarnation, body: decodeState(bodyOf(message.data, frame)) },
      ];
    return sendsOf(message.data, frame, kinds, place);
  } catch (error) {
    if (!isProtocolError(error)) throw error;
    return [{ ...place(0), type: 'damaged', body: error.message }];
  }
}

function bodyOf(data: Uint8Array, { bodyStart, bodyEnd }: Frame): Uint8Array {
  return data.subarray(bodyStart, bodyEnd);
}

function commandsOf(data: Uint8Array, frame: Frame, kinds: Kinds, place: (index: number) => Place): RecordView[] {
  const views: RecordView[] = [];
  const reader = new RecordReader();
  reader.reset(data, frame.bodyStart, frame.bodyEnd);
  for (let index = 0; reader.next(); index++) {
    const actor = text(data, reader.refStart, reader.refEnd);
    const principal = text(data, reader.refEnd, reader.principalEnd);
    const body = data.subarray(reader.bodyStart, reader.bodyEnd);
    views.push({
      ...place(index),
      type: 'command',
      actor,
      ...commandOf(kinds, actor, reader.commandId, body),
      principal,
      number: reader.number,
    });
  }
  return views;
}

function sendsOf(data: Uint8Array, frame: Frame, kinds: Kinds, place: (index: number) => Place): RecordView[] {
  return decodeSends(data, frame.bodyStart, frame.bodyEnd).map(({ refs, sender, commandId, body }, index) => ({
    ...place(index),
    type: 'send',
    actor: refs.join(', '),
    ...commandOf(kinds, refs[0] ?? '', commandId, body),
    principal: sender,
    number: frame.frameNumber + index,
  }));
}

function commandOf(kinds: Kinds, ref: string, id: number, bytes: Uint8Array): { command: string; body: unknown } {
  const command = kindOf(kinds, ref)?.commandsById.get(id);
  if (!command) return { command: `#${id.toString(16)}`, body: Buffer.from(bytes).toString('hex') };
  return { command: command.name, body: jsonOf(command.body, bytes) };
}

function kindOf(kinds: Kinds, ref: string) {
  try {
    return resolveRef(kinds, ref).kind;
  } catch {
    return undefined; // Of another release, or not ours: shown as it is.
  }
}

function jsonOf(shape: Shape, bytes: Uint8Array): unknown {
  try {
    return shape.toJson(shape.decode(bytes));
  } catch {
    return Buffer.from(bytes).toString('hex');
  }
}

function text(bytes: Uint8Array, start: number, end: number): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset + start, end - start).toString();
}
