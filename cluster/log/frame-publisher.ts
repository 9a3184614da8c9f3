/**
 * An edge's way into one partition: records are gathered into frames, and the frames are brought into the log in order,
 * however often an attempt fails.
 *
 * - Group commit by framing. With no frame outstanding a record leaves at the end of the current tick; otherwise records
 *   gather until an ack comes back or the frame is full. Quiet costs little delay, load makes the frames larger.
 * - Frames are numbered from 1. The fold applies frame n only after n - 1, so a failed or overtaken attempt does no harm as
 *   long as the frame and all later ones are sent again, acknowledged or not, in order. That is what happens: the first
 *   alone, until it is acknowledged, then the others.
 * - A frame is settled when it and all before it are acknowledged with rising sequences by one unbroken series of attempts.
 * - Records are written straight into the frame and never copied again: an edge keeps (buffer, offset, length) of what has
 *   no answer yet. A buffer's bytes never change once written.
 *
 * Writing a record: `const target = publisher.reserve(length)`, write from `publisher.offset` on, `publisher.commit()`.
 */
import { crc32 } from 'node:zlib';
import { ProtocolError } from '../../protocol/errors.ts';
import { FRAME_COMMANDS, FRAME_HEADER, MAX_FRAME, MAX_RECORD, writeFrameHeader } from '../../protocol/frame.ts';
import { type Clock, systemClock } from './clock.ts';
import type { Ack, PartitionLog } from './log.ts';

const WINDOW_FRAMES = 4; // Unacknowledged at once: enough to keep a server busy during the way back of an ack.
const MAX_OUTSTANDING_BYTES = 64 * 1024 * 1024; // Per partition. Only an outage of many seconds under full load reaches it.
const SLAB_BYTES = 256 * 1024; // Small frames share one buffer: 32 KiB for a frame of 150 bytes would be 200 times the data.
const BACKOFF_MIN_MS = 20;
const BACKOFF_MAX_MS = 1_000;

export type FramePublisherOptions = {
  readonly log: Pick<PartitionLog, 'append' | 'generation'>;
  /** `cmd.<edge>`. */
  readonly token: string;
  readonly incarnation: number;
  readonly windowFrames?: number;
  readonly maxOutstandingBytes?: number;
  readonly clock?: Clock;
  /** 0 <= x < 1, for the jitter of retries. */
  readonly random?: () => number;
  /** The frame with this number is settled. In order, each once. */
  readonly onAck?: (frameNumber: number) => void;
  /** No further attempt is of use (`log_misconfigured`: a newer generation has the log). What is unsettled is the edge's to send anew. */
  readonly onFailed?: (error: ProtocolError) => void;
};

type OutFrame = {
  readonly number: number;
  readonly buffer: Uint8Array;
  readonly start: number;
  end: number;
  records: number;
  closedMs: number;
  /** The last attempt's: which series it belongs to, and its ack. 0: none. */
  series: number;
  sequence: number;
};

export class FramePublisher {
  readonly #log: Pick<PartitionLog, 'append' | 'generation'>;
  readonly #token: string;
  readonly #incarnation: number;
  readonly #window: number;
  readonly #maxOutstandingBytes: number;
  readonly #clock: Clock;
  readonly #random: () => number;
  readonly #onAck: (frameNumber: number) => void;
  readonly #onFailed: (error: ProtocolError) => void;

  /** Closed frames that are not settled, oldest first; the first #sent of them have been sent in the current series. */
  readonly #frames: OutFrame[] = [];
  #sent = 0;
  #open: OutFrame | undefined;
  #nextNumber = 1;
  #slab: Uint8Array = new Uint8Array(0);
  #slabUsed = 0;
  #reserved = 0;
  #records = 0;
  #bytes = 0;
  /** Of the frame settled last, within the series. */
  #lastSequence = 0;

  /** Raised with each failure: answers to attempts of an older series mean nothing any more. */
  #series = 1;
  #failures = 0;
  #logFull = false;
  #flushAsked = false;
  #ackedSinceFlush = false;
  #waiting = false;
  #failed: ProtocolError | undefined;
  #cancelRetry: () => void = () => undefined;
  #whenIdle: (() => void)[] = [];

