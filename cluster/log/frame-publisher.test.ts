import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { ProtocolError } from '../../protocol/errors.ts';
import { MAX_FRAME, MAX_RECORD, readFrame } from '../../protocol/frame.ts';
import { VirtualClock } from './clock.ts';
import { FramePublisher, type FramePublisherOptions } from './frame-publisher.ts';
import { JetStreamLog } from './jetstream-log.ts';
import { until } from './log.laws.ts';
import type { PartitionLog, Stored } from './log.ts';
import { MemoryLog, MemoryServer, type MemoryStream } from './memory-log.ts';
import { connectToNats } from './nats-connection.ts';
import { startNatsServer } from './nats-server.ts';

const LATENCY_MS = 2;

/** A record of the test: its length and its number, then its number's low byte again and again. */
function write(
  publisher: FramePublisher,
  number: number,
  length = 100,
): { buffer: Uint8Array; offset: number; length: number } {
  const buffer = publisher.reserve(length);
  const { offset } = publisher;
  const view = new DataView(buffer.buffer, buffer.byteOffset);
  view.setUint32(offset, length);
  view.setUint32(offset + 4, number);
  buffer.fill(number & 255, offset + 8, offset + length);
  publisher.commit();
  return { buffer, offset, length };
}

/** What every host does with frames of one edge: applies number n only after n - 1. */
class Fold {
  readonly applied: number[] = [];
  readonly frames: { number: number; records: number; bytes: number; sequence: number }[] = [];
  watermark = 0;

  take(message: Stored): void {
    const frame = readFrame(message.data);
    assert.equal(frame.incarnation, 7);
    if (frame.frameNumber !== this.watermark + 1) return;
    this.watermark = frame.frameNumber;
    const { frameNumber: number, recordCount: records } = frame;
    this.frames.push({ number, records, bytes: message.data.length, sequence: message.sequence });
    const view = new DataView(message.data.buffer, message.data.byteOffset, message.data.length);
    let at = frame.bodyStart;
    for (; at < frame.bodyEnd; at += view.getUint32(at)) {
      const value = view.getUint32(at + 4);
      for (let i = at + 8; i < at + view.getUint32(at); i++) assert.equal(message.data[i], value & 255);
      this.applied.push(value);
    }
    assert.equal(at, frame.bodyEnd);
  }
}

const upTo = (count: number) => Array.from({ length: count }, (_, i) => i + 1);

async function bench(options: Partial<FramePublisherOptions> = {}, maxBytes = 100_000_000) {
  const clock = new VirtualClock();
  const server = new MemoryServer({ clock, nowUs: () => 1 + clock.nowMs() * 1000, ackLatencyMs: LATENCY_MS });
  const log = await new MemoryLog(server).open('main-0', 1, { maxBytes, replicas: 1 });
  const acked: number[] = [];
  const failed: string[] = [];
  const fold = new Fold();
  log.read(1, (message) => fold.take(message), assert.fail);
  const publisher = new FramePublisher({
    log,
    token: 'cmd.e1',
    incarnation: 7,
    clock,
    random: () => 0.5,
    onAck: (number) => acked.push(number),
    onFailed: (error) => failed.push(error.code),
    ...options,
  });
  return { clock, server, log, stream: server.stream('main-0', 1), publisher, fold, acked, failed };
}

/** How many records each stored message carries, duplicates included. */
async function recordCounts(log: PartitionLog): Promise<number[]> {
  const counts: number[] = [];
  for (let sequence = 1; sequence <= (await log.state()).last; sequence++) {
    const message = await log.get(sequence);
    if (message) counts.push(readFrame(message.data).recordCount);
  }
  return counts;
}

