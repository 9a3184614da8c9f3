/** Commands as websocket frames that are made once and sent often: only number and low are written into them each time. */

import { writeCommand } from '../../protocol/client-messages.ts';
import type { CommandSpec } from '../../protocol/interface.ts';
import { MsgpackWriter } from '../../protocol/msgpack-writer.ts';
import { shapeOf } from '../../protocol/shape.ts';
import { frameOf } from './raw-websocket.ts';

const ANY_NUMBER = 0x7fff_ffff; // So large that it takes the form of four bytes, which holds every number.
/** In the message: behind the array's header, the type and the tag. */
export const NUMBER_OFFSET = 3;
const LOW_OFFSET = NUMBER_OFFSET + 5;

export class CommandFrame {
  readonly bytes: Buffer;
  /** Of the message in the frame. */
  readonly #start: number;

  constructor(ref: string, name: string, spec: CommandSpec, fields: object) {
    const writer = new MsgpackWriter();
    const body = shapeOf(spec.fields, { binary: spec.binary === true }).encode(fields);
    writeCommand(writer, { number: ANY_NUMBER, low: ANY_NUMBER, ref, name, body, binary: spec.binary === true });
    this.bytes = frameOf(writer.view());
    this.#start = this.bytes.length - writer.offset;
  }

  /** Copies the frame to `offset` of `target` and gives the offset behind it. */
  write(target: Buffer, offset: number, number: number, low: number): number {
    this.bytes.copy(target, offset);
    target.writeUInt32BE(number, offset + this.#start + NUMBER_OFFSET);
    target.writeUInt32BE(low, offset + this.#start + LOW_OFFSET);
    return offset + this.bytes.length;
  }
}
