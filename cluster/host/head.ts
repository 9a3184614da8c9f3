/**
 * The head of a fold: where it stands in the log, and the small numbers that make it exact. It is the `meta` entry of every
 * checkpoint (format).
 */
import { decodeState, encodeState } from '../../protocol/canonical.ts';
import { ProtocolError } from '../../protocol/errors.ts';

export type Watermark = { incarnation: number; generation: number; frame: number };

export type CheckPoint = { readonly sequence: number; readonly hash: number };

export type Head = {
  /** Number of the log's life: raised when an operator accepts a loss or restores. */
  generation: number;
  /** Newest claim seen in the log. */
  epoch: number;
  /** Newest stream sequence folded. */
  sequence: number;
  /** Time and checksum of that message: what the log must still hold there. */
  timeUs: number;
  crc: number;
  /** `ctx.now`: message time in milliseconds, which never steps back. */
  nowMs: number;
  /** Commands handled, including refused and skipped ones. */
  handled: number;
  /** Newest frame of each edge. */
  readonly edges: Map<string, Watermark>;
  /** Newest item from each partition; `frame` is the item's number, `generation` that of our log in which it came. */
  readonly sources: Map<string, Watermark>;
  /** Last item number given, per destination. */
  readonly items: Map<string, number>;
  /** Rolling hash over all outputs. */
  hash: number;
  /** Hashes at some past sequences, for comparison with check records. */
  points: CheckPoint[];
  /** Records that every fold leaves out, as `sequence.index`, while the checkpoint before them may still be in use. */
  readonly skips: Set<string>;
};

const FORMAT = 1;
const META_KEY = Buffer.from('head');

export { META_KEY };

export function emptyHead(generation: number): Head {
  return {
    generation,
    epoch: 0,
    sequence: 0,
    timeUs: 0,
    crc: 0,
    nowMs: 0,
    handled: 0,
    edges: new Map(),
    sources: new Map(),
    items: new Map(),
    hash: 0,
    points: [],
    skips: new Set(),
  };
}

/** Positions of format 1. The bundle's place is kept for upgrades: empty until there are bundles. */
export function encodeHead(head: Head, bundle = ''): Uint8Array {
  const marks = (map: Map<string, Watermark>) =>
    new Map(
      [...map]
        .sort(byName)
        .map(([name, { incarnation, generation, frame }]) => [name, [incarnation, generation, frame]]),
    );
  return encodeState([
    FORMAT,
    bundle,
    head.generation,
    head.epoch,
    head.sequence,
    head.timeUs,
    head.crc,
    head.nowMs,
    head.handled,
    marks(head.edges),
    marks(head.sources),
    new Map([...head.items].sort(byName)),
    head.hash,
    head.points.map(({ sequence, hash }) => [sequence, hash]),
    [...head.skips].sort(),
  ]);
}

const byName = (a: readonly [string, unknown], b: readonly [string, unknown]): number => (a[0] < b[0] ? -1 : 1);

/** Errors: `unsupported_version` for a checkpoint of a newer release. */
export function decodeHead(bytes: Uint8Array): Head {
  const fields = decodeState(bytes) as unknown[];
  if (fields[0] !== FORMAT)
    throw new ProtocolError('unsupported_version', `checkpoint format ${fields[0]} is not known`);
  const [, , generation, epoch, sequence, timeUs, crc, nowMs, handled, edges, sources, items, hash, points, skips] =
    fields as [
      number,
      string,
      number,
      number,
      number,
      number,
      number,
      number,
      number,
      Map<string, [number, number, number]>,
      Map<string, [number, number, number]>,
      Map<string, number>,
      number,
      [number, number][],
      string[],
    ];
  const marks = (map: Map<string, [number, number, number]>) =>
    new Map([...map].map(([name, [incarnation, generation, frame]]) => [name, { incarnation, generation, frame }]));
  return {
    generation,
    epoch,
    sequence,
    timeUs,
    crc,
    nowMs,
    handled,
    edges: marks(edges),
    sources: marks(sources),
    items,
    hash,
    points: points.map(([sequence, hash]) => ({ sequence, hash })),
    skips: new Set(skips),
  };
}
