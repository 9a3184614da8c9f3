/**
 * The fold: the state of one partition as a function of its log. Same checkpoint and same messages give the same state,
 * replies and outputs, on every node and in every replay. It performs no I/O but reads of its checkpoint; what it brings forth
 * is left in `outputs` for its owner to release.
 *
 * A fold that threw `HandlerFault` or `MissedSkip` is void: its owner takes the checkpoint again and folds forward with the
 * record in `head.skips`.
 */
import { crc32 } from 'node:zlib';
import { isRejection, type Rejection, WEBHOOK_RESULT, type WebhookRequest } from '../../actors/definition.ts';
import { encodeState } from '../../protocol/canonical.ts';
import { ERRORS, isErrorName, ProtocolError } from '../../protocol/errors.ts';
import { FRAME_COMMANDS, FRAME_EPOCH, FRAME_OWN, FRAME_SENDS, type Frame, readFrame } from '../../protocol/frame.ts';
import { pack } from '../../protocol/msgpack.ts';
import { RECORD_BINARY, RECORD_IDEMPOTENT, RecordReader } from '../../protocol/record.ts';
import { DROPPED, FAILED, REPLY } from '../bus/messages.ts';
import type { CheckpointStore } from '../checkpoint/checkpoint.ts';
import { Overlay } from '../checkpoint/overlay.ts';
import type { Stored } from '../log/log.ts';
import { type Groups, partitionOf } from '../placement/partition-of.ts';
import { type ActiveActor, Actors } from './actors.ts';
import { HandlerContext, type Machine } from './context.ts';
import { decodeHead, emptyHead, type Head, META_KEY, type Watermark } from './head.ts';
import { type CompiledCommand, type CompiledKind, isRefusal, type Kinds, resolveRef } from './kinds.ts';
import { Outbox } from './outbox.ts';
import { MAX_OUTPUT_BYTES, Outputs } from './outputs.ts';
import { decodeOwn, type OwnRecord } from './own-record.ts';
import { drawsOf, identifier, type Position, partitionNumber } from './random.ts';
import { decodeSends, encodeSend, type SendItem } from './send-item.ts';
import { Sessions, WINDOW } from './sessions.ts';
import { type Table, tablesOf } from './tables.ts';
import { Timers } from './timers.ts';
import { UntrappedStore, withTraps } from './traps.ts';

export type FoldSettings = {
  readonly partition: string;
  readonly groups: Groups;
  readonly kinds: Kinds;
  readonly generation: number;
  /** Set traps on the clock, randomness and I/O while handlers run. */
  readonly traps: boolean;
  /** Sessions and idempotency keys unused for longer than this, by log time, are forgotten. */
  readonly sessionHorizonMs: number;
};

/** A handler threw, or broke the rule that a refusal changes nothing. The fold is void. */
export class HandlerFault extends Error {
  readonly sequence: number;
  readonly index: number;

  constructor(sequence: number, index: number, where: string, cause: unknown) {
    super(`${where}: ${cause instanceof Error ? cause.message : String(cause)}`, { cause });
    this.name = 'HandlerFault';
    this.sequence = sequence;
    this.index = index;
  }
}

/** The log says that a record was left out which this fold has handled. The fold is void. */
export class MissedSkip extends Error {
  readonly sequence: number;
  readonly index: number;

  constructor(sequence: number, index: number) {
    super(`record ${sequence}.${index} was skipped by its owner`);
    this.name = 'MissedSkip';
    this.sequence = sequence;
    this.index = index;
  }
}

export type FoldCounters = {
  malformedFrames: number;
  staleFrames: number;
  duplicates: number;
  rejections: number;
  skipped: number;
};

const MAX_CALL_DEPTH = 8; // Deeper chains of calls are a cycle in all but name.
const POINTS_KEPT = 16; // A check record comes back within a few frames of the point it names.
const POINT_EVERY = 256; // Messages between points of comparison.
const MAX_REASON_BYTES = 300; // Long enough for a message of an error, short enough for the log.
const NOTHING = new Uint8Array();

