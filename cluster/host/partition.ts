/**
 * One partition at its owner: takes it over (checks the log against the checkpoint, claims the epoch, folds up to the claim),
 * then folds what the log brings and lets outputs go. Everything it answers it has read back from the log.
 *
 * A handler that throws rewinds the partition: the fold is taken anew from the checkpoint without that record, and nothing
 * after the record leaves before the `skip` that says so was read back.
 */
import { crc32 } from 'node:zlib';
import type { Logger } from 'pino';
import { isProtocolError, ProtocolError } from '../../protocol/errors.ts';
import { readFrame } from '../../protocol/frame.ts';
import type { Bus } from '../bus/bus.ts';
import type { PartitionBeat, PartitionState, QueryRequest, ReplyFigures } from '../bus/messages.ts';
import type { CheckpointStore, Checkpoints } from '../checkpoint/checkpoint.ts';
import type { Clock } from '../log/clock.ts';
import type { PartitionLog, Reader, Stored } from '../log/log.ts';
import { LogHealth } from '../log/log-health.ts';
import type { Groups } from '../placement/partition-of.ts';
import { EffectService, type EffectWorker } from './effect-service.ts';
import { Fold, type FoldSettings, HandlerFault, MissedSkip, shortReason } from './fold.ts';
import { type CheckpointResult, takeCheckpoint } from './fold-checkpoint.ts';
import type { HostMetrics } from './host-metrics.ts';
import type { Kinds } from './kinds.ts';
import type { Outbox } from './outbox.ts';
import { encodeEpoch } from './own-record.ts';
import { isRetryable, OwnWriter } from './own-writer.ts';
import { answerQuery } from './queries.ts';
import { partitionNumber } from './random.ts';
import { type Released, Releaser } from './release.ts';
import { Sender } from './sender.ts';
import { TimerService } from './timer-service.ts';

/** Each with its unit; defaults in host.ts. */
export type PartitionSettings = {
  readonly node: string;
  readonly groups: Groups;
  readonly traps: boolean;
  readonly sessionHorizonMs: number;
  /** A checkpoint is begun after so many commands, or so long after the first change. */
  readonly checkpointCommands: number;
  readonly checkpointMs: number;
  /** Actors kept in memory after a checkpoint. */
  readonly maxActiveActors: number;
  /** Messages kept in the log below the older of the last two checkpoints. */
  readonly logMarginMessages: number;
};

export type PartitionParts = {
  readonly partition: string;
  readonly settings: PartitionSettings;
  readonly kinds: Kinds;
  readonly bus: Bus;
  readonly clock: Clock;
  readonly checkpoints: Checkpoints;
  readonly logger: Logger;
  readonly metrics: HostMetrics;
  readonly effects: EffectWorker;
  /** The log of any partition, of its present generation. */
  readonly openLog: (partition: string) => Promise<PartitionLog>;
  /** Lets timers and I/O run between slices of work. */
  readonly pause: () => Promise<void>;
};

/** What a recovery read, for the operator. */
export type Recovery = {
  readonly from: number;
  readonly to: number;
  readonly commands: number;
  readonly tookMs: number;
};

const QUERY_WAIT_MS = 2_000; // A query that wants a later state waits this long for it.
const MAX_WAITING_QUERIES = 1_000; // More would be a queue nobody sees.
const CLAIM_RETRY_MS = 200;
const CHECKPOINT_RETRY_MS = 1_000; // After a failed checkpoint: a full disk is looked at again each second.
const TRIM_STEP_MESSAGES = 1_000; // Trimming less than this at a time is not worth a request.
const CLAIM_AGE_MESSAGES = 1_000; // An older claim is written again at a checkpoint: it must not hold the trimming up when the log is full.
const HALF_FULL_PERMILLE = 500; // Above it the margin below the checkpoints is given up: pushing back would be worse.

type Waiting = {
  readonly request: QueryRequest;
  readonly wanted: number;
  readonly answer: (bytes: Uint8Array | ProtocolError) => void;
  readonly cancel: () => void;
};

