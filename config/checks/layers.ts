/**
 * The order of the layers: `protocol <- actors <- cluster <- bin`, `config` beside protocol, `bench` to the side.
 *
 * Checked for every import, types included: a layer imports itself and those below; a domain of actors/ imports no other
 * domain and cluster/ imports none, so that adding a domain touches one folder; what must run in browsers imports
 * nothing of Node; tests of actors/ may run the machine in cluster/; native packages stay behind their port; and no files import each other in a circle.
 */
import { type Finding, type ImportOf, importsOf, isTestFile, type SourceFile } from './source-file.ts';

/** For each layer those that it may import besides itself. */
const below: Readonly<Record<string, readonly string[]>> = {
  protocol: [],
  config: ['protocol'],
  actors: ['protocol'],
  cluster: ['protocol', 'actors'],
  bin: ['protocol', 'actors', 'cluster', 'config'],
  bench: ['protocol', 'actors', 'cluster', 'config'],
};

/** Packages with one home each. bench/ compares with them raw, tests look behind the port. */
const homes: readonly { readonly packages: RegExp; readonly home: RegExp; readonly name: string }[] = [
  {
    packages: /^uWebSockets\.js$/,
    home: /^(cluster\/edge\/uws-transport\.ts$|bench\/)/,
    name: 'cluster/edge/uws-transport.ts',
  },
  { packages: /^lmdb$/, home: /^(cluster\/checkpoint\/|bench\/)/, name: 'cluster/checkpoint/' },
  { packages: /^(nats|@nats-io\/.+)$/, home: /^(cluster|bin|bench)\//, name: 'cluster/, bin/ and bench/' },
];

export function checkLayers(files: readonly SourceFile[]): Finding[] {
  const graph = new Map(files.map((file) => [file.path, importsOf(file)]));
  const findings: Finding[] = [];
  for (const [path, imports] of graph) {
    for (const imported of imports) {
      const message = objectionTo(path, imported);
      if (message !== undefined) findings.push({ path, line: imported.line, message });
    }
  }
  return [...findings, ...findCycles(graph)];
}

function objectionTo(path: string, imported: ImportOf): string | undefined {
  if (imported.ours !== undefined) return objectionToOurs(path, imported.ours);
  if (isTestFile(path)) return undefined;
  const { specifier } = imported;
  if (specifier.startsWith('node:') && layerOf(path) === 'protocol')
    return `protocol/ runs in browsers: no ${specifier}.`;
  const misplaced = homes.find(({ packages, home }) => packages.test(specifier) && !home.test(path));
  return misplaced && `Only ${misplaced.name} may import ${specifier}.`;
}

function objectionToOurs(path: string, ours: string): string | undefined {
  const from = layerOf(path);
  const to = layerOf(ours);
  // The laws of actors are laws of their folding: tests beside the domains run the machine.
  if (isTestFile(path) && from === 'actors' && to === 'cluster') return undefined;
  if (from !== to && !below[from]?.includes(to)) return `${from}/ must not import ${to}/ (${ours}).`;
  if (isTestFile(path)) return undefined;
  if (isTestFile(ours)) return `Only tests may import a test file (${ours}).`;
  const domain = domainOf(ours);
  if (domain === undefined) return undefined;
  if (from === 'actors' && domain !== domainOf(path))
    return `A domain is imported by itself only (${ours}); send a command instead.`;
  if (from === 'cluster') return `cluster/ knows no domain (${ours}); it gets kinds from bin/.`;
  return undefined;
}

function layerOf(path: string): string {
  return path.slice(0, path.indexOf('/'));
}

/** `exchange` for `actors/exchange/book.ts`; nothing for files directly in actors/, which all domains share. */
function domainOf(path: string): string | undefined {
  return /^actors\/([^/]+)\//.exec(path)?.[1];
}

/** One finding for each circle of files that import each other, by Tarjan's strongly connected components. */
function findCycles(graph: ReadonlyMap<string, readonly ImportOf[]>): Finding[] {
  const order = new Map<string, number>();
  const lowest = new Map<string, number>();
  const stack: string[] = [];
  const findings: Finding[] = [];

  const visit = (path: string) => {
    order.set(path, order.size);
    lowest.set(path, order.size - 1);
    stack.push(path);
    for (const { ours } of graph.get(path) ?? []) {
      if (ours === undefined || !graph.has(ours)) continue;
      if (!order.has(ours)) visit(ours);
      if (stack.includes(ours)) lowest.set(path, Math.min(lowest.get(path) as number, lowest.get(ours) as number));
    }
    if (lowest.get(path) !== order.get(path)) return;
    const members = stack.splice(stack.indexOf(path));
    const importsItself = graph.get(path)?.some(({ ours }) => ours === path);
    if (members.length > 1 || importsItself) findings.push(cycleFinding(members, graph));
  };

  for (const path of graph.keys()) if (!order.has(path)) visit(path);
  return findings;
}

function cycleFinding(members: readonly string[], graph: ReadonlyMap<string, readonly ImportOf[]>): Finding {
  const [path = ''] = [...members].sort();
  const line = graph.get(path)?.find(({ ours }) => ours !== undefined && members.includes(ours))?.line ?? 1;
  return { path, line, message: `These files import each other in a circle: ${[...members].sort().join(', ')}.` };
}
