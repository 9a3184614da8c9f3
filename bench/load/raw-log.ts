/** What JetStream alone gives for frames like those of the way: nothing is read, nothing folded. */
import { build } from 'hdr-histogram-js';
import { JetStreamLog } from '../../cluster/log/jetstream-log.ts';
import type { PartitionLog } from '../../cluster/log/log.ts';
import { connectToNats } from '../../cluster/log/nats-connection.ts';
import type { ClusterSettings } from './cluster.ts';
import { type Latency, latencyOf } from './command-load.ts';
import { nowMs } from './pace.ts';

const WINDOW_FRAMES = 4; // Unacknowledged per partition, as a frame publisher has them.
const RAW_LOG_BYTES = 8 * 1024 ** 3; // Of all streams together: nothing is trimmed here.

export type RawLog = {
  /** With WINDOW_FRAMES outstanding on each stream. */
  framesPerSecond(frameBytes: number, runMs: number): Promise<number>;
  /** One frame at a time. */
  ackLatencyUs(frameBytes: number, runMs: number): Promise<Latency>;
  close(): Promise<void>;
};

/** Streams `raw-0` and on, on a server of the caller. */
export async function openRawLog(nats: ClusterSettings['nats'], partitions: number): Promise<RawLog> {
  const link = await connectToNats({ ...nats, name: 'bench-raw' });
  const log = await JetStreamLog.over(link);
  const names = Array.from({ length: partitions }, (_, i) => `raw-${i}`);
  const logs = await Promise.all(
    names.map((name) => log.open(name, 1, { maxBytes: Math.floor(RAW_LOG_BYTES / partitions), replicas: 1 })),
  );
  return {
    framesPerSecond: (frameBytes, runMs) => framesPerSecond(logs, frameBytes, runMs),
    ackLatencyUs: (frameBytes, runMs) => ackLatencyUs(logs[0] as PartitionLog, frameBytes, runMs),
    close: async () => {
      await Promise.all(names.map((name) => log.remove(name, 1)));
      await log.close();
      await link.close();
    },
  };
}

async function framesPerSecond(logs: readonly PartitionLog[], frameBytes: number, runMs: number): Promise<number> {
  const frame = new Uint8Array(frameBytes);
  const startMs = nowMs();
  let frames = 0;
  const publish = async (log: PartitionLog) => {
    while (nowMs() - startMs < runMs) {
      await log.append('cmd.raw', frame);
      frames++;
    }
  };
  await Promise.all(logs.flatMap((log) => Array.from({ length: WINDOW_FRAMES }, () => publish(log))));
  return frames / ((nowMs() - startMs) / 1_000);
}

async function ackLatencyUs(log: PartitionLog, frameBytes: number, runMs: number): Promise<Latency> {
  const frame = new Uint8Array(frameBytes);
  const histogram = build({
    lowestDiscernibleValue: 1,
    highestTrackableValue: 60_000_000,
    numberOfSignificantValueDigits: 3,
  });
  const endMs = nowMs() + runMs;
  for (let startMs = nowMs(); startMs < endMs; startMs = nowMs()) {
    await log.append('cmd.raw', frame);
    histogram.recordValue(Math.max(1, Math.round((nowMs() - startMs) * 1_000)));
  }
  return latencyOf(histogram);
}