export class Partition {
  readonly name: string;
  readonly #parts: PartitionParts;
  readonly #releaser: Releaser;
  #state: PartitionState = 'recovering';
  #reason: string | undefined;
  #log!: PartitionLog;
  #store!: CheckpointStore;
  #fold!: Fold;
  /** None between a throw and the fold that is taken anew. */
  #reader: Reader | undefined;
  #epoch = 0;
  #epochSequence = 0;
  #writer!: OwnWriter;
  #timers!: TimerService;
  #effects!: EffectService;
  readonly #senders = new Map<string, Sender>();
  /** Outputs up to and with this sequence have left, here or under an earlier owner. */
  #releasedUpTo = 0;
  /** Skips written and not yet read back; until they are, outputs wait. */
  readonly #unconfirmed = new Set<string>();
  #held: Released[] = [];
  #waiting: Waiting[] = [];
  #checkpointing: Promise<void> | undefined;
  #checkpointAfterMs = 0;
  #checkpoints: number[] = [];
  #checkpointCommands = 0;
  #trimmedTo = 0;
  #health!: LogHealth;
  /** Where the fold was when the log's fill was last asked for: a quiet log's does not change. */
  #healthSequence = -1;
  #lagMs = 0;
  #stopped = false;
  #recoveryStartMs = 0;
  #recoveryFrom = 0;
  #recoveredCommands = 0;
  recovery: Recovery | undefined;
  #onLive: (() => void)[] = [];

  constructor(parts: PartitionParts) {
    this.name = parts.partition;
    this.#parts = parts;
    this.#releaser = new Releaser(parts.bus, parts.partition);
  }

  get state(): PartitionState {
    return this.#state;
  }

  get fold(): Fold {
    return this.#fold;
  }

  get epoch(): number {
    return this.#epoch;
  }

