/**
 * Request and response over HTTP, generated from the schema: `POST /v1/{kind}/{key}/{command}`, `GET /v1/{kind}/{key}/{query}`,
 * and the document that describes them. Every POST is idempotent under its `Idempotency-Key`; answers are JSON.
 */
import { randomUUID } from 'node:crypto';
import { ERRORS, type ErrorName, isErrorName, ProtocolError } from '../../protocol/errors.ts';
import { openApi } from '../../protocol/openapi.ts';
import { jsonOfParameters } from '../../protocol/query-parameters.ts';
import { RECORD_IDEMPOTENT } from '../../protocol/record.ts';
import { decodeFailure } from '../bus/messages.ts';
import type { Catalogue, EdgeCommand, EdgeKind, Target } from './catalogue.ts';
import { CoarseClock } from './coarse-clock.ts';
import type { Commands } from './commands.ts';
import type { EdgeCounters } from './counters.ts';
import { DevelopmentTokens } from './development-tokens.ts';
import { OperatorApi } from './operator-api.ts';
import type { Partition } from './partition.ts';
import type { Asker, Pending } from './pending.ts';
import { type Queries, Refused, retryAfter, tell } from './queries.ts';
import { Buckets } from './rate-limit.ts';
import { idempotentSession } from './session-token.ts';
import type { Sessions } from './sessions.ts';
import type { EdgeSettings } from './settings.ts';
import { StaticFiles } from './static-files.ts';
import type { Claims, TokenVerifier } from './tokens.ts';
import type { Exchange } from './transport.ts';

const MAX_IDEMPOTENCY_KEY = 128; // Characters; it is only hashed, and longer ones are mistakes.
const MAX_WAITING = 10_000; // Commands of HTTP without an answer: each holds a request open.
const JSON_HEADERS = {
  'content-type': 'application/json',
  'cache-control': 'no-store',
  'x-content-type-options': 'nosniff',
};

type Headers = { readonly [name: string]: string };

/** One command that came by HTTP. */
class HttpCommand implements Asker {
  readonly slot: number;
  readonly dueTick: number;
  readonly #settle: (outcome: Uint8Array | Error) => void;
  inFlight: Map<number, Pending> | undefined = undefined;
  gone = false;

  constructor(slot: number, dueTick: number, settle: (outcome: Uint8Array | Error) => void) {
    this.slot = slot;
    this.dueTick = dueTick;
    this.#settle = settle;
  }

  replied(_number: number, bytes: Uint8Array, start: number, end: number): void {
    this.end(bytes.slice(start, end));
  }

  refused(_number: number, bytes: Uint8Array, start: number, end: number): void {
    const { error, message, retryAfterMs } = decodeFailure(bytes.slice(start, end));
    this.end(new Refused(error, message, retryAfterMs ?? retryAfter(error)));
  }

  end(outcome: Uint8Array | Error): void {
    if (this.gone) return;
    this.gone = true;
    this.#settle(outcome);
  }
}

export type HttpApiOptions = {
  settings: EdgeSettings;
  catalogue: Catalogue<Partition>;
  partitions: ReadonlyMap<string, Partition>;
  commands: Commands;
  queries: Queries;
  sessions: Sessions;
  verifier: TokenVerifier;
  /** For development tokens. */
  tokenSecret: Uint8Array;
  clock: CoarseClock;
  counters: EdgeCounters;
  problem: (message: string, error: unknown) => void;
};

export class HttpApi {
  readonly #options: HttpApiOptions;
  readonly #document: string;
  readonly #files: StaticFiles;
  readonly #operators: OperatorApi;
  readonly #development: DevelopmentTokens;
  readonly #waiting = new Set<HttpCommand>();
  readonly #buckets: Buckets;

  constructor(options: HttpApiOptions) {
    this.#options = options;
    const { settings, catalogue, partitions, queries, clock, tokenSecret } = options;
    const kinds = [...catalogue.kinds.values()].map(({ definition }) => definition);
    this.#document = JSON.stringify(openApi(kinds, { title: 'Troupe', version: '1' }));
    this.#files = new StaticFiles(settings.consoleFolder);
    this.#operators = new OperatorApi(catalogue, partitions, queries, clock);
    this.#development = new DevelopmentTokens(settings.developmentTokens, tokenSecret);
    this.#buckets = new Buckets(settings.commandsPerSecondPerUser);
  }

