/**
 * Random histories of one kind, from the generators of its schema and a seed: commands of clients and of other actors, timers
 * that fire, sends that arrive, webhooks that end well or badly, and time that passes. Values that were accepted before come back
 * often, so that orders are found again and names collide; and for a while only a few commands, keys and users are drawn, so that
 * what one command opened is not closed by the next.
 */
import assert from 'node:assert/strict';
import { crc32 } from 'node:zlib';
import type { CompiledCommand, CompiledKind } from '../cluster/host/kinds.ts';
import { encodeOwn, type OwnRecord } from '../cluster/host/own-record.ts';
import { encodeSend } from '../cluster/host/send-item.ts';
import { isProtocolError } from '../protocol/errors.ts';
import { encodeFrame, FRAME_SENDS } from '../protocol/frame.ts';
import type { Field } from '../protocol/schema.ts';
import { type Shape, shapeOfField } from '../protocol/shape.ts';
import type { TestFold } from './test-fold.ts';

const KEYS = ['a', 'v/1', 'v/2'];
export const PRINCIPALS = ['ann', 'bob', 'eve'];
const REMEMBERED = 20; // Values per field: few enough to come back, enough to differ.
const FIRST_ITEM = 2 ** 40 + 1; // Of generation 1.
const LONGEST_WAIT_US = 2 * 3_600_000_000;
const MOOD_STEPS = 40;

type Fields = { [name: string]: unknown };

/** How a kind would rather have its commands drawn, from `test-<kind>.ts` in its folder; values at large come too. */
export type Drawing = {
  /** Narrower fields by name. */
  readonly fields?: { readonly [name: string]: Field };
  /** How often a command is drawn, against 1 for the others. */
  readonly weights?: { readonly [command: string]: number };
};

export class History {
  /** Commands by name: how many were tried, and how many were not refused. */
  readonly tried = new Map<string, { tries: number; accepted: number }>();
  /** Refusals by name. */
  readonly refusals = new Map<string, number>();
  readonly #it: TestFold;
  readonly #kind: CompiledKind;
  readonly #random: () => number;
  readonly #narrow: ReadonlyMap<string, Shape>;
  readonly #weights: { readonly [command: string]: number };
  readonly #seen = new Map<string, unknown[]>();
  #lastItem = FIRST_ITEM - 1;
  #delivered = 0;
  #steps = 0;
  #commands: CompiledCommand[] = [];
  #refs: string[] = [];
  #principals: string[] = [];

  constructor(it: TestFold, kind: string, random: () => number, { fields = {}, weights = {} }: Drawing = {}) {
    this.#it = it;
    this.#kind = it.kind(`${kind}:`);
    this.#random = random;
    this.#narrow = new Map(Object.entries(fields).map(([name, field]) => [name, shapeOfField(field)]));
    this.#weights = weights;
  }

  get refs(): string[] {
    return KEYS.map((key) => `${this.#kind.definition.kind}:${key}`);
  }

  /** One more message, or query. */
  step(): void {
    if (this.#steps++ % MOOD_STEPS === 0) this.#changeMood();
    const dice = this.#random();
    if (dice < 0.7) this.#command();
    else if (dice < 0.8) this.#receive();
    else if (dice < 0.9) this.#query();
    else if (dice < 0.94) this.#fireTimers();
    else if (dice < 0.97) this.#deliverOwnSends();
    else this.#finishEffect();
  }

  #changeMood(): void {
    const some = <T>(choices: readonly T[]): T[] => choices.filter(() => this.#random() < 0.5);
    const commands = [...this.#kind.commands.values()].filter(({ spec }) => !isSystem(spec.roles));
    this.#commands = orAll(some(commands), commands);
    this.#refs = orAll(some(this.refs), this.refs);
    this.#principals = orAll(some(PRINCIPALS), PRINCIPALS);
  }

  #command(): void {
    const command = this.#pickCommand(this.#commands);
    if (!command) return;
    const ref = this.#pick(this.#refs) as string;
    const fields = this.#fields(command.body);
    const before = this.#it.saved(ref);
    const outcome = this.#it.send(ref, command.name, fields, this.#pick(this.#principals));
    this.#count(command, outcome.refused);
    if (outcome.refused === undefined) {
      this.#remember(fields);
      this.#remember(outcome.reply);
      this.#it.published(ref);
    } else assert.deepEqual(this.#it.saved(ref), before, `${ref} ${command.name} was refused and changed something`);
  }

  /** A command that another actor sends, as system commands always are. */
  #receive(): void {
    const command = this.#pickCommand([...this.#kind.commands.values()]);
    if (!command) return;
    const ref = this.#pick(this.refs) as string;
    const body = command.body.encode(this.#fields(command.body));
    const binary = command.spec.binary === true;
    const item = encodeSend({
      commandId: command.id,
      binary,
      sender: this.#pick(this.refs) as string,
      refs: [ref],
      body,
    });
    this.#lastItem += 1;
    const accepted = this.#it.fold.counters.rejections;
    this.#it.feed('from.other-0', sendsFrame(this.#lastItem, [item]));
    this.#count(command, this.#it.fold.counters.rejections > accepted ? 'a send' : undefined);
  }

  /** A query is answered, or refused by a name, and changes nothing. */
  #query(): void {
    const name = this.#pick([...this.#kind.queries.keys()]);
    if (name === undefined) return;
    const ref = this.#pick(this.refs) as string;
    const shape = this.#kind.queries.get(name)?.fields as Shape;
    const before = this.#it.saved(ref);
    this.#remember(this.#it.answerOf(ref, name, this.#fields(shape), this.#pick(PRINCIPALS)));
    assert.deepEqual(this.#it.saved(ref), before, `the query ${name} changed ${ref}`);
  }

  #fireTimers(): void {
    this.#it.nowUs += Math.floor(this.#random() * LONGEST_WAIT_US);
    const due = this.#it.fold.timers.due(Math.floor(this.#it.nowUs / 1_000), 10);
    this.#own(due.map((timer) => ({ type: 'timer', ...timer })));
  }

  #deliverOwnSends(): void {
    const { partition, fold } = this.#it;
    const items = fold.outbox.pending(partition, this.#delivered, 10_000);
    const [first] = items;
    const last = items.at(-1);
    if (!first || !last) return;
    this.#it.feed(
      `from.${partition}`,
      sendsFrame(
        first.number,
        items.map(({ bytes }) => bytes),
      ),
    );
    this.#delivered = last.number;
    this.#own([{ type: 'sent', to: partition, upTo: last.number }]);
  }

