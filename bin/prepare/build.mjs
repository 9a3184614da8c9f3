/**
 * The build: TypeScript to dist/, files that belong to it (pages, golden files) beside it, the console bundled for
 * browsers. Afterwards dist/ holds exactly what the sources give: what has no source any more is removed, so that a
 * deleted test cannot run. Done again only when a source changed or an output is missing.
 */
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { dirname, extname, join, sep } from 'node:path';
import { project } from './places.mjs';
import { Refusal } from './refusal.mjs';
import { listFiles, listSources } from './sources.mjs';

const dist = join(project, 'dist');
const stamp = join(dist, '.built');
const consoleEntry = join('bin', 'console', 'console.ts');

/** Files that stay with the sources: texts, scripts that run as they are, the results that bench writes. */
const notCopied = new Set(['.md', '.mjs', '.jsonl']);

export function buildIsCurrent() {
  return existsSync(stamp) && readFileSync(stamp, 'utf8') === buildFingerprint();
}

/** @param {(line: string) => void} log */
export async function build(log) {
  log('building');
  rmSync(stamp, { force: true });
  const sources = listSources();
  removeOrphans(sources);
  compile(sources);
  for (const path of sources.filter(isCopied)) copy(path);
  if (sources.includes(consoleEntry)) await bundleConsole();
  writeFileSync(stamp, buildFingerprint());
}

/** @param {string} path */
function isCompiled(path) {
  return path.endsWith('.ts') && !path.endsWith('.d.ts');
}

/**
 * Pages, golden files and the like; not the settings of tools.
 * @param {string} path
 */
function isCopied(path) {
  return extname(path) !== '' && !path.endsWith('.ts') && !path.startsWith('config') && !notCopied.has(extname(path));
}

/**
 * What decides over the outputs: every source's content, the compiler's settings and version, and the moment at which
 * the bundle was written (a bare `tsc` puts the unbundled console in its place).
 */
function buildFingerprint() {
  const sources = listSources();
  const hash = createHash('sha256');
  for (const path of [
    ...sources.filter((path) => isCompiled(path) || isCopied(path)),
    'tsconfig.json',
    'package-lock.json',
  ]) {
    hash.update(`${path}\n`).update(readFileSync(join(project, path)));
  }
  for (const path of outputsOf(sources)) hash.update(existsSync(join(dist, path)) ? '+' : '-');
  const bundle = statSync(join(dist, outputOf(consoleEntry)), { throwIfNoEntry: false });
  return hash.update(String(bundle?.mtimeMs)).digest('hex');
}

/**
 * @param {string[]} sources
 * @returns {string[]} paths from dist/
 */
function outputsOf(sources) {
  return sources.flatMap((path) => {
    if (isCompiled(path)) return [outputOf(path), `${outputOf(path)}.map`];
    return isCopied(path) ? [path] : [];
  });
}

/** @param {string} path */
function outputOf(path) {
  return path.replace(/\.ts$/, '.js');
}

/** @param {string[]} sources */
function removeOrphans(sources) {
  const wanted = new Set(outputsOf(sources));
  for (const folder of existsSync(dist) ? readdirSync(dist) : []) {
    const path = join(dist, folder);
    if (!statSync(path).isDirectory()) continue; // Stamps and the compiler's memory.
    for (const file of listFiles(path)) {
      if (!wanted.has(join(folder, file))) rmSync(join(path, file));
    }
  }
}

/** @param {string[]} sources */
function compile(sources) {
  runCompiler();
  const missing = sources.filter((path) => isCompiled(path) && !existsSync(join(dist, outputOf(path))));
  if (missing.length === 0) return;
  // The compiler remembers what it wrote and does not look whether it is still there.
  rmSync(join(dist, '.tsbuildinfo'), { force: true });
  runCompiler();
}

function runCompiler() {
  const compiler = join(project, 'node_modules', 'typescript', 'bin', 'tsc');
  const pretty = process.stderr.isTTY ? 'true' : 'false';
  const { status } = spawnSync(process.execPath, [compiler, '-p', 'tsconfig.json', '--pretty', pretty], {
    cwd: project,
    stdio: ['ignore', 2, 2],
  });
  if (status !== 0) throw new Refusal('The build failed; the reasons stand above.');
}

/** @param {string} path */
function copy(path) {
  mkdirSync(dirname(join(dist, path)), { recursive: true });
  copyFileSync(join(project, path), join(dist, path));
}

async function bundleConsole() {
  const { build: bundle } = await import('esbuild');
  await bundle({
    absWorkingDir: project,
    entryPoints: [consoleEntry.split(sep).join('/')],
    outfile: join(dist, outputOf(consoleEntry)),
    bundle: true,
    format: 'esm',
    platform: 'browser',
    target: 'es2022',
    sourcemap: true,
    minify: true,
    logLevel: 'warning',
  }).catch(() => {
    throw new Refusal('The console could not be bundled; the reasons stand above.');
  });
}
