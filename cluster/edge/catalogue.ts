/**
 * The kinds of actors as an edge needs them, and the way from the bytes of a reference to its kind and partition. References
 * repeat, so the last ones are remembered by their bytes: a hit allocates nothing.
 */
import { type ActorDefinition, commandId } from '../../actors/definition.ts';
import { ProtocolError } from '../../protocol/errors.ts';
import type { CommandSpec, QuerySpec, TopicSpec } from '../../protocol/interface.ts';
import { MAX_REF_BYTES } from '../../protocol/record.ts';
import { type Shape, shapeOf, shapeOfEither } from '../../protocol/shape.ts';
import { readUtf8 } from '../../protocol/utf8.ts';
import { type Groups, partitionOf } from '../placement/partition-of.ts';

export type EdgeCommand = {
  readonly name: string;
  readonly nameBytes: Uint8Array;
  readonly id: number;
  readonly spec: CommandSpec;
  /** Roles that may send it, as bits. */
  readonly roles: number;
  readonly binary: boolean;
  readonly body: Shape;
  readonly reply: Shape;
};
type EdgeQuery = {
  readonly name: string;
  readonly spec: QuerySpec;
  readonly roles: number;
  readonly body: Shape;
  readonly reply: Shape;
};
export type EdgeTopic = {
  readonly name: string;
  readonly spec: TopicSpec;
  readonly roles: number;
  readonly lossy: boolean;
};

export type EdgeKind = {
  readonly definition: ActorDefinition;
  readonly commands: ReadonlyMap<number, EdgeCommand>;
  readonly queries: ReadonlyMap<string, EdgeQuery>;
  readonly topics: ReadonlyMap<string, EdgeTopic>;
};

/** An actor that a message names. */
export type Target<P> = {
  readonly ref: string;
  readonly refBytes: Uint8Array;
  readonly kind: EdgeKind;
  readonly partition: P;
};

const EVERYONE = 1; // The bit that each authenticated session has.
const MAX_ROLE_NAMES = 30; // Bits of a small integer, less the one of everyone.
const REMEMBERED_REFS = 16_384; // A power of two. About 4 MB when full; a busy edge's working set of actors.

const encoder = new TextEncoder();

export class Catalogue<P> {
  readonly #kinds = new Map<string, EdgeKind>();
  readonly #roleBits = new Map<string, number>();
  readonly #groups: Groups;
  readonly #partition: (name: string) => P;
  readonly #remembered: (Target<P> | undefined)[] = new Array(REMEMBERED_REFS).fill(undefined);