  #finishEffect(): void {
    const [effect] = this.#it.fold.outbox.effects(1);
    if (!effect) return;
    const outcome = this.#pick(['done', 'failed'] as const) as 'done' | 'failed';
    const status = outcome === 'done' ? 200 : 0;
    this.#own([{ type: 'effect', id: effect.id, outcome, status, body: 'body', attempts: 1 }]);
  }

  #own(records: readonly OwnRecord[]): void {
    if (records.length > 0) this.#it.feed('own', encodeOwn(records, 0, 1));
  }

  #count({ name }: CompiledCommand, refused: string | undefined): void {
    const counts = this.tried.get(name) ?? { tries: 0, accepted: 0 };
    counts.tries += 1;
    if (refused === undefined) counts.accepted += 1;
    else this.refusals.set(refused, (this.refusals.get(refused) ?? 0) + 1);
    this.tried.set(name, counts);
  }

  #pickCommand(commands: readonly CompiledCommand[]): CompiledCommand | undefined {
    const weightOf = ({ name }: CompiledCommand): number => this.#weights[name] ?? 1;
    let left = this.#random() * commands.reduce((sum, command) => sum + weightOf(command), 0);
    return commands.find((command) => {
      left -= weightOf(command);
      return left < 0;
    });
  }

  #pick<T>(choices: readonly T[]): T | undefined {
    return choices[Math.floor(this.#random() * choices.length)];
  }

  /** Generated fields, some of them replaced by narrower ones or values seen before where the schema allows that. */
  #fields(shape: Shape): Fields {
    let fields = shape.generate(this.#random) as Fields;
    if (this.#random() < 0.2) return fields;
    for (const name of Object.keys(fields)) {
      const value =
        this.#random() < 0.5 ? this.#pick(this.#seen.get(name) ?? []) : this.#narrow.get(name)?.generate(this.#random);
      if (value === undefined) continue;
      const changed = { ...fields, [name]: value };
      if (fits(shape, changed)) fields = changed;
    }
    return fields;
  }

  #remember(values: unknown): void {
    if (typeof values !== 'object' || values === null || Array.isArray(values)) return;
    for (const [name, value] of Object.entries(values)) {
      const seen = this.#seen.get(name) ?? [];
      seen.push(value);
      if (seen.length > REMEMBERED) seen.shift();
      this.#seen.set(name, seen);
    }
  }
}

const orAll = <T>(some: T[], all: readonly T[]): T[] => (some.length > 0 ? some : [...all]);

const isSystem = (roles: readonly string[]): boolean => roles.every((role) => role === 'system');

function fits(shape: Shape, fields: Fields): boolean {
  try {
    shape.encode(fields);
    return true;
  } catch (error) {
    if (isProtocolError(error, 'invalid_field')) return false;
    throw error;
  }
}

function sendsFrame(firstItem: number, items: readonly Uint8Array[]): Uint8Array {
  return encodeFrame(FRAME_SENDS, { incarnation: 0, frameNumber: firstItem, generation: 1 }, items, crc32);
}
