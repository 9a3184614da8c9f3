/**
 * An edge: where clients come in. It checks and forwards, and knows no rule of any domain; what it holds of a client is lost
 * without harm, since commands are repeated under their numbers and topics go on from an offset.
 */
import type { Logger } from 'pino';
import type { Registry } from 'prom-client';
import type { ActorDefinition } from '../../actors/definition.ts';
import type { Bus } from '../bus/bus.ts';
import { ALL_HEADS, ALL_HEARTBEATS, repliesTo } from '../bus/subjects.ts';
import { allPartitions, type Groups } from '../placement/partition-of.ts';
import { Catalogue } from './catalogue.ts';
import { ClientProtocol } from './client-protocol.ts';
import { CoarseClock, TICK_MS } from './coarse-clock.ts';
import { Commands, type OpenPublisher } from './commands.ts';
import type { Connection } from './connection.ts';
import { addCounters, addGauges, addLabelledGauge, EdgeCounters } from './counters.ts';
import { HttpApi } from './http-api.ts';
import { OperationsPort } from './operations-port.ts';
import { Outgoing } from './outgoing.ts';
import { Partition } from './partition.ts';
import { Queries } from './queries.ts';
import { Sessions } from './sessions.ts';
import { type EdgeSettings, edgeSettings } from './settings.ts';
import { TokenVerifier } from './tokens.ts';
import { TopicHub } from './topic-hub.ts';
import type { Transport, TransportHandlers, TransportSettings } from './transport.ts';

const SWEEP_TICKS = 1_000 / TICK_MS; // Overdue answers are looked for once a second.
const SILENT_OWNER_MS = 2_000; // Eight heartbeats: `/readyz` and `status` call an owner missing.
const DRAIN_POLL_MS = 20;
const BUFFERED_BYTES = 64 * 1024; // Of one socket, before the edge's own queue begins: kept until the connection closes.
const TOO_BIG = 'Received too big message'; // What the transport says when it closes for a message beyond twice the limit.

export type EdgeParts = {
  readonly settings: Partial<EdgeSettings>;
  readonly kinds: readonly ActorDefinition[];
  readonly groups: Groups;
  readonly bus: Bus;
  /** Gives the way into a partition's log; asked at start, and again for a new generation. */
  readonly openPublisher: OpenPublisher;
  /** The revision of this edge's entry, taken at start: frames and replies of an older one are not ours. */
  readonly incarnation: number;
  /** `tokens` is shared with whoever issues them; `sessions` by all edges. At least 32 bytes each. */
  readonly secrets: { readonly tokens: Uint8Array; readonly sessions: Uint8Array };
  readonly logger: Logger;
  readonly registry: Registry;
  /** Makes the transport, e.g. `(settings, handlers) => new UwsTransport(settings, handlers)`. */
  readonly transport: (settings: TransportSettings, handlers: TransportHandlers<Connection>) => Transport;
};

export type Edge = {
  /** Opens the logs, then listens. Errors: Error when an address is taken. */
  start(): Promise<{ port: number; operationsPort: number }>;
  /**
   * Why the log stores nothing now, as whoever runs it says; undefined: it does. Meanwhile commands are refused at once
   * (`storage_full`, else `log_unavailable`), and `/readyz` gives the reason.
   */
  noteLogProblem(reason: string | undefined): void;
  /** Refuses newcomers, asks clients to leave, waits for what is in flight, and closes the rest as `going_away`. */
  drain(): Promise<void>;
  /** Ends at once. */
  stop(): Promise<void>;
};

/** Errors: RangeError, TypeError for settings and kinds that do not fit. */
export function createEdge(parts: EdgeParts): Edge {
  return new RunningEdge(parts);
}

class RunningEdge implements Edge {
  readonly #parts: EdgeParts;
  readonly #settings: EdgeSettings;
  readonly #clock = new CoarseClock();
  readonly #counters = new EdgeCounters();
  readonly #partitions: ReadonlyMap<string, Partition>;
  readonly #commands: Commands;
  readonly #sessions: Sessions;
  readonly #protocol: ClientProtocol;
  readonly #outgoing: Outgoing;
  readonly #hub: TopicHub;
  readonly #http: HttpApi;
  readonly #transport: Transport;
  readonly #operations: OperationsPort;
  readonly #ends: (() => void)[] = [];
  #sweptTick = 0;
  #listening = false;
  #stopped = false;

