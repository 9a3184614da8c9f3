/** What `troupe status`, `actors` and `inspect` ask: the edge's own view of the partitions, and built-in queries to owners. */
import { ProtocolError } from '../../protocol/errors.ts';
import { pack, unpack } from '../../protocol/msgpack.ts';
import type { Catalogue } from './catalogue.ts';
import { type CoarseClock, TICK_MS } from './coarse-clock.ts';
import type { Partition } from './partition.ts';
import type { Queries } from './queries.ts';
import type { Claims } from './tokens.ts';
import type { Exchange } from './transport.ts';

const ROLE = 'operator';
const MAX_ACTORS = 1_000; // In one page.
const DEFAULT_ACTORS = 100;
const JSON_HEADERS = { 'content-type': 'application/json', 'cache-control': 'no-store' };

export class OperatorApi {
  readonly #catalogue: Catalogue<Partition>;
  readonly #partitions: ReadonlyMap<string, Partition>;
  readonly #queries: Queries;
  readonly #clock: CoarseClock;

  constructor(
    catalogue: Catalogue<Partition>,
    partitions: ReadonlyMap<string, Partition>,
    queries: Queries,
    clock: CoarseClock,
  ) {
    this.#catalogue = catalogue;
    this.#partitions = partitions;
    this.#queries = queries;
    this.#clock = clock;
  }

  /** Errors: `forbidden`, `not_found`, `bad_request`, and those of queries. */
  async answer(exchange: Exchange, claims: Claims): Promise<void> {
    if (!claims.roles.includes(ROLE)) throw new ProtocolError('forbidden');
    const [, , , what = '', kind = '', key = '', ...more] = exchange.path.split('/');
    if (what === 'status' && kind === '') return json(exchange, this.#status());
    if (what === 'actors' && kind === '')
      return json(exchange, await this.#actors(new URLSearchParams(exchange.query)));
    if (what === 'inspect' && key !== '' && more.length === 0) return json(exchange, await this.#inspect(kind, key));
    throw new ProtocolError('not_found');
  }

  #status(): unknown {
    const partitions = [...this.#partitions.values()].map((partition) => ({
      partition: partition.name,
      state: partition.heardTick === 0 ? 'unknown' : partition.state,
      reason: partition.reason,
      generation: partition.generation,
      epoch: partition.epoch,
      sequence: partition.sequence,
      lagMs: partition.lagMs,
      fillPermille: partition.fillPermille,
      outboxBytes: partition.outboxBytes,
      pendingRecords: partition.pending.records,
      pendingBytes: partition.pending.bytes,
      resent: partition.resent,
      logOpen: partition.publisher !== undefined,
      ownerHeardMsAgo: partition.heardTick === 0 ? undefined : (this.#clock.tick - partition.heardTick) * TICK_MS,
    }));
    return { partitions };
  }

  /** Partition by partition; the cursor is the partition and the last reference in it. */
  async #actors(parameters: URLSearchParams): Promise<unknown> {
    const limit = limitOf(parameters.get('limit'));
    const kind = parameters.get('kind') ?? '';
    const [from, after] = cursorOf(parameters.get('cursor'));
    const group = kind === '' ? undefined : this.#catalogue.kinds.get(kind)?.definition.group;
    if (kind !== '' && group === undefined) throw new ProtocolError('unknown_kind');
    const names = [...this.#partitions.keys()].filter((name) => group === undefined || name.startsWith(`${group}-`));
    const actors: string[] = [];
    for (let i = Math.max(0, names.indexOf(from)); i < names.length; i++) {
      const name = names[i] as string;
      const [refs, more] = await this.#actorsOf(name, kind, limit - actors.length, name === from ? after : '');
      actors.push(...refs);
      if (more) return { actors, cursor: cursorText(name, refs.at(-1) ?? '') };
      if (actors.length >= limit && i + 1 < names.length)
        return { actors, cursor: cursorText(names[i + 1] as string, '') };
    }
    return { actors };
  }

  async #actorsOf(name: string, kind: string, limit: number, after: string): Promise<[refs: string[], more: boolean]> {
    const partition = this.#partitions.get(name) as Partition;
    const answer = unpack(await this.#queries.builtIn(partition, '', '~actors', pack([kind, limit, after])));
    return answer as [string[], boolean];
  }

  async #inspect(kind: string, keyPart: string): Promise<unknown> {
    const target = this.#catalogue.target(`${kind}:${decodeURIComponent(keyPart)}`);
    return unpack(await this.#queries.builtIn(target.partition, target.ref, '~inspect', pack([])));
  }
}

function json(exchange: Exchange, value: unknown): void {
  exchange.answer(200, JSON_HEADERS, JSON.stringify(value));
}

/** Errors: `bad_request`. */
function limitOf(text: string | null): number {
  const limit = text === null ? DEFAULT_ACTORS : Number(text);
  if (!Number.isInteger(limit) || limit < 1 || limit > MAX_ACTORS)
    throw new ProtocolError('bad_request', `limit: 1 to ${MAX_ACTORS}`);
  return limit;
}

const cursorText = (partition: string, after: string): string =>
  Buffer.from(`${partition} ${after}`).toString('base64url');

function cursorOf(text: string | null): [partition: string, after: string] {
  const plain = Buffer.from(text ?? '', 'base64url').toString();
  const space = plain.indexOf(' ');
  return space < 0 ? ['', ''] : [plain.slice(0, space), plain.slice(space + 1)];
}
