/**
 * The real day while processes are killed: 20 times the host, half of the times nats-server with it, each time right after a
 * batch of commands has gone out on the websocket, so with frames unacknowledged. The result must be the day's, exactly.
 */
import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { gunzipSync } from 'node:zlib';
import WebSocket from 'ws';
import { parseSseCommand, parseSseSnapshot, parseSseTrade, SseVerifier } from '../../actors/exchange/sse-day.ts';
import { connect } from '../../protocol/client/client.ts';
import { seededRandom } from '../../protocol/fuzz.ts';
import { type RunningCluster, type Stage, startCluster } from '../embedded.ts';
import type { HostReport } from '../roles/host-role.ts';
import { DayAudit } from './day-audit.ts';
import { replayDay } from './day-replay.ts';
import { turnClock } from './turn-clock.ts';

const SEED = Number(process.env.TROUPE_SEED ?? 20_230_207);
const KILLS = 20;
const BATCH_BYTES = 1_000; // Smaller messages are not batches of orders.
const BATCHES = 970; // What the day needs at least; the last are left alone, so that every kill has work behind it.
const BOOK = 'book:XSHG/600519';

const data = process.env.TROUPE_TEST_DATA ?? '../shared/data';
const prefix = join(data, 'exchange', 'sse_600519_20230207_');
const skip = existsSync(`${prefix}commands.csv.gz`) ? false : 'TROUPE_TEST_DATA: the exchange data is not there';

const lines = <T>(name: string, parse: (line: string) => T): T[] => {
  const text = gunzipSync(readFileSync(`${prefix}${name}.csv.gz`)).toString('latin1');
  return text.trim().split('\n').slice(1).map(parse);
};

const folder = mkdtempSync(join(tmpdir(), 'troupe-kills-'));
let cluster: RunningCluster | undefined;
after(async () => {
  await cluster?.stop();
  rmSync(folder, { recursive: true, force: true });
});

/** Kills right behind chosen batches. */
class Killer {
  readonly #moments: Set<number>;
  readonly #random: () => number;
  #batches = 0;
  kills = 0;
  serverKills = 0;

  constructor(random: () => number) {
    this.#random = random;
    this.#moments = new Set();
    while (this.#moments.size < KILLS) this.#moments.add(1 + Math.floor(random() * BATCHES));
  }

  sent(bytes: number): void {
    if (bytes < BATCH_BYTES || !this.#moments.has(++this.#batches)) return;
    const withServer = this.kills++ % 2 === 0;
    setTimeout(() => this.#kill(withServer), this.#random() * 2);
  }

  #kill(withServer: boolean): void {
    const pids = [cluster?.pidOf('host'), withServer ? cluster?.pidOf('nats') : undefined];
    if (withServer) this.serverKills++;
    for (const pid of pids) if (pid !== undefined) process.kill(pid, 'SIGKILL');
  }
}

async function inspect(token: string): Promise<{ hash: string; sequence: number; epoch: number }> {
  const answer = await fetch(`${cluster?.url}/v1/ops/inspect/${BOOK.replace(':', '/').replace('XSHG/', 'XSHG%2F')}`, {
    headers: { authorization: `Bearer ${token}` },
  });
  return (await answer.json()) as { hash: string; sequence: number; epoch: number };
}

test(`the day is exact under ${KILLS} kills (seed ${SEED})`, { skip, timeout: 300_000 }, async (t) => {
  const stages: Stage[] = [];
  const sizes = { mainPartitions: 1, exchangePartitions: 1 };
  cluster = await startCluster(
    { data: folder, port: 0, demo: false, ...sizes },
    { onStage: (stage) => stages.push(stage) },
  );
  const token = await cluster.token(['trader', 'operator', 'viewer']);
  const killer = new Killer(seededRandom(SEED));
  class KillingSocket extends WebSocket {
    constructor(url: string, protocol: string) {
      super(url, protocol);
    }

    override send(data: Uint8Array): void {
      super.send(data);
      killer.sent(data.length);
    }
  }
  const url = cluster.url.replace('http', 'ws');
  const client = connect({ url, token, WebSocket: KillingSocket, platform: turnClock(), requestTimeoutMs: 60_000 });
  const audit = new DayAudit(
    new SseVerifier(lines('expected_trades', parseSseTrade), lines('snapshots', parseSseSnapshot)),
  );
  try {
    const commands = lines('commands', parseSseCommand);
    await replayDay({ client, symbol: 'XSHG/600519', commands, speed: undefined, audit, onProgress: () => undefined });
  } finally {
    client.close();
  }
  const verdict = audit.finish();
  assert.equal(killer.kills, KILLS);
  t.diagnostic(`${killer.kills} kills of the host, ${killer.serverKills} with nats-server; ${JSON.stringify(verdict)}`);
  assert.deepEqual(
    verdict.differences.filter((line) => !/14:57:00|15:00:00/.test(line)),
    [],
  );
  assert.ok(verdict.exact);
  assert.equal(verdict.tradesEqual, 18_685);

  const live = await inspect(token);
  const restarts = stages.filter(({ stage }) => stage === 'restarted').length;
  process.kill(cluster.pidOf('host') as number, 'SIGKILL');
  const deadline = performance.now() + 30_000;
  while (stages.filter(({ stage }) => stage === 'restarted').length === restarts && performance.now() < deadline) {
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  const recovered = await inspect(token);
  // What a recovery read is the tail of the log: from behind the checkpoint to the claim that the new owner wrote.
  const reports = stages.flatMap((stage) =>
    stage.stage === 'restarted' && stage.process === 'host' ? [stage.report as HostReport] : [],
  );
  const tails = reports
    .flatMap(({ recoveries }) => recoveries)
    .filter(({ partition }) => partition.startsWith('exchange-'));
  t.diagnostic(`recoveries read ${tails.map(({ from, to, commands }) => `${from}..${to} (${commands})`).join(', ')}`);
  assert.ok(tails.length > KILLS / 2);
  for (const { from, to, commands } of tails) assert.ok(from <= to && commands <= (to - from + 1) * 64);
  assert.ok(recovered.epoch > live.epoch, 'a new owner answers');
  assert.equal(recovered.hash, live.hash);
});
