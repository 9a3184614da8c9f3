/**
 * The codecs of one kind of actor, built from its interface when first needed, and the static types that a caller sees.
 */
import { ProtocolError } from '../errors.ts';
import type { InferReply, KindInterface } from '../interface.ts';
import type { Field, Fields, InferFields } from '../schema.ts';
import type { ServerMessageReader } from '../server-messages.ts';
import type { Shape } from '../shape.ts';
import { shapeOf, shapeOfEither } from '../shape.ts';
import { encoded } from './message-batch.ts';
import { asTroupeError, type TroupeError } from './troupe-error.ts';

export type CommandName<K extends KindInterface> = keyof K['commands'] & string;
export type QueryName<K extends KindInterface> = keyof K['queries'] & string;
export type TopicName<K extends KindInterface> = keyof K['topics'] & string;

export type CommandFields<K extends KindInterface, N extends CommandName<K>> = InferFields<K['commands'][N]['fields']>;
export type CommandReply<K extends KindInterface, N extends CommandName<K>> = InferFields<K['commands'][N]['reply']>;
export type QueryFields<K extends KindInterface, N extends QueryName<K>> = InferFields<K['queries'][N]['fields']>;
export type QueryReply<K extends KindInterface, N extends QueryName<K>> = InferReply<K['queries'][N]['reply']>;

/** What a subscriber receives: a lossy topic's event, or the row that a lossless topic appended. */
export type TopicEvent<K extends KindInterface, N extends TopicName<K>> = K['topics'][N] extends {
  event: infer E extends Field | Fields;
}
  ? InferReply<E>
  : K['topics'][N] extends { table: infer T extends keyof K['tables'] }
    ? InferFields<K['tables'][T]['row']>
    : never;

/** The state that a lossy topic begins with: its snapshot query's reply. A lossless topic has none. */
export type TopicSnapshot<K extends KindInterface, N extends TopicName<K>> = K['topics'][N] extends {
  lossy: infer Q extends keyof K['queries'];
}
  ? InferReply<K['queries'][Q]['reply']>
  : never;

/** How one command or query travels. Values are checked when they are encoded, so casts between shapes are safe. */
export type CallCodec = { readonly body: Shape; readonly binary: boolean; readonly reply: Shape };
/** `snapshot` is there for lossy topics only. */
export type TopicCodec = { readonly event: Shape; readonly snapshot: Shape | undefined };

export type KindCodec = {
  command(name: string): CallCodec;
  query(name: string): CallCodec;
  topic(name: string): TopicCodec;
};

const codecs = new WeakMap<KindInterface, KindCodec>();

/** The codecs of a kind. Errors of its functions: ProtocolError `unknown_command`, `unknown_query`, `unknown_topic`. */
export function codecOf(kind: KindInterface): KindCodec {
  let codec = codecs.get(kind);
  if (!codec) {
    codec = {
      command: remembered((name) => commandCodec(kind, name)),
      query: remembered((name) => queryCodec(kind, name)),
      topic: remembered((name) => topicCodec(kind, name)),
    };
    codecs.set(kind, codec);
  }
  return codec;
}

function remembered<T>(build: (name: string) => T): (name: string) => T {
  const built = new Map<string, T>();
  return (name) => {
    let value = built.get(name);
    if (value === undefined) {
      value = build(name);
      built.set(name, value);
    }
    return value;
  };
}

function commandCodec({ kind, commands }: KindInterface, name: string): CallCodec {
  const command = Object.hasOwn(commands, name) ? commands[name] : undefined;
  if (!command) throw new ProtocolError('unknown_command', `${kind} has no command "${name}"`);
  const binary = command.binary === true;
  return { body: shapeOf(command.fields, { binary }), binary, reply: shapeOf(command.reply) };
}

function queryCodec({ kind, queries }: KindInterface, name: string): CallCodec {
  const query = Object.hasOwn(queries, name) ? queries[name] : undefined;
  if (!query) throw new ProtocolError('unknown_query', `${kind} has no query "${name}"`);
  return { body: shapeOf(query.fields), binary: false, reply: shapeOfEither(query.reply) };
}

function topicCodec(kind: KindInterface, name: string): TopicCodec {
  const topic = Object.hasOwn(kind.topics, name) ? kind.topics[name] : undefined;
  if (!topic) throw new ProtocolError('unknown_topic', `${kind.kind} has no topic "${name}"`);
  if ('lossy' in topic) {
    return { event: shapeOfEither(topic.event), snapshot: codecOf(kind).query(topic.lossy).reply };
  }
  const table = kind.tables[topic.table];
  if (!table) throw new ProtocolError('unknown_topic', `${kind.kind} has no table "${topic.table}"`);
  return { event: shapeOf(table.row), snapshot: undefined };
}

/** Settles a promise by the body that the reader stands at. */
export function settle(
  shape: Shape,
  reader: ServerMessageReader,
  resolve: (value: unknown) => void,
  reject: (error: TroupeError) => void,
): void {
  try {
    resolve(shape.decode(reader.bytes, reader.bodyStart, reader.bodyEnd));
  } catch (thrown) {
    reject(asTroupeError(thrown, 'malformed_message'));
  }
}

/** The bytes of a body as they stand in a message: binary layouts are wrapped as MessagePack bytes. */
export function encodeBody(codec: CallCodec, value: unknown): Uint8Array {
  const body = codec.body.encode(value);
  return codec.binary ? encoded((writer) => writer.bin(body)) : body;
}
