/**
 * One cluster per data folder. The lock is a file that names its holder, made by a link so that one of several wins; a lock
 * whose holder no longer lives is taken over. nats-server's own check of its folder is the second line behind it.
 */
import { linkSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { type DataFolder, parseJson } from './data-folder.ts';
import { Failure } from './failure.ts';
import { identityOf, isAlive, isIdentity, type ProcessIdentity } from './process-identity.ts';

const ATTEMPTS = 10; // Each lost attempt means that another process was quicker.

/** Locks the folder for this process and gives the release. Errors: Failure that names the holder. */
export function lockFolder(folder: DataFolder): () => void {
  const own = `${folder.lockFile}.${process.pid}`;
  writeFileSync(own, JSON.stringify(identityOf(process.pid)), { mode: 0o600 });
  try {
    for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
      if (tryLink(own, folder.lockFile)) return () => rmSync(folder.lockFile, { force: true });
      removeIfStale(folder);
    }
    throw new Failure(
      `${folder.lockFile} changes all the time`,
      ['Other processes start on this folder right now.'],
      'folder_in_use',
    );
  } finally {
    rmSync(own, { force: true });
  }
}

/** Who runs on the folder, if anybody does. */
export function holderOf(folder: DataFolder): ProcessIdentity | undefined {
  const holder = parseJson(read(folder.lockFile));
  return isIdentity(holder) && isAlive(holder) ? holder : undefined;
}

function tryLink(own: string, lock: string): boolean {
  try {
    linkSync(own, lock);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return false;
    throw error;
  }
}

/** Moves a lock aside whose holder is dead; one that another process has just taken in its place is put back. */
function removeIfStale(folder: DataFolder): void {
  const { lockFile, path } = folder;
  const before = read(lockFile);
  const holder = holderOf(folder);
  if (holder) {
    const advice = [
      `Stop it with: kill ${holder.pid}   (or control-C in its terminal)`,
      'Or choose another folder with --data.',
    ];
    throw new Failure(`Troupe already runs on ${path} (process ${holder.pid})`, advice, 'folder_in_use');
  }
  const aside = `${lockFile}.${process.pid}.old`;
  try {
    renameSync(lockFile, aside);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return;
    throw error;
  }
  if (read(aside) !== before) tryLink(aside, lockFile);
  rmSync(aside, { force: true });
}

function read(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch {
    return '';
  }
}
