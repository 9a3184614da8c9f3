/**
 * Tables of an actor: rows of checkpoint and overlay, read and written synchronously. A row of a table that expires carries
 * the log time of its last put; reads do not see it once it is too old, and sweeps delete it later.
 */
import type { TableReader, TableWriter } from '../../actors/definition.ts';
import type { Overlay } from '../checkpoint/overlay.ts';
import type { ActiveActor } from './actors.ts';
import type { CompiledTable } from './kinds.ts';
import { afterPrefix, joinBytes } from './table-key.ts';

const STAMP_BYTES = 8; // A float64 of milliseconds before the row's own bytes.
const DEFAULT_LIMIT = 1_000; // What a page holds when the caller does not say.
const MAX_LIMIT = 10_000; // A synchronous range holds the loop: at about a microsecond a row this is 10 ms.

type Key = Record<string, unknown>;
type RangeOptions = { from?: Key; to?: Key; limit?: number; reverse?: boolean };

/** Where the tables of a partition get time and rows, and where changes are counted into the check hash. */
export type TableMachine = {
  readonly overlay: Overlay;
  nowMs(): number;
  /** Called before a change (a bug outside a handler throws) and with what changed. */
  changed(actor: ActiveActor, key: Uint8Array, value: Uint8Array | undefined): void;
};

export class Table implements TableWriter {
  readonly #machine: TableMachine;
  readonly #actor: ActiveActor;
  readonly #table: CompiledTable;
  readonly #prefix: Uint8Array;

  constructor(machine: TableMachine, actor: ActiveActor, table: CompiledTable) {
    this.#machine = machine;
    this.#actor = actor;
    this.#table = table;
    this.#prefix = joinBytes(actor.prefix, table.prefix);
  }

  has(key: Key): boolean {
    return this.getBytes(key) !== undefined;
  }

  get(key: Key): Key | undefined {
    const bytes = this.getBytes(key);
    return bytes && (this.#table.row.decode(bytes) as Key);
  }

  /** The row as it lies on the wire. */
  getBytes(key: Key): Uint8Array | undefined {
    return this.#live(this.#machine.overlay.get('row', this.#key(key)));
  }

  put(key: Key, row: Key): void {
    this.putBytes(key, this.#table.row.encode(row));
  }

  putBytes(key: Key, row: Uint8Array): void {
    const keyBytes = this.#key(key);
    const value = this.#table.spec.expireAfter === undefined ? row : stamp(row, this.#machine.nowMs());
    this.#machine.changed(this.#actor, keyBytes, value);
    this.#machine.overlay.put('row', keyBytes, value);
  }

  delete(key: Key): void {
    const keyBytes = this.#key(key);
    this.#machine.changed(this.#actor, keyBytes, undefined);
    this.#machine.overlay.delete('row', keyBytes);
  }

  range(options: RangeOptions = {}): { key: never; row: never }[] {
    return this.rangeBytes(options).map(({ key, row }) => ({
      key: key as never,
      row: this.#table.row.decode(row) as never,
    }));
  }

  rangeBytes(options: RangeOptions): { key: Key; row: Uint8Array }[] {
    const limit = Math.min(options.limit ?? DEFAULT_LIMIT, MAX_LIMIT);
    const from = options.from ? this.#leading(options.from) : this.#prefix;
    const to = options.to ? this.#leading(options.to) : afterPrefix(this.#prefix);
    const found: { key: Key; row: Uint8Array }[] = [];
    for (const [key, value] of this.#machine.overlay.range('row', from, to, { reverse: options.reverse === true })) {
      const row = this.#live(value);
      if (row) found.push({ key: this.#table.key.decode(key, this.#prefix.length), row });
      if (found.length >= limit) break;
    }
    return found;
  }

  #key(key: Key): Uint8Array {
    return joinBytes(this.#prefix, this.#table.key.encode(key));
  }

  #leading(key: Key): Uint8Array {
    return joinBytes(this.#prefix, this.#table.key.encode(key, true));
  }

  #live(value: Uint8Array | undefined): Uint8Array | undefined {
    const { expireAfter } = this.#table.spec;
    if (value === undefined || expireAfter === undefined) return value;
    return isExpired(value, expireAfter, this.#machine.nowMs()) ? undefined : value.subarray(STAMP_BYTES);
  }
}

function stamp(row: Uint8Array, nowMs: number): Uint8Array {
  const value = new Uint8Array(STAMP_BYTES + row.length);
  new DataView(value.buffer).setFloat64(0, nowMs, true);
  value.set(row, STAMP_BYTES);
  return value;
}

/** Whether a stored row of a table that expires is too old. */
export function isExpired(value: Uint8Array, expireAfterMs: number, nowMs: number): boolean {
  const putMs = new DataView(value.buffer, value.byteOffset, STAMP_BYTES).getFloat64(0, true);
  return nowMs - putMs > expireAfterMs;
}

/** All tables of an actor, made at first use. */
export function tablesOf(machine: TableMachine, actor: ActiveActor): Record<string, TableWriter & TableReader> {
  actor.tables ??= Object.fromEntries(
    [...actor.kind.tables.values()].map((table) => [table.name, new Table(machine, actor, table)]),
  );
  return actor.tables as Record<string, Table>;
}