  constructor(parts: EdgeParts) {
    this.#parts = parts;
    const settings = edgeSettings(parts.settings);
    this.#settings = settings;
    const { bus, incarnation, openPublisher, registry } = parts;
    const clock = this.#clock;
    const counters = this.#counters;
    const problem = this.#problem;
    const partitions = new Map(allPartitions(parts.groups).map((name) => [name, new Partition(name)]));
    this.#partitions = partitions;
    const catalogue = new Catalogue(parts.kinds, parts.groups, (name) => partitions.get(name) as Partition);
    const verifier = new TokenVerifier(parts.secrets.tokens, settings.clockToleranceMs);
    const queries = new Queries(bus, settings.queryTimeoutMs, counters);
    const outgoing = new Outgoing(settings.maxQueuedBytes, clock, counters, {
      slow: (connection) => this.#sessions.close(connection, 'slow_reader', undefined, false),
    });
    this.#outgoing = outgoing;
    this.#commands = new Commands({ settings, incarnation, partitions, clock, counters, openPublisher, problem });
    this.#hub = new TopicHub({ settings, bus, queries, outgoing, clock, counters, problem });
    this.#sessions = new Sessions({
      settings,
      catalogue,
      verifier,
      sessionSecret: parts.secrets.sessions,
      clock,
      counters,
      outgoing,
      newSlot: () => this.#commands.newSlot(),
      opened: (connection) => this.#protocol.opened(connection),
      closed: (connection) => this.#hub.left(connection),
    });
    const { sessions, hub, commands } = { sessions: this.#sessions, hub: this.#hub, commands: this.#commands };
    this.#protocol = new ClientProtocol({
      settings,
      catalogue,
      sessions,
      commands,
      queries,
      hub,
      outgoing,
      clock,
      counters,
      problem,
    });
    this.#http = new HttpApi({
      settings,
      catalogue,
      partitions,
      commands,
      queries,
      sessions,
      verifier,
      tokenSecret: parts.secrets.tokens,
      clock,
      counters,
      problem,
    });
    this.#operations = new OperationsPort(
      registry,
      () => this.#unready(),
      () => this.#remarks(),
    );
    this.#transport = parts.transport(transportSettings(settings), this.#handlers());
    this.#addMetrics();
  }

  async start(): Promise<{ port: number; operationsPort: number }> {
    const { bus, logger } = this.#parts;
    this.#ends.push(
      bus.subscribe(repliesTo(this.#settings.id), (bytes) =>
        this.#read('reply batch', () => this.#commands.replies(bytes)),
      ),
    );
    this.#ends.push(
      bus.subscribe(ALL_HEARTBEATS, (bytes) => this.#read('heartbeat', () => this.#commands.heartbeat(bytes))),
    );
    this.#ends.push(bus.subscribe(ALL_HEADS, (bytes) => this.#read('heads', () => this.#hub.heads(bytes))));
    await this.#commands.start();
    this.#clock.start(() => this.#tick());
    const port = await this.#transport.listen();
    const operationsPort = await this.#operations.listen(this.#settings.operationsPort);
    this.#listening = true;
    logger.info(
      { port, operationsPort, edge: this.#settings.id, incarnation: this.#parts.incarnation },
      'the edge listens',
    );
    return { port, operationsPort };
  }

  noteLogProblem(reason: string | undefined): void {
    this.#commands.noteLogProblem(reason);
  }

  async drain(): Promise<void> {
    if (!this.#listening) return this.stop();
    this.#listening = false;
    this.#transport.stopListening();
    this.#parts.logger.info({ connections: this.#sessions.connections }, 'the edge drains');
    const untilMs = performance.now() + this.#settings.drainMs;
    await this.#sessions.goAway(this.#settings.drainMs);
    while ((this.#sessions.busy || this.#http.busy) && performance.now() < untilMs) {
      await new Promise((resolve) => setTimeout(resolve, DRAIN_POLL_MS));
    }
    await this.#sessions.closeAll();
    await this.stop();
  }

  async stop(): Promise<void> {
    if (this.#stopped) return;
    this.#stopped = true;
    this.#listening = false;
    this.#clock.stop();
    for (const end of this.#ends) end();
    this.#hub.stop();
    this.#commands.stop();
    this.#transport.close();
    await this.#operations.close();
  }

  #handlers(): TransportHandlers<Connection> {
    return {
      upgrade: (request) => this.#sessions.admit(request),
      open: (socket) => this.#sessions.connected(socket),
      message: (socket, bytes, isBinary) => this.#protocol.receive(socket.state, bytes, isBinary),
      drained: (socket) => this.#outgoing.drained(socket.state),
      close: (socket, _code, reason) => {
        if (reason === TOO_BIG) this.#counters.oversized++;
        this.#sessions.disconnected(socket.state);
      },
      request: (exchange) => this.#http.request(exchange),
      failed: (error) => this.#problem('a handler failed', error),
    };
  }

  #tick(): void {
    this.#sessions.tick();
    this.#hub.tick();
    this.#http.tick();
    if (this.#clock.tick - this.#sweptTick < SWEEP_TICKS) return;
    this.#sweptTick = this.#clock.tick;
    this.#commands.sweep();
  }

  #read(what: string, read: () => void): void {
    try {
      read();
    } catch (error) {
      this.#counters.damagedBusMessages++;
      this.#problem(`a ${what} could not be read`, error);
    }
  }

  /** Why no traffic should be sent here; undefined when ready. */
  #unready(): string | undefined {
    if (!this.#listening) return 'draining';
    const problem = this.#commands.logProblem;
    if (problem !== undefined) return `${problem.name}: ${problem.reason}`;
    const closed = [...this.#partitions.values()].filter(({ publisher }) => publisher === undefined);
    return closed.length === 0 ? undefined : `logs not open: ${closed.map(({ name }) => name).join(', ')}`;
  }

  /** Partitions that do not work as they should. The others do, so traffic is welcome. */
  #remarks(): string[] {
    const ailing = [...this.#partitions.values()].filter(({ reason }) => reason !== undefined);
    return ailing.map(({ name, state, reason }) => `${name} is ${state}: ${reason}`);
  }

  readonly #problem = (message: string, error: unknown): void => {
    this.#parts.logger.warn({ err: error }, message);
  };

  #addMetrics(): void {
    const { registry } = this.#parts;
    addCounters(registry, this.#counters);
    addGauges(registry, [
      { name: 'troupe_edge_connections', help: 'Open websockets.', value: () => this.#sessions.connections },
      { name: 'troupe_edge_users', help: 'Users with open websockets.', value: () => this.#sessions.users },
      {
        name: 'troupe_edge_blocked_connections',
        help: 'Websockets whose network is behind.',
        value: () => this.#outgoing.blockedConnections,
      },
      { name: 'troupe_edge_topics', help: 'Topics with followers here.', value: () => this.#hub.topics },
      {
        name: 'troupe_edge_owners_silent',
        help: 'Partitions whose owner was not heard of for two seconds.',
        value: () => this.#silentOwners(),
      },
    ]);
    const perPartition: readonly (readonly [string, string, (partition: Partition) => number])[] = [
      ['pending_records', 'Commands without an answer.', ({ pending }) => pending.records],
      ['pending_bytes', 'Bytes of commands without an answer.', ({ pending }) => pending.bytes],
      [
        'unacknowledged_bytes',
        'Bytes that the log has not acknowledged.',
        ({ publisher }) => publisher?.outstandingBytes ?? 0,
      ],
      ['lag_ms', 'Age of the newest folded record.', ({ lagMs }) => lagMs],
      ['fill_permille', 'Fill of the log.', ({ fillPermille }) => fillPermille],
    ];
    for (const [name, help, value] of perPartition) {
      const partitions = [...this.#partitions.values()];
      addLabelledGauge(registry, { name: `troupe_edge_partition_${name}`, help, label: 'partition' }, () =>
        partitions.map((partition) => [partition.name, value(partition)] as const),
      );
    }
  }

  #silentOwners(): number {
    const oldest = this.#clock.tick - SILENT_OWNER_MS / TICK_MS;
    return [...this.#partitions.values()].filter(({ heardTick }) => heardTick < oldest).length;
  }
}

function transportSettings(settings: EdgeSettings): TransportSettings {
  const { host, port, sharePort, maxPayloadBytes, idleTimeoutSeconds, maxBodyBytes, bodyTimeoutMs } = settings;
  return {
    host,
    port,
    sharePort,
    maxMessageBytes: 2 * maxPayloadBytes, // Up to there the command is answered; beyond, the connection is closed.
    maxBufferedBytes: BUFFERED_BYTES,
    idleTimeoutSeconds,
    maxBodyBytes,
    bodyTimeoutMs,
  };
}
