/** What a host counts, in Prometheus' terms. */
import { Counter, Gauge, Histogram, type Registry } from 'prom-client';
import type { CheckpointResult } from './fold-checkpoint.ts';

export class HostMetrics {
  readonly commands: Counter;
  readonly messages: Counter;
  readonly skips: Counter;
  readonly malformedFrames: Counter;
  readonly queries: Counter;
  readonly checkpointFailures: Counter;
  readonly checkpointSeconds: Histogram;
  readonly checkpointHeldSeconds: Histogram;
  readonly partitions: Gauge;

  constructor(registry: Registry) {
    const registers = [registry];
    this.commands = new Counter({
      name: 'troupe_host_commands_total',
      help: 'Commands folded, also refused ones',
      registers,
    });
    this.messages = new Counter({ name: 'troupe_host_messages_total', help: 'Log messages folded', registers });
    this.skips = new Counter({ name: 'troupe_host_skips_total', help: 'Records whose handler failed', registers });
    this.malformedFrames = new Counter({
      name: 'troupe_host_malformed_frames_total',
      help: 'Damaged frames that were skipped',
      registers,
    });
    this.queries = new Counter({
      name: 'troupe_host_queries_total',
      help: 'Queries answered',
      labelNames: ['result'],
      registers,
    });
    this.checkpointFailures = new Counter({
      name: 'troupe_host_checkpoint_failures_total',
      help: 'Checkpoints that failed',
      registers,
    });
    this.checkpointSeconds = new Histogram({
      name: 'troupe_host_checkpoint_seconds',
      help: 'Duration of a checkpoint',
      registers,
    });
    this.checkpointHeldSeconds = new Histogram({
      name: 'troupe_host_checkpoint_held_seconds',
      help: 'Longest time a checkpoint held the event loop',
      buckets: [0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1],
      registers,
    });
    this.partitions = new Gauge({
      name: 'troupe_host_partitions',
      help: 'Partitions by state',
      labelNames: ['state'],
      registers,
    });
  }

  folded(commands: number): void {
    this.messages.inc();
    if (commands > 0) this.commands.inc(commands);
  }

  checkpointed({ tookMs, heldMs }: CheckpointResult): void {
    this.checkpointSeconds.observe(tookMs / 1_000);
    this.checkpointHeldSeconds.observe(heldMs / 1_000);
  }
}
