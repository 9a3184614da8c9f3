/** Makes frames of commands as an edge would, for tests, replays of synthetic load and benchmarks. */
import { crc32 } from 'node:zlib';
import { encodeFrame, FRAME_COMMANDS } from '../../protocol/frame.ts';
import { RECORD_BINARY, recordLength, writeRecord } from '../../protocol/record.ts';
import { type Kinds, resolveRef } from './kinds.ts';

export type CommandInput = {
  readonly ref: string;
  readonly command: string;
  readonly fields: object;
  readonly number: number;
  readonly low?: number;
  readonly session?: Uint8Array;
  readonly principal?: string;
  readonly slot?: number;
  readonly flags?: number;
};

const NO_TIME_SESSION = new Uint8Array(16);

/** A session identifier with a creation time. */
export function sessionBytes(createdMs: number, random: number): Uint8Array {
  const bytes = new Uint8Array(16);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, createdMs % 2 ** 32, true);
  view.setUint32(4, Math.floor(createdMs / 2 ** 32), true);
  view.setUint32(8, random, true);
  return bytes;
}

/** One record. Errors: as the kind's schema. */
export function encodeCommand(kinds: Kinds, input: CommandInput): Uint8Array {
  const { kind } = resolveRef(kinds, input.ref);
  const command = kind.commands.get(input.command);
  if (!command) throw new RangeError(`no command ${input.command}`);
  const fields = {
    flags: (input.flags ?? 0) | (command.spec.binary ? RECORD_BINARY : 0),
    ref: Buffer.from(input.ref),
    principal: Buffer.from(input.principal ?? 'tester'),
    commandId: command.id,
    number: input.number,
    low: input.low ?? input.number,
    slot: input.slot ?? 1,
    session: input.session ?? NO_TIME_SESSION,
    body: command.body.encode(input.fields),
  };
  const record = new Uint8Array(recordLength(fields.ref.length, fields.principal.length, fields.body.length));
  writeRecord(record, 0, fields);
  return record;
}

/** A frame of commands. */
export function commandFrame(
  kinds: Kinds,
  inputs: readonly CommandInput[],
  { incarnation = 1, frameNumber, generation = 1 }: { incarnation?: number; frameNumber: number; generation?: number },
): Uint8Array {
  const records = inputs.map((input) => encodeCommand(kinds, input));
  return encodeFrame(FRAME_COMMANDS, { incarnation, frameNumber, generation }, records, crc32);
}
