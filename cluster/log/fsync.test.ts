/**
 * Durability `disk` at the system call: between the arrival of a frame and its ack lies an fsync of the file it went into.
 * Power loss itself is not tested. Needs strace and the right to trace; elsewhere it is skipped and says so.
 */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { JetStreamLog } from './jetstream-log.ts';
import { connectToNats } from './nats-connection.ts';
import { type Durability, startNatsServer } from './nats-server.ts';

const FRAMES = 100;
const FRAME_BYTES = 2_000;
const skip = spawnSync('strace', ['-qq', '-e', 'trace=none', 'true']).status === 0 ? false : 'strace cannot trace here';

type Trace = { readonly acksMs: readonly number[]; readonly syncsMs: readonly number[] };

/** Appends frames one after the other under strace: when each ack came, and when each fsync had ended. */
async function traced(durability: Durability): Promise<Trace> {
  const folder = mkdtempSync(join(tmpdir(), 'troupe-fsync-'));
  const server = await startNatsServer({ dataDir: join(folder, 'nats'), durability, maxFileStoreBytes: 1 << 28 });
  const link = await connectToNats({
    servers: server.url,
    name: 'fsync',
    user: server.user,
    password: server.password,
  });
  try {
    const log = await (await JetStreamLog.over(link)).open('main-0', 1, { maxBytes: 1 << 26, replicas: 1 });
    const output = join(folder, 'strace.txt');
    const tracer = await attach(server.pid, output);
    const acksMs: number[] = [];
    for (let i = 0; i < FRAMES; i++) {
      await log.append('cmd.e1', Buffer.alloc(FRAME_BYTES, i));
      acksMs.push(performance.timeOrigin + performance.now());
    }
    await detach(tracer);
    return { acksMs, syncsMs: syncsOf(readFileSync(output, 'utf8')) };
  } finally {
    await link.close();
    await server.stop();
    rmSync(folder, { recursive: true, force: true });
  }
}

function attach(pid: number, output: string): Promise<ChildProcess> {
  const tracer = spawn('strace', ['-f', '-ttt', '-T', '-e', 'trace=fsync,fdatasync', '-o', output, '-p', String(pid)], {
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  return new Promise((resolve, reject) => {
    tracer.once('exit', () => reject(new Error('strace ended')));
    tracer.stderr.on('data', (text) => {
      if (String(text).includes('attached')) resolve(tracer);
    });
  });
}

async function detach(tracer: ChildProcess): Promise<void> {
  tracer.removeAllListeners('exit');
  const ended = new Promise((resolve) => tracer.once('exit', resolve));
  tracer.kill('SIGINT');
  await ended;
}

/** Lines like `1234 1700000000.123456 fsync(9) = 0 <0.000280>`; a call that another thread's interrupts comes in two lines. */
function syncsOf(text: string): number[] {
  const ends: number[] = [];
  const begun = new Map<string, number>();
  for (const line of text.split('\n')) {
    const [, thread = '', seconds = ''] = /^(\d+) +([\d.]+) /.exec(line) ?? [];
    if (/(fsync|fdatasync)\(.*unfinished/.test(line)) begun.set(thread, Number(seconds));
    const took = /= 0 <([\d.]+)>$/.exec(line)?.[1];
    if (took === undefined) continue;
    const start = line.includes('resumed') ? begun.get(thread) : Number(seconds);
    if (start !== undefined) ends.push((start + Number(took)) * 1_000);
  }
  return ends.sort((a, b) => a - b);
}

test('durability disk: at least one fsync has ended before each ack', { skip }, async (t) => {
  const { acksMs, syncsMs } = await traced('disk');
  t.diagnostic(`${syncsMs.length} fsyncs for ${acksMs.length} acknowledged frames`);
  acksMs.forEach((ackMs, i) => {
    const before = syncsMs.filter((syncMs) => syncMs <= ackMs).length;
    assert.ok(before > i, `${before} fsyncs before ack ${i + 1}`);
  });
});

test('durability os: frames are acknowledged without waiting for an fsync', { skip }, async (t) => {
  const { acksMs, syncsMs } = await traced('os');
  t.diagnostic(`${syncsMs.length} fsyncs for ${acksMs.length} acknowledged frames`);
  assert.ok(syncsMs.length < acksMs.length);
});
