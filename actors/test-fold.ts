/**
 * Folds commands to actors as a host would, without a log, a bus or a clock: what tests of kinds stand on. Handlers run with the
 * determinism traps set; a handler that throws fails the test (HandlerFault).
 */
import assert from 'node:assert/strict';
import { decodeFailure, FAILED, REPLY, readReplyBatch } from '../cluster/bus/messages.ts';
import type { CheckpointStore } from '../cluster/checkpoint/checkpoint.ts';
import { MemoryCheckpoints } from '../cluster/checkpoint/memory-checkpoints.ts';
import { commandFrame, sessionBytes } from '../cluster/host/command-frames.ts';
import { Fold } from '../cluster/host/fold.ts';
import { takeCheckpoint } from '../cluster/host/fold-checkpoint.ts';
import { type CompiledKind, compileKinds, type Kinds } from '../cluster/host/kinds.ts';
import { answerQuery } from '../cluster/host/queries.ts';
import type { Stored } from '../cluster/log/log.ts';
import { isProtocolError } from '../protocol/errors.ts';
import type { Shape } from '../protocol/shape.ts';
import type { ActorDefinition } from './definition.ts';

const START_US = 1_700_000_000_000_000;

/** What every definition is, whatever its types. */
type TestKind = { readonly kind: string; readonly group: string };

export type TestCommand = {
  readonly ref: string;
  readonly command: string;
  readonly fields: object;
  readonly principal?: string;
};

/** How a command ended: its reply, or the name of its refusal. */
export type Outcome = { readonly reply?: unknown; readonly refused?: string; readonly message?: string };
export type Published = { readonly topic: string; readonly offset: number; readonly event: unknown };

export class TestFold {
  readonly kinds: Kinds;
  fold: Fold;
  /** Everything folded so far: feed it to another fold. */
  readonly messages: Stored[] = [];
  nowUs = START_US;
  readonly partition: string;
  readonly #checkpoints: MemoryCheckpoints;
  #store: CheckpointStore;
  #frame = 0;
  #number = 0;

  private constructor(kinds: Kinds, partition: string, checkpoints: MemoryCheckpoints, store: CheckpointStore) {
    this.kinds = kinds;
    this.partition = partition;
    this.#checkpoints = checkpoints;
    this.#store = store;
    this.fold = this.#newFold();
  }

  /** A fold with an empty checkpoint: of the first kind's group, which has one partition, as have those of the others. */
  static async of(definitions: readonly TestKind[]): Promise<TestFold> {
    const kinds = compileKinds(definitions as unknown as readonly ActorDefinition[]);
    const checkpoints = new MemoryCheckpoints();
    const partition = `${definitions[0]?.group}-0`;
    return new TestFold(kinds, partition, checkpoints, await checkpoints.open(partition));
  }

  /** A command of a client, alone in its frame. */
  send(ref: string, command: string, fields: object, principal = 'tester'): Outcome {
    return this.sendAll([{ ref, command, fields, principal }])[0] as Outcome;
  }

  /** As `send`, but the reply alone; a refusal fails the test. */
  ask<T = unknown>(ref: string, command: string, fields: object = {}, principal = 'tester'): T {
    const { reply, refused } = this.send(ref, command, fields, principal);
    assert.equal(refused, undefined, `${ref} ${command} ${JSON.stringify(fields)}`);
    return reply as T;
  }