export class Fold implements Machine {
  readonly settings: FoldSettings;
  readonly store: CheckpointStore;
  readonly overlay: Overlay;
  readonly head: Head;
  readonly actors: Actors;
  readonly sessions: Sessions;
  readonly timers: Timers;
  readonly outbox: Outbox;
  readonly outputs: Outputs;
  readonly counters: FoldCounters = { malformedFrames: 0, staleFrames: 0, duplicates: 0, rejections: 0, skipped: 0 };
  /** The batches of replies that the newest message brought forth. */
  replies: readonly Uint8Array[] = [];
  /** Skips that the log has confirmed since the owner last emptied this list. */
  readonly confirmedSkips: string[] = [];
  /** The newest message, for the checkpoint's anchor. */
  lastData: Uint8Array = NOTHING;

  readonly #kinds: Kinds;
  readonly #partitionNumber: number;
  readonly #reader = new RecordReader();
  readonly #contexts: HandlerContext[] = [];
  readonly #failures = new Map<string, Uint8Array>();
  readonly #tableMachine: { overlay: Overlay; nowMs: () => number; changed: Fold['tableChanged'] };
  /** The record being handled. */
  #frameBytes: Buffer = Buffer.alloc(0);
  #index = 0;
  #draws = 0;
  #random: (() => number) | undefined;
  #changed = false;
  #handling = false;
  #systemPrincipal: string | undefined;

  /** Starts from what the store holds. Errors: `unsupported_version`, `log_loss` for a checkpoint of a newer generation. */
  constructor(settings: FoldSettings, given: CheckpointStore, skips: readonly string[] = []) {
    this.settings = settings;
    const store = settings.traps ? new UntrappedStore(given) : given;
    this.store = store;
    this.#kinds = settings.kinds;
    this.#partitionNumber = partitionNumber(settings.partition);
    const saved = store.get('meta', META_KEY);
    this.head = saved ? decodeHead(saved) : emptyHead(settings.generation);
    if (this.head.generation !== settings.generation) {
      throw new ProtocolError(
        'log_loss',
        `the checkpoint is of generation ${this.head.generation}, not ${settings.generation}`,
      );
    }
    for (const skip of skips) this.head.skips.add(skip);
    this.overlay = new Overlay(store);
    this.actors = new Actors(settings.kinds, store);
    this.sessions = new Sessions(store, settings.sessionHorizonMs);
    this.timers = new Timers(this.overlay);
    this.outbox = new Outbox(this.overlay);
    this.outputs = new Outputs(settings.partition);
    this.#tableMachine = { overlay: this.overlay, nowMs: () => this.head.nowMs, changed: this.tableChanged.bind(this) };
  }

  get nowMs(): number {
    return this.head.nowMs;
  }

  /**
   * Folds the next message of the log. Afterwards `outputs` holds what it brought forth.
   * Errors: HandlerFault and MissedSkip (the fold is void); ProtocolError `unsupported_version` (nothing was folded).
   */
  fold(message: Stored): void {
    const { head } = this;
    if (message.sequence !== head.sequence + 1) {
      throw new Error(`message ${message.sequence} cannot follow ${head.sequence}`);
    }
    const frame = this.#open(message.data);
    const previousMs = head.nowMs;
    head.nowMs = Math.max(previousMs, Math.floor(message.timeUs / 1_000));
    head.sequence = message.sequence;
    head.timeUs = message.timeUs;
    this.lastData = message.data;
    this.outputs.begin(message.sequence, '', 0);
    if (frame) this.#foldFrame(message, frame);
    this.replies = this.outputs.takeReplies();
    head.hash = this.outputs.hash(head.hash, this.replies);
    this.#point();
  }

