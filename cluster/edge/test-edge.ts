/**
 * For tests: a kind, a host that folds frames without any of the real one's care, an edge before them, and a client that
 * speaks bytes. Everything is in memory but the sockets.
 */
import { pino } from 'pino';
import { Registry } from 'prom-client';
import { WebSocket } from 'ws';
import { type ActorDefinition, defineActor, isRejection, reject } from '../../actors/definition.ts';
import { readFrame } from '../../protocol/frame.ts';
import { SUBPROTOCOL } from '../../protocol/message.ts';
import { pack, scan, unpack } from '../../protocol/msgpack.ts';
import { RecordReader } from '../../protocol/record.ts';
import { bytes, int, list, text } from '../../protocol/schema.ts';
import { type Shape, shapeOf, shapeOfEither } from '../../protocol/shape.ts';
import { MemoryBus } from '../bus/memory-bus.ts';
import {
  decodeEventsRequest,
  decodeQuery,
  decodeSnapshotRequest,
  EventBatchWriter,
  encodeAnswer,
  encodeEventsPage,
  encodeFailure,
  encodeHeads,
  encodeHeartbeat,
  encodeSnapshot,
  FAILED,
  type PartitionState,
  REPLY,
  ReplyBatchWriter,
} from '../bus/messages.ts';
import { headsOf, heartbeatOf, queriesOf, repliesTo, topicSubject } from '../bus/subjects.ts';
import { FramePublisher } from '../log/frame-publisher.ts';
import { MemoryLog } from '../log/memory-log.ts';
import { allPartitions } from '../placement/partition-of.ts';
import { createEdge, type Edge } from './edge.ts';
import type { EdgeSettings } from './settings.ts';
import { issueToken } from './tokens.ts';
import { UwsTransport } from './uws-transport.ts';

type Sum = { value: number; seen: number };

/** Adds numbers. `slow` answers nothing by itself; `big` has a large body and reply. */
export const adder = defineActor({
  kind: 'adder',
  group: 'main',
  placement: (key) => key,
  commands: {
    add: {
      roles: ['user'],
      fields: { amount: int(-1_000_000, 1_000_000), note: text(200) },
      reply: { value: int(-1e15, 1e15) },
    },
    refuse: { roles: ['user'], fields: {}, reply: {} },
    big: { roles: ['user'], fields: { data: bytes(400_000) }, reply: { data: bytes(400_000) } },
    exact: {
      roles: ['user'],
      fields: { amount: int(0, 65_535), code: text(8) },
      reply: { value: int(0, 1e15) },
      binary: true,
    },
    rule: { roles: ['admin'], fields: {}, reply: {} },
  },
  queries: {
    sum: { fields: {}, reply: { value: int(-1e15, 1e15), seen: int(0, 1e15) } },
    repeat: { roles: ['user'], fields: { times: int(0, 1_000) }, reply: list(int(0, 1e15), 1_000) },
  },
  topics: {
    sum: { event: { value: int(-1e15, 1e15), seen: int(0, 1e15) }, lossy: 'sum' },
    notes: { table: 'notes' },
    secrets: { roles: ['admin'], table: 'notes' },
  },
  tables: { notes: { key: { offset: int(1, 1e15) }, row: { amount: int(-1_000_000, 1_000_000), note: text(200) } } },
  rejections: { never: 'This is always refused.' },
  initial: (): Sum => ({ value: 0, seen: 0 }),
  handle: {
    add(sum, { amount, note }, ctx) {
      sum.value += amount;
      sum.seen++;
      ctx.publish('sum', { value: sum.value, seen: sum.seen });
      ctx.publish('notes', { amount, note });
      return { value: sum.value };
    },
    refuse: () => reject('never'),
    big: (_, { data }) => ({ data }),
    exact(sum, { amount }) {
      sum.value += amount;
      return { value: sum.value };
    },
    rule: () => ({}),
  },
  answer: {
    sum: ({ value, seen }) => ({ value, seen }),
    repeat: ({ value }, { times }) => Array.from({ length: times }, () => value),
  },
  snapshot: {
    version: 1,
    save: ({ value, seen }) => [value, seen],
    load: ([value, seen]: [number, number]) => ({ value, seen }),
    migrate: {},
  },
});