  /**
   * Takes the partition over. Resolves when it is live or halted; a log that does not answer is waited for.
   * Errors: `storage_failed` and what else the checkpoint store throws at opening.
   */
  async start(): Promise<void> {
    const { checkpoints, openLog, clock } = this.#parts;
    this.#recoveryStartMs = clock.nowMs();
    this.#store = await checkpoints.open(this.name);
    try {
      this.#log = await openLog(this.name);
      this.#fold = new Fold(this.#foldSettings(), this.#store);
      await this.#checkAnchor();
      await this.#claim();
    } catch (error) {
      return this.#halt(error);
    }
    this.#beginServices();
    this.#recoveryFrom = this.#fold.head.sequence;
    this.#releasedUpTo = this.#epochSequence;
    const live = new Promise<void>((resolve) => this.#onLive.push(resolve));
    this.#read();
    await live;
  }

  /** Ends all work; with `checkpoint`, after a last checkpoint, so that the next start has nothing to fold. */
  async stop(checkpoint = true): Promise<void> {
    if (this.#stopped) return;
    this.#stopped = true;
    this.#reader?.stop();
    this.#stopServices();
    for (const waiting of this.#waiting.splice(0)) waiting.answer(new ProtocolError('moving'));
    await this.#checkpointing;
    if (checkpoint && this.#state === 'live' && !this.#isVoid) await this.#takeCheckpoint();
    await this.#store?.close();
  }

  /** How the partition is, for heartbeats. */
  beat(): PartitionBeat {
    const head = this.#fold?.head;
    return {
      partition: this.name,
      epoch: this.#epoch,
      state: this.#state,
      reason: this.#reason ?? this.#checkpointProblem,
      lagMs: Math.round(this.#lagMs),
      fillPermille: this.#health?.fillPermille ?? 0,
      outboxBytes: this.#fold?.outbox.totalBytes ?? 0,
      sequence: head?.sequence ?? 0,
      generation: head?.generation ?? this.#log?.generation ?? 1,
    };
  }

  /** Answers a query from the fold. Errors: `moving`, `partition_halted`, `timeout`, and those of the query. */
  query(request: QueryRequest): Promise<Uint8Array> {
    if (this.#state === 'halted') return Promise.reject(new ProtocolError('partition_halted', this.#reason));
    if (this.#state !== 'live' || this.#stopped) return Promise.reject(new ProtocolError('moving'));
    // While a rewound fold catches up, what was released once must not be unseen.
    const wanted = Math.max(request.minSequence ?? 0, this.#releasedUpTo);
    if (!this.#isVoid && wanted <= this.#fold.head.sequence)
      return Promise.resolve().then(() => answerQuery(this.#fold, request));
    return this.#waitFor(request, wanted);
  }

  /** A handler threw: what this fold holds must neither be seen, sent nor kept. */
  get #isVoid(): boolean {
    return this.#reader === undefined;
  }

  /** What may leave now: nothing of a void fold, and nothing behind a skip that was not read back. */
  #releasable(): Outbox | undefined {
    return this.#isVoid || this.#unconfirmed.size > 0 ? undefined : this.#fold.outbox;
  }

  /** Once a second: heads of changed topics, the log's fill, a checkpoint if one is due. */
  async eachSecond(): Promise<void> {
    if (this.#state !== 'live' || this.#stopped) return;
    this.#releaser.publishHeads(this.#epoch, this.#log.generation);
    this.#checkpointIfDue();
    if (this.#fold.head.sequence === this.#healthSequence) return;
    this.#healthSequence = this.#fold.head.sequence;
    await this.#health.refresh();
  }

  /** The bus was away: what was published meanwhile is lost to all. */
  repeatHeads(): void {
    this.#releaser.repeatHeads();
  }

  // ---- taking over ---------------------------------------------------------------------------------------------------

  #foldSettings(): FoldSettings {
    const { settings, kinds } = this.#parts;
    const { groups, traps, sessionHorizonMs } = settings;
    return { partition: this.name, groups, kinds, generation: this.#log.generation, traps, sessionHorizonMs };
  }

  /** The log must still hold the very message that the checkpoint ends with. Errors: `log_loss`, `log_trimmed`. */
  async #checkAnchor(): Promise<void> {
    const { sequence, timeUs, crc } = this.#fold.head;
    const state = await this.#retried(() => this.#log.state());
    if (state.last < sequence) {
      throw new ProtocolError(
        'log_loss',
        `the checkpoint holds messages up to ${sequence}, the log ends at ${state.last}`,
      );
    }
    if (state.first > sequence + 1) {
      throw new ProtocolError('log_trimmed', `the checkpoint ends at ${sequence}, the log begins at ${state.first}`);
    }
    if (sequence === 0 || state.first > sequence) return;
    const message = await this.#retried(() => this.#log.get(sequence));
    if (!message || message.timeUs !== timeUs || crc32(message.data) !== crc) {
      throw new ProtocolError('log_loss', `message ${sequence} of the log is not the one that was folded`);
    }
  }

  /** Publishes the next epoch, expecting the last: of several claimants one wins, and everyone sees it at the same place. */
  async #claim(): Promise<void> {
    const { settings, clock } = this.#parts;
    while (!this.#stopped) {
      const last = await this.#retried(() => this.#log.lastOn('epoch'));
      const epoch = Math.max(last ? readFrame(last.data, crc32).incarnation : 0, this.#fold.head.epoch) + 1;
      try {
        const frame = encodeEpoch(epoch, this.#log.generation, settings.node);
        const { sequence } = await this.#log.append('epoch', frame, last?.sequence ?? 0);
        this.#epoch = epoch;
        this.#epochSequence = sequence;
        return;
      } catch (error) {
        if (!isRetryable(error) && !isProtocolError(error, 'wrong_last_sequence')) throw error;
        await new Promise<void>((resolve) => void clock.after(CLAIM_RETRY_MS, resolve));
      }
    }
  }

  async #retried<T>(attempt: () => Promise<T>): Promise<T> {
    for (;;) {
      try {
        return await attempt();
      } catch (error) {
        if (!isRetryable(error) || this.#stopped) throw error;
        await new Promise<void>((resolve) => void this.#parts.clock.after(CLAIM_RETRY_MS, resolve));
      }
    }
  }

  #beginServices(): void {
    const { clock, effects } = this.#parts;
    this.#health = new LogHealth(this.#log, clock);
    void this.#health.refresh();
    this.#writer = new OwnWriter(this.#log, clock, this.#epoch, (error) => this.#halt(error));
    this.#timers = new TimerService(() => this.#fold, this.#writer, clock);
    this.#effects = new EffectService(() => this.#releasable(), this.#writer, effects);
  }

  #stopServices(): void {
    this.#writer?.stop();
    this.#timers?.stop();
    this.#effects?.stop();
    for (const sender of this.#senders.values()) sender.stop();
  }

  #becomeLive(): void {
    const { logger, clock } = this.#parts;
    this.#state = 'live';
    this.#checkpointAfterMs = clock.nowMs() + this.#parts.settings.checkpointMs * this.#spread();
    const { sequence } = this.#fold.head;
    this.recovery = {
      from: this.#recoveryFrom + 1,
      to: sequence,
      commands: this.#fold.head.handled - this.#recoveredCommands,
      tookMs: clock.nowMs() - this.#recoveryStartMs,
    };
    logger.debug({ partition: this.name, epoch: this.#epoch, ...this.recovery }, 'live');
    this.#timers.messageFolded(true);
    this.#effects.kick();
    this.#kickSenders();
    this.#releaser.publishHeads(this.#epoch, this.#log.generation);
    for (const resolve of this.#onLive.splice(0)) resolve();
  }

  /** Between 0.5 and 1, by the partition's number: partitions that became live together shall not take checkpoints together. */
  #spread(): number {
    return 0.5 + ((partitionNumber(this.name) * 0.618_033_988_75) % 1) / 2;
  }

  // ---- folding -------------------------------------------------------------------------------------------------------

  #read(): void {
    this.#recoveredCommands = this.#fold.head.handled;
    const reader = this.#log.read(
      this.#fold.head.sequence + 1,
      (message) => {
        if (this.#reader === reader) this.#onMessage(message);
      },
      (error) => this.#halt(error),
    );
    this.#reader = reader;
  }

  #onMessage(message: Stored): void {
    const handledBefore = this.#fold.head.handled;
    const malformedBefore = this.#fold.counters.malformedFrames;
    try {
      this.#fold.fold(message);
    } catch (error) {
      this.#onFoldError(error);
      return;
    }
    this.#parts.metrics.folded(this.#fold.head.handled - handledBefore);
    if (this.#fold.counters.malformedFrames > malformedBefore) this.#skippedMalformed(message);
    if (this.#fold.head.epoch > this.#epoch)
      return this.#halt(new ProtocolError('moving', 'another owner has claimed it'));
    this.#let();
    if (this.#state === 'recovering' && message.sequence >= this.#epochSequence) this.#becomeLive();
    if (this.#state === 'live') this.#afterMessage(message);
  }

  /** Written by something that is broken; it is not ours to find out what it meant. */
  #skippedMalformed({ sequence, subject }: Stored): void {
    this.#parts.metrics.malformedFrames.inc();
    this.#parts.logger.warn({ partition: this.name, sequence, subject }, 'a malformed frame was skipped');
  }

  /** Outputs leave, wait for a skip to be read back, or have left already. */
  #let(): void {
    const { outputs, replies, confirmedSkips, head } = this.#fold;
    const wasHeld = this.#unconfirmed.size > 0;
    for (const skip of confirmedSkips) this.#unconfirmed.delete(skip);
    confirmedSkips.length = 0;
    const released = { sequence: outputs.sequence, edge: outputs.edge, replies, events: [...outputs.events.values()] };
    if (head.sequence <= this.#releasedUpTo) {
      for (const topic of released.events) this.#releaser.note(topic);
    } else if (replies.length > 0 || released.events.length > 0) {
      this.#held.push(released);
    }
    if (this.#unconfirmed.size > 0) return;
    const figures = this.#figures();
    for (const held of this.#held) this.#releaser.release(held, figures, head.generation);
    this.#held.length = 0;
    if (head.sequence > this.#releasedUpTo) this.#releasedUpTo = head.sequence;
    if (!wasHeld) return;
    this.#kickSenders();
    this.#effects.kick();
  }

  #figures(): ReplyFigures {
    return {
      epoch: this.#epoch,
      lagMs: this.#lagMs,
      fillPermille: this.#health.fillPermille,
      outboxBytes: this.#fold.outbox.totalBytes,
    };
  }

  #afterMessage(message: Stored): void {
    const { outputs } = this.#fold;
    this.#health.noteRead(message.data.length);
    if (this.#health.fillPermille > HALF_FULL_PERMILLE) this.#claimWhileThereIsRoom();
    else this.#claimedAtHalf = false;
    this.#lagMs = Math.max(0, Date.now() - message.timeUs / 1_000);
    this.#timers.messageFolded(outputs.timers);
    if (outputs.sends) this.#kickSenders();
    if (outputs.effects) this.#effects.kick();
    this.#writeCheck();
    if (this.#waiting.length > 0) this.#answerWaiting();
    const { actors } = this.#fold;
    if (actors.count > 2 * this.#parts.settings.maxActiveActors) actors.passivate(this.#parts.settings.maxActiveActors);
    if (this.#fold.head.handled - this.#checkpointCommands >= this.#parts.settings.checkpointCommands)
      this.#beginCheckpoint();
  }

  #lastCheck = 0;

  #writeCheck(): void {
    const point = this.#fold.head.points.at(-1);
    if (!point || point.sequence <= this.#lastCheck || this.#unconfirmed.size > 0) return;
    this.#lastCheck = point.sequence;
    if (point.sequence > this.#epochSequence)
      this.#writer.write({ type: 'check', sequence: point.sequence, hash: point.hash });
  }

  #kickSenders(): void {
    for (const to of this.#fold.outbox.destinations) this.#senderTo(to).kick();
  }

  #senderTo(to: string): Sender {
    const known = this.#senders.get(to);
    if (known) return known;
    const { clock, openLog } = this.#parts;
    const sender = new Sender({
      from: this.name,
      to,
      epoch: this.#epoch,
      clock,
      outbox: () => this.#releasable(),
      openLog,
      onSent: (upTo) => this.#writer.write({ type: 'sent', to, upTo }),
      onProblem: (error) => this.#halt(error),
    });
    this.#senders.set(to, sender);
    return sender;
  }

  // ---- faults --------------------------------------------------------------------------------------------------------

  #onFoldError(error: unknown): void {
    this.#reader?.stop();
    this.#reader = undefined;
    if (error instanceof HandlerFault || error instanceof MissedSkip)
      void this.#rewind(error).catch((fault) => this.#halt(fault));
    else this.#halt(error);
  }

  async #rewind(fault: HandlerFault | MissedSkip): Promise<void> {
    const { logger, metrics } = this.#parts;
    const skip = `${fault.sequence}.${fault.index}`;
    metrics.skips.inc();
    logger.error({ partition: this.name, sequence: fault.sequence, index: fault.index, err: fault }, 'record skipped');
    await this.#checkpointing;
    if (this.#stopped) return;
    const skips = [...this.#fold.head.skips, skip];
    this.#fold = new Fold(this.#foldSettings(), this.#store, skips);
    if (this.#fold.head.sequence >= fault.sequence) {
      throw new ProtocolError('diverged', `the checkpoint holds the effects of record ${skip}, which was skipped`);
    }
    if (fault instanceof HandlerFault) {
      this.#unconfirmed.add(skip);
      const reason = shortReason(fault);
      this.#writer.write({ type: 'skip', sequence: fault.sequence, index: fault.index, reason });
    }
    this.#checkpointCommands = Number.NEGATIVE_INFINITY; // A checkpoint is due at once: the next rewind shall be short.
    this.#read();
  }

  #halt(error: unknown): void {
    if (this.#state === 'halted' || this.#stopped) return;
    const { logger } = this.#parts;
    this.#state = 'halted';
    this.#reason = reasonOf(error);
    logger.error({ partition: this.name, err: error }, 'partition halted');
    this.#reader?.stop();
    this.#stopServices();
    for (const waiting of this.#waiting.splice(0)) waiting.answer(new ProtocolError('partition_halted', this.#reason));
    for (const resolve of this.#onLive.splice(0)) resolve();
  }

  // ---- queries that wait ---------------------------------------------------------------------------------------------

  #waitFor(request: QueryRequest, wanted: number): Promise<Uint8Array> {
    if (this.#waiting.length >= MAX_WAITING_QUERIES) return Promise.reject(new ProtocolError('overloaded'));
    return new Promise((resolve, reject) => {
      const answer = (result: Uint8Array | ProtocolError) => {
        cancel();
        if (result instanceof Uint8Array) resolve(result);
        else reject(result);
      };
      const cancel = this.#parts.clock.after(QUERY_WAIT_MS, () => {
        this.#waiting = this.#waiting.filter((waiting) => waiting !== entry);
        reject(new ProtocolError('timeout'));
      });
      const entry: Waiting = { request, wanted, answer, cancel };
      this.#waiting.push(entry);
    });
  }

  #answerWaiting(): void {
    const { sequence } = this.#fold.head;
    const ready = this.#waiting.filter(({ wanted }) => wanted <= sequence);
    if (ready.length === 0) return;
    this.#waiting = this.#waiting.filter((waiting) => !ready.includes(waiting));
    for (const { request, answer } of ready) {
      try {
        answer(answerQuery(this.#fold, request));
      } catch (error) {
        answer(isProtocolError(error) ? error : new ProtocolError('internal', String(error)));
      }
    }
  }

  // ---- checkpoints ---------------------------------------------------------------------------------------------------

  /** A quiet partition takes two at its last sequence: the log is trimmed by the older one, and a full log must get room. */
  #checkpointIfDue(): void {
    const older = this.#checkpoints.length < 2 ? 0 : (this.#checkpoints[0] as number);
    const isDue =
      this.#parts.clock.nowMs() >= this.#checkpointAfterMs || this.#health.fillPermille > HALF_FULL_PERMILLE;
    if (isDue && this.#fold.head.sequence > older) this.#beginCheckpoint();
  }

  #beginCheckpoint(): void {
    if (this.#checkpointing || this.#parts.clock.nowMs() < this.#notBeforeMs) return;
    this.#checkpointing = this.#takeCheckpoint().finally(() => {
      this.#checkpointing = undefined;
    });
  }

  #notBeforeMs = 0;
  /** Why the last checkpoint failed, if it did. */
  #checkpointProblem: string | undefined;

  async #takeCheckpoint(): Promise<void> {
    const { clock, pause, metrics, logger, settings } = this.#parts;
    const fold = this.#fold;
    this.#checkpointCommands = fold.head.handled;
    try {
      const result = await takeCheckpoint(fold, () => clock.nowMs(), pause);
      metrics.checkpointed(result);
      this.#checkpointProblem = undefined;
      this.#checkpointAfterMs = clock.nowMs() + settings.checkpointMs;
      fold.actors.passivate(settings.maxActiveActors);
      await this.#trim(result);
    } catch (error) {
      this.#notBeforeMs = clock.nowMs() + CHECKPOINT_RETRY_MS;
      metrics.checkpointFailures.inc();
      // A log that could not be trimmed just now is another matter, and passes.
      if (!isRetryable(error)) this.#checkpointProblem = `checkpoints fail: ${reasonOf(error)}`;
      logger.error({ partition: this.name, err: error }, 'checkpoint failed');
    }
  }

  /** Below the older of the last two checkpoints, minus a margin, and never the newest claim. */
  async #trim({ sequence }: CheckpointResult): Promise<void> {
    this.#checkpoints = [...this.#checkpoints, sequence].slice(-2);
    if (this.#checkpoints.length < 2) return;
    const older = this.#checkpoints[0] as number;
    const isHalfFull = this.#health.fillPermille > HALF_FULL_PERMILLE;
    const isInTheWay = isHalfFull && this.#epochSequence < older;
    if (isInTheWay || sequence - this.#epochSequence > CLAIM_AGE_MESSAGES) await this.#refreshEpoch();
    const margin = isHalfFull ? 0 : this.#parts.settings.logMarginMessages;
    const before = Math.min(older - margin, this.#epochSequence);
    if (before < this.#trimmedTo + TRIM_STEP_MESSAGES && !isHalfFull) return;
    if (before <= this.#trimmedTo) return;
    await this.#log.trim(before);
    this.#trimmedTo = before;
    await this.#health.refresh();
  }

  /** An expectation on a subject without messages is 0 whatever was there: so the claim must never be trimmed away. */
  async #refreshEpoch(): Promise<void> {
    const frame = encodeEpoch(this.#epoch, this.#log.generation, this.#parts.settings.node);
    try {
      this.#epochSequence = (await this.#log.append('epoch', frame, this.#epochSequence)).sequence;
    } catch (error) {
      if (isProtocolError(error, 'wrong_last_sequence')) return this.#findClaim();
      // Trimming up to the old claim makes room; the next checkpoint tries again.
      if (!isProtocolError(error, 'log_full')) throw error;
    }
  }

  #claimedAtHalf = false;

  /** A log that is full to the last byte takes no claim any more, and could only be trimmed up to the old one. */
  #claimWhileThereIsRoom(): void {
    if (this.#claimedAtHalf) return;
    this.#claimedAtHalf = true;
    this.#refreshEpoch().catch((error) => {
      this.#parts.logger.warn({ partition: this.name, err: error }, 'the claim was not renewed');
    });
  }

  /** An attempt whose ack was lost may have been stored. Another's claim ends this owner when it is folded. */
  async #findClaim(): Promise<void> {
    const last = await this.#log.lastOn('epoch');
    if (last && readFrame(last.data, crc32).incarnation === this.#epoch) this.#epochSequence = last.sequence;
  }
}

/** For people: the name of the error where it has one, and what it says. */
function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  return `${isProtocolError(error) ? error.code : error.name}: ${error.message}`;
}