  /** Commands in one frame. */
  sendAll(commands: readonly TestCommand[]): Outcome[] {
    this.#frame += 1;
    const low = this.#number + 1;
    const inputs = commands.map((command, i) => ({ ...command, number: low + i, low, session: SESSION }));
    this.#number += commands.length;
    this.feed('cmd.e1', commandFrame(this.kinds, inputs, { frameNumber: this.#frame }));
    const shapes = commands.map(({ ref, command }) => this.kind(ref).commands.get(command)?.reply as Shape);
    return outcomesOf(this.fold, shapes);
  }

  /** Any message of the log. */
  feed(token: string, data: Uint8Array): void {
    this.nowUs += 1_000;
    const sequence = this.fold.head.sequence + 1;
    const message = { sequence, timeUs: this.nowUs, subject: `p.${this.partition}.${token}`, data };
    this.messages.push(message);
    this.fold.fold(message);
  }

  /** What the newest message published to the topics of one actor. */
  published(ref: string): Published[] {
    return [...this.fold.outputs.events.values()]
      .filter((topic) => topic.ref === ref)
      .flatMap(({ topic, firstOffset, events }) =>
        events.map((bytes, i) => ({
          topic,
          offset: firstOffset + i,
          event: this.kind(ref).topics.get(topic)?.event.decode(bytes),
        })),
      );
  }

  /** The answer to a query. Errors: as the kind and the protocol name them. */
  query<T = unknown>(ref: string, name: string, fields: object = {}, principal = 'tester'): T {
    const query = this.kind(ref).queries.get(name);
    assert.ok(query, `no query ${name}`);
    const body = query.fields.encode(fields);
    const request = { ref, name, body, principal, roles: [], minSequence: undefined };
    return query.reply.decode(answerQuery(this.fold, request)) as T;
  }

  /** The answer to a query, or the error that has a name. */
  answerOf(ref: string, name: string, fields: unknown, principal?: string): unknown {
    try {
      return this.query(ref, name, fields as object, principal);
    } catch (error) {
      if (isProtocolError(error)) return error.code;
      throw error;
    }
  }

  /** The bytes that a checkpoint would hold of an actor now. */
  saved(ref: string): Uint8Array | undefined {
    return this.fold.actors.saved(ref);
  }

  async checkpoint(): Promise<void> {
    await takeCheckpoint(
      this.fold,
      () => 0,
      async () => {},
    );
  }

  /** Goes on from the last checkpoint, as after a crash: folds again what came later. */
  async recover(): Promise<void> {
    await this.#store.close();
    this.#store = await this.#checkpoints.open(this.partition);
    this.fold = this.#newFold();
    for (const message of this.messages.slice(this.fold.head.sequence)) this.fold.fold(message);
  }

  /** A fold of the same kinds that has folded nothing yet. */
  async another(): Promise<TestFold> {
    const checkpoints = new MemoryCheckpoints();
    return new TestFold(this.kinds, this.partition, checkpoints, await checkpoints.open(this.partition));
  }

  /** Folds messages of another fold, and keeps them. */
  follow(message: Stored): void {
    this.messages.push(message);
    this.fold.fold(message);
  }

  kind(ref: string): CompiledKind {
    const kind = this.kinds.get(ref.slice(0, ref.indexOf(':')));
    assert.ok(kind, `no kind of ${ref}`);
    return kind;
  }

  #newFold(): Fold {
    const groups = [...this.kinds.values()].map(({ definition }) => [definition.group, 1]);
    return new Fold(
      {
        partition: this.partition,
        groups: Object.fromEntries(groups),
        kinds: this.kinds,
        generation: 1,
        traps: true,
        sessionHorizonMs: 400 * 86_400_000, // Tests let months pass in one session.
      },
      this.#store,
    );
  }
}

const SESSION = sessionBytes(START_US / 1_000, 1);

function outcomesOf({ replies }: Fold, shapes: readonly Shape[]): Outcome[] {
  const found: Outcome[] = [];
  const seen = (
    bytes: Uint8Array,
    _slot: number,
    _number: number,
    status: number,
    start: number,
    end: number,
  ): void => {
    found.push(outcomeOf(bytes.subarray(start, end), status, shapes[found.length]));
  };
  for (const batch of replies) readReplyBatch(batch, () => {}, seen);
  return found;
}

function outcomeOf(body: Uint8Array, status: number, shape: Shape | undefined): Outcome {
  if (status === REPLY) return { reply: shape?.decode(body) };
  assert.equal(status, FAILED, 'a command counted as a duplicate');
  const { error, message } = decodeFailure(body);
  return { refused: error, message };
}
