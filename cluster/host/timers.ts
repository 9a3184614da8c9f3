/**
 * Timers: wishes to receive a command at a time. They lie in the overlay twice, by name and by due time. A firing carries the
 * arming it is for; the fold drops it unless that very arming is pending and due.
 */
import { decodeState, encodeState } from '../../protocol/canonical.ts';
import type { Overlay } from '../checkpoint/overlay.ts';
import { joinBytes } from './table-key.ts';

export type Wish = {
  readonly dueMs: number;
  /** What tells this wish from an earlier one of the same name: sequence.index.count of the record that set it. */
  readonly arming: string;
  readonly command: string;
  readonly body: Uint8Array;
};

export type DueTimer = { readonly ref: string; readonly name: string; readonly arming: string; readonly dueMs: number };

const BY_NAME = Uint8Array.of(0x6e);
const BY_DUE = Uint8Array.of(0x64);
const DUE_BYTES = 8;

export class Timers {
  readonly #overlay: Overlay;

  constructor(overlay: Overlay) {
    this.#overlay = overlay;
  }

  get(ref: string, name: string): Wish | undefined {
    const bytes = this.#overlay.get('timer', nameKey(ref, name));
    if (!bytes) return undefined;
    const [dueMs, arming, command, body] = decodeState(bytes) as [number, string, string, Uint8Array];
    return { dueMs, arming, command, body };
  }

  set(ref: string, name: string, wish: Wish): void {
    this.clear(ref, name);
    this.#overlay.put('timer', nameKey(ref, name), encodeState([wish.dueMs, wish.arming, wish.command, wish.body]));
    this.#overlay.put('timer', dueKey(ref, name, wish.dueMs), encodeState([ref, name, wish.arming, wish.dueMs]));
  }

  clear(ref: string, name: string): void {
    const wish = this.get(ref, name);
    if (!wish) return;
    this.#overlay.delete('timer', nameKey(ref, name));
    this.#overlay.delete('timer', dueKey(ref, name, wish.dueMs));
  }

  /** The earliest wishes due at or before `untilMs`, at most `limit`. */
  due(untilMs: number, limit: number): DueTimer[] {
    const found: DueTimer[] = [];
    for (const [, value] of this.#overlay.range('timer', BY_DUE, dueEnd(untilMs))) {
      const [ref, name, arming, dueMs] = decodeState(value) as [string, string, string, number];
      found.push({ ref, name, arming, dueMs });
      if (found.length >= limit) break;
    }
    return found;
  }

  /** When the earliest wish is due, or undefined. */
  nextDueMs(): number | undefined {
    return this.due(Number.MAX_SAFE_INTEGER, 1)[0]?.dueMs;
  }

  /** Wishes of one actor. */
  of(ref: string): { name: string; wish: Wish }[] {
    const from = nameKey(ref, '');
    const found: { name: string; wish: Wish }[] = [];
    for (const [key] of this.#overlay.range('timer', from, joinBytes(from, Uint8Array.of(255)))) {
      const name = Buffer.from(key.subarray(from.length)).toString();
      found.push({ name, wish: this.get(ref, name) as Wish });
    }
    return found;
  }
}

function nameKey(ref: string, name: string): Uint8Array {
  return joinBytes(BY_NAME, Buffer.from(`${ref}\0${name}`));
}

function dueKey(ref: string, name: string, dueMs: number): Uint8Array {
  return joinBytes(BY_DUE, dueBytes(dueMs), Buffer.from(`${ref}\0${name}`));
}

function dueEnd(untilMs: number): Uint8Array {
  return joinBytes(BY_DUE, dueBytes(Math.min(untilMs + 1, Number.MAX_SAFE_INTEGER)));
}

function dueBytes(dueMs: number): Uint8Array {
  const bytes = new Uint8Array(DUE_BYTES);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(dueMs));
  return bytes;
}
