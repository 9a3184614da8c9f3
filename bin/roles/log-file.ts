/**
 * Lines into rotating files, written by a thread. A disk that refuses them costs lines and never the process: the thread is
 * given up, and a new one tries again later.
 */
import pino from 'pino';

const FILE_SIZE = '20m'; // With the count below at most 100 MB of log per role.
const FILE_COUNT = 5;
const RETRY_MS = 5_000; // A thread takes 50 ms to start: too much for every line of a full disk.

export class LogFile {
  readonly #file: string;
  #target: ReturnType<typeof pino.transport> | undefined;
  #againMs = 0;

  /** Into `<file>.<n>.log`. */
  constructor(file: string) {
    this.#file = file;
    this.#target = this.#open();
  }

  write(line: string): void {
    if (!this.#target && performance.now() >= this.#againMs) this.#target = this.#open();
    this.#target?.write(line);
  }

  #open(): ReturnType<typeof pino.transport> {
    const target = pino.transport({
      target: 'pino-roll',
      options: { file: this.#file, extension: '.log', size: FILE_SIZE, limit: { count: FILE_COUNT }, mkdir: true },
    });
    target.on('error', () => {
      if (this.#target !== target) return;
      this.#target = undefined;
      this.#againMs = performance.now() + RETRY_MS;
    });
    return target;
  }
}