describe('group commit', () => {
  it('sends the records of one tick together and at once when nothing is outstanding', async () => {
    const { clock, publisher, log, acked, fold } = await bench();
    for (const number of upTo(3)) write(publisher, number);
    assert.equal((await log.state()).last, 0);
    await clock.advance(0);
    assert.deepEqual(await recordCounts(log), [3]);
    assert.deepEqual([publisher.outstandingRecords, publisher.outstandingBytes, acked], [3, 300, []]);
    await clock.advance(1);
    assert.equal(publisher.oldestUnackedMs, 1);
    await clock.advance(LATENCY_MS);
    assert.deepEqual([publisher.outstandingRecords, publisher.outstandingBytes, publisher.oldestUnackedMs], [0, 0, 0]);
    assert.deepEqual([acked, fold.applied], [[1], [1, 2, 3]]);
  });

  it('gathers while a frame is outstanding, and sends at its ack', async () => {
    const { clock, publisher, log } = await bench();
    write(publisher, 1);
    await clock.advance(0);
    for (const number of [2, 3, 4, 5]) {
      write(publisher, number);
      await clock.advance(LATENCY_MS / 8);
    }
    assert.deepEqual(await recordCounts(log), [1]);
    await clock.advance(LATENCY_MS);
    assert.deepEqual(await recordCounts(log), [1, 4]);
  });

  it('sends full frames at once, as many as the window allows', async () => {
    const { clock, publisher, log, fold } = await bench();
    const perFrame = Math.floor((MAX_FRAME - 48) / 1000);
    for (const number of upTo(perFrame * 6 + 5)) write(publisher, number, 1000);
    assert.deepEqual(await recordCounts(log), Array(4).fill(perFrame));
    await clock.advance(LATENCY_MS);
    assert.deepEqual(await recordCounts(log), [...Array(6).fill(perFrame), 5]);
    await clock.advance(10 * LATENCY_MS);
    assert.deepEqual(fold.applied, upTo(perFrame * 6 + 5));
    assert.ok(fold.frames.every((frame) => frame.bytes <= MAX_FRAME));
  });

  it('lets a record larger than a frame travel alone, up to its limit', async () => {
    const { clock, publisher, log, fold } = await bench();
    const lengths = [100, MAX_RECORD, 100, 40_000, MAX_FRAME - 48, 100];
    for (const [i, length] of lengths.entries()) write(publisher, i + 1, length);
    await clock.advance(100);
    assert.deepEqual([fold.applied, await recordCounts(log)], [upTo(6), [1, 1, 1, 1, 1, 1]]);
    assert.throws(
      () => publisher.reserve(MAX_RECORD + 1),
      (error) => (error as ProtocolError).code === 'payload_too_large',
    );
  });

  it('forgets what was reserved and not committed', async () => {
    const { clock, publisher, fold } = await bench();
    publisher.reserve(500).fill(9, publisher.offset, publisher.offset + 500);
    write(publisher, 1);
    publisher.reserve(300_000);
    await clock.advance(LATENCY_MS);
    write(publisher, 2);
    await clock.advance(100);
    assert.deepEqual(fold.applied, [1, 2]);
    assert.throws(() => publisher.commit());
  });

  it('leaves the bytes of each record where the edge can find them again', async () => {
    const { clock, publisher } = await bench();
    const places = upTo(5_000).map((number) => write(publisher, number, 60 + (number % 90)));
    await clock.advance(100);
    places.forEach(({ buffer, offset, length }, i) => {
      const view = new DataView(buffer.buffer, buffer.byteOffset);
      assert.deepEqual([view.getUint32(offset), view.getUint32(offset + 4)], [length, i + 1]);
      assert.equal(buffer[offset + length - 1], (i + 1) & 255);
    });
  });
});

describe('retry', () => {
  it('sends a frame whose ack was lost again, and all later ones', async () => {
    const { clock, publisher, stream, fold, acked } = await bench();
    stream.loseAcks = 1;
    for (const number of upTo(130)) write(publisher, number, 1000);
    await clock.advance(2_000);
    assert.deepEqual([fold.applied, acked, publisher.outstandingRecords], [upTo(130), upTo(5), 0]);
    assert.ok(stream.last > 5);
  });

  it('repairs an overtaken frame', async () => {
    const { clock, publisher, stream, fold } = await bench();
    stream.holdAppends = 1;
    for (const number of upTo(130)) write(publisher, number, 1000);
    await clock.advance(2_000);
    stream.releaseHeld(); // The zombie arrives at last.
    await clock.advance(10);
    assert.deepEqual(fold.applied, upTo(130));
  });

  it('sends again what was acknowledged in another order than it was sent', async () => {
    const { clock, log, publisher } = await bench();
    const fold = new Fold();
    let swaps = 1;
    let first: (() => void) | undefined;
    const swapping = {
      generation: 1,
      async append(token: string, data: Uint8Array) {
        if (swaps > 0) {
          swaps--;
          await new Promise<void>((resolve) => {
            first = resolve;
          });
        }
        const ack = await log.append(token, data);
        first?.();
        return ack;
      },
    };
    publisher.stop();
    const own = new FramePublisher({ log: swapping, token: 'cmd.e1', incarnation: 7, clock, random: () => 0.5 });
    log.read(1, (message) => fold.take(message), assert.fail);
    for (const number of upTo(100)) write(own, number, 1000);
    await clock.advance(5_000);
    assert.deepEqual([fold.applied, own.outstandingRecords], [upTo(100), 0]);
  });

  it('does not take new work while the log is full, and loses none of the old', async () => {
    const { clock, publisher, log, fold } = await bench({}, 50_000);
    for (const number of upTo(90)) write(publisher, number, 1000);
    await clock.advance(3_000);
    assert.deepEqual([publisher.accepting, publisher.logFull], [false, true]);
    const { last } = await log.state();
    assert.ok(last >= 1 && fold.watermark >= 1);
    for (let round = 0; round < 20; round++) {
      await log.trim((await log.state()).last + 1);
      await clock.advance(1_100);
    }
    assert.deepEqual([fold.applied, publisher.accepting, publisher.logFull], [upTo(90), true, false]);
  });

  it('keeps what it has through an outage, up to its limit', async () => {
    const { clock, server, publisher, fold } = await bench({ maxOutstandingBytes: 200_000 });
    server.down();
    for (const number of upTo(200)) write(publisher, number, 1000);
    assert.equal(publisher.accepting, false);
    assert.throws(
      () => publisher.reserve(1),
      (error) => (error as ProtocolError).code === 'overloaded',
    );
    await clock.advance(20_000);
    assert.ok(publisher.oldestUnackedMs >= 20_000 && publisher.counts.attempts < 200);
    server.up();
    await clock.advance(2_000);
    assert.deepEqual([fold.applied, publisher.accepting], [upTo(200), true]);
    await publisher.drained();
  });

  it('ends when a newer generation has the log', async () => {
    const { clock, server, publisher, failed } = await bench();
    server.openStream('main-0', 2, { maxBytes: 1_000_000, replicas: 1 });
    write(publisher, 1);
    await clock.advance(5_000);
    assert.deepEqual([failed, publisher.accepting, publisher.outstandingRecords], [['log_misconfigured'], false, 1]);
    assert.throws(
      () => publisher.reserve(1),
      (error) => error instanceof ProtocolError,
    );
    await assert.rejects(publisher.drained());
  });

  it('makes no attempt after stop', async () => {
    const { clock, server, publisher, log } = await bench();
    server.down();
    write(publisher, 1);
    await clock.advance(50);
    publisher.stop();
    server.up();
    await clock.advance(5_000);
    assert.equal((await log.state()).last, 0);
  });

  for (let group = 0; group < 4; group++) {
    it(`brings every record into the fold once and in order, whatever fails (seeds ${group * 30}..${group * 30 + 29})`, async () => {
      for (let seed = group * 30; seed < group * 30 + 30; seed++) await stormWithSeed(seed);
    });
  }
});