  /** For metrics: frames settled, attempts made, series that failed. */
  readonly counts = { frames: 0, attempts: 0, failures: 0 };
  /** Where the reserved record begins in the buffer that `reserve` gave. */
  offset = 0;

  constructor(options: FramePublisherOptions) {
    this.#log = options.log;
    this.#token = options.token;
    this.#incarnation = options.incarnation;
    this.#window = options.windowFrames ?? WINDOW_FRAMES;
    this.#maxOutstandingBytes = options.maxOutstandingBytes ?? MAX_OUTSTANDING_BYTES;
    this.#clock = options.clock ?? systemClock;
    this.#random = options.random ?? Math.random;
    this.#onAck = options.onAck ?? (() => undefined);
    this.#onFailed = options.onFailed ?? (() => undefined);
  }

  /** Whether new commands may be taken: false while the log is full, too much is outstanding, or all is over. */
  get accepting(): boolean {
    return !this.#logFull && this.#failed === undefined && this.#bytes < this.#maxOutstandingBytes;
  }

  /** The log refused the oldest frame for want of space. It is tried again and again. */
  get logFull(): boolean {
    return this.#logFull;
  }

  /** Records and bytes taken and not yet settled, those of the open frame included. */
  get outstandingRecords(): number {
    return this.#records;
  }

  get outstandingBytes(): number {
    return this.#bytes;
  }

  /** How long the oldest closed frame has been waiting for its ack; 0 when there is none. */
  get oldestUnackedMs(): number {
    const oldest = this.#frames[0];
    return oldest ? this.#clock.nowMs() - oldest.closedMs : 0;
  }

