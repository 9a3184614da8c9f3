/** What can be set on an edge: defaults, bounds, and why they are what they are. */
import { checkInteger } from './transport.ts';

export type EdgeSettings = {
  /** Name of this edge in subjects; `[a-z0-9]{1,16}`, unique in the cluster. */
  readonly id: string;
  /** Shown to clients in the welcome. */
  readonly node: string;
  readonly host: string;
  readonly port: number;
  /** Of `/healthz`, `/readyz` and `/metrics`, on 127.0.0.1; 0 chooses a free one. */
  readonly operationsPort: number;
  readonly sharePort: boolean;
  /** Origins that may open websockets beside the edge's own host (`https://example.org`). */
  readonly origins: readonly string[];
  readonly maxConnections: number;
  readonly maxConnectionsPerAddress: number;
  readonly helloTimeoutMs: number;
  readonly heartbeatMs: number;
  readonly idleTimeoutSeconds: number;
  readonly maxPayloadBytes: number;
  readonly maxBodyBytes: number;
  readonly bodyTimeoutMs: number;
  readonly maxQueuedBytes: number;
  readonly stallTimeoutMs: number;
  readonly commandsPerSecond: number;
  readonly commandsPerSecondPerUser: number;
  readonly maxUnansweredRecords: number;
  readonly maxUnansweredBytes: number;
  readonly maxLagMs: number;
  readonly maxFillPermille: number;
  readonly maxOutboxBytes: number;
  readonly resendAfterMs: number;
  readonly queryTimeoutMs: number;
  readonly commandTimeoutMs: number;
  readonly maxQueriesPerSession: number;
  readonly maxSubscriptions: number;
  readonly maxTopics: number;
  readonly maxRecoveredEvents: number;
  readonly sessionHorizonMs: number;
  readonly clockToleranceMs: number;
  readonly drainMs: number;
  /** Gives viewer tokens to local browsers; never outside development. */
  readonly developmentTokens: boolean;
  /** Folder of the console's files; none: no console. */
  readonly consoleFolder: string | undefined;
};

const DEFAULT_SETTINGS: EdgeSettings = {
  id: 'e1',
  node: 'edge',
  host: '127.0.0.1',
  port: 7070,
  operationsPort: 0,
  sharePort: false,
  origins: [],
  maxConnections: 50_000, // At 4 KB each 200 MB; the limit of open files comes first on most machines.
  maxConnectionsPerAddress: 20_000, // Behind one NAT or proxy sit many users; lower it where clients come directly.
  helloTimeoutMs: 10_000, // A mobile link's worst handshake; whoever is silent longer only holds a socket.
  heartbeatMs: 25_000, // Below the 30 s after which some NATs forget a connection.
  idleTimeoutSeconds: 120, // Network-level guard behind the heartbeat: a peer that vanished without a word.
  maxPayloadBytes: 64 * 1024, // The largest command of a system is a few KiB; a record may hold 512 KiB.
  maxBodyBytes: 128 * 1024, // JSON takes about twice the bytes of the positional form.
  bodyTimeoutMs: 10_000, // 128 KiB at 100 kbit/s.
  maxQueuedBytes: 1024 * 1024, // Beyond the socket's own buffers: seconds of a busy topic for a slow phone.
  stallTimeoutMs: 10_000, // A reader that takes nothing for so long is not coming back in time.
  commandsPerSecond: 50_000, // One connection may replay a market; what a partition can take is limited apart.
  commandsPerSecondPerUser: 200_000, // Four such connections.
  maxUnansweredRecords: 20_000, // Per partition: a quarter of a second at the full rate of the way.
  maxUnansweredBytes: 16 * 1024 * 1024, // Per partition: 64 of them may all be stuck at once without ending the process.
  maxLagMs: 5_000, // Above it a new command would be answered after most clients gave up.
  maxFillPermille: 850, // The rest of a log is reserved for takeovers, own records and trimming.
  maxOutboxBytes: 8 * 1024 * 1024, // A partition that cannot send must not take commands that make it send more.
  resendAfterMs: 5_000, // An answer that takes longer was probably lost on the bus.
  queryTimeoutMs: 5_000, // Long enough for a takeover with a hot standby; clients ask again.
  commandTimeoutMs: 10_000, // Of HTTP; the same key may be sent again.
  maxQueriesPerSession: 64, // A page that opens asks a dozen at once.
  maxSubscriptions: 256, // Per connection: a trader's screen has tens.
  maxTopics: 100_000, // Per edge: a subscription of the bus and about 1 KB each.
  maxRecoveredEvents: 10_000, // A client that missed more reads pages by query.
  sessionHorizonMs: 24 * 3_600_000, // What hosts remember of an idle session; told to clients.
  clockToleranceMs: 60_000, // Between whoever issues tokens and this machine.
  drainMs: 5_000, // Goaway is spread over this, so that clients do not all come back at once.
  developmentTokens: false,
  consoleFolder: undefined,
};

/** Completes and checks settings. Errors: RangeError that names the setting, its bounds and the value. */
export function edgeSettings(given: Partial<EdgeSettings>): EdgeSettings {
  const settings = { ...DEFAULT_SETTINGS, ...given };
  if (!/^[a-z0-9]{1,16}$/.test(settings.id)) throw new RangeError(`id: 1 to 16 of a-z and 0-9, not "${settings.id}"`);
  for (const [name, [min, max]] of Object.entries(BOUNDS)) {
    checkInteger(name, settings[name as keyof typeof BOUNDS], min, max);
  }
  return settings;
}

const DAY_MS = 86_400_000;
const GIB = 1024 ** 3;

/** The largest command body leaves room for the header of a record of 512 KiB. */
const BOUNDS = {
  port: [0, 65_535],
  operationsPort: [0, 65_535],
  maxConnections: [1, 1_000_000],
  maxConnectionsPerAddress: [1, 1_000_000],
  helloTimeoutMs: [50, 60_000],
  heartbeatMs: [100, 600_000],
  idleTimeoutSeconds: [8, 960],
  maxPayloadBytes: [1_024, 500 * 1024],
  maxBodyBytes: [1_024, 16 * 1024 * 1024],
  bodyTimeoutMs: [10, 600_000],
  maxQueuedBytes: [16 * 1024, 64 * 1024 * 1024],
  stallTimeoutMs: [50, 600_000],
  commandsPerSecond: [1, 10_000_000],
  commandsPerSecondPerUser: [1, 10_000_000],
  maxUnansweredRecords: [1, 1_000_000],
  maxUnansweredBytes: [1_024, GIB],
  maxLagMs: [10, 600_000],
  maxFillPermille: [1, 1_000],
  maxOutboxBytes: [1_024, GIB],
  resendAfterMs: [50, 600_000],
  queryTimeoutMs: [10, 600_000],
  commandTimeoutMs: [10, 600_000],
  maxQueriesPerSession: [1, 10_000],
  maxSubscriptions: [1, 100_000],
  maxTopics: [1, 10_000_000],
  maxRecoveredEvents: [0, 1_000_000],
  sessionHorizonMs: [60_000, 30 * DAY_MS],
  clockToleranceMs: [0, 600_000],
  drainMs: [0, 600_000],
} as const satisfies { readonly [Name in keyof EdgeSettings]?: readonly [min: number, max: number] };
