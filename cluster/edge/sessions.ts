/**
 * The life of connections: admission, hello with token and session, token refresh and expiry, heartbeats, takeover of a
 * session by a newer connection, goaway. A session's truth is its signed token and what hosts remember; an edge only knows
 * which connection speaks for it here.
 */
import { ERRORS, type ErrorName, ProtocolError } from '../../protocol/errors.ts';
import { CLOSE_CODES, MAX_IN_FLIGHT, PROTOCOL_VERSION, SUBPROTOCOL } from '../../protocol/message.ts';
import { writeGoaway, writeMapAnswer, writeWelcome } from '../../protocol/server-messages.ts';
import type { Catalogue } from './catalogue.ts';
import { CoarseClock } from './coarse-clock.ts';
import { type AddressEntry, AUTHENTICATING, CLOSED, Connection, OPEN, type UserEntry } from './connection.ts';
import type { EdgeCounters } from './counters.ts';
import { Deadlines } from './deadlines.ts';
import type { Outgoing } from './outgoing.ts';
import type { Partition } from './partition.ts';
import { tell } from './queries.ts';
import { refill } from './rate-limit.ts';
import { newSession, sessionOf, sessionToken } from './session-token.ts';
import type { EdgeSettings } from './settings.ts';
import type { Claims, TokenVerifier } from './tokens.ts';
import type { Socket, UpgradeRefusal, UpgradeRequest, UpgradeVerdict } from './transport.ts';

const WEBSOCKET_PATH = '/v1/socket';

const GOAWAY_BATCH = 200; // Connections told per step of a drain: their reconnects arrive apart.
const GOAWAY_STEP_MS = 20;
const HEARTBEATS_MISSED = 2.5; // Silence of so many intervals: two pings lost and a slow link.

type CloseName = keyof typeof CLOSE_CODES;

export type SessionsOptions = {
  settings: EdgeSettings;
  catalogue: Catalogue<Partition>;
  verifier: TokenVerifier;
  /** Signs session tokens. */
  sessionSecret: Uint8Array;
  clock: CoarseClock;
  counters: EdgeCounters;
  outgoing: Outgoing;
  newSlot: () => number;
  /** A connection may speak now: what it sent early is to be read. */
  opened: (connection: Connection) => void;
  closed: (connection: Connection) => void;
};

export type Hello = {
  readonly v: unknown;
  readonly token: unknown;
  readonly session: unknown;
  readonly client: unknown;
};

export class Sessions {
  readonly #options: SessionsOptions;
  readonly #settings: EdgeSettings;
  readonly #addresses = new Map<string, AddressEntry>();
  readonly #users = new Map<string, UserEntry>();
  readonly #bySession = new Map<string, Connection>();
  readonly #all = new Set<Connection>();
  readonly #deadlines = new Deadlines<Connection>();
  readonly #hellos: number;
  readonly #silence: number;
  #draining = false;

  constructor(options: SessionsOptions) {
    this.#options = options;
    this.#settings = options.settings;
    this.#hellos = CoarseClock.ticks(this.#settings.helloTimeoutMs);
    this.#silence = CoarseClock.ticks(this.#settings.heartbeatMs * HEARTBEATS_MISSED);
  }

  get connections(): number {
    return this.#all.size;
  }

  get users(): number {
    return this.#users.size;
  }

  get draining(): boolean {
    return this.#draining;
  }

  /** The local checks of an upgrade. */
  admit(request: UpgradeRequest): UpgradeVerdict<Connection> {
    const refusal = this.#refusal(request);
    if (refusal) {
      this.#options.counters.connectionsRefused++;
      this.#options.counters.refused(refusal.name);
      return refusal;
    }
    const address = this.#addresses.get(request.address) ?? { address: request.address, connections: 0 };
    const { newSlot, outgoing, clock } = this.#options;
    return { state: new Connection(newSlot(), address, outgoing, clock.tick), protocol: SUBPROTOCOL };
  }

