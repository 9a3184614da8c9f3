/**
 * Commands in a closed or an open loop over many connections. Every reply is parsed and checked: each connection has counters of
 * its own and adds one each time, so the value that a command must be answered with follows from its number alone. One command
 * lost, doubled or out of order shows at once.
 */
import { build, type Histogram } from 'hdr-histogram-js';
import { counter } from '../../actors/sample/counter.ts';
import { writeQuery } from '../../protocol/client-messages.ts';
import { FROM_EDGE } from '../../protocol/message.ts';
import type { ServerMessageReader } from '../../protocol/server-messages.ts';
import { shapeOf } from '../../protocol/shape.ts';
import { CommandFrame } from './command-frames.ts';
import { EdgeConnection } from './edge-connection.ts';
import { nowMs, Pace } from './pace.ts';

/** With array, amount and the text's header the body has 100 bytes. */
export const COMMAND_NOTE = 'x'.repeat(96);
const RING = 512; // Twice what may be in flight: a number's place is free when it comes round again.
const MAX_IN_FLIGHT = 250; // The protocol allows 256; an open loop that has fallen behind waits here, and its clock runs on.
const DRAIN_TIMEOUT_MS = 20_000;

export type LoadSettings = {
  readonly port: number;
  /** One per connection: each is another user. */
  readonly tokens: readonly string[];
  /** Begins the names of the counters; unique in a cluster. */
  readonly prefix: string;
  readonly countersPerConnection: number;
};

export type ClosedResult = { readonly commands: number; readonly seconds: number; readonly inFlight: number };
export type PacedResult = { readonly commands: number; readonly planned: number; readonly latencyUs: Latency };
export type Latency = {
  readonly p50: number;
  readonly p90: number;
  readonly p99: number;
  readonly p999: number;
  readonly max: number;
  readonly mean: number;
};

const noBody = shapeOf({}).encode({});
const valueReply = shapeOf(counter.queries.value.reply);

export class CommandLoad {
  readonly #connections: CommandConnection[];
  readonly #refs: readonly string[];

  private constructor(connections: CommandConnection[], refs: readonly string[]) {
    this.#connections = connections;
    this.#refs = refs;
  }

  static async open({ port, tokens, prefix, countersPerConnection }: LoadSettings): Promise<CommandLoad> {
    const refs: string[] = [];
    const opened = tokens.map((token, i) => {
      const own = Array.from({ length: countersPerConnection }, (_, j) => `counter:${prefix}${i}-${j}`);
      refs.push(...own);
      return CommandConnection.open(port, token, own);
    });
    return new CommandLoad(await Promise.all(opened), refs);
  }

  /** Commands acknowledged in all its life. */
  get acknowledged(): number {
    return this.#connections.reduce((sum, { acknowledged }) => sum + acknowledged, 0);
  }

