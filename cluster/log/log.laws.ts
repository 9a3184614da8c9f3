/**
 * What every log must give, as one suite over a lab: a log with a server behind it that can be killed, and whose disk can
 * be set back. Each law has a partition of its own.
 */
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { ProtocolError } from '../../protocol/errors.ts';
import { type Log, MAX_DATA_BYTES, type PartitionLog, type Stored, subjectOf } from './log.ts';

export type LogLab = {
  /** Another client of the same server. */
  connect(): Promise<Log>;
  /** The server dies as by kill -9. */
  kill(): Promise<void>;
  /** It comes back where it was. */
  start(): Promise<void>;
  /** Appends through a client of its own whose answer is lost on the way; gives the error that this client got. */
  appendLosingAck(partition: string, token: string, data: Uint8Array): Promise<unknown>;
  /** Keeps what the disk holds. */
  save(): Promise<void>;
  /** Sets the disk back to `save` while all clients are cut off, then runs `meanwhile` before they come back. */
  restore(meanwhile: (log: Log) => Promise<void>): Promise<void>;
  close(): Promise<void>;
};

const SETTINGS = { maxBytes: 8_000_000, replicas: 1 };
const DEADLINE_MS = 15_000;

/** Waits for a condition. Errors: AssertionError after the deadline. */
export async function until(condition: () => boolean, what: string, deadlineMs = DEADLINE_MS): Promise<void> {
  const end = Date.now() + deadlineMs;
  while (!condition()) {
    if (Date.now() > end) assert.fail(`not within ${deadlineMs} ms: ${what}`);
    await sleep(2);
  }
}

const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);
const named =
  (code: string) =>
  (error: unknown): boolean =>
    error instanceof ProtocolError && error.code === code;

/** A reader that keeps what it gets. */
function collect(log: PartitionLog, from: number) {
  const got: Stored[] = [];
  const problems: ProtocolError[] = [];
  const reader = log.read(
    from,
    (message) => got.push(message),
    (problem) => problems.push(problem),
  );
  return { got, problems, reader, texts: () => got.map((message) => Buffer.from(message.data).toString()) };
}

async function fill(log: PartitionLog, count: number, prefix = 'm'): Promise<void> {
  for (let i = 1; i <= count; i++) await log.append('cmd.e1', bytes(`${prefix}${i}`));
}

const numbers = (from: number, to: number, prefix = 'm') =>
  Array.from({ length: to - from + 1 }, (_, i) => `${prefix}${from + i}`);

/** Appends, again and again until it is acknowledged. Gives how often it failed. */
async function insist(log: PartitionLog, data: Uint8Array): Promise<number> {
  const end = Date.now() + DEADLINE_MS;
  for (let failures = 0; ; failures++) {
    try {
      await log.append('cmd.e1', data);
      return failures;
    } catch (error) {
      if (!named('log_unavailable')(error) || Date.now() > end) throw error;
      await sleep(20);
    }
  }
}

/** Waits until a client has found the server again. */
async function reachable(log: PartitionLog): Promise<void> {
  let found = false;
  const poll = async () => {
    while (!found) {
      await log.state().then(
        () => {
          found = true;
        },
        () => sleep(5),
      );
    }
  };
  void poll();
  await until(() => found, 'the server is found again');
}