  /**
   * Room for a record of exactly `length` bytes, from `offset` on in the buffer returned. Without `commit` it is void.
   * Errors: `payload_too_large` (above MAX_RECORD), `overloaded` (too much outstanding), and what `onFailed` said.
   */
  reserve(length: number): Uint8Array {
    if (length > MAX_RECORD) throw new ProtocolError('payload_too_large');
    if (this.#failed) throw this.#failed;
    if (this.#bytes + length > this.#maxOutstandingBytes) throw new ProtocolError('overloaded');
    let frame = this.#open;
    if (frame && frame.end + length - frame.start > MAX_FRAME && frame.records > 0) {
      this.#close(frame);
      this.#send();
      frame = undefined;
    }
    if (!frame || frame.end + length > frame.buffer.length) frame = this.#openFrame(length);
    this.#reserved = length;
    this.offset = frame.end;
    return frame.buffer;
  }

  /** The reserved record is written and now part of its frame, whose number is returned. */
  commit(): number {
    const frame = this.#open;
    if (!frame || this.#reserved === 0) throw new Error('commit without reserve');
    frame.end += this.#reserved;
    frame.records++;
    this.#records++;
    this.#bytes += this.#reserved;
    this.#reserved = 0;
    this.#askFlush();
    return frame.number;
  }

  /** Resolves when everything taken is settled. Errors: what `onFailed` said. */
  async drained(): Promise<void> {
    while (this.#records > 0) {
      if (this.#failed) throw this.#failed;
      await new Promise<void>((resolve) => this.#whenIdle.push(resolve));
    }
  }

  /** Ends all attempts; what is unsettled stays unsettled. */
  stop(): void {
    this.#end(new ProtocolError('closed'));
  }

  /** An empty open frame that proved too small keeps its number. */
  #openFrame(length: number): OutFrame {
    const number = this.#open?.number ?? this.#nextNumber++;
    const needed = FRAME_HEADER + length;
    const alone = needed > MAX_FRAME;
    if (!alone && this.#slab.length - this.#slabUsed < MAX_FRAME) {
      this.#slab = Buffer.allocUnsafeSlow(SLAB_BYTES);
      this.#slabUsed = 0;
    }
    const buffer = alone ? Buffer.allocUnsafeSlow(needed) : this.#slab;
    const start = alone ? 0 : this.#slabUsed;
    this.#open = { number, buffer, start, end: start + FRAME_HEADER, records: 0, closedMs: 0, series: 0, sequence: 0 };
    return this.#open;
  }

  /** Nothing is added to it any more: its header is written and its place in the order is fixed. */
  #close(frame: OutFrame): void {
    if (frame.buffer === this.#slab) this.#slabUsed = (frame.end + 7) & ~7;
    writeFrameHeader(
      frame.buffer.subarray(frame.start, frame.end),
      {
        type: FRAME_COMMANDS,
        totalLength: frame.end - frame.start,
        incarnation: this.#incarnation,
        frameNumber: frame.number,
        recordCount: frame.records,
        generation: this.#log.generation,
      },
      crc32,
    );
    frame.closedMs = this.#clock.nowMs();
    this.#frames.push(frame);
    this.#open = undefined;
  }

  /** At the end of the tick, so that what came in with it goes out together. */
  #askFlush(): void {
    if (this.#flushAsked) return;
    this.#flushAsked = true;
    this.#clock.endOfTick(() => {
      this.#flushAsked = false;
      if (this.#sent > 0 && !this.#ackedSinceFlush) return;
      this.#ackedSinceFlush = false;
      this.#flush();
    });
  }

  /** Sends what there is, the open frame too. */
  #flush(): void {
    const frame = this.#open;
    if (frame && frame.records > 0 && this.#frames.length < this.#window && !this.#waiting) this.#close(frame);
    this.#send();
  }

  /** After a failure one frame goes ahead as a probe. */
  #send(): void {
    if (this.#waiting || this.#failed) return;
    const window = this.#failures > 0 ? 1 : this.#window;
    while (this.#sent < this.#frames.length && this.#sent < window) {
      this.#attempt(this.#frames[this.#sent++] as OutFrame);
    }
  }

  #attempt(frame: OutFrame): void {
    this.counts.attempts++;
    const series = this.#series;
    frame.series = series;
    frame.sequence = 0;
    this.#log.append(this.#token, frame.buffer.subarray(frame.start, frame.end)).then(
      (ack) => {
        if (series === this.#series) this.#acked(frame, ack);
      },
      (error: unknown) => {
        if (series === this.#series) this.#attemptFailed(error);
      },
    );
  }

  #acked(frame: OutFrame, ack: Ack): void {
    frame.sequence = ack.sequence;
    for (
      let oldest = this.#frames[0];
      oldest?.series === this.#series && oldest.sequence > 0;
      oldest = this.#frames[0]
    ) {
      if (oldest.sequence <= this.#lastSequence) return this.#sendAgain(); // Stored out of order.
      this.#settle(oldest);
      this.#ackedSinceFlush = true;
    }
    if (this.#ackedSinceFlush) this.#askFlush();
    if (this.#records === 0) for (const resolve of this.#whenIdle.splice(0)) resolve();
  }

  #settle(frame: OutFrame): void {
    this.#frames.shift();
    this.#sent--;
    this.#failures = 0;
    this.#logFull = false;
    this.#lastSequence = frame.sequence;
    this.#records -= frame.records;
    this.#bytes -= frame.end - frame.start - FRAME_HEADER;
    this.counts.frames++;
    this.#onAck(frame.number);
  }

  #attemptFailed(error: unknown): void {
    if (!(error instanceof ProtocolError) || !isRetryable(error)) return this.#fail(error);
    if (error.code === 'log_full') this.#logFull = true;
    this.#sendAgain();
  }

  /** All frames that are not settled will be sent again, after a random part of a growing time. */
  #sendAgain(): void {
    this.counts.failures++;
    this.#series++;
    this.#lastSequence = 0;
    this.#sent = 0;
    this.#waiting = true;
    const limitMs = Math.min(BACKOFF_MAX_MS, BACKOFF_MIN_MS * 2 ** this.#failures++);
    this.#cancelRetry = this.#clock.after(this.#random() * limitMs, () => {
      this.#waiting = false;
      this.#flush();
    });
  }

  #fail(error: unknown): void {
    const named = error instanceof ProtocolError ? error : new ProtocolError('internal', String(error));
    this.#end(named);
    this.#onFailed(named);
  }

  #end(reason: ProtocolError): void {
    this.#failed ??= reason;
    this.#series++;
    this.#cancelRetry();
    for (const resolve of this.#whenIdle.splice(0)) resolve();
  }
}

function isRetryable(error: ProtocolError): boolean {
  return error.code === 'log_unavailable' || error.code === 'log_full';
}
