/** What an edge knows of a partition: the way into its log, its owner's figures, and the commands it has not answered. */
import type { ErrorName } from '../../protocol/errors.ts';
import type { PartitionState } from '../bus/messages.ts';
import type { FramePublisher } from '../log/frame-publisher.ts';
import { PendingList } from './pending.ts';
import type { EdgeSettings } from './settings.ts';

/** The part of a frame publisher that an edge uses. */
export type RecordPublisher = Pick<
  FramePublisher,
  'reserve' | 'offset' | 'commit' | 'accepting' | 'logFull' | 'outstandingRecords' | 'outstandingBytes' | 'stop'
>;

/** Figures that come with heartbeats and reply batches. */
export type OwnerFigures = {
  readonly epoch: number;
  readonly lagMs: number;
  readonly fillPermille: number;
  readonly outboxBytes: number;
  readonly sequence: number;
};

export class Partition {
  readonly name: string;
  readonly pending = new PendingList();
  /** Undefined until its log is open. */
  publisher: RecordPublisher | undefined = undefined;
  generation = 0;
  /** 0: no owner was heard of yet. */
  epoch = 0;
  state: PartitionState = 'recovering';
  reason: string | undefined = undefined;
  lagMs = 0;
  fillPermille = 0;
  outboxBytes = 0;
  /** Newest log position that an owner told of: queries must have seen it. Of the generation below. */
  sequence = 0;
  #heardGeneration = 0;
  /** Coarse tick of the owner's last sign of life. */
  heardTick = 0;
  /** Records that were sent again. */
  resent = 0;
  #opening = false;

  constructor(name: string) {
    this.name = name;
  }

  get opening(): boolean {
    return this.#opening;
  }

  /** Runs `open` unless it runs already. */
  async open(open: () => Promise<void>): Promise<void> {
    if (this.#opening) return;
    this.#opening = true;
    try {
      await open();
    } finally {
      this.#opening = false;
    }
  }

  /** The owner's log is of this generation. Positions of an older one mean nothing in it: it begins at 1 again. */
  heardOf(generation: number): void {
    if (generation > this.#heardGeneration) this.sequence = 0;
    this.#heardGeneration = Math.max(generation, this.#heardGeneration);
  }

  /** Takes figures in. Returns whether a new owner speaks, other than the first one heard. */
  learn(figures: OwnerFigures, tick: number): boolean {
    if (figures.epoch < this.epoch) return false; // A stale owner's figures mean nothing.
    const isNew = this.epoch !== 0 && figures.epoch > this.epoch;
    this.epoch = figures.epoch;
    this.lagMs = figures.lagMs;
    this.fillPermille = figures.fillPermille;
    this.outboxBytes = figures.outboxBytes;
    if (figures.sequence > this.sequence) this.sequence = figures.sequence;
    this.heardTick = tick;
    return isNew;
  }

  /** Why a new command cannot be taken now, if so. A partition without an owner takes them: its log is the buffer. */
  refusal(settings: EdgeSettings): ErrorName | undefined {
    const { publisher, pending } = this;
    if (this.state === 'halted') return 'partition_halted';
    if (publisher === undefined) return 'log_unavailable';
    if (publisher.logFull || this.fillPermille > settings.maxFillPermille) return 'log_full';
    if (pending.records >= settings.maxUnansweredRecords || pending.bytes >= settings.maxUnansweredBytes)
      return 'overloaded';
    if (this.outboxBytes > settings.maxOutboxBytes) return 'overloaded';
    if (this.lagMs > settings.maxLagMs && this.state === 'live') return 'overloaded';
    if (!publisher.accepting) return 'log_unavailable';
    return undefined;
  }
}
