/**
 * Checkpoints in LMDB: one environment per partition (`<folder>/<partition>/data.mdb`), one table per space, raw bytes as keys and
 * values. This thread reads; one writer thread for all partitions commits (see writer-thread.ts), so a commit costs the loop only
 * the packing of its changes, a slice per turn.
 */
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import { ProtocolError } from '../../protocol/errors.ts';
import {
  type Changes,
  type CheckpointStore,
  type Checkpoints,
  checkChange,
  checkPartition,
  type Digest,
  type Entry,
  type RangeOptions,
  type Space,
} from './checkpoint.ts';
import { type Environment, numberOf, openEnvironment, type Table } from './lmdb-environment.ts';
import { ChangePacker } from './packed-changes.ts';
import type { WriterAnswer, WriterRequest } from './writer-thread.ts';

const SLICE_CHANGES = 1_000; // Packing 1,000 rows of 200 bytes takes about a millisecond.
const SLICE_BYTES = 1024 * 1024; // A copy of 1 MiB takes well below a millisecond.

const plain = (bytes: Uint8Array): Uint8Array => new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength);

/** Checkpoints under `folder` (e.g. `<data>/partitions`), which is made with mode 0700 where it is missing. */
export class LmdbCheckpoints implements Checkpoints {
  readonly #folder: string;
  readonly #writer = new Writer();
  readonly #pace = new Pace();
  readonly #open = new Map<string, LmdbStore>();
  readonly #opening = new Set<string>();

  constructor(folder: string) {
    this.#folder = folder;
  }

  async open(partition: string): Promise<CheckpointStore> {
    checkPartition(partition);
    if (this.#opening.has(partition)) throw new Error(`checkpoint of ${partition} is open already`);
    this.#opening.add(partition);
    try {
      return await this.#openStore(partition);
    } catch (error) {
      this.#opening.delete(partition);
      throw error;
    }
  }

  async close(): Promise<void> {
    await Promise.all([...this.#open.values()].map((store) => store.close()));
    await this.#writer.stop();
  }

  async #openStore(partition: string): Promise<LmdbStore> {
    const folder = join(this.#folder, partition);
    await this.#writer.request({ type: 'open', id: 0, partition, folder });
    const environment = await this.#openHere(partition, folder);
    const store = new LmdbStore(partition, environment, this.#writer, this.#pace, () => {
      this.#open.delete(partition);
      this.#opening.delete(partition);
    });
    this.#open.set(partition, store);
    return store;
  }

  async #openHere(partition: string, folder: string): Promise<Environment> {
    try {
      return openEnvironment(folder);
    } catch (error) {
      await this.#writer.request({ type: 'close', id: 0, partition });
      throw error;
    }
  }
}

class LmdbStore implements CheckpointStore {
  readonly partition: string;
  readonly #environment: Environment;
  readonly #writer: Writer;
  readonly #pace: Pace;
  readonly #release: () => void;
  #queue: Promise<unknown> = Promise.resolve();
  #closed: Promise<void> | undefined;

  constructor(partition: string, environment: Environment, writer: Writer, pace: Pace, release: () => void) {
    this.partition = partition;
    this.#environment = environment;
    this.#writer = writer;
    this.#pace = pace;
    this.#release = release;
  }

  get(space: Space, key: Uint8Array): Uint8Array | undefined {
    if (key.length === 0) return undefined;
    const found = this.#table(space).getBinary(key);
    return found && plain(found);
  }

  *range(space: Space, from: Uint8Array, to?: Uint8Array, options: RangeOptions = {}): Iterable<Entry> {
    if (options.limit === 0 || to?.length === 0) return;
    for (const { key, value } of this.#table(space).getRange(boundsOf(from, to, options)))
      yield [plain(key), plain(value)];
  }

  count(space: Space): number {
    return (this.#table(space).getStats() as { entryCount: number }).entryCount;
  }

  commit(changes: Changes): Promise<void> {
    return this.#enqueue(() => this.#commit(changes));
  }

  verify(): Promise<Digest> {
    return this.#enqueue(async () => {
      const { digest } = await this.#writer.request({ type: 'verify', id: 0, partition: this.partition });
      return digest!;
    });
  }

  close(): Promise<void> {
    this.#closed ??= this.#queue.then(() => this.#close());
    return this.#closed;
  }

  async #commit(changes: Changes): Promise<void> {
    try {
      await this.#sendParts(changes);
    } catch (error) {
      this.#writer.post({ type: 'drop', partition: this.partition });
      throw error;
    }
    await this.#writer.request({ type: 'commit', id: 0, partition: this.partition });
    this.#environment.root.resetReadTxn();
  }

