/**
 * The kinds of actors a host runs, compiled once: commands by id, codecs for every body, reply, row and event.
 */
import { type ActorDefinition, commandId, type TableSpec } from '../../actors/definition.ts';
import { ERRORS, ProtocolError } from '../../protocol/errors.ts';
import { type CommandSpec, isField } from '../../protocol/interface.ts';
import type { Field, Fields } from '../../protocol/schema.ts';
import { type Shape, shapeOf, shapeOfField } from '../../protocol/shape.ts';
import { encodeKeyPrefix, type KeyCodec, keyCodec } from './table-key.ts';

export type CompiledCommand = {
  readonly name: string;
  readonly id: number;
  readonly spec: CommandSpec;
  readonly body: Shape;
  readonly reply: Shape;
  readonly handle: ActorDefinition['handle'][string];
};

export type CompiledTable = {
  readonly name: string;
  readonly spec: TableSpec;
  readonly key: KeyCodec;
  readonly row: Shape;
  readonly prefix: Uint8Array;
};

export type CompiledTopic = {
  readonly name: string;
  /** Codec of an event: the row's, for a lossless topic. */
  readonly event: Shape;
  readonly table: CompiledTable | undefined;
  /** The snapshot query of a lossy topic. */
  readonly lossy: string | undefined;
};

export type CompiledQuery = {
  readonly fields: Shape;
  readonly reply: Shape;
  readonly answer: ActorDefinition['answer'][string];
};

export type CompiledKind = {
  readonly definition: ActorDefinition;
  readonly commands: ReadonlyMap<string, CompiledCommand>;
  readonly commandsById: ReadonlyMap<number, CompiledCommand>;
  readonly queries: ReadonlyMap<string, CompiledQuery>;
  readonly tables: ReadonlyMap<string, CompiledTable>;
  readonly topics: ReadonlyMap<string, CompiledTopic>;
};

export type Kinds = ReadonlyMap<string, CompiledKind>;

const shapeOfReply = (description: Field | Fields): Shape =>
  isField(description) ? shapeOfField(description) : shapeOf(description);

/** Compiles definitions. Errors: TypeError for two kinds of one name. */
export function compileKinds(definitions: readonly ActorDefinition[]): Kinds {
  const kinds = new Map<string, CompiledKind>();
  for (const definition of definitions) {
    if (kinds.has(definition.kind)) throw new TypeError(`two kinds are named "${definition.kind}"`);
    kinds.set(definition.kind, compileKind(definition));
  }
  return kinds;
}

function compileKind(definition: ActorDefinition): CompiledKind {
  const commands = mapEntries(definition.commands, (spec, name) => compileCommand(definition, name, spec));
  const tables = mapEntries(definition.tables, compileTable);
  return {
    definition,
    commands,
    commandsById: new Map([...commands.values()].map((command) => [command.id, command])),
    queries: mapEntries(definition.queries, (spec, name) => ({
      fields: shapeOf(spec.fields),
      reply: shapeOfReply(spec.reply),
      answer: definition.answer[name] as CompiledQuery['answer'],
    })),
    tables,
    topics: mapEntries(definition.topics, (spec, name): CompiledTopic => {
      if ('lossy' in spec) return { name, event: shapeOfReply(spec.event), table: undefined, lossy: spec.lossy };
      const table = tables.get(spec.table) as CompiledTable;
      return { name, event: table.row, table, lossy: undefined };
    }),
  };
}

function compileCommand(definition: ActorDefinition, name: string, spec: CommandSpec): CompiledCommand {
  return {
    name,
    id: commandId(name),
    spec,
    body: shapeOf(spec.fields, { binary: spec.binary === true }),
    reply: shapeOf(spec.reply),
    handle: definition.handle[name] as CompiledCommand['handle'],
  };
}

function compileTable(spec: TableSpec, name: string): CompiledTable {
  return { name, spec, key: keyCodec(spec.key), row: shapeOf(spec.row), prefix: encodeKeyPrefix(name) };
}

function mapEntries<S, T>(
  entries: { readonly [name: string]: S },
  compile: (spec: S, name: string) => T,
): Map<string, T> {
  return new Map(Object.entries(entries).map(([name, spec]) => [name, compile(spec, name)]));
}

/** Splits a reference. Errors: `invalid_reference`, `unknown_kind`. */
export function resolveRef(kinds: Kinds, ref: string): { kind: CompiledKind; key: string } {
  const colon = ref.indexOf(':');
  const key = ref.slice(colon + 1);
  if (colon < 1 || !isKey(key)) throw new ProtocolError('invalid_reference', `"${ref.slice(0, 170)}" is not kind:key`);
  const kind = kinds.get(ref.slice(0, colon));
  if (!kind) throw new ProtocolError('unknown_kind', `there is no kind "${ref.slice(0, colon)}"`);
  return { kind, key };
}

// biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what is refused here
const CONTROL = /[\u0000-\u001f\u007f]/;
const MAX_KEY_BYTES = 128; // Fits two UUIDs with a separator; keys stand in subjects, LMDB keys and every record.

function isKey(key: string): boolean {
  return key.length > 0 && Buffer.byteLength(key) <= MAX_KEY_BYTES && !CONTROL.test(key) && key.isWellFormed();
}

/** Whether a kind may refuse with this name. */
export function isRefusal(kind: CompiledKind, name: string): boolean {
  return Object.hasOwn(kind.definition.rejections, name) || Object.hasOwn(ERRORS, name);
}
