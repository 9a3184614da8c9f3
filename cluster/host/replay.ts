/**
 * Folds a partition's log offline: into a checkpoint store of its own, publishing nothing. The result is the state as it was at
 * any sequence that the log still reaches.
 */
import type { ProtocolError } from '../../protocol/errors.ts';
import type { CheckpointStore } from '../checkpoint/checkpoint.ts';
import type { PartitionLog, Stored } from '../log/log.ts';
import { Fold, type FoldSettings, HandlerFault, MissedSkip } from './fold.ts';

export type ReplayOptions = {
  readonly settings: FoldSettings;
  readonly log: PartitionLog;
  /** Where to start: empty, or a checkpoint at or before `until`. It is only read. */
  readonly store: CheckpointStore;
  /** Last sequence to fold; default the newest at the time of the call. */
  readonly until?: number;
  /** Called after each message, for progress, stepping and hashes. */
  readonly onMessage?: (fold: Fold, message: Stored) => void;
};

/**
 * The fold after `until`. Records that their owner skipped are left out, whichever order skips and records come in.
 * Errors: `log_trimmed` (the log begins after the checkpoint), `log_loss`, `diverged`, `unsupported_version`; RangeError when
 * `until` lies before the checkpoint or beyond the log's end.
 */
export async function replay(options: ReplayOptions): Promise<Fold> {
  const { settings, store, log } = options;
  const last = (await log.state()).last;
  const until = options.until ?? last;
  if (until > last) throw new RangeError(`the log ends at ${last}`);
  const skips: string[] = [];
  for (;;) {
    const fold = new Fold(settings, store, skips);
    if (until < fold.head.sequence)
      throw new RangeError(`the checkpoint is at ${fold.head.sequence}: it cannot go back to ${until}`);
    const fault = await foldUntil(fold, options, until);
    if (!fault) return fold;
    skips.push(`${fault.sequence}.${fault.index}`);
  }
}

/** A fault makes the fold void: it is taken anew without that record. */
function foldUntil(
  fold: Fold,
  { log, onMessage }: ReplayOptions,
  until: number,
): Promise<HandlerFault | MissedSkip | undefined> {
  if (fold.head.sequence >= until) return Promise.resolve(undefined);
  return new Promise((resolve, reject) => {
    const step = (message: Stored): HandlerFault | MissedSkip | 'done' | undefined => {
      try {
        fold.fold(message);
      } catch (error) {
        if (error instanceof HandlerFault || error instanceof MissedSkip) return error;
        throw error;
      }
      fold.confirmedSkips.length = 0;
      onMessage?.(fold, message);
      return message.sequence >= until ? 'done' : undefined;
    };
    let isOver = false;
    const reader = log.read(
      fold.head.sequence + 1,
      (message) => {
        if (isOver) return;
        try {
          const result = step(message);
          if (result === undefined) return;
          isOver = true;
          resolve(result === 'done' ? undefined : result);
        } catch (error) {
          isOver = true;
          reject(error);
        }
        queueMicrotask(() => reader.stop());
      },
      (problem: ProtocolError) => reject(problem),
    );
  });
}
