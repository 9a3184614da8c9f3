/**
 * The outbox: sends whose destination has not confirmed them, and effects without a result. Both are folded state, so a standby
 * keeps them and a restart forgets none. Numbers of items ascend per destination and generation.
 */

import type { WebhookRequest } from '../../actors/definition.ts';
import { decodeState, encodeState } from '../../protocol/canonical.ts';
import type { Overlay } from '../checkpoint/overlay.ts';
import { afterPrefix, encodeKeyPrefix, joinBytes } from './table-key.ts';

export type Item = { readonly number: number; readonly bytes: Uint8Array };

export type Effect = {
  readonly id: string;
  readonly ref: string;
  /** The command that takes the result. */
  readonly result: string;
  readonly request: WebhookRequest;
};

const NUMBER_BYTES = 8;

export class Outbox {
  readonly #overlay: Overlay;
  /** Unconfirmed bytes per destination. */
  readonly #bytes = new Map<string, number>();

  constructor(overlay: Overlay) {
    this.#overlay = overlay;
    for (const [key, value] of overlay.range('outbox', new Uint8Array())) {
      const to = Buffer.from(key.subarray(0, key.length - NUMBER_BYTES - 1)).toString();
      this.#bytes.set(to, (this.#bytes.get(to) ?? 0) + value.length);
    }
  }

  add(to: string, number: number, bytes: Uint8Array): void {
    this.#overlay.put('outbox', itemKey(to, number), bytes);
    this.#bytes.set(to, (this.#bytes.get(to) ?? 0) + bytes.length);
  }

  /** Drops confirmed items. */
  confirm(to: string, upTo: number): void {
    const keys: Uint8Array[] = [];
    for (const [key, value] of this.#overlay.range('outbox', encodeKeyPrefix(to), itemKey(to, upTo + 1))) {
      keys.push(key);
      this.#bytes.set(to, (this.#bytes.get(to) ?? 0) - value.length);
    }
    for (const key of keys) this.#overlay.delete('outbox', key);
    if ((this.#bytes.get(to) ?? 0) <= 0) this.#bytes.delete(to);
  }

  /** Unconfirmed items above a number, in order, at least one and at most about `maxBytes`. */
  pending(to: string, above: number, maxBytes: number): Item[] {
    const items: Item[] = [];
    let bytes = 0;
    for (const [key, value] of this.#overlay.range(
      'outbox',
      itemKey(to, above + 1),
      afterPrefix(encodeKeyPrefix(to)),
    )) {
      if (items.length > 0 && bytes + value.length > maxBytes) break;
      items.push({ number: numberOf(key), bytes: value });
      bytes += value.length;
    }
    return items;
  }

  get destinations(): string[] {
    return [...this.#bytes.keys()];
  }

  get totalBytes(): number {
    let total = 0;
    for (const bytes of this.#bytes.values()) total += bytes;
    return total;
  }

  addEffect(effect: Effect): void {
    const { url, method = 'POST', headers = {}, body } = effect.request;
    const request = [url, method, new Map(Object.entries(headers)), body];
    this.#overlay.put('effect', Buffer.from(effect.id), encodeState([effect.ref, effect.result, request]));
  }

  effect(id: string): Effect | undefined {
    const bytes = this.#overlay.get('effect', Buffer.from(id));
    return bytes && loadEffect(id, bytes);
  }

  removeEffect(id: string): void {
    this.#overlay.delete('effect', Buffer.from(id));
  }

  /** Effects without a result, oldest first (ids ascend). */
  effects(limit: number): Effect[] {
    const found: Effect[] = [];
    for (const [key, value] of this.#overlay.range('effect', new Uint8Array(), undefined, { limit })) {
      found.push(loadEffect(Buffer.from(key).toString(), value));
    }
    return found;
  }
}

function loadEffect(id: string, bytes: Uint8Array): Effect {
  const [ref, result, [url, method, headers, body]] = decodeState(bytes) as [
    string,
    string,
    [string, 'POST' | 'PUT', Map<string, string>, string],
  ];
  return { id, ref, result, request: { url, method, headers: Object.fromEntries(headers), body } };
}

function itemKey(to: string, number: number): Uint8Array {
  const bytes = new Uint8Array(NUMBER_BYTES);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(number));
  return joinBytes(encodeKeyPrefix(to), bytes);
}

function numberOf(key: Uint8Array): number {
  return Number(new DataView(key.buffer, key.byteOffset + key.length - NUMBER_BYTES).getBigUint64(0));
}
