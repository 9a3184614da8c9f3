/** What goes wrong for people: a sentence about what happened, and what to do about it. Anything else that is thrown is a bug. */

import { OptionError } from '../config/options.ts';
import { TroupeError } from '../protocol/client/client.ts';
import { ProtocolError } from '../protocol/errors.ts';

export class Failure extends Error {
  /** What to do, one line each. */
  readonly advice: readonly string[];
  /** A name for programs: of the protocol's registry where it has one. */
  readonly code: string;

  constructor(message: string, advice: readonly string[] = [], code = 'failed') {
    super(message);
    this.name = 'Failure';
    this.advice = advice;
    this.code = code;
  }
}

/** An error as `--json` and people see it; the stack only of bugs. */
export type ToldFailure = {
  readonly error: string;
  readonly message: string;
  readonly advice: readonly string[];
  readonly stack?: string;
};

export function tellFailure(error: unknown): ToldFailure {
  if (error instanceof Failure) return { error: error.code, message: error.message, advice: error.advice };
  if (error instanceof OptionError) return { error: 'invalid_option', message: error.message, advice: [] };
  if (error instanceof ProtocolError || error instanceof TroupeError) {
    const isTold = error.field === undefined || error.message.includes(error.field);
    return { error: error.code, message: isTold ? error.message : `${error.field}: ${error.message}`, advice: [] };
  }
  if (error instanceof Error) return { error: 'bug', message: error.message, advice: [], stack: error.stack ?? '' };
  return { error: 'bug', message: String(error), advice: [] };
}