  /** Whether any request awaits its reply. */
  get busy(): boolean {
    return this.#waiting.size > 0;
  }

  tick(): void {
    const { tick } = this.#options.clock;
    this.#buckets.tick(tick);
    for (const command of this.#waiting) {
      if (command.dueTick > tick) return; // In the order of their coming.
      command.end(new ProtocolError('timeout'));
    }
  }

  /** Answers every request, whatever goes wrong. */
  async request(exchange: Exchange): Promise<void> {
    this.#options.counters.httpRequests++;
    try {
      await this.#route(exchange);
    } catch (error) {
      const { code, message, retryAfterMs, field } = tell(error);
      if (code === 'internal' && !(error instanceof Refused))
        this.#options.problem(`${exchange.method} ${exchange.path} failed`, error);
      this.#options.counters.refused(code);
      const headers = error instanceof MethodNotAllowed ? { ...JSON_HEADERS, allow: error.allow } : JSON_HEADERS;
      const status = statusOf(code);
      exchange.answer(
        status,
        withRetry(headers, status, retryAfterMs),
        JSON.stringify({ error: { code, message, field } }),
      );
    }
  }

  #route(exchange: Exchange): void | Promise<void> {
    const { path } = exchange;
    const parts = path.split('/');
    if (path === '/v1/openapi.json') return onlyGet(exchange, () => exchange.answer(200, JSON_HEADERS, this.#document));
    if (path === '/v1/dev/token') return onlyGet(exchange, () => this.#development.answer(exchange));
    if (parts[1] !== 'v1') return onlyGet(exchange, () => this.#files.answer(exchange));
    if (parts[2] === 'ops')
      return onlyGet(exchange, async () => this.#operators.answer(exchange, await this.#claims(exchange)));
    if (parts.length !== 5) throw new ProtocolError('not_found');
    return this.#ofActor(exchange, parts[2] as string, parts[3] as string, parts[4] as string);
  }

  async #ofActor(exchange: Exchange, kindName: string, keyPart: string, name: string): Promise<void> {
    const kind = this.#options.catalogue.kinds.get(kindName);
    if (!kind) throw new ProtocolError('unknown_kind', `there is no kind "${kindName.slice(0, 32)}"`);
    const allowed = methodsOf(kind, name);
    if (!allowed.includes(exchange.method)) {
      if (allowed.length > 0) throw new MethodNotAllowed(allowed.join(', '));
      throw new ProtocolError(exchange.method === 'POST' ? 'unknown_command' : 'unknown_query');
    }
    const claims = await this.#claims(exchange);
    const target = this.#options.catalogue.target(`${kindName}:${decodePart(keyPart)}`);
    if (exchange.method === 'POST') await this.#command(exchange, claims, target, name);
    else await this.#query(exchange, claims, target, name);
  }

  /** Errors: `unauthorized`, `token_expired`. */
  async #claims(exchange: Exchange): Promise<Claims> {
    const [scheme = '', token = ''] = exchange.header('authorization').split(' ');
    if (scheme.toLowerCase() !== 'bearer' || token === '') throw new ProtocolError('unauthorized');
    return this.#options.verifier.verify(token);
  }

  async #command(exchange: Exchange, claims: Claims, target: Target<Partition>, name: string): Promise<void> {
    const { catalogue, settings, sessions } = this.#options;
    const command = commandNamed(target.kind, name);
    if (!command) throw new ProtocolError('unknown_command');
    if ((command.roles & catalogue.rolesOf(claims.roles)) === 0) throw new ProtocolError('forbidden');
    if (sessions.draining) throw new ProtocolError('going_away');
    if (!this.#buckets.take(claims.principal)) throw new ProtocolError('rate_limited');
    const body = command.body.encode(command.body.fromJson(jsonOf(exchange)));
    if (body.length > settings.maxPayloadBytes) throw new ProtocolError('payload_too_large');
    const key = idempotencyKey(exchange);
    const reply = await this.#submit(claims, key, target, command, body);
    const json = JSON.stringify(command.reply.toJson(command.reply.decode(reply)));
    exchange.answer(200, { ...JSON_HEADERS, 'idempotency-key': key }, json);
  }

  #submit(
    claims: Claims,
    key: string,
    target: Target<Partition>,
    command: EdgeCommand,
    body: Uint8Array,
  ): Promise<Uint8Array> {
    const { commands, clock, settings } = this.#options;
    if (this.#waiting.size >= MAX_WAITING) throw new ProtocolError('overloaded');
    return new Promise((resolve, reject) => {
      const dueTick = clock.tick + CoarseClock.ticks(settings.commandTimeoutMs);
      const asker = new HttpCommand(commands.newSlot(), dueTick, (outcome) => {
        this.#waiting.delete(asker);
        if (outcome instanceof Error) reject(outcome);
        else resolve(outcome);
      });
      const sender = {
        principalBytes: new TextEncoder().encode(claims.principal),
        session: idempotentSession(claims.principal, key),
      };
      const refusal = commands.submit(asker, sender, target, command, 1, 1, RECORD_IDEMPOTENT, body, 0, body.length);
      if (refusal !== undefined) return reject(new ProtocolError(refusal));
      this.#waiting.add(asker);
    });
  }

  async #query(exchange: Exchange, claims: Claims, target: Target<Partition>, name: string): Promise<void> {
    const { catalogue, queries } = this.#options;
    const query = target.kind.queries.get(name);
    if (!query) throw new ProtocolError('unknown_query');
    if ((query.roles & catalogue.rolesOf(claims.roles)) === 0) throw new ProtocolError('forbidden');
    if (!this.#buckets.take(claims.principal)) throw new ProtocolError('rate_limited');
    const fields = query.body.fromJson(jsonOfParameters(query.spec.fields, new URLSearchParams(exchange.query)));
    const { principal, roles } = claims;
    const minSequence = target.partition.sequence;
    const answer = await queries.ask(target.partition, {
      ref: target.ref,
      name,
      body: query.body.encode(fields),
      principal,
      roles,
      minSequence,
    });
    exchange.answer(200, JSON_HEADERS, JSON.stringify(query.reply.toJson(query.reply.decode(answer.body))));
  }
}

/** 405, with what the address knows instead. */
class MethodNotAllowed extends ProtocolError {
  readonly allow: string;

  constructor(allow: string) {
    super('method_not_allowed');
    this.allow = allow;
  }
}

function onlyGet(exchange: Exchange, answer: () => void | Promise<void>): void | Promise<void> {
  if (exchange.method !== 'GET' && exchange.method !== 'HEAD') throw new MethodNotAllowed('GET, HEAD');
  return answer();
}

function methodsOf(kind: EdgeKind, name: string): string[] {
  return [...(commandNamed(kind, name) ? ['POST'] : []), ...(kind.queries.has(name) ? ['GET', 'HEAD'] : [])];
}

function commandNamed(kind: EdgeKind, name: string): EdgeCommand | undefined {
  for (const command of kind.commands.values()) if (command.name === name) return command;
  return undefined;
}

/** Errors: `invalid_reference`. */
function decodePart(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    throw new ProtocolError('invalid_reference', 'the key is not well-formed');
  }
}

/** The body as JSON; an empty one is an empty object. Errors: `unsupported_media_type`, `bad_request`. */
function jsonOf(exchange: Exchange): unknown {
  if (exchange.body.length === 0) return {};
  if (!/^application\/json\s*(;|$)/i.test(exchange.header('content-type')))
    throw new ProtocolError('unsupported_media_type');
  try {
    return JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(exchange.body));
  } catch {
    throw new ProtocolError('bad_request', 'the body is not JSON');
  }
}

/** The client's, or a new one. Errors: `bad_request`. */
function idempotencyKey(exchange: Exchange): string {
  const key = exchange.header('idempotency-key');
  if (key.length > MAX_IDEMPOTENCY_KEY)
    throw new ProtocolError('bad_request', `Idempotency-Key: at most ${MAX_IDEMPOTENCY_KEY} characters`);
  return key === '' ? randomUUID() : key;
}

/** Names that the registry does not know are refusals of a kind. */
function statusOf(code: string): number {
  return isErrorName(code) ? ERRORS[code satisfies ErrorName].status : ERRORS.rejected.status;
}

function withRetry(headers: Headers, status: number, retryAfterMs: number | undefined): Headers {
  if (status !== 429 && status !== 503) return headers;
  return { ...headers, 'retry-after': String(Math.max(1, Math.ceil((retryAfterMs ?? 0) / 1_000))) };
}