  #refusal({ path, protocols, origin, host, address }: UpgradeRequest): UpgradeRefusal | undefined {
    if (path !== WEBSOCKET_PATH && path !== '/') return refused('not_found', `websockets are at ${WEBSOCKET_PATH}`);
    if (!protocols.split(',').some((protocol) => protocol.trim() === SUBPROTOCOL)) {
      return refused('bad_request', `the subprotocol is ${SUBPROTOCOL}`);
    }
    if (origin !== '' && !this.#isAllowed(origin, host)) return refused('forbidden', 'this origin may not connect');
    if (this.#draining) return refused('going_away');
    if (this.#all.size >= this.#settings.maxConnections) return refused('too_many_connections', 'this edge is full');
    const known = this.#addresses.get(address)?.connections ?? 0;
    return known >= this.#settings.maxConnectionsPerAddress ? refused('too_many_connections') : undefined;
  }

  /** The edge's own pages, and the origins listed. */
  #isAllowed(origin: string, host: string): boolean {
    if (this.#settings.origins.includes(origin)) return true;
    return URL.canParse(origin) && new URL(origin).host === host;
  }

  connected(socket: Socket<Connection>): void {
    const connection = socket.state;
    connection.socket = socket;
    this.#all.add(connection);
    connection.address.connections++;
    this.#addresses.set(connection.address.address, connection.address);
    this.#options.counters.connectionsOpened++;
    this.#schedule(connection, connection.openedTick + this.#hellos);
  }

  disconnected(connection: Connection): void {
    if (connection.phase === CLOSED) return;
    connection.phase = CLOSED;
    connection.socket = undefined;
    connection.early = undefined;
    this.#all.delete(connection);
    if (--connection.address.connections === 0) this.#addresses.delete(connection.address.address);
    this.#forgetUser(connection.user);
    if (this.#bySession.get(connection.sessionKey) === connection) this.#bySession.delete(connection.sessionKey);
    this.#options.outgoing.forget(connection);
    this.#options.closed(connection);
  }

  /** Says why, and closes with the code of that name. */
  close(connection: Connection, name: CloseName, message: string = ERRORS[name].sentence, withError = true): void {
    if (connection.phase === CLOSED || !connection.socket) return;
    const { outgoing, counters } = this.#options;
    if (withError) {
      outgoing.error(connection, 0, name, message, undefined);
      outgoing.flushNow(connection);
    }
    const code = CLOSE_CODES[name];
    counters.closed(code);
    const { socket } = connection;
    this.disconnected(connection);
    socket.end(code, name);
  }

  /** The first message. Messages behind it wait in `early` until `opened` is called. */
  hello(connection: Connection, { v, token, session }: Hello): void {
    if (v !== PROTOCOL_VERSION)
      return this.close(connection, 'protocol_error', `version ${PROTOCOL_VERSION} of the protocol is spoken here`);
    if (typeof token !== 'string') return this.close(connection, 'unauthorized');
    connection.phase = AUTHENTICATING;
    this.#options.verifier.verify(token).then(
      (claims) => this.#welcome(connection, claims, typeof session === 'string' ? session : undefined),
      (error: unknown) => this.#unwelcome(connection, error),
    );
  }

  #unwelcome(connection: Connection, error: unknown): void {
    const { code, message } = tell(error);
    this.close(connection, code === 'token_expired' ? 'token_expired' : 'unauthorized', message);
  }

  #welcome(connection: Connection, claims: Claims, presented: string | undefined): void {
    if (connection.phase !== AUTHENTICATING) return;
    const { sessionSecret, clock } = this.#options;
    const known = presented === undefined ? undefined : sessionOf(sessionSecret, presented, claims.principal);
    const session = known ?? newSession(Date.now());
    connection.session = session;
    connection.user = this.#user(claims.principal);
    this.#authorize(connection, claims);
    this.#takeOver(connection);
    connection.phase = OPEN;
    connection.filledTick = clock.tick;
    connection.tokens = this.#settings.commandsPerSecond;
    this.#sendWelcome(connection, claims, session, known !== undefined);
    this.#schedule(connection, this.#nextCheck(connection));
    this.#options.opened(connection);
  }