const definition = adder as unknown as ActorDefinition;
const shapes = {
  body: new Map<string, Shape>(
    Object.entries(definition.commands).map(([name, spec]) => [
      name,
      shapeOf(spec.fields, { binary: spec.binary === true }),
    ]),
  ),
  reply: new Map<string, Shape>(Object.entries(definition.commands).map(([name, spec]) => [name, shapeOf(spec.reply)])),
  query: new Map<string, Shape>(Object.entries(definition.queries).map(([name, spec]) => [name, shapeOf(spec.fields)])),
  answer: new Map<string, Shape>(
    Object.entries(definition.queries).map(([name, spec]) => [name, shapeOfEither(spec.reply)]),
  ),
};
const eventShape = shapeOf(adder.topics.sum.event);
const rowShape = shapeOf(adder.tables.notes.row);

type TestActor = { state: Sum; sumOffset: number; notes: Uint8Array[] };

/** Folds one partition: dedupes by session and number, answers, publishes. */
export class TestHost {
  readonly partition: string;
  readonly bus: MemoryBus;
  epoch = 1;
  generation = 1;
  state: PartitionState = 'live';
  fillPermille = 0;
  lagMs = 0;
  outboxBytes = 0;
  sequence = 0;
  folded = 0;
  repeated = 0;
  /** Records are folded, and answered only once this is false again. */
  muted = false;
  /** Events are not published, as if the bus had lost them. */
  loseEvents = false;
  /** While there is a list, answers to queries are made at once and wait in it. */
  heldAnswers: (() => void)[] | undefined;
  incarnation = 1;
  edge = 'e1';
  readonly actors = new Map<string, TestActor>();
  readonly #answers = new Map<string, { status: number; bytes: Uint8Array }>();
  readonly #replies = new ReplyBatchWriter();
  readonly #events = new EventBatchWriter();
  readonly #reader = new RecordReader();
  readonly #frames = new Map<number, number>();
  readonly #ends: (() => void)[] = [];

  constructor(bus: MemoryBus, partition: string) {
    this.bus = bus;
    this.partition = partition;
    this.#ends.push(bus.subscribe(queriesOf(partition), (bytes, replyTo) => this.#query(bytes, replyTo as string)));
  }