  /** Keeps `inFlight` commands in flight on each connection; counts those answered within `runMs` after `warmMs`. */
  async closed({
    inFlight,
    warmMs,
    runMs,
  }: {
    inFlight: number;
    warmMs: number;
    runMs: number;
  }): Promise<ClosedResult> {
    for (const connection of this.#connections) connection.keepInFlight(inFlight);
    await sleep(warmMs);
    const before = this.acknowledged;
    const startMs = nowMs();
    await sleep(runMs);
    const commands = this.acknowledged - before;
    const seconds = (nowMs() - startMs) / 1_000;
    for (const connection of this.#connections) connection.keepInFlight(0);
    await this.#drain();
    return { commands, seconds, inFlight };
  }

  /** Sends at planned times, whatever the answers do; latency runs from the planned time. What `warmMs` brings is not counted. */
  async paced({
    perSecond,
    warmMs,
    runMs,
  }: {
    perSecond: number;
    warmMs: number;
    runMs: number;
  }): Promise<PacedResult> {
    const histogram = build({
      lowestDiscernibleValue: 1,
      highestTrackableValue: 60_000_000,
      numberOfSignificantValueDigits: 3,
    });
    const startMs = nowMs() + 50;
    const countFromMs = startMs + warmMs;
    let turn = 0;
    const sendDue = () => {
      for (let dueMs = pace.take(); dueMs !== undefined; dueMs = pace.take()) {
        (this.#connections[turn++ % this.#connections.length] as CommandConnection).sendAt(dueMs);
      }
    };
    const pace = new Pace(perSecond, startMs, warmMs + runMs, sendDue);
    for (const connection of this.#connections) connection.record(histogram, countFromMs);
    await until(() => pace.isOver, warmMs + runMs + DRAIN_TIMEOUT_MS);
    await this.#drain();
    await pace.stop();
    return {
      commands: histogram.totalCount,
      planned: Math.floor((runMs * perSecond) / 1_000),
      latencyUs: latencyOf(histogram),
    };
  }

  /** The sum of all counters, by query: what was applied. */
  async applied(): Promise<number> {
    let sum = 0;
    const [connection] = this.#connections as [CommandConnection];
    for (const ref of this.#refs) sum += await connection.value(ref);
    return sum;
  }

  close(): void {
    for (const connection of this.#connections) connection.close();
  }

  async #drain(): Promise<void> {
    await until(() => this.#connections.every(({ outstanding }) => outstanding === 0), DRAIN_TIMEOUT_MS);
  }
}

class CommandConnection {
  #connection!: EdgeConnection;
  readonly #frames: readonly CommandFrame[];
  readonly #frameBytes: number;
  readonly #answered = new Uint8Array(RING);
  readonly #plannedMs = new Float64Array(RING);
  #backlog: number[] = [];
  #number = 0;
  #low = 1;
  #wanted = 0;
  #histogram: Histogram | undefined;
  #countFromMs = 0;
  #readMs = 0;
  #answer: ((value: number) => void) | undefined;
  acknowledged = 0;

  private constructor(refs: readonly string[]) {
    this.#frames = refs.map(
      (ref) => new CommandFrame(ref, 'add', counter.commands.add, { amount: 1, note: COMMAND_NOTE }),
    );
    this.#frameBytes = Math.max(...this.#frames.map(({ bytes }) => bytes.length));
  }

  static async open(port: number, token: string, refs: readonly string[]): Promise<CommandConnection> {
    const connection = new CommandConnection(refs);
    connection.#connection = await EdgeConnection.open(port, token, {
      hot: (bytes, start, end) => connection.#replies(bytes, start, end),
      message: (reader) => connection.#message(reader),
      readEnd: () => connection.#refill(),
      lost: (reason) => fail(`a connection was lost: ${reason}`),
    });
    return connection;
  }

  get outstanding(): number {
    return this.#number - this.acknowledged + this.#backlog.length;
  }

  keepInFlight(wanted: number): void {
    this.#wanted = wanted;
    this.#histogram = undefined;
    this.#refill();
  }

  record(histogram: Histogram, countFromMs: number): void {
    this.#histogram = histogram;
    this.#countFromMs = countFromMs;
  }

  /** One command that was planned for `plannedMs`. */
  sendAt(plannedMs: number): void {
    if (this.#number - this.acknowledged >= MAX_IN_FLIGHT || this.#number - this.#low >= MAX_IN_FLIGHT) {
      this.#backlog.push(plannedMs);
      return;
    }
    this.#plannedMs[(this.#number + 1) % RING] = plannedMs;
    this.#send(1);
  }

  close(): void {
    this.#connection.close();
  }

  value(ref: string): Promise<number> {
    return new Promise((resolve) => {
      this.#answer = resolve;
      this.#connection.sendMessage((writer) => writeQuery(writer, 1, ref, 'value', noBody));
    });
  }

  #refill(): void {
    this.#readMs = 0;
    const missing = this.#wanted - (this.#number - this.acknowledged);
    if (missing > 0) this.#send(missing);
    if (this.#backlog.length > 0) for (const plannedMs of this.#backlog.splice(0)) this.sendAt(plannedMs);
  }

  #send(count: number): void {
    const target = Buffer.allocUnsafe(count * this.#frameBytes);
    let offset = 0;
    for (let i = 0; i < count; i++) {
      const number = ++this.#number;
      this.#answered[number % RING] = 0;
      const frame = this.#frames[(number - 1) % this.#frames.length] as CommandFrame;
      offset = frame.write(target, offset, number, this.#low);
    }
    this.#connection.send(target.subarray(0, offset));
  }

  /** [2, number, [value]], one after the other. */
  #replies(bytes: Buffer, start: number, end: number): number {
    let at = start;
    while (at < end && bytes[at] === 0x93 && bytes[at + 1] === FROM_EDGE.reply) {
      const number = naturalAt(bytes, at + 2);
      at += 2 + naturalBytes(bytes, at + 2);
      if (bytes[at] !== 0x91) fail(`the reply to ${number} is no array of one`);
      const value = naturalAt(bytes, at + 1);
      at += 1 + naturalBytes(bytes, at + 1);
      this.#reply(number, value);
    }
    return at;
  }

  #reply(number: number, value: number): void {
    const place = number % RING;
    if (number > this.#number || number < this.#low || this.#answered[place] === 1)
      fail(`an answer to ${number}, which awaits none`);
    const expected = Math.ceil(number / this.#frames.length);
    if (value !== expected) fail(`command ${number} was answered with ${value}, not ${expected}`);
    this.#answered[place] = 1;
    while (this.#low <= this.#number && this.#answered[this.#low % RING] === 1) this.#low++;
    this.acknowledged++;
    if (this.#histogram === undefined) return;
    if (this.#readMs === 0) this.#readMs = nowMs();
    const plannedMs = this.#plannedMs[place] as number;
    if (plannedMs >= this.#countFromMs)
      this.#histogram.recordValue(Math.max(1, Math.round((this.#readMs - plannedMs) * 1_000)));
  }

  #message(reader: ServerMessageReader): void {
    if (reader.type === FROM_EDGE.answer) {
      const { value } = valueReply.decode(reader.bytes, reader.bodyStart, reader.bodyEnd) as { value: number };
      return this.#answer?.(value);
    }
    if (reader.type === FROM_EDGE.failed || reader.type === FROM_EDGE.error) {
      const { name, message } = reader.problem();
      fail(`${reader.about} failed: ${name}: ${message}`);
    }
    fail(`an unexpected message of type ${reader.type}`);
  }
}

/** An integer from 0 to 2^32 - 1 in any of its forms. */
function naturalAt(bytes: Buffer, at: number): number {
  const tag = bytes[at] as number;
  if (tag < 0x80) return tag;
  if (tag === 0xcc) return bytes[at + 1] as number;
  if (tag === 0xcd) return ((bytes[at + 1] as number) << 8) | (bytes[at + 2] as number);
  if (tag === 0xce) return bytes.readUInt32BE(at + 1);
  return fail(`no natural number but ${tag}`);
}

function naturalBytes(bytes: Buffer, at: number): number {
  const tag = bytes[at] as number;
  if (tag < 0x80) return 1;
  return tag === 0xcc ? 2 : tag === 0xcd ? 3 : 5;
}

/** A wrong result ends the measurement: the process dies, and whoever asked is told. */
function fail(reason: string): never {
  throw new Error(reason);
}

export function latencyOf(histogram: Histogram): Latency {
  const at = (percentile: number) => histogram.getValueAtPercentile(percentile);
  return {
    p50: at(50),
    p90: at(90),
    p99: at(99),
    p999: at(99.9),
    max: histogram.maxValue,
    mean: Math.round(histogram.mean),
  };
}

const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

/** Errors: Error after `timeoutMs`. */
async function until(condition: () => boolean, timeoutMs: number): Promise<void> {
  const deadline = performance.now() + timeoutMs;
  while (!condition()) {
    if (performance.now() > deadline) throw new Error('answers are missing');
    await sleep(2);
  }
}
