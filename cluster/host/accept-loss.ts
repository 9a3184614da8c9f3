/**
 * Goes on after a log was lost: an operator accepts that what the lost messages said is gone. The partition keeps the state of
 * its checkpoint and begins a new generation of its log, so that no offset, item number or identifier is given out twice.
 */
import { ProtocolError } from '../../protocol/errors.ts';
import type { Checkpoints } from '../checkpoint/checkpoint.ts';
import { type ClusterRecord, generationOf, raiseGeneration, readClusterRecord } from '../log/cluster-record.ts';
import type { KeyValue } from '../log/key-value.ts';
import type { PartitionLog } from '../log/log.ts';
import { decodeHead, emptyHead, encodeHead, META_KEY } from './head.ts';
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
  const { host, partition: name, checkpoints, cluster, onRecord } = parts;
  const partition = host.partition(name);
  if (!partition) throw new ProtocolError('not_found', `no partition "${name}"`);
  if (partition.state !== 'halted')
    throw new ProtocolError('bad_request', `${name} is ${partition.state}, not halted: there is nothing to accept`);
  await partition.stop(false);
  const present = await readClusterRecord(cluster);
  if (!present) throw new ProtocolError('log_misconfigured', 'there is no cluster record');
  const { record } = await raiseGeneration(cluster, name, generationOf(present.record, name));
  const generation = generationOf(record, name);
  const stateSequence = await rebase(checkpoints, name, generation);
  onRecord(record);
  const restarted = await host.restart(name);
  return { partition: name, generation, stateSequence, state: restarted.state };
}

/** Puts the checkpoint at the beginning of the new generation's log. Everything else of the state stays as it is. */
async function rebase(checkpoints: Checkpoints, name: string, generation: number): Promise<number> {
  const store = await checkpoints.open(name);
  try {
    const saved = store.get('meta', META_KEY);
    const head = saved ? decodeHead(saved) : emptyHead(generation);
    const next = { ...head, generation, sequence: 0, timeUs: 0, crc: 0, points: [], skips: new Set<string>() };
    await store.commit([{ space: 'meta', key: META_KEY, value: encodeHead(next) }]);
    return head.sequence;
  } finally {
    await store.close();
  }
}