export function logLaws(name: string, makeLab: () => Promise<LogLab>): void {
  describe(`log laws: ${name}`, () => {
    let lab: LogLab;
    let log: Log;
    let partitions = 0;
    const fresh = (settings = SETTINGS) => log.open(`law-${partitions++}`, 1, settings);

    before(async () => {
      lab = await makeLab();
      log = await lab.connect();
    });
    after(async () => {
      await log?.close();
      await lab?.close();
    });

    describe('append and get', () => {
      it('numbers messages from 1 and gives them back', async () => {
        const partition = await fresh();
        assert.deepEqual(pick(await partition.state()), { first: 1, last: 0, bytes: 0, maxBytes: SETTINGS.maxBytes });
        const before = Date.now() * 1000 - 1000;
        assert.equal((await partition.append('cmd.e1', bytes('one'))).sequence, 1);
        assert.equal((await partition.append('own', bytes('two'))).sequence, 2);
        const one = await partition.get(1);
        assert.equal(one?.subject, subjectOf(partition.partition, 'cmd.e1'));
        assert.deepEqual(Buffer.from(one?.data ?? []).toString(), 'one');
        assert.ok(Number.isInteger(one?.timeUs) && Number(one?.timeUs) > before && Number(one?.timeUs) < before + 60e6);
        assert.equal(await partition.get(3), undefined);
        assert.equal((await partition.lastOn('own'))?.sequence, 2);
        assert.equal(await partition.lastOn('epoch'), undefined);
        const { first, last } = await partition.state();
        assert.deepEqual([first, last], [1, 2]);
      });

      it('stores what is appended without waiting in that order', async () => {
        const partition = await fresh();
        const acks = await Promise.all(numbers(1, 300).map((text) => partition.append('cmd.e1', bytes(text))));
        assert.deepEqual(
          acks.map((ack) => ack.sequence),
          Array.from({ length: 300 }, (_, i) => i + 1),
        );
        const { got, texts, reader } = collect(partition, 1);
        await until(() => got.length === 300, 'all are read');
        assert.deepEqual(texts(), numbers(1, 300));
        reader.stop();
      });

      it('deduplicates nothing', async () => {
        const partition = await fresh();
        const first = await partition.append('cmd.e1', bytes('same'));
        const second = await partition.append('cmd.e1', bytes('same'));
        assert.deepEqual([first, second], [{ sequence: 1 }, { sequence: 2 }]);
      });

      it('may have stored a message whose ack was lost', async () => {
        const partition = await fresh();
        const error = await lab.appendLosingAck(partition.partition, 'cmd.e1', bytes('lost?'));
        assert.ok(named('log_unavailable')(error), String(error));
        assert.equal((await partition.append('cmd.e1', bytes('lost?'))).sequence, 2);
        assert.equal(Buffer.from((await partition.get(1))?.data ?? []).toString(), 'lost?');
      });

      it('takes a message of the largest size and refuses a larger one', async () => {
        const partition = await fresh();
        const large = new Uint8Array(MAX_DATA_BYTES).fill(7);
        assert.equal((await partition.append('from.law-0', large)).sequence, 1);
        assert.deepEqual((await partition.get(1))?.data.length, MAX_DATA_BYTES);
        await assert.rejects(
          partition.append('cmd.e1', new Uint8Array(MAX_DATA_BYTES + 1)),
          named('payload_too_large'),
        );
      });
    });

    describe('expectation', () => {
      it('lets exactly one of many claimants win, each time', async () => {
        const partition = await fresh();
        const others = await Promise.all([lab.connect(), lab.connect()]);
        const logs = [partition];
        for (const other of others) logs.push(await other.open(partition.partition, 1, SETTINGS));
        let last = 0;
        for (let round = 1; round <= 5; round++) {
          await partition.append('cmd.e1', bytes('between')); // Another subject: no matter.
          const claims = Array.from({ length: 12 }, (_, i) =>
            logs[i % logs.length]?.append('epoch', bytes(`${round}/${i}`), last),
          );
          const results = await Promise.allSettled(claims);
          const won = results.flatMap((result) =>
            result.status === 'fulfilled' && result.value ? [result.value.sequence] : [],
          );
          const lost = results.filter(
            (result) => result.status === 'rejected' && named('wrong_last_sequence')(result.reason),
          );
          assert.deepEqual([won.length, lost.length], [1, 11]);
          last = (await partition.lastOn('epoch'))?.sequence ?? 0;
          assert.deepEqual(won, [last]);
        }
        for (const other of others) await other.close();
      });

      it('counts only what is still there', async () => {
        const partition = await fresh();
        await partition.append('epoch', bytes('1'), 0);
        await partition.append('own', bytes('x'));
        await partition.trim(2);
        assert.equal(await partition.lastOn('epoch'), undefined);
        await assert.rejects(partition.append('epoch', bytes('2'), 1), named('wrong_last_sequence'));
        assert.equal((await partition.append('epoch', bytes('2'), 0)).sequence, 3);
      });
    });

    describe('read', () => {
      it('gives what is there and what comes, from any start', async () => {
        const partition = await fresh();
        const whole = collect(partition, 1);
        await fill(partition, 20);
        const middle = collect(partition, 11);
        const end = collect(partition, 21);
        await partition.append('own', bytes('m21'));
        for (const each of [whole, middle, end])
          await until(() => each.got.at(-1)?.sequence === 21, 'the last is read');
        assert.deepEqual(
          [whole.texts(), middle.texts(), end.texts()],
          [numbers(1, 21), numbers(11, 21), numbers(21, 21)],
        );
        assert.equal(whole.reader.position, 21);
        assert.deepEqual(whole.got[4], { ...(await partition.get(5)), data: whole.got[4]?.data });
        for (const each of [whole, middle, end]) each.reader.stop();
      });

      it('gives nothing after stop', async () => {
        const partition = await fresh();
        await fill(partition, 5);
        const got: number[] = [];
        const reader = partition.read(
          1,
          (message) => {
            got.push(message.sequence);
            if (message.sequence === 3) reader.stop();
          },
          () => assert.fail('no problem'),
        );
        const other = collect(partition, 1);
        await until(() => other.got.length === 5, 'another reader has all');
        await partition.append('own', bytes('more'));
        await until(() => other.got.length === 6, 'another reader has the next');
        assert.deepEqual(got, [1, 2, 3]);
        other.reader.stop();
      });

      it('keeps up with messages of all sizes', async () => {
        const partition = await fresh();
        const sizes = [0, 1, 100, 4096, 32_768, 524_288, 65_535, 1, 300_000, 0, 65_536];
        const { got, reader } = collect(partition, 1);
        await Promise.all(sizes.map((size, i) => partition.append('cmd.e1', new Uint8Array(size).fill(i))));
        await until(() => got.length === sizes.length, 'all are read');
        for (const [i, message] of got.entries()) {
          assert.ok(Buffer.from(message.data).equals(Buffer.alloc(sizes[i] ?? 0, i)));
        }
        reader.stop();
      });

      it('says that the log ends before the start', async () => {
        const partition = await fresh();
        await fill(partition, 3);
        const { got, problems } = collect(partition, 6);
        await until(() => problems.length > 0, 'a problem');
        assert.deepEqual([problems.map((problem) => problem.code), got], [['log_loss'], []]);
      });
    });

    describe('trim', () => {
      it('removes the oldest, moves the start and keeps the numbers', async () => {
        const partition = await fresh();
        await fill(partition, 10);
        const bytesBefore = (await partition.state()).bytes;
        const running = collect(partition, 1);
        await until(() => running.got.length === 10, 'all are read');
        await partition.trim(6);
        const state = await partition.state();
        assert.deepEqual([state.first, state.last], [6, 10]);
        assert.ok(state.bytes < bytesBefore && state.bytes > 0);
        assert.equal(await partition.get(5), undefined);
        const late = collect(partition, 3);
        await until(() => late.problems.length > 0, 'a problem');
        assert.deepEqual([late.problems[0]?.code, late.got], ['log_trimmed', []]);
        await partition.trim(11);
        assert.deepEqual(pick(await partition.state()), { first: 11, last: 10, bytes: 0, maxBytes: SETTINGS.maxBytes });
        assert.equal((await partition.append('cmd.e1', bytes('m11'))).sequence, 11);
        await until(() => running.got.length === 11, 'a running reader goes on');
        assert.deepEqual(running.problems, []);
        await assert.rejects(partition.trim(13), RangeError);
        assert.equal((await partition.state()).last, 11);
        running.reader.stop();
      });
    });

    describe('full log', () => {
      it('refuses, stays readable, and goes on when trimmed', async () => {
        const maxBytes = 200_000;
        const partition = await fresh({ maxBytes, replicas: 1 });
        const frame = new Uint8Array(10_000);
        let stored = 0;
        for (;;) {
          const error = await partition.append('cmd.e1', frame).catch((refusal: unknown) => refusal);
          if (error instanceof ProtocolError) {
            assert.equal(error.code, 'log_full');
            break;
          }
          stored++;
        }
        assert.equal(stored, 19);
        const state = await partition.state();
        assert.deepEqual([state.last, state.bytes <= maxBytes], [stored, true]);
        assert.equal((await partition.append('own', bytes('small ones fit'))).sequence, stored + 1);
        const { got, reader } = collect(partition, 1);
        await until(() => got.length === stored + 1, 'all are read');
        await partition.trim(6);
        assert.equal((await partition.append('cmd.e1', frame)).sequence, stored + 2);
        await until(() => got.length === stored + 2, 'the next is read');
        reader.stop();
      });
    });

    describe('generations', () => {
      it('gives the subjects to the newest and keeps the older readable', async () => {
        const old = await fresh();
        await fill(old, 3);
        const stale = await (await lab.connect()).open(old.partition, 1, SETTINGS);
        const next = await log.open(old.partition, 2, SETTINGS);
        assert.equal((await next.append('cmd.e1', bytes('new'))).sequence, 1);
        await assert.rejects(stale.append('cmd.e1', bytes('late')), named('log_misconfigured'));
        const reopened = await log.open(old.partition, 1, SETTINGS);
        await assert.rejects(reopened.append('own', bytes('late')), named('log_misconfigured'));
        const { got, texts, reader } = collect(reopened, 1);
        await until(() => got.length === 3, 'the old is read');
        assert.deepEqual(texts(), numbers(1, 3));
        reader.stop();
        assert.equal((await next.state()).last, 1);
        assert.equal((await (await log.open(old.partition, 2, SETTINGS)).append('own', bytes('y'))).sequence, 2);
        await log.remove(old.partition, 1);
        await log.remove(old.partition, 1);
        await assert.rejects(log.open(old.partition, 1, SETTINGS), named('log_misconfigured'));
      });

      it('names the setting in which a stream differs', async () => {
        const partition = await fresh();
        const open = log.open(partition.partition, 1, { ...SETTINGS, maxBytes: 1_000_000 });
        await assert.rejects(
          open,
          (error) => named('log_misconfigured')(error) && (error as ProtocolError).field === 'max_bytes',
        );
      });
    });

    describe('faults', () => {
      it('goes on where it was after the server was killed', async () => {
        const partition = await fresh();
        await fill(partition, 5);
        const { got, texts, problems, reader } = collect(partition, 1);
        await until(() => got.length === 5, 'all are read');
        await lab.kill();
        await assert.rejects(partition.append('cmd.e1', bytes('down')), named('log_unavailable'));
        await assert.rejects(partition.append('cmd.e1', bytes('down')), named('log_unavailable'));
        await assert.rejects(partition.state(), named('log_unavailable'));
        await assert.rejects(partition.get(1), named('log_unavailable'));
        await lab.start();
        await insist(partition, bytes('m6'));
        await until(() => got.length === 6, 'the next is read');
        assert.deepEqual([texts(), problems], [numbers(1, 6), []]);
        reader.stop();
      });

      it('reads everything once and in order through kills under load', async () => {
        const partition = await fresh();
        const { got, problems, reader } = collect(partition, 1);
        let ended = false;
        const write = (async () => {
          for (let i = 1; !ended; i++) {
            await insist(partition, bytes(`m${i}`));
            await new Promise((resolve) => setImmediate(resolve));
          }
        })();
        for (let round = 1; round <= 3; round++) {
          const goal = got.length + 50;
          await until(() => got.length >= goal, 'progress');
          await lab.kill();
          await lab.start();
        }
        const goal = got.length + 50;
        await until(() => got.length >= goal, 'progress');
        ended = true;
        await write;
        const { last } = await partition.state();
        await until(() => reader.position === last, 'the end is read');
        assert.deepEqual(problems, []);
        for (const [i, message] of got.entries()) assert.equal(message.sequence, i + 1);
        for (const i of [0, Math.floor(got.length / 2), got.length - 1]) {
          const stored = await partition.get(i + 1);
          assert.deepEqual(Buffer.from(got[i]?.data ?? []), Buffer.from(stored?.data ?? []));
        }
        reader.stop();
      });

      it('notices that the tail was cut off', async () => {
        const partition = await fresh();
        await fill(partition, 5);
        await lab.save();
        await reachable(partition);
        await partition.append('cmd.e1', bytes('m6'));
        await partition.append('cmd.e1', bytes('m7'));
        const { got, problems } = collect(partition, 1);
        await until(() => got.length === 7, 'all are read');
        await lab.restore(async () => undefined);
        await until(() => problems.length > 0, 'a problem');
        assert.deepEqual([problems.map((problem) => problem.code), got.length], [['log_loss'], 7]);
      });

      it('notices that the tail was written anew', async () => {
        const partition = await fresh();
        await fill(partition, 5);
        await lab.save();
        await reachable(partition);
        await partition.append('cmd.e1', bytes('m6'));
        const { got, problems, texts } = collect(partition, 1);
        await until(() => got.length === 6, 'all are read');
        await lab.restore(async (other) => {
          const rewritten = await other.open(partition.partition, 1, SETTINGS);
          await fill(rewritten, 4, 'other');
        });
        await until(() => problems.length > 0, 'a problem');
        assert.deepEqual([problems[0]?.code, texts()], ['log_loss', numbers(1, 6)]);
      });

      it('notices that the stream is another one', async () => {
        const partition = await fresh();
        await fill(partition, 2);
        const { got, problems } = collect(partition, 1);
        await until(() => got.length === 2, 'all are read');
        await log.remove(partition.partition, 1);
        await fill(await log.open(partition.partition, 1, SETTINGS), 4, 'other');
        await lab.kill();
        await lab.start();
        await until(() => problems.length > 0, 'a problem');
        assert.deepEqual([problems[0]?.code, got.length], ['log_loss', 2]);
      });

      it('notices that the stream is another one, though nothing was read', async () => {
        const partition = await fresh();
        const { got, problems } = collect(partition, 1);
        await sleep(0);
        await log.remove(partition.partition, 1);
        await fill(await log.open(partition.partition, 1, SETTINGS), 2, 'other');
        await until(() => problems.length > 0, 'a problem');
        assert.deepEqual([problems[0]?.code, got], ['log_loss', []]);
      });

      it('says that it was closed', async () => {
        const client = await lab.connect();
        const partition = await client.open('law-9000', 1, SETTINGS);
        const { got, reader } = collect(partition, 1);
        await partition.append('own', bytes('x'));
        await until(() => got.length === 1, 'it is read');
        await client.close();
        await assert.rejects(partition.append('own', bytes('x')), named('log_unavailable'));
        assert.equal(reader.position, 1);
      });
    });
  });
}

function pick(state: { first: number; last: number; bytes: number; maxBytes: number }) {
  const { first, last, bytes, maxBytes } = state;
  return { first, last, bytes, maxBytes };
}
