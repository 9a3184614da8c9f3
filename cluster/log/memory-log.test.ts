import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { VirtualClock } from './clock.ts';
import type { LogLab } from './log.laws.ts';
import { logLaws } from './log.laws.ts';
import { MemoryLog, MemoryServer } from './memory-log.ts';

async function memoryLab(): Promise<LogLab> {
  const server = new MemoryServer();
  return {
    connect: async () => new MemoryLog(server),
    kill: async () => server.down(),
    start: async () => server.up(),
    async appendLosingAck(partition, token, data) {
      server.stream(partition, 1).loseAcks = 1;
      const log = await new MemoryLog(server).open(partition, 1, server.stream(partition, 1).settings);
      return log.append(token, data).catch((error: unknown) => error);
    },
    save: async () => server.save(),
    async restore(meanwhile) {
      const streams = [...server.streams.values()];
      for (const stream of streams) stream.holdDelivery();
      server.restore();
      await meanwhile(new MemoryLog(server));
      server.up();
      for (const stream of streams) stream.releaseDelivery();
    },
    close: async () => undefined,
  };
}

logLaws('memory', memoryLab);

describe('memory log faults', () => {
  const settings = { maxBytes: 1_000_000, replicas: 1 };
  const data = (text: string) => new TextEncoder().encode(text);

  it('stores held appends later and last', async () => {
    const server = new MemoryServer();
    const log = await new MemoryLog(server).open('main-0', 1, settings);
    const stream = server.stream('main-0', 1);
    stream.holdAppends = 1;
    await assert.rejects(log.append('cmd.e1', data('late')));
    assert.equal((await log.append('cmd.e1', data('soon'))).sequence, 1);
    stream.releaseHeld();
    assert.equal(Buffer.from((await log.get(2))?.data ?? []).toString(), 'late');
  });

  it('drops and doubles appends', async () => {
    const server = new MemoryServer();
    const log = await new MemoryLog(server).open('main-0', 1, settings);
    const stream = server.stream('main-0', 1);
    stream.dropAppends = 1;
    await assert.rejects(log.append('cmd.e1', data('never')));
    stream.duplicates = 1;
    assert.equal((await log.append('cmd.e1', data('twice'))).sequence, 1);
    assert.equal((await log.state()).last, 2);
  });

  it('delivers in virtual time, and only when delivery is not held', async () => {
    const clock = new VirtualClock();
    const server = new MemoryServer({
      clock,
      nowUs: () => clock.nowMs() * 1000,
      ackLatencyMs: 2,
      deliveryLatencyMs: 5,
    });
    const log = await new MemoryLog(server).open('main-0', 1, settings);
    const got: [number, number][] = [];
    log.read(1, (message) => got.push([message.sequence, clock.nowMs()]), assert.fail);
    await clock.advance(10);
    const stream = server.stream('main-0', 1);
    void log.append('cmd.e1', data('a'));
    await clock.advance(10);
    assert.deepEqual([got, (await log.get(1))?.timeUs], [[[1, 15]], 10_000]);
    stream.holdDelivery();
    void log.append('cmd.e1', data('b'));
    await clock.advance(100);
    assert.equal(got.length, 1);
    stream.releaseDelivery();
    await clock.advance(5);
    assert.deepEqual(got[1], [2, 125]);
  });

  it('rewrites and cuts tails', async () => {
    for (const fault of ['rewriteTail', 'cutTail'] as const) {
      const server = new MemoryServer();
      const log = await new MemoryLog(server).open('main-0', 1, settings);
      for (const text of ['a', 'b', 'c']) await log.append('cmd.e1', data(text));
      const problems: string[] = [];
      const reader = log.read(
        1,
        () => undefined,
        (problem) => problems.push(problem.code),
      );
      await new Promise((resolve) => setImmediate(resolve));
      assert.equal(reader.position, 3);
      server.stream('main-0', 1)[fault](2);
      assert.deepEqual(problems, ['log_loss']);
    }
  });
});