  /** `partition` gives what the edge keeps of a partition. Errors: TypeError, RangeError for definitions that do not fit. */
  constructor(definitions: readonly ActorDefinition[], groups: Groups, partition: (name: string) => P) {
    this.#groups = groups;
    this.#partition = partition;
    for (const definition of definitions) {
      if (!groups[definition.group])
        throw new RangeError(`${definition.kind}: the cluster has no group "${definition.group}"`);
      if (this.#kinds.has(definition.kind)) throw new TypeError(`two kinds are named "${definition.kind}"`);
      this.#kinds.set(definition.kind, this.#compile(definition));
    }
  }

  get kinds(): ReadonlyMap<string, EdgeKind> {
    return this.#kinds;
  }

  /** The bits of a session with these roles. */
  rolesOf(roles: readonly string[]): number {
    return roles.reduce((bits, role) => bits | (this.#roleBits.get(role) ?? 0), EVERYONE);
  }

  /** The actor named by bytes [start, end). Errors: `invalid_reference`, `unknown_kind`. */
  targetAt(bytes: Uint8Array, start: number, end: number): Target<P> {
    const place = hashBytes(bytes, start, end) & (REMEMBERED_REFS - 1);
    const known = this.#remembered[place];
    if (known && equalBytes(known.refBytes, bytes, start, end)) return known;
    const ref = end - start > MAX_REF_BYTES ? undefined : readUtf8(bytes, start, end);
    if (ref === undefined) throw new ProtocolError('invalid_reference');
    const target = this.#resolve(ref);
    this.#remembered[place] = target;
    return target;
  }

  /** The actor of a reference. Errors: `invalid_reference`, `unknown_kind`. */
  target(ref: string): Target<P> {
    const bytes = encoder.encode(ref);
    return this.targetAt(bytes, 0, bytes.length);
  }

  #resolve(ref: string): Target<P> {
    const colon = ref.indexOf(':');
    const key = ref.slice(colon + 1);
    if (colon < 1 || !isKey(key)) throw new ProtocolError('invalid_reference');
    const kind = this.#kinds.get(ref.slice(0, colon));
    if (!kind) throw new ProtocolError('unknown_kind', `there is no kind "${ref.slice(0, Math.min(colon, 32))}"`);
    const partition = this.#partition(partitionOf(kind.definition, key, this.#groups));
    return { ref, refBytes: encoder.encode(ref), kind, partition };
  }

  #compile(definition: ActorDefinition): EdgeKind {
    const commands = Object.entries(definition.commands).map(([name, spec]) => this.#command(name, spec));
    const queries = Object.entries(definition.queries).map(([name, spec]): [string, EdgeQuery] => [
      name,
      { name, spec, roles: this.#bits(spec.roles), body: shapeOf(spec.fields), reply: shapeOfEither(spec.reply) },
    ]);
    const topics = Object.entries(definition.topics).map(([name, spec]): [string, EdgeTopic] => [
      name,
      { name, spec, roles: this.#bits(spec.roles), lossy: 'lossy' in spec },
    ]);
    return {
      definition,
      commands: new Map(commands.map((command) => [command.id, command])),
      queries: new Map(queries),
      topics: new Map(topics),
    };
  }

  #command(name: string, spec: CommandSpec): EdgeCommand {
    return {
      name,
      nameBytes: encoder.encode(name),
      id: commandId(name),
      spec,
      roles: this.#bits(spec.roles),
      binary: spec.binary === true,
      body: shapeOf(spec.fields, { binary: spec.binary === true }),
      reply: shapeOf(spec.reply),
    };
  }

  /** No list of roles: everyone. An empty list: nobody. */
  #bits(roles: readonly string[] | undefined): number {
    if (roles === undefined) return EVERYONE;
    return roles.reduce((bits, role) => bits | this.#bitOf(role), 0);
  }

  #bitOf(role: string): number {
    const known = this.#roleBits.get(role);
    if (known !== undefined) return known;
    if (this.#roleBits.size >= MAX_ROLE_NAMES)
      throw new RangeError(`more than ${MAX_ROLE_NAMES} roles in all kinds together`);
    const bit = 1 << (this.#roleBits.size + 1);
    this.#roleBits.set(role, bit);
    return bit;
  }
}

/** The command of a name given as bytes. A command's id is the hash of its name, so the hash finds it. */
export function commandAt(kind: EdgeKind, bytes: Uint8Array, start: number, end: number): EdgeCommand | undefined {
  const command = kind.commands.get(hashBytes(bytes, start, end));
  return command && equalBytes(command.nameBytes, bytes, start, end) ? command : undefined;
}

/** FNV-1a, 32 bits: for ASCII the same as `commandId`. */
function hashBytes(bytes: Uint8Array, start: number, end: number): number {
  let hash = 0x811c9dc5;
  for (let i = start; i < end; i++) hash = Math.imul(hash ^ (bytes[i] as number), 0x01000193);
  return hash >>> 0;
}

function equalBytes(known: Uint8Array, bytes: Uint8Array, start: number, end: number): boolean {
  if (known.length !== end - start) return false;
  for (let i = 0; i < known.length; i++) if (known[i] !== bytes[start + i]) return false;
  return true;
}

/** 1 to 128 bytes without control characters. */
function isKey(key: string): boolean {
  const bytes = Buffer.byteLength(key);
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is refused.
  return bytes >= 1 && bytes <= 128 && !/[\u0000-\u001f\u007f]/.test(key) && key.isWellFormed();
}
