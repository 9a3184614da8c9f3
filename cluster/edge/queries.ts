/** Questions to the owners of partitions over the bus: those of clients, and the built-in ones that the edge itself asks. */

import { ERRORS, isErrorName, ProtocolError } from '../../protocol/errors.ts';
import type { Bus } from '../bus/bus.ts';
import { decodeAnswer, encodeQuery, type QueryRequest } from '../bus/messages.ts';
import { queriesOf } from '../bus/subjects.ts';
import type { EdgeCounters } from './counters.ts';
import type { Partition } from './partition.ts';

/** A refusal by an actor or host; its name may be one of the kind's own. */
export class Refused extends Error {
  readonly code: string;
  readonly retryAfterMs: number | undefined;
  readonly field: undefined;

  constructor(code: string, message: string, retryAfterMs: number | undefined) {
    super(message);
    this.name = 'Refused';
    this.code = code;
    this.retryAfterMs = retryAfterMs;
  }
}

/** What is told of any error: its name, a sentence, and when to try again. */
export type Told = {
  readonly code: string;
  readonly message: string;
  readonly retryAfterMs: number | undefined;
  readonly field: string | undefined;
};

const RETRY_AFTER_MS = 100; // Twice the way of a command under load; clients add jitter of their own.

/** The waiting time to name with an error, for those that may pass. */
export function retryAfter(code: string): number | undefined {
  return isErrorName(code) && ERRORS[code].retryable ? RETRY_AFTER_MS : undefined;
}

/** Names an error; one without a name is a bug, told as `internal`. */
export function tell(error: unknown): Told {
  if (error instanceof Refused)
    return { code: error.code, message: error.message, retryAfterMs: error.retryAfterMs, field: undefined };
  if (error instanceof ProtocolError) {
    return { code: error.code, message: error.message, retryAfterMs: retryAfter(error.code), field: error.field };
  }
  return { code: 'internal', message: ERRORS.internal.sentence, retryAfterMs: undefined, field: undefined };
}

export type Answer = { readonly body: Uint8Array; readonly epoch: number; readonly sequence: number };

export class Queries {
  readonly #bus: Bus;
  readonly #timeoutMs: number;
  readonly #counters: EdgeCounters;

  constructor(bus: Bus, timeoutMs: number, counters: EdgeCounters) {
    this.#bus = bus;
    this.#timeoutMs = timeoutMs;
    this.#counters = counters;
  }

  /**
   * Asks the owner. The answer has seen at least what any reply to this edge has.
   * Errors: ProtocolError (`no_owner`, `timeout`, `disconnected`), Refused.
   */
  async ask(partition: Partition, query: QueryRequest, timeoutMs = this.#timeoutMs): Promise<Answer> {
    if (partition.state === 'halted' && query.ref !== '') throw new ProtocolError('partition_halted', partition.reason);
    this.#counters.queries++;
    const bytes = await this.#bus.request(queriesOf(partition.name), encodeQuery(query), timeoutMs);
    const answer = decodeAnswer(bytes);
    if (!answer.ok) throw new Refused(answer.error, answer.message, answer.retryAfterMs ?? retryAfter(answer.error));
    return answer;
  }

  /** A built-in query of the edge's own. */
  async builtIn(partition: Partition, ref: string, name: string, body: Uint8Array): Promise<Uint8Array> {
    const { sequence: minSequence } = partition;
    return (await this.ask(partition, { ref, name, body, principal: '', roles: [], minSequence })).body;
  }
}