  #open(data: Uint8Array): Frame | undefined {
    try {
      return readFrame(data, crc32);
    } catch (error) {
      if (!(error instanceof ProtocolError) || error.code !== 'malformed_frame') throw error;
      this.counters.malformedFrames++;
      return undefined;
    }
  }

  #foldFrame(message: Stored, frame: Frame): void {
    const token = message.subject.slice(`p.${this.settings.partition}.`.length);
    if (frame.generation !== this.head.generation) this.counters.staleFrames++;
    else if (frame.type === FRAME_COMMANDS && token.startsWith('cmd.'))
      this.#foldCommands(message, frame, token.slice(4));
    else if (frame.type === FRAME_SENDS && token.startsWith('from.')) this.#foldSends(message, frame, token.slice(5));
    else if (frame.type === FRAME_OWN && token === 'own') this.#foldOwn(message, frame);
    else if (frame.type === FRAME_EPOCH && token === 'epoch')
      this.head.epoch = Math.max(this.head.epoch, frame.incarnation);
    else this.counters.malformedFrames++;
  }

  // ---- commands of clients -------------------------------------------------------------------------------------------

  #foldCommands(message: Stored, frame: Frame, edge: string): void {
    if (!this.#isNext(edge, frame)) {
      this.counters.staleFrames++;
      return;
    }
    this.outputs.begin(message.sequence, edge, frame.incarnation);
    const { data } = message;
    this.#frameBytes = Buffer.from(data.buffer, data.byteOffset, data.byteLength);
    const reader = this.#reader;
    reader.reset(data, frame.bodyStart, frame.bodyEnd);
    try {
      while (reader.next()) this.#foldCommand(reader);
    } catch (error) {
      // A frame with a right checksum and wrong lengths comes from a broken edge: what follows cannot be told apart.
      if (!(error instanceof ProtocolError) || error.code !== 'malformed_frame') throw error;
      this.counters.malformedFrames++;
    }
  }

  /** A frame counts only if its number is one above the edge's last; a newer incarnation starts at 1 and retires the older. */
  #isNext(edge: string, { incarnation, generation, frameNumber }: Frame): boolean {
    const mark = this.head.edges.get(edge);
    const isNewer =
      !mark || incarnation > mark.incarnation || (incarnation === mark.incarnation && generation > mark.generation);
    const last = isNewer ? 0 : mark.frame;
    if (!isNewer && incarnation < mark.incarnation) return false;
    if (frameNumber !== last + 1) return false;
    this.head.edges.set(edge, { incarnation, generation, frame: frameNumber });
    return true;
  }

  #foldCommand(reader: RecordReader): void {
    if (reader.flags & RECORD_IDEMPOTENT) this.#foldIdempotent(reader);
    else this.#foldNumbered(reader);
  }

  #foldNumbered(reader: RecordReader): void {
    const { number, slot, sessionStart } = reader;
    const low = Math.min(reader.low, number);
    const id = this.#frameBytes.toString('latin1', sessionStart, sessionStart + 16);
    const { nowMs } = this.head;
    let session = this.sessions.find(id, nowMs);
    if (!session) {
      const createdMs =
        this.#frameBytes.readUInt32LE(sessionStart) + this.#frameBytes.readUInt32LE(sessionStart + 4) * 2 ** 32;
      if (nowMs - createdMs > this.settings.sessionHorizonMs) return this.#refuse(slot, number, 'session_expired');
      session = this.sessions.begin(id, createdMs, nowMs);
    }
    const place = session.find(number);
    if (place >= 0) {
      this.counters.duplicates++;
      return this.outputs.reply(slot, number, session.status(place), session.reply(place));
    }
    if (number < session.low) {
      this.counters.duplicates++;
      return this.outputs.reply(slot, number, DROPPED, NOTHING);
    }
    if (number - Math.max(low, session.low) >= WINDOW) return this.#refuse(slot, number, 'too_many_in_flight');
    this.sessions.prepare(id, session, nowMs);
    session.raiseLow(low);
    this.#execute(reader);
    session.keep(number, this.#status, this.#bytes);
    this.outputs.reply(slot, number, this.#status, this.#bytes);
  }

  #foldIdempotent(reader: RecordReader): void {
    const { slot, number, sessionStart } = reader;
    const id = this.#frameBytes.toString('latin1', sessionStart, sessionStart + 16);
    const bodyHash = crc32(this.#frameBytes.subarray(reader.refStart, reader.bodyEnd), reader.commandId);
    const row = this.sessions.key(id, this.head.nowMs);
    if (row) {
      this.counters.duplicates++;
      if (row.bodyHash !== bodyHash) return this.#refuse(slot, number, 'idempotency_mismatch');
      return this.outputs.reply(slot, number, row.outcome.status, row.outcome.bytes);
    }
    this.#execute(reader);
    this.sessions.keepKey(id, {
      bodyHash,
      atMs: this.head.nowMs,
      outcome: { status: this.#status, bytes: this.#bytes },
    });
    this.outputs.reply(slot, number, this.#status, this.#bytes);
  }

  /** A refusal that is not kept: the same command may be sent again later. */
  #refuse(slot: number, number: number, name: 'session_expired' | 'too_many_in_flight' | 'idempotency_mismatch'): void {
    this.outputs.reply(slot, number, FAILED, this.#failure(name, undefined));
  }

  // ---- one record ----------------------------------------------------------------------------------------------------

  #status = 0;
  #bytes: Uint8Array = NOTHING;

  #execute(reader: RecordReader): void {
    this.#beginRecord(reader.index);
    const binary = (reader.flags & RECORD_BINARY) !== 0;
    if (this.#isSkipped()) return this.#skipRecord(this.#frameBytes.subarray(reader.start, reader.bodyEnd));
    const name = this.#frameBytes.toString('latin1', reader.refStart, reader.refEnd);
    this.#deliver(name, reader.commandId, binary, reader.bytes, reader.bodyStart, reader.bodyEnd);
  }

  #beginRecord(index: number): void {
    this.#index = index;
    this.#draws = 0;
    this.#random = undefined;
    this.#changed = false;
    this.#systemPrincipal = undefined;
    this.head.handled++;
  }

  #isSkipped(): boolean {
    return this.head.skips.size > 0 && this.head.skips.has(`${this.head.sequence}.${this.#index}`);
  }

  #skipRecord(record: Uint8Array): void {
    this.counters.skipped++;
    const key = Buffer.from(`${String(this.head.sequence).padStart(16, '0')}.${this.#index}`);
    this.overlay.put('quarantine', key, encodeState([this.head.nowMs, Uint8Array.from(record)]));
    this.#fail('internal', undefined);
  }

  /** Finds actor and command, decodes the body, and handles it. Leaves the outcome in #status and #bytes. */
  #deliver(name: string, commandId: number, binary: boolean, bytes: Uint8Array, start: number, end: number): void {
    let actor: ActiveActor;
    let command: CompiledCommand | undefined;
    let fields: unknown;
    try {
      actor = this.actors.getLatin1(name, this.head.nowMs);
      command = actor.kind.commandsById.get(commandId);
      if (!command) return this.#fail('unknown_command', undefined);
      if (!actor.known && !this.#isHere(actor))
        return this.#fail('invalid_reference', 'the actor lives in another partition');
      if (binary !== (command.spec.binary === true))
        return this.#fail('bad_request', 'the body has another form than the command');
      if (isSystemOnly(command)) return this.#fail('forbidden', undefined);
      fields = command.body.decode(bytes, start, end);
    } catch (error) {
      if (!(error instanceof ProtocolError)) throw error;
      return this.#fail(error.code, error.message);
    }
    this.#handle(actor, command, fields, 'client', undefined);
  }

  #isHere(actor: ActiveActor): boolean {
    return partitionOf(actor.kind.definition, actor.key, this.settings.groups) === this.settings.partition;
  }

  #handle(
    actor: ActiveActor,
    command: CompiledCommand,
    fields: unknown,
    type: 'client' | 'actor' | 'timer' | 'effect',
    principal: string | undefined,
  ): void {
    const answer = this.#run(actor, command, fields, type, principal, 0);
    if (isRejection(answer)) {
      if (this.#changed) throw this.#fault(`${actor.ref} ${command.name}`, 'refused after something had changed');
      this.counters.rejections++;
      return this.#fail(answer.name, answer.message ?? actor.kind.definition.rejections[answer.name]);
    }
    this.#status = REPLY;
    this.#bytes = this.#encode(actor, command, answer);
  }

  #encode(actor: ActiveActor, command: CompiledCommand, answer: object): Uint8Array {
    let bytes: Uint8Array;
    try {
      bytes = command.reply.encode(answer);
    } catch (error) {
      throw this.#fault(`${actor.ref} ${command.name} (its reply)`, error);
    }
    if (bytes.length > MAX_OUTPUT_BYTES)
      throw this.#fault(`${actor.ref} ${command.name}`, `a reply of ${bytes.length} bytes`);
    return bytes;
  }

  #run(
    actor: ActiveActor,
    command: CompiledCommand,
    fields: unknown,
    type: 'client' | 'actor' | 'timer' | 'effect',
    principal: string | undefined,
    depth: number,
  ): object | Rejection {
    this.#contexts[depth] ??= new HandlerContext(this, depth);
    const context = this.#contexts[depth];
    context.begin(actor, type, principal);
    this.actors.prepare(actor);
    this.#handling = true;
    let answer: object | Rejection;
    try {
      answer = this.settings.traps
        ? withTraps(() => command.handle(actor.state, fields, context as never))
        : command.handle(actor.state, fields, context as never);
    } catch (error) {
      if (error instanceof HandlerFault) throw error;
      throw this.#fault(`${actor.ref} ${command.name}`, error);
    } finally {
      context.end();
      this.#handling = depth > 0;
    }
    if (isRejection(answer)) {
      if (!isRefusal(actor.kind, answer.name))
        throw this.#fault(`${actor.ref} ${command.name}`, `"${answer.name}" is no declared refusal`);
    } else {
      this.actors.changed(actor);
    }
    return answer;
  }

  #fault(where: string, cause: unknown): HandlerFault {
    return new HandlerFault(this.head.sequence, this.#index, where, cause);
  }

  #fail(name: string, message: string | undefined): void {
    this.#status = FAILED;
    this.#bytes = this.#failure(name, message);
  }

  #failure(name: string, message: string | undefined): Uint8Array {
    const key = message === undefined ? name : `${name}\0${message}`;
    const known = this.#failures.get(key);
    if (known) return known;
    const sentence = message ?? (isErrorName(name) ? ERRORS[name].sentence : name);
    const bytes = pack([name, sentence, null]);
    if (this.#failures.size >= 1_000) this.#failures.clear(); // Messages may name fields and values: no cache may grow with them.
    this.#failures.set(key, bytes);
    return bytes;
  }

  // ---- sends of other partitions -------------------------------------------------------------------------------------

  #foldSends(message: Stored, frame: Frame, source: string): void {
    const mark = this.head.sources.get(source);
    const watermark: Watermark = mark ?? { incarnation: 0, generation: FIRST_GENERATION, frame: 0 };
    let items: SendItem[];
    try {
      items = decodeSends(message.data, frame.bodyStart, frame.bodyEnd);
    } catch (error) {
      if (!(error instanceof ProtocolError)) throw error;
      this.counters.malformedFrames++;
      return;
    }
    // The frame's generation is the destination's; the source's own stands in the upper part of the first item's number.
    let index = 0;
    items.forEach((item, i) => {
      const number = frame.frameNumber + i;
      if (isNextItem(watermark, number, this.head.generation)) {
        watermark.frame = number;
        watermark.generation = this.head.generation;
        for (const ref of item.refs) this.#receive(ref, item, index++);
      } else {
        index += item.refs.length;
        this.counters.duplicates++;
      }
    });
    this.head.sources.set(source, watermark);
  }

  #receive(ref: string, { commandId, sender, body }: SendItem, index: number): void {
    this.#beginRecord(index);
    if (this.#isSkipped()) return this.#skipRecord(body);
    this.#deliverSystem(ref, 'actor', sender, (kind) => kind.commandsById.get(commandId), body);
  }

  /** A command that no client sent. What it refuses is counted; nobody waits for the answer. */
  #deliverSystem(
    ref: string,
    type: 'actor' | 'timer' | 'effect',
    principal: string,
    find: (kind: CompiledKind) => CompiledCommand | undefined,
    body: Uint8Array | object,
  ): void {
    let actor: ActiveActor;
    let command: CompiledCommand | undefined;
    let fields: unknown;
    try {
      actor = this.actors.get(ref, this.head.nowMs);
      command = find(actor.kind);
      if (!command) return this.#fail('unknown_command', undefined);
      fields = body instanceof Uint8Array ? command.body.decode(body) : body;
    } catch (error) {
      if (!(error instanceof ProtocolError)) throw error;
      return this.#fail(error.code, error.message);
    }
    this.#handle(actor, command, fields, type, principal);
  }

  // ---- the owner's records -------------------------------------------------------------------------------------------

  #foldOwn(message: Stored, frame: Frame): void {
    if (frame.incarnation < this.head.epoch) {
      this.counters.staleFrames++;
      return;
    }
    const records = decodeOwn(message.data, frame);
    records.forEach((record, index) => {
      this.#foldOwnRecord(record, index);
    });
  }

  #foldOwnRecord(record: OwnRecord, index: number): void {
    switch (record.type) {
      case 'timer':
        return this.#fire(record, index);
      case 'effect':
        return this.#finishEffect(record, index);
      case 'sent':
        return this.outbox.confirm(record.to, record.upTo);
      case 'skip':
        return this.#confirmSkip(record);
      case 'check':
        return this.#compare(record.sequence, record.hash);
    }
  }

  #fire({ ref, name, arming, dueMs }: OwnRecord & { type: 'timer' }, index: number): void {
    const wish = this.timers.get(ref, name);
    if (!wish || wish.arming !== arming || wish.dueMs !== dueMs || dueMs > this.head.nowMs) return;
    this.timers.clear(ref, name);
    this.outputs.timers = true;
    this.#beginRecord(index);
    if (this.#isSkipped()) return this.#skipRecord(wish.body);
    this.#deliverSystem(ref, 'timer', ref, (kind) => kind.commands.get(wish.command), wish.body);
  }

  #finishEffect({ id, outcome, status, body, attempts }: OwnRecord & { type: 'effect' }, index: number): void {
    const effect = this.outbox.effect(id);
    if (!effect) return;
    this.outbox.removeEffect(id);
    this.#beginRecord(index);
    if (this.#isSkipped()) return this.#skipRecord(Buffer.from(body));
    const fields = { id, outcome, status, body, attempts };
    this.#deliverSystem(effect.ref, 'effect', effect.ref, (kind) => kind.commands.get(effect.result), fields);
  }

  #confirmSkip({ sequence, index }: OwnRecord & { type: 'skip' }): void {
    if (!this.head.skips.has(`${sequence}.${index}`)) throw new MissedSkip(sequence, index);
    this.confirmedSkips.push(`${sequence}.${index}`);
  }

  /** Errors: `diverged` when this fold came to other outputs than the one that wrote the check. */
  #compare(sequence: number, hash: number): void {
    const point = this.head.points.find((candidate) => candidate.sequence === sequence);
    if (point && point.hash !== hash) {
      throw new ProtocolError('diverged', `outputs up to message ${sequence} differ from those recorded`);
    }
  }

  #point(): void {
    const { head } = this;
    if (head.sequence % POINT_EVERY !== 0) return;
    head.points.push({ sequence: head.sequence, hash: head.hash });
    if (head.points.length > POINTS_KEPT) head.points.shift();
  }

  // ---- what handlers may do (Machine) --------------------------------------------------------------------------------

  principal(): string {
    if (this.#systemPrincipal !== undefined) return this.#systemPrincipal;
    this.#systemPrincipal = this.#frameBytes.toString('utf8', this.#reader.refEnd, this.#reader.principalEnd);
    return this.#systemPrincipal;
  }

  random(): number {
    this.#random ??= drawsOf(this.#position());
    return this.#random();
  }

  id(): string {
    return identifier(this.#position(), this.#draws++);
  }

  #position(): Position {
    const { generation, sequence } = this.head;
    return { generation, partition: this.#partitionNumber, sequence, index: this.#index };
  }

  tables(actor: ActiveActor): Record<string, Table> {
    return tablesOf(this.#tableMachine, actor) as unknown as Record<string, Table>;
  }

  tableChanged(_actor: ActiveActor, key: Uint8Array, value: Uint8Array | undefined): void {
    if (!this.#handling) throw new ProtocolError('internal', 'a table is written outside a handler');
    this.#changed = true;
    this.head.hash = crc32(value ?? NOTHING, crc32(key, this.head.hash));
  }

  publish(actor: ActiveActor, topicName: string, event: unknown): void {
    const topic = actor.kind.topics.get(topicName);
    if (!topic) throw new ProtocolError('unknown_topic', `${actor.kind.definition.kind} has no topic "${topicName}"`);
    const bytes = topic.event.encode(event);
    if (bytes.length > MAX_OUTPUT_BYTES)
      throw new ProtocolError('payload_too_large', `an event of ${bytes.length} bytes`);
    const offset = (actor.offsets.get(topicName) ?? 0) + 1;
    if (topic.table) (this.tables(actor)[topic.table.name] as Table).putBytes({ offset }, bytes);
    actor.offsets.set(topicName, offset);
    this.#changed = true;
    this.outputs.event(actor.ref, topicName, offset, bytes);
  }

  send(actor: ActiveActor, to: readonly string[], commandName: string, fields: object): void {
    const byPartition = new Map<string, string[]>();
    let first: { kind: CompiledKind; command: CompiledCommand } | undefined;
    for (const ref of to) {
      const { kind, key } = resolveRef(this.#kinds, ref);
      first ??= { kind, command: this.#commandOf(kind, commandName) };
      if (kind !== first.kind) throw new ProtocolError('bad_request', 'the receivers of one send are of one kind');
      const partition = partitionOf(kind.definition, key, this.settings.groups);
      const refs = byPartition.get(partition);
      if (refs) refs.push(ref);
      else byPartition.set(partition, [ref]);
    }
    if (!first) return;
    const body = first.command.body.encode(fields);
    const binary = first.command.spec.binary === true;
    for (const [partition, refs] of byPartition) {
      this.#post(partition, encodeSend({ commandId: first.command.id, binary, sender: actor.ref, refs, body }));
    }
  }

  #post(partition: string, bytes: Uint8Array): void {
    const number = (this.head.items.get(partition) ?? firstItem(this.head.generation)) + 1;
    this.head.items.set(partition, number);
    this.outbox.add(partition, number, bytes);
    this.#changed = true;
    this.outputs.sends = true;
    this.head.hash = crc32(bytes, this.head.hash);
  }

  #commandOf(kind: CompiledKind, name: string): CompiledCommand {
    const command = kind.commands.get(name);
    if (!command) throw new ProtocolError('unknown_command', `${kind.definition.kind} has no command "${name}"`);
    return command;
  }

  call(caller: ActiveActor, depth: number, to: string, commandName: string, fields: object): object | Rejection {
    if (depth + 1 >= MAX_CALL_DEPTH) throw new ProtocolError('internal', `calls nested deeper than ${MAX_CALL_DEPTH}`);
    const actor = this.actors.get(to, this.head.nowMs);
    const placement = actor.kind.definition.placement(actor.key);
    if (
      actor === caller ||
      actor.kind.definition.group !== caller.kind.definition.group ||
      placement !== caller.kind.definition.placement(caller.key)
    ) {
      throw new ProtocolError('internal', `${caller.ref} cannot call ${to}: another placement key, or itself`);
    }
    const command = this.#commandOf(actor.kind, commandName);
    // Through the codec, as from the log: checked, and nothing is shared between the two actors.
    const received = command.body.decode(command.body.encode(fields));
    const answer = this.#run(actor, command, received, 'actor', caller.ref, depth + 1);
    if (isRejection(answer)) {
      if (this.#changed)
        throw this.#fault(`${to} ${commandName}`, `a call refused (${answer.name}) after something had changed`);
      return answer;
    }
    this.#changed = true;
    return command.reply.decode(this.#encode(actor, command, answer)) as object;
  }

  setTimer(actor: ActiveActor, name: string, atMs: number, commandName: string, fields: object): void {
    if (!Number.isSafeInteger(atMs) || atMs < 0) throw new ProtocolError('internal', `a timer at ${atMs}`);
    if (name.length > 64 || name.includes('\0'))
      throw new ProtocolError('internal', 'a timer is named with at most 64 characters');
    const body = this.#commandOf(actor.kind, commandName).body.encode(fields);
    const arming = `${this.head.sequence}.${this.#index}.${this.#draws++}`;
    this.timers.set(actor.ref, name, { dueMs: atMs, arming, command: commandName, body });
    this.#changed = true;
    this.outputs.timers = true;
    this.head.hash = crc32(body, this.head.hash);
  }

  clearTimer(actor: ActiveActor, name: string): void {
    this.timers.clear(actor.ref, name);
    this.#changed = true;
    this.outputs.timers = true;
  }

  webhook(actor: ActiveActor, request: WebhookRequest, result: string): string {
    const command = this.#commandOf(actor.kind, result);
    const missing = Object.keys(WEBHOOK_RESULT).find((field) => !command.spec.fields[field]);
    if (missing) throw new ProtocolError('internal', `"${result}" lacks the field "${missing}" of a webhook's result`);
    const id = this.id();
    this.outbox.addEffect({ id, ref: actor.ref, result, request });
    this.#changed = true;
    this.outputs.effects = true;
    this.head.hash = crc32(Buffer.from(id + request.url + request.body), this.head.hash);
    return id;
  }
}

/** The longest reason that a skip carries. */
export function shortReason(error: unknown): string {
  return (error instanceof Error ? error.message : String(error)).slice(0, MAX_REASON_BYTES);
}

const isSystemOnly = ({ spec }: CompiledCommand): boolean => spec.roles.length === 1 && spec.roles[0] === 'system';

const FIRST_GENERATION = 1;

/** Item numbers carry the source's generation above the count, so that a new life of the source never repeats one. */
const ITEMS_PER_GENERATION = 2 ** 40;

const firstItem = (generation: number): number => generation * ITEMS_PER_GENERATION;

/**
 * Whether an item comes next. In a log that was begun anew after a loss, a source's first item may leave a gap: what came before
 * it was confirmed to the source, and lost here.
 */
function isNextItem(mark: Watermark, number: number, generation: number): boolean {
  return mark.generation < generation ? number > mark.frame : number === nextItem(mark, number);
}

/** The number that may come next: one above the last, or the first of a newer generation of the source. */
function nextItem({ frame }: Watermark, number: number): number {
  const generation = Math.floor(number / ITEMS_PER_GENERATION);
  const last = Math.floor(frame / ITEMS_PER_GENERATION);
  return generation > last ? firstItem(generation) + 1 : frame + 1;
}