  #authorize(connection: Connection, claims: Claims): void {
    connection.claims = claims;
    connection.roles = this.#options.catalogue.rolesOf(claims.roles);
  }

  /** The newer connection speaks for the session. */
  #takeOver(connection: Connection): void {
    const older = this.#bySession.get(connection.sessionKey);
    if (older) this.close(older, 'going_away', 'the session is continued on a newer connection');
    this.#bySession.set(connection.sessionKey, connection);
  }

  #sendWelcome(connection: Connection, claims: Claims, session: Uint8Array, resumed: boolean): void {
    const { settings } = this.#options;
    const welcome = {
      session: sessionToken(this.#options.sessionSecret, session, claims.principal),
      principal: claims.principal,
      node: settings.node,
      now: Date.now(),
      heartbeatMs: settings.heartbeatMs,
      maxPayloadBytes: settings.maxPayloadBytes,
      maxInFlight: MAX_IN_FLIGHT,
      tokenExpiresAt: claims.expiresAtMs,
      resumed,
      sessionHorizonMs: settings.sessionHorizonMs,
    };
    this.#options.outgoing.message(connection, (writer) => writeWelcome(writer, welcome));
  }

  /** [7, request, token]: the same principal, for longer or with other roles. */
  refresh(connection: Connection, request: number, token: string): void {
    const { verifier, outgoing } = this.#options;
    verifier.verify(token).then(
      (claims) => {
        if (connection.phase !== OPEN) return;
        if (claims.principal !== connection.user?.principal)
          return outgoing.error(connection, request, 'unauthorized', 'the token is of another user', undefined);
        this.#authorize(connection, claims);
        this.#schedule(connection, this.#nextCheck(connection));
        outgoing.message(connection, (writer) =>
          writeMapAnswer(writer, request, { tokenExpiresAt: claims.expiresAtMs }),
        );
      },
      (error: unknown) => {
        const { code, message } = tell(error);
        if (connection.phase === OPEN) outgoing.error(connection, request, code, message, undefined);
      },
    );
  }

  /** [8, request]: a new session for this connection. Errors: `too_many_in_flight` while commands are unanswered. */
  renew(connection: Connection, request: number): void {
    if (connection.inFlight !== undefined)
      throw new ProtocolError('too_many_in_flight', 'a session is renewed when nothing is in flight');
    this.#bySession.delete(connection.sessionKey);
    connection.session = newSession(Date.now());
    connection.low = 0;
    this.#bySession.set(connection.sessionKey, connection);
    const session = sessionToken(this.#options.sessionSecret, connection.session, connection.user?.principal ?? '');
    this.#options.outgoing.message(connection, (writer) => writeMapAnswer(writer, request, { session }));
  }

  /** Takes one command from the buckets of session and user. */
  mayCommand(connection: Connection): boolean {
    const { tick } = this.#options.clock;
    const { user } = connection;
    if (connection.filledTick !== tick) refill(connection, tick, this.#settings.commandsPerSecond);
    if (user && user.filledTick !== tick) refill(user, tick, this.#settings.commandsPerSecondPerUser);
    if (connection.tokens < 1 || !user || user.tokens < 1) return false;
    connection.tokens--;
    user.tokens--;
    return true;
  }

  tick(): void {
    const { clock, outgoing } = this.#options;
    this.#deadlines.advance(clock.tick, (connection) => this.#check(connection));
    outgoing.sweep(clock.tick - CoarseClock.ticks(this.#settings.stallTimeoutMs));
  }

  #check(connection: Connection): void {
    const { clock, verifier } = this.#options;
    if (connection.phase === CLOSED || clock.tick < connection.checkTick) return;
    if (connection.phase !== OPEN) {
      if (clock.tick >= connection.openedTick + this.#hellos) this.close(connection, 'hello_timeout');
      return;
    }
    if (connection.claims && Date.now() >= verifier.endOf(connection.claims))
      return this.close(connection, 'token_expired');
    if (clock.tick - connection.heardTick >= this.#silence) return this.close(connection, 'heartbeat_missed');
    this.#schedule(connection, this.#nextCheck(connection));
  }

  /** Entries that an earlier or later one replaced are passed over when they come up. */
  #schedule(connection: Connection, tick: number): void {
    connection.checkTick = tick;
    this.#deadlines.add(connection, tick);
  }

  #nextCheck(connection: Connection): number {
    const { clock, verifier } = this.#options;
    const expiresInMs = connection.claims ? verifier.endOf(connection.claims) - Date.now() : 0;
    return Math.min(connection.heardTick + this.#silence, clock.tick + CoarseClock.ticks(expiresInMs));
  }

  /** Refuses newcomers and asks everyone to leave within `afterMs`, in batches. */
  async goAway(afterMs: number): Promise<void> {
    this.#draining = true;
    let told = 0;
    for (const connection of [...this.#all]) {
      if (connection.phase !== OPEN) continue;
      connection.leaving = true;
      this.#options.outgoing.message(connection, (writer) => writeGoaway(writer, afterMs, 'going_away'));
      if (++told % GOAWAY_BATCH === 0) await new Promise((resolve) => setTimeout(resolve, GOAWAY_STEP_MS));
    }
  }

  /** Whether any connection awaits a reply. */
  get busy(): boolean {
    for (const connection of this.#all) if (connection.inFlight !== undefined) return true;
    return false;
  }

  async closeAll(): Promise<void> {
    let closed = 0;
    for (const connection of [...this.#all]) {
      this.#options.outgoing.flushNow(connection);
      this.close(connection, 'going_away', undefined, false);
      if (++closed % GOAWAY_BATCH === 0) await new Promise((resolve) => setTimeout(resolve, GOAWAY_STEP_MS));
    }
  }

  #user(principal: string): UserEntry {
    let user = this.#users.get(principal);
    if (!user) {
      const tokens = this.#settings.commandsPerSecondPerUser;
      user = { principal, principalBytes: undefined, connections: 0, tokens, filledTick: this.#options.clock.tick };
      this.#users.set(principal, user);
    }
    user.connections++;
    return user;
  }

  #forgetUser(user: UserEntry | undefined): void {
    if (user && --user.connections === 0) this.#users.delete(user.principal);
  }
}

function refused(name: ErrorName, message: string = ERRORS[name].sentence): UpgradeRefusal {
  return { status: ERRORS[name].status, name, message };
}
