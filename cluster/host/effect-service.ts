/**
 * Gives effects without a result to a worker and writes their results into the log. After a restart all of them are given out
 * again: a worker's outside sees an effect at least once, under one id.
 */
import type { WebhookRequest } from '../../actors/definition.ts';
import type { Outbox } from './outbox.ts';
import type { OwnWriter } from './own-writer.ts';

export type EffectResult = {
  readonly outcome: 'done' | 'failed';
  readonly status: number;
  readonly body: string;
  readonly attempts: number;
};

/** Performs one effect, however long it takes, and never rejects. */
export type EffectWorker = { run(effect: { id: string; request: WebhookRequest }): Promise<EffectResult> };

const MAX_RUNNING = 1_000; // Per partition: the worker queues them by its own limits, and they wait in memory meanwhile.

export class EffectService {
  readonly #outbox: () => Outbox | undefined;
  readonly #writer: OwnWriter;
  readonly #worker: EffectWorker;
  readonly #running = new Set<string>();
  #stopped = false;

  /** `outbox` gives none while nothing may leave; `kick` says when it may again. */
  constructor(outbox: () => Outbox | undefined, writer: OwnWriter, worker: EffectWorker) {
    this.#outbox = outbox;
    this.#writer = writer;
    this.#worker = worker;
  }

  /** There may be new effects. */
  kick(): void {
    if (this.#stopped) return;
    for (const { id, request } of this.#outbox()?.effects(MAX_RUNNING) ?? []) {
      if (!this.#running.has(id) && this.#running.size < MAX_RUNNING) void this.#run(id, request);
    }
  }

  stop(): void {
    this.#stopped = true;
  }

  async #run(id: string, request: WebhookRequest): Promise<void> {
    this.#running.add(id);
    const result = await this.#worker.run({ id, request });
    if (this.#stopped) return;
    this.#writer.write({ type: 'effect', id, ...result }, () => {
      // Folding the result removes the effect; it may not have happened yet, so it is left out until then by its id.
      this.#forgetDone();
      this.kick();
    });
  }

  #forgetDone(): void {
    const outbox = this.#outbox();
    if (!outbox) return;
    for (const id of this.#running) if (!outbox.effect(id)) this.#running.delete(id);
  }
}