  stop(): void {
    for (const end of this.#ends) end();
  }

  fold(sequence: number, data: Uint8Array): void {
    const frame = readFrame(data);
    this.sequence = sequence;
    const expected = (this.#frames.get(frame.incarnation) ?? 0) + 1;
    if (frame.frameNumber !== expected) return;
    this.#frames.set(frame.incarnation, expected);
    this.#replies.begin(this.header());
    this.#reader.reset(data, frame.bodyStart, frame.bodyEnd);
    while (this.#reader.next()) this.#record(this.#reader);
    const batch = this.#replies.take();
    if (!this.muted) this.bus.publish(repliesTo(this.edge), batch);
  }

  header() {
    const { partition, incarnation, epoch, lagMs, fillPermille, outboxBytes, sequence } = this;
    return { partition, incarnation, epoch, lagMs, fillPermille, outboxBytes, sequence };
  }

  #record(record: RecordReader): void {
    const session = Buffer.from(record.bytes.subarray(record.sessionStart, record.sessionStart + 16)).toString('hex');
    const key = `${session} ${record.number}`;
    let answer = this.#answers.get(key);
    if (answer) this.repeated++;
    else {
      answer = this.#handle(record);
      this.#answers.set(key, answer);
      this.folded++;
    }
    this.#replies.append(record.slot, record.number, answer.status, answer.bytes);
  }

  #handle(record: RecordReader): { status: number; bytes: Uint8Array } {
    const ref = Buffer.from(record.bytes.subarray(record.refStart, record.refEnd)).toString();
    const name = nameOf(record.commandId);
    const fields = shapes.body.get(name)?.decode(record.bytes, record.bodyStart, record.bodyEnd);
    const actor = this.actor(ref);
    const ctx = { publish: (topic: string, event: object) => this.publish(ref, actor, topic, event) };
    const reply = definition.handle[name]?.(actor.state, fields, ctx as never);
    if (isRejection(reply)) {
      return {
        status: FAILED,
        bytes: encodeFailure({ error: reply.name, message: 'refused', retryAfterMs: undefined }),
      };
    }
    return { status: REPLY, bytes: shapes.reply.get(name)?.encode(reply) as Uint8Array };
  }

  actor(ref: string): TestActor {
    let actor = this.actors.get(ref);
    if (!actor) {
      actor = { state: { value: 0, seen: 0 }, sumOffset: 0, notes: [] };
      this.actors.set(ref, actor);
    }
    return actor;
  }

  publish(ref: string, actor: TestActor, topic: string, event: object): void {
    const isLossy = topic === 'sum';
    const bytes = isLossy ? eventShape.encode(event as never) : rowShape.encode(event as never);
    if (isLossy) actor.sumOffset++;
    else actor.notes.push(bytes);
    if (this.loseEvents) return;
    this.#events.begin(this.generation, this.epoch, isLossy ? actor.sumOffset : actor.notes.length);
    this.#events.append(bytes);
    this.bus.publish(topicSubject(ref, topic), this.#events.take());
  }

  /** Lets the answers go that waited. */
  releaseAnswers(): void {
    const held = this.heldAnswers ?? [];
    this.heldAnswers = undefined;
    for (const send of held) send();
  }

  heartbeat(): void {
    const { partition, epoch, state, lagMs, fillPermille, outboxBytes, sequence, generation } = this;
    const beat = { partition, epoch, state, reason: undefined, lagMs, fillPermille, outboxBytes, sequence, generation };
    this.bus.publish(heartbeatOf('h1'), encodeHeartbeat({ node: 'h1', at: Date.now(), partitions: [beat] }));
  }

  heads(): void {
    const topics = [...this.actors].flatMap(([ref, { sumOffset, notes }]) => [
      [ref, 'sum', sumOffset] as const,
      [ref, 'notes', notes.length] as const,
    ]);
    this.bus.publish(headsOf(this.partition), encodeHeads({ epoch: this.epoch, generation: this.generation, topics }));
  }

  #query(bytes: Uint8Array, replyTo: string): void {
    const { ref, name, body } = decodeQuery(bytes);
    const { epoch, sequence, generation } = this;
    const answer = (reply: Uint8Array): void => {
      const send = () => this.bus.publish(replyTo, encodeAnswer({ ok: true, body: reply, epoch, sequence }));
      if (this.heldAnswers) this.heldAnswers.push(send);
      else send();
    };
    if (name === '~actors') return answer(pack([[...this.actors.keys()].sort(), false]));
    const actor = this.actor(ref);
    if (name === '~inspect') return answer(pack({ actor: ref, ...actor.state }));
    if (name === '~snapshot') {
      decodeSnapshotRequest(body);
      return answer(encodeSnapshot({ generation, offset: actor.sumOffset, body: eventShape.encode(actor.state) }));
    }
    if (name === '~events') {
      const { after, limit } = decodeEventsRequest(body);
      const events = actor.notes.slice(after, after + limit);
      return answer(encodeEventsPage({ generation, headOffset: actor.notes.length, firstOffset: 1, events }));
    }
    const fields = shapes.query.get(name)?.decode(body);
    answer(shapes.answer.get(name)?.encode(definition.answer[name]?.(actor.state, fields, {} as never)) as Uint8Array);
  }
}

const names = new Map<number, string>();

function nameOf(id: number): string {
  if (names.size === 0) for (const name of Object.keys(definition.commands)) names.set(fnv(name), name);
  return names.get(id) as string;
}

function fnv(name: string): number {
  let hash = 0x811c9dc5;
  for (const character of Buffer.from(name)) hash = Math.imul(hash ^ character, 0x01000193) >>> 0;
  return hash;
}

export type TestCluster = {
  readonly edge: Edge;
  readonly port: number;
  readonly operationsPort: number;
  readonly bus: MemoryBus;
  readonly log: MemoryLog;
  readonly hosts: ReadonlyMap<string, TestHost>;
  readonly registry: Registry;
  /** What the edge logged as wrong. `stop` throws if there is anything. */
  readonly problems: string[];
  token(principal: string, roles?: readonly string[], lifeMs?: number): Promise<string>;
  metric(name: string): Promise<number>;
  stop(): Promise<void>;
};

export const TEST_SECRETS = { tokens: new Uint8Array(32).fill(7), sessions: new Uint8Array(32).fill(9) };

/** An edge on a free port, with as many partitions as asked. */
export async function startCluster(settings: Partial<EdgeSettings> = {}, partitions = 2): Promise<TestCluster> {
  const groups = { main: partitions };
  const bus = new MemoryBus();
  const log = new MemoryLog();
  const registry = new Registry();
  const problems: string[] = [];
  const hosts = new Map<string, TestHost>();
  const readers: { stop(): void }[] = [];
  const openHost = async (name: string) => {
    const host = new TestHost(bus, name);
    hosts.set(name, host);
    const partitionLog = await log.open(name, 1, { maxBytes: 1 << 28, replicas: 1 });
    readers.push(
      partitionLog.read(
        1,
        ({ sequence, data }) => host.fold(sequence, data),
        (error) => assertNever(error),
      ),
    );
  };
  for (const name of allPartitions(groups)) await openHost(name);
  const edge = createEdge({
    settings: { id: 'e1', port: 0, operationsPort: 0, ...settings },
    kinds: [definition],
    groups,
    bus,
    incarnation: 1,
    secrets: TEST_SECRETS,
    logger: pino({ level: 'warn' }, { write: (line) => void problems.push(line) }),
    registry,
    transport: (given, handlers) => new UwsTransport(given, handlers),
    openPublisher: async (partition, generation = 1, failed) => {
      const partitionLog = await log.open(partition, generation, { maxBytes: 1 << 28, replicas: 1 });
      return {
        generation,
        publisher: new FramePublisher({ log: partitionLog, token: 'cmd.e1', incarnation: 1, onFailed: failed }),
      };
    },
  });
  const { port, operationsPort } = await edge.start();
  for (const host of hosts.values()) host.heartbeat();
  return {
    edge,
    port,
    operationsPort,
    bus,
    log,
    hosts,
    registry,
    problems,
    token: (principal, roles = ['user'], lifeMs = 600_000) =>
      issueToken(TEST_SECRETS.tokens, { principal, roles, lifeMs }),
    metric: async (name) =>
      Number(new RegExp(`^${name.replace(/[{}"]/g, '\\$&')} (.*)$`, 'm').exec(await registry.metrics())?.[1] ?? 0),
    stop: async () => {
      await edge.stop();
      for (const reader of readers) reader.stop();
      for (const host of hosts.values()) host.stop();
      await log.close();
      await bus.close();
      if (problems.length > 0) throw new Error(`the edge logged: ${problems.join('')}`);
    },
  };
}

function assertNever(error: Error): never {
  throw error;
}

/** Waits for a condition, asking every few milliseconds. Errors: Error with the label at the deadline. */
export async function until(
  label: string,
  condition: () => boolean | Promise<boolean>,
  timeoutMs = 5_000,
): Promise<void> {
  const endMs = performance.now() + timeoutMs;
  while (!(await condition())) {
    if (performance.now() > endMs) throw new Error(`${label}: not within ${timeoutMs} ms`);
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
}

/** A websocket that speaks plain arrays and remembers everything it is told. */
export class TestClient {
  readonly socket: WebSocket;
  readonly messages: unknown[][] = [];
  closed: { code: number; reason: string } | undefined;

  constructor(port: number, options: { protocol?: string; headers?: Record<string, string> } = {}) {
    this.socket = new WebSocket(`ws://127.0.0.1:${port}/v1/socket`, options.protocol ?? SUBPROTOCOL, {
      headers: options.headers ?? {},
    });
    this.socket.binaryType = 'nodebuffer';
    this.socket.on('message', (data: Buffer) => this.#take(data));
    this.socket.on('close', (code, reason) => {
      this.closed = { code, reason: reason.toString() };
    });
    this.socket.on('error', () => undefined);
  }

  #take(data: Buffer): void {
    for (let at = 0; at < data.length; ) {
      const end = scan(data, at);
      this.messages.push(unpack(data, at, end) as unknown[]);
      at = end;
    }
  }

  async open(): Promise<this> {
    await until('open', () => this.socket.readyState !== WebSocket.CONNECTING);
    return this;
  }

  send(...messages: unknown[]): void {
    this.socket.send(Buffer.concat(messages.map((message) => Uint8Array.from(pack(message)))));
  }

  /** The first message that matches, once it is there. */
  async find(type: number, number?: number, timeoutMs = 5_000): Promise<unknown[]> {
    const match = ([its, about]: unknown[]) => its === type && (number === undefined || about === number);
    await until(
      `message ${type} ${number ?? ''} (closed: ${JSON.stringify(this.closed)})`,
      () => this.messages.some(match),
      timeoutMs,
    );
    return this.messages.find(match) as unknown[];
  }

  async close(): Promise<{ code: number; reason: string }> {
    await until('close', () => this.closed !== undefined);
    return this.closed as { code: number; reason: string };
  }

  end(): void {
    this.socket.terminate();
  }
}

/** A client that was welcomed. */
export async function greeted(
  cluster: TestCluster,
  principal = 'u1',
  options: { roles?: string[]; session?: string; lifeMs?: number } = {},
): Promise<TestClient> {
  const client = await new TestClient(cluster.port).open();
  const token = await cluster.token(principal, options.roles ?? ['user'], options.lifeMs ?? 600_000);
  client.send([1, { v: 1, token, ...(options.session !== undefined && { session: options.session }) }]);
  await client.find(1);
  return client;
}

/** Whole numbers below a bound, from a seed that a failure prints (Numerical Recipes' generator). */
export function randomOf(seed: number): (bound: number) => number {
  let state = seed;
  return (bound) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return (state >>> 8) % bound;
  };
}
