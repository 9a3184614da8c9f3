/**
 * One LMDB environment: the spaces of one partition's checkpoint. It is opened by the main thread (reads) and by the writer thread
 * (commits); within one process both share one native environment, so it costs its file descriptors and its map once.
 */
import { mkdirSync, statfsSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { type Database, open, type RootDatabase } from 'lmdb';
import { ProtocolError } from '../../protocol/errors.ts';
import { SPACES, type Space } from './checkpoint.ts';

const MAP_BYTES = 64 * 2 ** 30; // Address space, not memory or disk: fixed and ample, so that no thread ever remaps while another reads.
const MIN_FREE_BYTES = 1024 * 1024; // For a new environment: its first pages, and the lock file's.
const DATA_FILE = 'data.mdb';

const FILE_MODE = { permissionsMode: 0o600 }; // Known to lmdb's native part; its typings lack it.

export type Table = Database<Uint8Array, Uint8Array>;
export type Environment = {
  readonly folder: string;
  readonly root: RootDatabase<Uint8Array, Uint8Array>;
  readonly tables: readonly Table[];
};

/** Opens, or creates with mode 0700, the environment in `folder`. Throws ProtocolError `storage_full` or `storage_failed`. */
export function openEnvironment(folder: string): Environment {
  try {
    mkdirSync(folder, { recursive: true, mode: 0o700 });
    assertLockFileFits(folder);
    const root = openRoot(folder);
    try {
      const tables = SPACES.map((name) => root.openDB({ name, encoding: 'binary', keyEncoding: 'binary' }));
      return { folder, root, tables };
    } catch (error) {
      void root.close();
      throw error;
    }
  } catch (error) {
    throw storageError(error, folder, MIN_FREE_BYTES);
  }
}

function openRoot(folder: string): Environment['root'] {
  return open<Uint8Array, Uint8Array>({
    path: join(folder, DATA_FILE),
    noSubdir: true,
    encoding: 'binary',
    keyEncoding: 'binary',
    maxDbs: SPACES.length,
    mapSize: MAP_BYTES,
    ...FILE_MODE,
    overlappingSync: false, // A commit is on the disk when it returns; lmdb's default may flush later.
  });
}

/** The number of a space within `tables` and packed commits. */
export function numberOf(space: Space): number {
  return SPACES.indexOf(space);
}

/**
 * The named error for what LMDB threw. LMDB reports a write that a full disk cut short as EIO, so free space tells them apart:
 * `neededBytes` is about what the failed call wanted to write.
 */
export function storageError(error: unknown, folder: string, neededBytes: number): ProtocolError {
  if (error instanceof ProtocolError) return error;
  const message = error instanceof Error ? error.message : String(error);
  const full = /No space left|quota|MDB_MAP_FULL/i.test(message) || freeBytes(folder) < neededBytes;
  return new ProtocolError(full ? 'storage_full' : 'storage_failed', message);
}

/** LMDB writes its lock file through a map: were there no block for it, that would kill the process (SIGBUS). */
function assertLockFileFits(folder: string): void {
  const lockFile = statSync(join(folder, `${DATA_FILE}-lock`), { throwIfNoEntry: false });
  const hasBlocks = lockFile !== undefined && lockFile.blocks > 0;
  if (!hasBlocks && freeBytes(folder) < MIN_FREE_BYTES) throw new ProtocolError('storage_full');
}

function freeBytes(folder: string): number {
  try {
    const { bavail, bsize } = statfsSync(folder);
    return bavail * bsize;
  } catch {
    return Number.POSITIVE_INFINITY; // Unknown: the error itself must say what happened.
  }
}
