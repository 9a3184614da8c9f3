/**
 * What a client knows of a kind of actor: its commands, queries, topics and refusals. A definition in `actors/` contains one,
 * so a client program imports the same object that the server runs, and its calls are typed.
 */
import type { Field, Fields, Infer, InferFields } from './schema.ts';

/** Roles of a token. `system` is no token's: it marks what only actors, timers and effect results may send. */
export type Role = string;

export type CommandSpec = {
  readonly roles: readonly Role[];
  readonly fields: Fields;
  readonly reply: Fields;
  /** The body has the fixed binary layout of the fields (see shape.ts) in place of the positional MessagePack array. */
  readonly binary?: true;
  /** One sentence for the generated documentation. */
  readonly about?: string;
};

export type QuerySpec = {
  readonly roles?: readonly Role[];
  readonly fields: Fields;
  readonly reply: Field | Fields;
  readonly about?: string;
};

/** A lossy topic names its snapshot query (one without required fields); a lossless one names its table. */
export type TopicSpec =
  | {
      readonly roles?: readonly Role[];
      readonly event: Field | Fields;
      readonly lossy: string;
      readonly about?: string;
    }
  | { readonly roles?: readonly Role[]; readonly table: string; readonly about?: string };

export type Commands = { readonly [name: string]: CommandSpec };
export type Queries = { readonly [name: string]: QuerySpec };
export type Topics = { readonly [name: string]: TopicSpec };

export type KindInterface = {
  readonly kind: string;
  readonly commands: Commands;
  readonly queries: Queries;
  readonly topics: Topics;
  /** Refusals of this kind: name -> sentence. They are answered with status 422. */
  readonly rejections: { readonly [name: string]: string };
  /** Row fields of the tables that lossless topics name. */
  readonly tables: { readonly [name: string]: { readonly key: Fields; readonly row: Fields } };
};

/** A value described by one field or by a set of fields. */
export type InferReply<R extends Field | Fields> = R extends Field
  ? Infer<R>
  : R extends Fields
    ? InferFields<R>
    : never;

/** Whether a description is one field (it has a textual `type`) or a set of fields. */
export function isField(description: Field | Fields): description is Field {
  return typeof description.type === 'string';
}
