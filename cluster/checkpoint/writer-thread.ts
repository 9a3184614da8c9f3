/**
 * The thread that writes checkpoints: each commit is one synchronous LMDB transaction, flushed to the disk, then read back. A full
 * disk makes it throw at one place; nothing is left half done and the next commit may succeed (lmdb's asynchronous writes hang).
 */
import { parentPort } from 'node:worker_threads';
import { crc32 } from 'node:zlib';
import type { ErrorName } from '../../protocol/errors.ts';
import { ProtocolError } from '../../protocol/errors.ts';
import { type Digest, SPACES } from './checkpoint.ts';
import { digestEntry, EMPTY_DIGEST } from './digest.ts';
import { type Environment, openEnvironment, storageError } from './lmdb-environment.ts';
import { unpackChanges } from './packed-changes.ts';

/** `part` and `drop` are not answered; the others are, by `id`. A commit is the parts of its partition since the last one. */
export type WriterRequest =
  | { readonly type: 'open'; readonly id: number; readonly partition: string; readonly folder: string }
  | { readonly type: 'part'; readonly partition: string; readonly packed: Uint8Array }
  | { readonly type: 'drop'; readonly partition: string }
  | { readonly type: 'commit' | 'verify' | 'close'; readonly id: number; readonly partition: string };

export type WriterAnswer = {
  readonly id: number;
  readonly digest?: Digest;
  readonly error?: { readonly code: ErrorName; readonly message: string };
};

const SPARE_FACTOR = 4; // Pages written per byte changed, roughly: half full pages and the tree above them.
const SPARE_BYTES = 1024 * 1024; // What a small commit may write: a path of pages per space, and the free list.

type Open = { readonly environment: Environment; parts: Uint8Array[] };
const partitions = new Map<string, Open>();

function opened(partition: string): Open {
  const found = partitions.get(partition);
  if (found === undefined) throw new Error(`${partition} is not open in the writer thread`);
  return found;
}

function commit(partition: Open): void {
  const parts = partition.parts;
  partition.parts = [];
  const { environment } = partition;
  try {
    environment.root.transactionSync(() => {
      for (const part of parts) apply(environment, part);
    });
    environment.root.resetReadTxn();
    for (const part of parts) assertReadBack(environment, part);
  } catch (error) {
    const bytes = parts.reduce((sum, part) => sum + part.length, 0);
    throw storageError(error, environment.folder, bytes * SPARE_FACTOR + SPARE_BYTES);
  } finally {
    environment.root.resetReadTxn();
  }
}

function apply({ tables }: Environment, part: Uint8Array): void {
  unpackChanges(part, (space, key, value) => {
    if (value === undefined) tables[space]!.removeSync(key);
    else tables[space]!.putSync(key, value);
  });
}

function assertReadBack({ tables }: Environment, part: Uint8Array): void {
  unpackChanges(part, (space, key, value) => {
    const found = tables[space]!.getBinary(key);
    const same = value === undefined || found === undefined ? found === value : Buffer.compare(found, value) === 0;
    if (!same)
      throw new ProtocolError('storage_failed', `a key of space ${SPACES[space]} reads back otherwise than written`);
  });
}

function digestOf({ folder, root, tables }: Environment): Digest {
  let digest = EMPTY_DIGEST;
  try {
    root.resetReadTxn();
    SPACES.forEach((space, number) => {
      for (const { key, value } of tables[number]!.getRange()) digest = digestEntry(digest, space, key, value, crc32);
    });
    return digest;
  } catch (error) {
    throw storageError(error, folder, 0);
  } finally {
    root.resetReadTxn();
  }
}

async function handle(request: WriterRequest): Promise<Digest | undefined> {
  switch (request.type) {
    case 'open':
      partitions.set(request.partition, { environment: openEnvironment(request.folder), parts: [] });
      return undefined;
    case 'part':
      opened(request.partition).parts.push(request.packed);
      return undefined;
    case 'drop':
      opened(request.partition).parts = [];
      return undefined;
    case 'commit':
      commit(opened(request.partition));
      return undefined;
    case 'verify':
      return digestOf(opened(request.partition).environment);
    case 'close': {
      const { environment } = opened(request.partition);
      partitions.delete(request.partition);
      await environment.root.close();
      return undefined;
    }
  }
}

function errorOf(error: unknown): NonNullable<WriterAnswer['error']> {
  const message = error instanceof Error ? error.message : String(error);
  return { code: error instanceof ProtocolError ? error.code : 'storage_failed', message };
}

async function answer(request: WriterRequest): Promise<void> {
  if (!('id' in request)) {
    await handle(request);
    return;
  }
  const { id } = request;
  let reply: WriterAnswer;
  try {
    const digest = await handle(request);
    reply = digest === undefined ? { id } : { id, digest };
  } catch (error) {
    reply = { id, error: errorOf(error) };
  }
  parentPort!.postMessage(reply);
}

if (parentPort === null) throw new Error('writer-thread runs as a worker thread');
parentPort.on('message', (request: WriterRequest) => void answer(request));
