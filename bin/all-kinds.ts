/**
 * Finds the kinds of actors: whatever the folders of actors/ export, read at start from the built files. Nobody lists domains
 * by hand; a new folder is found by being there.
 */
import { readdirSync } from 'node:fs';
import type { ActorDefinition } from '../actors/definition.ts';

const ACTORS = new URL('../actors/', import.meta.url);

/**
 * All kinds, by name. A kind is an exported value with `kind` and `handle`, in a file named after it; `more` are addresses of
 * modules whose kinds are taken beside those, whatever their files are named: for tests.
 * Errors: Error for a kind in a file of another name, or two kinds of one name.
 */
export async function loadKinds(more: readonly string[] = []): Promise<ActorDefinition[]> {
  const found = new Map<string, ActorDefinition>();
  for (const path of moduleFiles()) {
    const exported = (await import(new URL(path, ACTORS).href)) as Record<string, unknown>;
    for (const definition of Object.values(exported).filter(isDefinition)) {
      const { kind } = definition;
      if (!path.endsWith(`/${kind}.js`))
        throw new Error(`actors/${path} exports the kind "${kind}": name the file ${kind}.ts`);
      if (found.has(kind)) throw new Error(`two kinds are named "${kind}", one of them in actors/${path}`);
      found.set(kind, definition);
    }
  }
  for (const address of more) {
    const exported = (await import(address)) as Record<string, unknown>;
    for (const definition of Object.values(exported).filter(isDefinition)) found.set(definition.kind, definition);
  }
  return [...found.values()].sort((a, b) => (a.kind < b.kind ? -1 : 1));
}

/** The built modules of all domains, without tests and what only tests import. */
function moduleFiles(): string[] {
  const folders = readdirSync(ACTORS, { withFileTypes: true }).filter((entry) => entry.isDirectory());
  return folders.flatMap(({ name }) =>
    readdirSync(new URL(`${name}/`, ACTORS))
      .filter((file) => file.endsWith('.js') && !/\.(test|laws)\.js$|^test-/.test(file))
      .map((file) => `${name}/${file}`),
  );
}

function isDefinition(value: unknown): value is ActorDefinition {
  return typeof value === 'object' && value !== null && 'kind' in value && 'handle' in value;
}