/** A small generator with a seed (mulberry32). */
function randomOf(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296;
  };
}

async function stormWithSeed(seed: number): Promise<void> {
  const random = randomOf(seed);
  const windowFrames = 1 + Math.floor(random() * 6);
  const { clock, server, stream, publisher, fold, acked, failed } = await bench({ random, windowFrames });
  let written = 0;
  for (let step = 0; step < 60; step++) {
    pullSwitch(random, server, stream);
    for (let count = Math.floor(random() * 40); count > 0; count--) {
      write(publisher, ++written, 8 + Math.floor(random() ** 8 * 60_000));
    }
    await clock.advance(random() * 4);
  }
  server.up();
  Object.assign(stream, { loseAcks: 0, holdAppends: 0, dropAppends: 0, duplicates: 0 });
  await clock.advance(10_000);
  stream.releaseHeld();
  await clock.advance(10);
  assert.deepEqual(failed, [], `seed ${seed}`);
  assert.deepEqual(fold.applied, upTo(written), `seed ${seed}`);
  assert.deepEqual(acked, upTo(fold.watermark), `seed ${seed}`);
  assert.equal(publisher.outstandingBytes, 0, `seed ${seed}`);
}

function pullSwitch(random: () => number, server: MemoryServer, stream: MemoryStream): void {
  const chance = random();
  if (chance < 0.1) stream.loseAcks = 1 + Math.floor(random() * 3);
  else if (chance < 0.2) stream.dropAppends = 1 + Math.floor(random() * 3);
  else if (chance < 0.3) stream.holdAppends = 1 + Math.floor(random() * 3);
  else if (chance < 0.35) stream.duplicates = 1;
  else if (chance < 0.45) stream.releaseHeld();
  else if (chance < 0.5) server.down();
  else if (chance < 0.7) server.up();
}

describe('over JetStream', () => {
  it('brings every record into the log once and in order while the server is killed', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'troupe-frames-'));
    const start = (port?: number) =>
      startNatsServer({ dataDir: folder, durability: 'os', maxFileStoreBytes: 1e9, ...(port && { port }) });
    let server = await start();
    const link = await connectToNats({
      servers: server.url,
      name: 'test',
      user: server.user,
      password: server.password,
    });
    const log = await JetStreamLog.over(link);
    const partition = await log.open('main-0', 1, { maxBytes: 500_000_000, replicas: 1 });
    const fold = new Fold();
    partition.read(1, (message) => fold.take(message), assert.fail);
    const publisher = new FramePublisher({ log: partition, token: 'cmd.e1', incarnation: 7 });
    let written = 0;
    for (let round = 0; round < 4; round++) {
      const goal = written + 20_000;
      let killed: Promise<void> | undefined;
      while (written < goal) {
        for (let count = 0; count < 50; count++) write(publisher, ++written);
        if (round < 3 && written >= goal - 10_000) killed ??= server.kill();
        await new Promise((resolve) => setImmediate(resolve));
      }
      await killed;
      if (killed) server = await start(server.port);
    }
    await publisher.drained();
    await until(() => fold.applied.length >= written, 'all are folded');
    assert.deepEqual(fold.applied, upTo(written));
    assert.ok(publisher.counts.failures > 0);
    await log.close();
    await link.close();
    await server.kill();
    await rm(folder, { recursive: true });
  });
});
