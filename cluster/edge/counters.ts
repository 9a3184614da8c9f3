/** What the edge counts, as plain numbers: the hot path adds to them, a scrape of the metrics reads them. */
import type { Gauge, Registry } from 'prom-client';
import { Counter, Gauge as PromGauge } from 'prom-client';

export class EdgeCounters {
  connectionsOpened = 0;
  connectionsRefused = 0;
  messages = 0;
  bytesReceived = 0;
  bytesSent = 0;
  writes = 0;
  commands = 0;
  replies = 0;
  repliesRepeated = 0;
  resent = 0;
  ownersSeen = 0;
  queries = 0;
  events = 0;
  deliveries = 0;
  conflated = 0;
  topicFetches = 0;
  oversized = 0;
  damagedBusMessages = 0;
  httpRequests = 0;
  /** Refusals by error name, over every way in. */
  readonly refusals = new Map<string, number>();
  /** Closes by code, those that the edge began. */
  readonly closes = new Map<string, number>();

  refused(name: string): void {
    this.refusals.set(name, (this.refusals.get(name) ?? 0) + 1);
  }

  closed(code: number): void {
    this.closes.set(String(code), (this.closes.get(String(code)) ?? 0) + 1);
  }
}

type Figure = { readonly name: string; readonly help: string; readonly value: () => number };

/** Gauges that are read when somebody asks. */
export function addGauges(registry: Registry, figures: readonly Figure[]): void {
  for (const { name, help, value } of figures) {
    new PromGauge({
      name,
      help,
      registers: [registry],
      collect(this: Gauge) {
        this.set(value());
      },
    });
  }
}

/** A gauge for each entry of a label. */
export function addLabelledGauge(
  registry: Registry,
  { name, help, label }: { name: string; help: string; label: string },
  values: () => Iterable<readonly [string, number]>,
): void {
  new PromGauge({
    name,
    help,
    labelNames: [label],
    registers: [registry],
    collect(this: Gauge) {
      this.reset();
      for (const [entry, value] of values()) this.set({ [label]: entry }, value);
    },
  });
}

const COUNTED = [
  ['connectionsOpened', 'troupe_edge_connections_opened_total', 'Websockets that were opened.'],
  ['connectionsRefused', 'troupe_edge_connections_refused_total', 'Upgrades that were refused.'],
  ['messages', 'troupe_edge_messages_total', 'Websocket messages received.'],
  ['bytesReceived', 'troupe_edge_received_bytes_total', 'Bytes of websocket messages received.'],
  ['bytesSent', 'troupe_edge_sent_bytes_total', 'Bytes of websocket messages sent.'],
  ['writes', 'troupe_edge_writes_total', 'Writes to sockets: one per socket and tick.'],
  ['commands', 'troupe_edge_commands_total', 'Commands taken into frames.'],
  ['replies', 'troupe_edge_replies_total', 'Commands answered.'],
  ['repliesRepeated', 'troupe_edge_replies_repeated_total', 'Replies that nobody waits for any more.'],
  ['resent', 'troupe_edge_resent_total', 'Records sent again.'],
  [
    'ownersSeen',
    'troupe_edge_owners_seen_total',
    'Changes of owner, which made the edge send unanswered commands again.',
  ],
  ['queries', 'troupe_edge_queries_total', 'Queries asked.'],
  ['events', 'troupe_edge_events_total', 'Topic events received.'],
  ['deliveries', 'troupe_edge_deliveries_total', 'Topic events given to sockets.'],
  ['conflated', 'troupe_edge_conflated_total', 'Snapshots sent in place of events.'],
  ['topicFetches', 'troupe_edge_topic_fetches_total', 'Snapshots and pages fetched for topics.'],
  ['oversized', 'troupe_edge_oversized_total', 'Connections closed for a message above twice the limit.'],
  ['damagedBusMessages', 'troupe_edge_damaged_bus_messages_total', 'Bus messages that could not be read.'],
  ['httpRequests', 'troupe_edge_http_requests_total', 'HTTP requests.'],
] as const satisfies readonly (readonly [keyof EdgeCounters, string, string])[];

export function addCounters(registry: Registry, counters: EdgeCounters): void {
  for (const [field, name, help] of COUNTED) {
    new Counter({
      name,
      help,
      registers: [registry],
      collect(this: Counter) {
        this.reset();
        this.inc(counters[field]);
      },
    });
  }
  const labelled = [
    ['troupe_edge_refusals', 'Refusals by error name.', 'error', counters.refusals],
    ['troupe_edge_closes', 'Connections that the edge closed, by code.', 'code', counters.closes],
  ] as const;
  for (const [name, help, label, values] of labelled)
    addLabelledGauge(registry, { name, help, label }, () => values.entries());
}
