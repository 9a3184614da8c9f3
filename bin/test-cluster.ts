/** What tests of whole clusters share: a client that minds its own business and counts, and looks from outside. */
import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import WebSocket from 'ws';
import { counter } from '../actors/sample/counter.ts';
import { until } from '../cluster/edge/test-edge.ts';
import { connectToNats, type NatsLink } from '../cluster/log/nats-connection.ts';
import { partitionOf } from '../cluster/placement/partition-of.ts';
import { type Client, connect } from '../protocol/client/client.ts';
import type { RunningCluster, Stage } from './embedded.ts';
import type { HostReport } from './roles/host-role.ts';
import { readRunState } from './run-file.ts';

const PACE_MS = 2; // Between a reply and the next command: load that leaves the machine to the test.
const DEADLINE_MS = 30_000;

/** A key of a counter (or another kind of the group main placed by its key) in a partition of the group main. */
export function keyIn(partition: string, mainPartitions: number, prefix = 'k'): string {
  const kind = { group: 'main', placement: (key: string) => key };
  for (let i = 0; ; i++) {
    if (partitionOf(kind, `${prefix}${i}`, { main: mainPartitions }) === partition) return `${prefix}${i}`;
  }
}

export function clientOf(url: string, token: string, requestTimeoutMs = 60_000): Client {
  return connect({ url: url.replace('http', 'ws'), token, WebSocket, requestTimeoutMs });
}

/**
 * Adds 1 to counters without end, each command after the reply to the one before it. A reply that is not one above the last
 * one, or any error, is a complaint: so a command lost or done twice is noticed at once.
 */
export class SteadyClient {
  readonly complaints: string[] = [];
  readonly acknowledged = new Map<string, number>();
  readonly #client: Client;
  readonly #ended: Promise<unknown>;
  #stopped = false;

  constructor(client: Client, keys: readonly string[]) {
    this.#client = client;
    this.#ended = Promise.all(keys.map((key) => this.#run(key)));
  }

  close(): void {
    this.#stopped = true;
    this.#client.close();
  }

  get total(): number {
    return [...this.acknowledged.values()].reduce((sum, count) => sum + count, 0);
  }

  /** Waits until so many more commands were answered, and no complaint was made. */
  async goesOn(commands = 20, timeoutMs = DEADLINE_MS): Promise<void> {
    if (this.#stopped) return;
    const from = new Map(this.acknowledged);
    const isDone = () => [...this.acknowledged].every(([key, count]) => count >= (from.get(key) ?? 0) + commands);
    await until('the steady client goes on', () => this.complaints.length > 0 || isDone(), timeoutMs);
    assert.deepEqual(this.complaints, []);
  }

  /** Ends it; the counters hold exactly what was acknowledged. */
  async finish(): Promise<void> {
    this.#stopped = true;
    await this.#ended;
    assert.deepEqual(this.complaints, []);
    for (const [key, count] of this.acknowledged) {
      assert.equal((await this.#client.actor(counter, key).query('value', {})).value, count, key);
    }
    this.#client.close();
  }

  async #run(key: string): Promise<void> {
    const actor = this.#client.actor(counter, key);
    this.acknowledged.set(key, 0);
    while (!this.#stopped) {
      try {
        const { value } = await actor.command('add', { amount: 1, note: '' });
        const expected = (this.acknowledged.get(key) as number) + 1;
        if (value !== expected) this.complaints.push(`${key}: ${value} in place of ${expected}`);
        this.acknowledged.set(key, value);
      } catch (error) {
        this.complaints.push(`${key}: ${error}`);
        return;
      }
      await sleep(PACE_MS);
    }
  }
}

/** What `/readyz` says: its status, and the text. */
export async function readiness(operationsUrl: string): Promise<{ status: number; text: string }> {
  const response = await fetch(`${operationsUrl}/readyz`);
  return { status: response.status, text: await response.text() };
}

/** A figure of a process, by its operations port; 0 while it is not there. */
export async function metricOf(operationsUrl: string, name: string): Promise<number> {
  const text = await (await fetch(`${operationsUrl}/metrics`)).text();
  const line = text.split('\n').find((each) => each.startsWith(`${name} `));
  return Number(line?.slice(name.length + 1) ?? 0);
}

/** Where the newest host process tells of itself. */
export function hostOperationsOf(stages: readonly Stage[]): string {
  const reports = stages.flatMap((stage): HostReport[] => {
    if (stage.stage === 'host') return [stage];
    return stage.stage === 'restarted' && stage.process === 'host' ? [stage.report as HostReport] : [];
  });
  return `http://127.0.0.1:${reports.at(-1)?.operationsPort}`;
}

/** A connection to the cluster's own nats-server, as only its owner can make it. */
export async function natsOf({ folder }: RunningCluster, password: string): Promise<NatsLink> {
  const { nats } = readRunState(folder) ?? {};
  return connectToNats({ servers: nats?.url ?? '', user: nats?.user ?? '', password, name: 'test' });
}

/** Kills a part of the cluster as kill -9 does, and waits until it is back. */
export async function killAndWait(cluster: RunningCluster, name: 'host' | 'edge' | 'nats'): Promise<void> {
  const pid = cluster.pidOf(name) as number;
  process.kill(pid, 'SIGKILL');
  await until(`${name} is back`, () => ![undefined, pid].includes(cluster.pidOf(name)), DEADLINE_MS);
}

/** The partitions as `troupe status` gets them. */
export async function statusOf(
  url: string,
  token: string,
): Promise<readonly { partition: string; state: string; reason?: string; generation: number; sequence: number }[]> {
  const response = await fetch(`${url}/v1/ops/status`, { headers: { authorization: `Bearer ${token}` } });
  return ((await response.json()) as { partitions: [] }).partitions;
}
