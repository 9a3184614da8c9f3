/** The project's source files, as the build, the tests and the checks see them. */
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { project } from './places.mjs';

const sourceFolders = ['protocol', 'actors', 'cluster', 'bin', 'bench', 'config'];

/** @returns {string[]} every file in the source folders, as paths from the project's folder, sorted */
export function listSources() {
  return sourceFolders.flatMap((folder) => listFiles(join(project, folder)).map((path) => join(folder, path))).sort();
}

/**
 * @param {string} folder
 * @returns {string[]} paths from `folder`
 */
export function listFiles(folder) {
  if (!existsSync(folder)) return [];
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath ?? entry.path, entry.name).slice(folder.length + 1));
}
