/**
 * Writes the owner's own records: one frame at a time, in order, each again until it is stored. Storing one twice does no harm,
 * since every own record says the same the second time.
 */

import { isProtocolError } from '../../protocol/errors.ts';
import type { Clock } from '../log/clock.ts';
import type { PartitionLog } from '../log/log.ts';
import { encodeOwn, type OwnRecord } from './own-record.ts';

const RETRY_FIRST_MS = 50;
const RETRY_MAX_MS = 1_000; // An election of the log's leader takes 4 to 9 s: a second more is not felt.
const MAX_PER_FRAME = 500; // A timer's record is below 300 bytes: far below the limit of a message.

type Entry = { readonly record: OwnRecord; readonly stored: ((sequence: number) => void) | undefined };

export class OwnWriter {
  readonly #log: PartitionLog;
  readonly #clock: Clock;
  readonly #epoch: number;
  readonly #onProblem: (error: unknown) => void;
  #waiting: Entry[] = [];
  #writing = false;
  #stopped = false;

  constructor(log: PartitionLog, clock: Clock, epoch: number, onProblem: (error: unknown) => void) {
    this.#log = log;
    this.#clock = clock;
    this.#epoch = epoch;
    this.#onProblem = onProblem;
  }

  /** `stored` is called with the sequence of the message that carries the record. */
  write(record: OwnRecord, stored?: (sequence: number) => void): void {
    if (this.#stopped) return;
    this.#waiting.push({ record, stored });
    if (!this.#writing) void this.#run();
  }

  stop(): void {
    this.#stopped = true;
    this.#waiting = [];
  }

  async #run(): Promise<void> {
    this.#writing = true;
    while (this.#waiting.length > 0 && !this.#stopped) {
      const entries = this.#waiting.splice(0, MAX_PER_FRAME);
      const records = entries.map(({ record }) => record);
      const sequence = await this.#store(encodeOwn(records, this.#epoch, this.#log.generation));
      if (sequence !== undefined) for (const { stored } of entries) stored?.(sequence);
    }
    this.#writing = false;
  }

  async #store(frame: Uint8Array): Promise<number | undefined> {
    for (let delayMs = RETRY_FIRST_MS; !this.#stopped; delayMs = Math.min(delayMs * 2, RETRY_MAX_MS)) {
      try {
        return (await this.#log.append('own', frame)).sequence;
      } catch (error) {
        if (!isRetryable(error)) {
          this.#onProblem(error);
          this.stop();
          return undefined;
        }
        await new Promise<void>((resolve) => void this.#clock.after(delayMs, resolve));
      }
    }
    return undefined;
  }
}

/** Whether the log may take the same message later. */
export function isRetryable(error: unknown): boolean {
  return isProtocolError(error, 'log_unavailable') || isProtocolError(error, 'log_full');
}
