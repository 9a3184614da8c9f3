/**
 * Goes on after a log was lost: an operator accepts that what the lost messages said is gone. The partition keeps the state of
 * its checkpoint and begins a new generation of its log, so that no offset, item number or identifier is given out twice.
 */
import { ProtocolError } from '../../protocol/errors.ts';
import type { CheckpointStore, Checkpoints } from '../checkpoint/checkpoint.ts';
import { type ClusterRecord, generationOf, raiseGeneration, readClusterRecord } from '../log/cluster-record.ts';
import type { KeyValue } from '../log/key-value.ts';
import type { PartitionLog } from '../log/log.ts';
import { decodeHead, emptyHead, encodeHead, type Head, META_KEY } from './head.ts';
import type { Host } from './host.ts';

export type AcceptLossParts = {
  readonly host: Host;
  readonly partition: string;
  readonly checkpoints: Checkpoints;
  readonly cluster: KeyValue;
  readonly openLog: (partition: string) => Promise<PartitionLog>;
  /** The cluster record with the raised generation: what `openLog` is to go by from now on. */
  readonly onRecord: (record: ClusterRecord) => void;
};

export type AcceptedLoss = {
  readonly partition: string;
  readonly generation: number;
  /** The state goes on from here; messages of the old generation after it are not in it. */
  readonly stateSequence: number;
  readonly state: string;
};

/**
 * Errors: `not_found` (no such partition here), `bad_request` (the partition is not halted), and those of log, store and record.
 */
export async function acceptLoss(parts: AcceptLossParts): Promise<AcceptedLoss> {
  const { host, partition: name, cluster, onRecord } = parts;
  const partition = host.partition(name);
  if (!partition) throw new ProtocolError('not_found', `no partition "${name}"`);
  if (partition.state !== 'halted')
    throw new ProtocolError('bad_request', `${name} is ${partition.state}, not halted: there is nothing to accept`);
  await partition.stop(false);
  const present = await readClusterRecord(cluster);
  if (!present) throw new ProtocolError('log_misconfigured', 'there is no cluster record');
  const { record, stateSequence } = await beginAnew(parts, generationOf(present.record, name));
  onRecord(record);
  const restarted = await host.restart(name);
  return { partition: name, generation: generationOf(record, name), stateSequence, state: restarted.state };
}

/** Above the checkpoint's generation too: what was lost may include the record of an earlier acceptance. */
async function beginAnew({ checkpoints, cluster, partition }: AcceptLossParts, generation: number) {
  const store = await checkpoints.open(partition);
  try {
    const saved = store.get('meta', META_KEY);
    const head = saved ? decodeHead(saved) : emptyHead(generation);
    const { record } = await raiseGeneration(cluster, partition, generation, head.generation);
    await rebase(store, head, generationOf(record, partition));
    return { record, stateSequence: head.sequence };
  } finally {
    await store.close();
  }
}

/**
 * Puts the checkpoint at the beginning of the new generation's log. Edges and items are counted anew in it: the incarnations of
 * edges may have been lost too, and numbers of items that were lost must not be given to others. All else stays as it is.
 */
function rebase(store: CheckpointStore, head: Head, generation: number): Promise<void> {
  const place = { generation, sequence: 0, timeUs: 0, crc: 0, points: [], skips: new Set<string>() };
  const next = { ...head, ...place, edges: new Map(), items: new Map() };
  return store.commit([{ space: 'meta', key: META_KEY, value: encodeHead(next) }]);
}
