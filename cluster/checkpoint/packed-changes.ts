/**
 * Changes as bytes, to move from the loop to the writer thread without a copy per row: per change u8 space, u8 0, u16 key length,
 * u32 value length (DELETED: none), key, value; numbers little-endian, nothing padded. It lives only within a process.
 */
import { type Change, SPACES } from './checkpoint.ts';

const CHANGE_HEADER = 8;
const DELETED = 0xffff_ffff;
const FIRST_BYTES = 4 * 1024; // Most commits of a quiet partition fit; bigger ones double.

/** Fills one buffer with changes. `take` gives it away. */
export class ChangePacker {
  #bytes = new Uint8Array(FIRST_BYTES);
  #view = new DataView(this.#bytes.buffer);
  #length = 0;

  get length(): number {
    return this.#length;
  }

  /** Adds a change and gives the bytes it took. */
  add({ space, key, value }: Change): number {
    const length = CHANGE_HEADER + key.length + (value?.length ?? 0);
    this.#reserve(length);
    const at = this.#length;
    this.#view.setUint16(at, SPACES.indexOf(space), true);
    this.#view.setUint16(at + 2, key.length, true);
    this.#view.setUint32(at + 4, value === undefined ? DELETED : value.length, true);
    this.#bytes.set(key, at + CHANGE_HEADER);
    if (value !== undefined) this.#bytes.set(value, at + CHANGE_HEADER + key.length);
    this.#length += length;
    return length;
  }

  /** The packed bytes, over a buffer of their own (transferable). The packer is empty afterwards. */
  take(): Uint8Array<ArrayBuffer> {
    const packed = this.#bytes.subarray(0, this.#length);
    this.#bytes = new Uint8Array(FIRST_BYTES);
    this.#view = new DataView(this.#bytes.buffer);
    this.#length = 0;
    return packed;
  }

  #reserve(more: number): void {
    const needed = this.#length + more;
    if (needed <= this.#bytes.length) return;
    let size = this.#bytes.length;
    while (size < needed) size *= 2;
    const grown = new Uint8Array(size);
    grown.set(this.#bytes.subarray(0, this.#length));
    this.#bytes = grown;
    this.#view = new DataView(grown.buffer);
  }
}

/** Calls `visit` for each change; key and value are views of `packed`. */
export function unpackChanges(
  packed: Uint8Array,
  visit: (space: number, key: Uint8Array, value: Uint8Array | undefined) => void,
): void {
  const view = new DataView(packed.buffer, packed.byteOffset, packed.byteLength);
  for (let at = 0; at < packed.length; ) {
    const space = view.getUint16(at, true);
    const keyEnd = at + CHANGE_HEADER + view.getUint16(at + 2, true);
    const valueLength = view.getUint32(at + 4, true);
    const end = valueLength === DELETED ? keyEnd : keyEnd + valueLength;
    const value = valueLength === DELETED ? undefined : packed.subarray(keyEnd, end);
    visit(space, packed.subarray(at + CHANGE_HEADER, keyEnd), value);
    at = end;
  }
}