  async #sendParts(changes: Changes): Promise<void> {
    const packer = new ChangePacker();
    await this.#pace.room();
    for (const change of changes) {
      checkChange(change);
      this.#pace.spend(packer.add(change));
      if (!this.#pace.spent) continue;
      this.#writer.send(this.partition, packer.take());
      await this.#pace.room();
    }
    if (packer.length > 0) this.#writer.send(this.partition, packer.take());
  }

  async #close(): Promise<void> {
    await this.#environment.root.close();
    await this.#writer.request({ type: 'close', id: 0, partition: this.partition });
    this.#release();
  }

  #enqueue<T>(task: () => Promise<T>): Promise<T> {
    if (this.#closed) return Promise.reject(new Error(`checkpoint of ${this.partition} is closed`));
    const done = this.#queue.then(task);
    this.#queue = done.catch(() => undefined);
    return done;
  }

  #table(space: Space): Table {
    if (this.#closed) throw new Error(`checkpoint of ${this.partition} is closed`);
    return this.#environment.tables[numberOf(space)]!;
  }
}

function boundsOf(from: Uint8Array, to: Uint8Array | undefined, { reverse, limit }: RangeOptions): object {
  const most = limit === undefined ? {} : { limit };
  const low = from.length === 0 ? {} : { [reverse ? 'end' : 'start']: from };
  const high = to === undefined ? {} : { [reverse ? 'start' : 'end']: to };
  return reverse
    ? { ...most, ...low, ...high, reverse, exclusiveStart: true, inclusiveEnd: true }
    : { ...most, ...low, ...high };
}

/** What all partitions together have packed in this turn of the loop. */
class Pace {
  #changes = 0;
  #bytes = 0;
  #nextTurn: Promise<void> | undefined;

  get spent(): boolean {
    return this.#changes >= SLICE_CHANGES || this.#bytes >= SLICE_BYTES;
  }

  spend(bytes: number): void {
    this.#changes++;
    this.#bytes += bytes;
    this.#nextTurn ??= new Promise((resolve) => setImmediate(() => resolve(this.#reset())));
  }

  /** Waits until this turn has room. */
  async room(): Promise<void> {
    while (this.spent) await this.#nextTurn;
  }

  #reset(): void {
    this.#changes = 0;
    this.#bytes = 0;
    this.#nextTurn = undefined;
  }
}

type Waiting = { resolve(answer: WriterAnswer): void; reject(error: unknown): void };

/** The loop's side of the writer thread: started at the first use, holds the process only while an answer is awaited. */
class Writer {
  #worker: Worker | undefined;
  #stopped = false;
  #failure: ProtocolError | undefined;
  #nextId = 1;
  readonly #waiting = new Map<number, Waiting>();

  /** Sends a part of a commit; its buffer is given away. */
  send(partition: string, packed: Uint8Array<ArrayBuffer>): void {
    this.#running()?.postMessage({ type: 'part', partition, packed } satisfies WriterRequest, [packed.buffer]);
  }

  post(request: WriterRequest): void {
    this.#running()?.postMessage(request);
  }

  request(request: Extract<WriterRequest, { id: number }>): Promise<WriterAnswer> {
    const worker = this.#running();
    if (worker === undefined) return Promise.reject(this.#failure);
    const id = this.#nextId++;
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, { resolve, reject });
      worker.ref();
      worker.postMessage({ ...request, id });
    });
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    await this.#worker?.terminate();
    this.#worker = undefined;
  }

  #running(): Worker | undefined {
    if (this.#stopped) throw new Error('the checkpoints are closed');
    if (this.#failure) return undefined;
    this.#worker ??= this.#start();
    return this.#worker;
  }

  #start(): Worker {
    const extension = import.meta.url.slice(import.meta.url.lastIndexOf('.')); // `.js` once compiled.
    const worker = new Worker(new URL(`./writer-thread${extension}`, import.meta.url));
    worker.on('message', (answer: WriterAnswer) => this.#settle(answer));
    worker.on('error', (error) => this.#fail(error.message));
    worker.on('exit', () => this.#fail('the writer thread ended'));
    worker.unref();
    return worker;
  }

  #settle(answer: WriterAnswer): void {
    const waiting = this.#waiting.get(answer.id);
    this.#waiting.delete(answer.id);
    if (this.#waiting.size === 0) this.#worker?.unref();
    if (answer.error) waiting?.reject(new ProtocolError(answer.error.code, answer.error.message));
    else waiting?.resolve(answer);
  }

  /** A dead thread may have left a transaction open: nothing more is written until the process starts anew. */
  #fail(message: string): void {
    if (this.#stopped || this.#failure) return;
    this.#failure = new ProtocolError('storage_failed', message);
    for (const { reject } of this.#waiting.values()) reject(this.#failure);
    this.#waiting.clear();
  }
}
