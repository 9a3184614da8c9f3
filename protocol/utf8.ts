/**
 * UTF-8 without surprises: what is not well-formed is reported, never replaced by U+FFFD, and a byte order mark is text.
 * Short texts avoid TextEncoder and TextDecoder, whose calls cost 0.05 and 0.1 microseconds whatever the length.
 */

const encoder = new TextEncoder();
const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

const SHORT = 24; // Bytes up to which the plain loop is faster than TextDecoder (Node 20: 87 and 108 ns at 20, 224 and 151 at 60).
const ONE_PIECE = 24; // Characters up to which the plain loop is faster than encodeInto (Node 20: 20 and 48 ns at 8, 64 and 53 at 32).
const LONE_SURROGATE = /\p{Surrogate}/u;

/** Whether the bytes are well-formed UTF-8: no overlong form, no surrogate, nothing above U+10FFFF. */
export function isUtf8(bytes: Uint8Array, start: number, end: number): boolean {
  let i = start;
  while (i < end) {
    const lead = bytes[i] as number;
    if (lead < 0x80) {
      i++;
      continue;
    }
    const next = i + sequenceLength(bytes, i, end, lead);
    if (next === i) return false;
    i = next;
  }
  return true;
}

/** Length of the sequence of two to four bytes at `i`; 0 when it is not well-formed. */
function sequenceLength(bytes: Uint8Array, i: number, end: number, lead: number): number {
  const length = lead < 0xc2 ? 0 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : lead < 0xf5 ? 4 : 0;
  if (i + length > end) return 0;
  for (let k = 1; k < length; k++) if (((bytes[i + k] as number) & 0xc0) !== 0x80) return 0;
  const second = bytes[i + 1] as number;
  if (lead === 0xe0 && second < 0xa0) return 0;
  if (lead === 0xed && second > 0x9f) return 0;
  if (lead === 0xf0 && second < 0x90) return 0;
  if (lead === 0xf4 && second > 0x8f) return 0;
  return length;
}

/** The text of the bytes, or undefined when they are not well-formed UTF-8. */
export function readUtf8(bytes: Uint8Array, start: number, end: number): string | undefined {
  const length = end - start;
  if (length > SHORT) return decode(bytes, start, end);
  const codes = new Array<number>(length);
  for (let i = 0; i < length; i++) {
    const byte = bytes[start + i] as number;
    if (byte > 0x7f) return decode(bytes, start, end);
    codes[i] = byte;
  }
  return String.fromCharCode.apply(null, codes);
}

function decode(bytes: Uint8Array, start: number, end: number): string | undefined {
  try {
    return decoder.decode(bytes.subarray(start, end));
  } catch {
    return undefined;
  }
}

/** Bytes of a text in UTF-8; -1 when it holds a lone surrogate. */
export function utf8Length(text: string): number {
  let length = 0;
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i);
    if (code < 0x80) length += 1;
    else if (code < 0x800) length += 2;
    else if (code < 0xd800 || code > 0xdfff) length += 3;
    else if (isPair(text, i)) {
      length += 4;
      i++;
    } else return -1;
  }
  return length;
}

function isPair(text: string, i: number): boolean {
  if (text.charCodeAt(i) > 0xdbff) return false;
  const low = text.charCodeAt(i + 1); // NaN behind the end, which is no surrogate.
  return low >= 0xdc00 && low <= 0xdfff;
}

/**
 * Writes a text at `offset`, for which `target` must have room for three bytes a character, and gives the bytes written;
 * -1 when the text holds a lone surrogate.
 */
export function writeUtf8(target: Uint8Array, offset: number, text: string): number {
  if (text.length > ONE_PIECE) return writeLong(target, offset, text);
  let to = offset;
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i);
    if (code >= 0x80) return writeLong(target, offset, text);
    target[to++] = code;
  }
  return to - offset;
}

function writeLong(target: Uint8Array, offset: number, text: string): number {
  const { written } = encoder.encodeInto(text, target.subarray(offset));
  // A lone surrogate was replaced by three bytes: a text with a byte a character holds none and needs no search.
  return written > text.length && LONE_SURROGATE.test(text) ? -1 : written;
}
