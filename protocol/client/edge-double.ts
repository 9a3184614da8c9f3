/**
 * For tests: an edge and the actors behind it in one object, as simple as the protocol's text allows. It keeps sessions, executes
 * a number at most once, remembers the replies of the window, and writes down whatever a client does against the protocol.
 */
import { pack, scan, unpack } from '../msgpack.ts';

export type Refusal = { readonly error: string; readonly message?: string; readonly retryAfterMs?: number };
export type Outcome = Uint8Array | Refusal;

/** A connection as the edge sees it. */
export type Link = { send(bytes: Uint8Array): void; close(code: number, reason: string): void };

/** What the actors do. Bodies are encoded; `undefined` as an outcome means that no answer ever comes. */
export type Behaviour = {
  command(call: { ref: string; name: string; body: Uint8Array; number: number; attempt: number }): Outcome | undefined;
  query(call: { ref: string; name: string; body: Uint8Array; minSequence: number | undefined }): Outcome | undefined;
  /** The state that a lossy topic begins with; undefined for lossless ones. */
  snapshot?(ref: string, topic: string): Uint8Array | undefined;
};

export type EdgeSettings = {
  readonly now: () => number;
  readonly heartbeatMs?: number;
  readonly maxInFlight?: number;
  readonly maxPayloadBytes?: number;
  readonly sessionHorizonMs?: number;
  /** Life of a token from its hello or refresh; 0: for ever. */
  readonly tokenLifeMs?: number;
  /** Refuses a token by a name of the registry. */
  readonly refuseToken?: (token: string) => string | undefined;
  /** false: sessions of former connections are not known any more. */
  readonly resumes?: () => boolean;
};

type Session = { readonly id: string; readonly replies: Map<number, Uint8Array>; low: number; ended: boolean };
type Topic = {
  readonly id: number;
  generation: number;
  readonly events: Uint8Array[];
  readonly links: Map<Connected, number>;
};

const WINDOW = 256;

export class EdgeDouble {
  readonly behaviour: Behaviour;
  readonly settings: EdgeSettings;
  /** How often each (session, number) was executed: never more than once. */
  readonly executions = new Map<string, number>();
  readonly attempts = new Map<string, number>();
  /** What clients did against the protocol. */
  readonly violations: string[] = [];
  readonly connections = new Set<Connected>();
  readonly tokens: string[] = [];
  sessions = new Map<string, Session>();
  readonly #topics = new Map<string, Topic>();
  #sequence = 0;
  #sessionCount = 0;

  constructor(behaviour: Behaviour, settings: EdgeSettings) {
    this.behaviour = behaviour;
    this.settings = settings;
  }

  connect(link: Link): Connected {
    const connected = new Connected(this, link);
    this.connections.add(connected);
    return connected;
  }

  session(token: string | undefined): { session: Session; resumed: boolean } {
    const known = token !== undefined && (this.settings.resumes?.() ?? true) ? this.sessions.get(token) : undefined;
    if (known) return { session: known, resumed: true };
    const session: Session = { id: `s${++this.#sessionCount}`, replies: new Map(), low: 1, ended: false };
    this.sessions.set(session.id, session);
    return { session, resumed: false };
  }

  /** The servers forgot all sessions: commands of these are answered `session_expired`. */
  expireSessions(): void {
    for (const session of this.sessions.values()) session.ended = true;
  }

  nextSequence(): number {
    return ++this.#sequence;
  }

  topic(ref: string, name: string): Topic {
    const key = `${ref}/${name}`;
    let topic = this.#topics.get(key);
    if (!topic) {
      topic = { id: this.#topics.size + 1, generation: 1, events: [], links: new Map() };
      this.#topics.set(key, topic);
    }
    return topic;
  }

  /** Appends an event and gives it to the subscribers; `lose` keeps it from them. */
  publish(ref: string, name: string, body: Uint8Array, options: { lose?: boolean } = {}): void {
    const topic = this.topic(ref, name);
    topic.events.push(body);
    if (options.lose) return;
    for (const connected of topic.links.keys()) connected.event(topic, topic.events.length);
  }

  /** The log began anew: offsets start at one again. */
  newGeneration(ref: string, name: string): void {
    const topic = this.topic(ref, name);
    topic.generation++;
    topic.events.length = 0;
  }

  broadcast(message: unknown[]): void {
    for (const connected of this.connections) connected.say(message);
  }
}

export class Connected {
  readonly #edge: EdgeDouble;
  readonly #link: Link;
  #session: Session | undefined;

  constructor(edge: EdgeDouble, link: Link) {
    this.#edge = edge;
    this.#link = link;
  }

  /** One websocket message of the client. */
  receive(bytes: Uint8Array): void {
    let count = 0;
    for (let at = 0; at < bytes.length; count++) {
      const end = scan(bytes, at);
      this.#handle(unpack(bytes, at, end) as unknown[]);
      at = end;
    }
    if (count === 0 || count > 64) this.#edge.violations.push(`${count} messages in one`);
  }

  closed(): void {
    this.#edge.connections.delete(this);
    for (const topic of this.#allTopics) topic.links.delete(this);
  }

  close(code: number, reason = ''): void {
    this.#link.close(code, reason);
    this.closed();
  }

  say(message: unknown[]): void {
    this.#link.send(pack(message));
  }

  /** A message whose last known element is an encoded body. */
  sayBody(head: readonly number[], body: Uint8Array, ...more: number[]): void {
    const parts = [...head.map((one) => pack(one)), body, ...more.map((one) => pack(one))];
    this.#link.send(concatenate(Uint8Array.of(0x90 | parts.length), ...parts));
  }

  event(topic: Topic, offset: number): void {
    const body = topic.events[offset - 1];
    if (body) this.sayBody([4, topic.id, offset], body);
  }

  readonly #allTopics = new Set<Topic>();

  #handle(message: unknown[]): void {
    const type = message[0];
    if (type === 1) return this.#hello(message[1] as { token: string; session?: string });
    if (!this.#session) return void this.#edge.violations.push(`message ${type} before hello`);
    if (type === 2) return this.#command(this.#session, message as [2, number, number, string, string, unknown]);
    if (type === 3) return this.#query(message as [3, number, string, string, unknown, number | undefined]);
    if (type === 4)
      return this.#subscribe(message as [4, number, string, string, { from?: number; generation?: number }]);
    if (type === 5) return this.#unsubscribe(message as [5, number, string, string]);
    if (type === 6) return this.say([6]);
    if (type === 7) return this.#token(message as [7, number, string]);
    if (type === 8) return this.#renew(message as [8, number]);
    this.#edge.violations.push(`type ${type}`);
  }

  #hello({ token, session: wanted }: { token: string; session?: string }): void {
    if (this.#session) return void this.#edge.violations.push('a second hello');
    this.#edge.tokens.push(token);
    const refused = this.#edge.settings.refuseToken?.(token);
    if (refused) {
      this.say([7, 0, refused, '', null]);
      return this.close(refused === 'token_expired' ? 3005 : 3500, refused);
    }
    const { session, resumed } = this.#edge.session(wanted);
    this.#session = session;
    const {
      heartbeatMs = 25_000,
      maxInFlight = WINDOW,
      maxPayloadBytes = 65_536,
      sessionHorizonMs = 0,
    } = this.#edge.settings;
    const times = { now: this.#edge.settings.now(), tokenExpiresAt: this.#expiry(), heartbeatMs, sessionHorizonMs };
    const names = { v: 1, session: session.id, principal: 'tester', node: 'e1' };
    this.say([1, { ...names, ...times, maxPayloadBytes, maxInFlight, resumed }]);
  }

  #expiry(): number {
    const { tokenLifeMs = 0, now } = this.#edge.settings;
    return tokenLifeMs > 0 ? now() + tokenLifeMs : 0;
  }

  #command(session: Session, [, number, low, ref, name, body]: [2, number, number, string, string, unknown]): void {
    const { violations, attempts, executions } = this.#edge;
    if (low > number || number - low >= WINDOW || low < 1) violations.push(`number ${number} with low ${low}`);
    const key = `${session.id}/${number}`;
    const attempt = (attempts.get(key) ?? 0) + 1;
    attempts.set(key, attempt);
    if (session.ended) return this.say([5, number, 'session_expired', '', null]);
    session.low = Math.max(session.low, low);
    for (const answered of session.replies.keys()) if (answered < session.low) session.replies.delete(answered);
    if (number < session.low) return this.say([5, number, 'sequence_passed', '', null]);
    const known = session.replies.get(number);
    if (known) return this.#link.send(known);
    const outcome = this.#edge.behaviour.command({ ref, name, body: pack(body), number, attempt });
    if (outcome === undefined) return;
    if (!(outcome instanceof Uint8Array))
      return this.say([5, number, outcome.error, outcome.message ?? '', outcome.retryAfterMs ?? null]);
    executions.set(key, (executions.get(key) ?? 0) + 1);
    const reply = concatenate(Uint8Array.of(0x94), pack(2), pack(number), outcome, pack(this.#edge.nextSequence()));
    session.replies.set(number, reply);
    this.#link.send(reply);
  }

  #query([, request, ref, name, body, minSequence]: [3, number, string, string, unknown, number | undefined]): void {
    const outcome = this.#edge.behaviour.query({ ref, name, body: pack(body), minSequence });
    if (outcome === undefined) return;
    if (outcome instanceof Uint8Array) this.sayBody([3, request], outcome, 1);
    else this.say([7, request, outcome.error, outcome.message ?? '', outcome.retryAfterMs ?? null]);
  }

  #subscribe([, request, ref, name, options]: [
    4,
    number,
    string,
    string,
    { from?: number; generation?: number },
  ]): void {
    const topic = this.#edge.topic(ref, name);
    const snapshot = this.#edge.behaviour.snapshot?.(ref, name);
    const head = topic.events.length;
    const same = options.generation === undefined || options.generation === topic.generation;
    const from = same ? (options.from ?? head) : head;
    const recovered = same && options.from !== undefined && from <= head;
    const answer = { topicId: topic.id, generation: topic.generation, offset: recovered ? from : head, recovered };
    this.#allTopics.add(topic);
    topic.links.set(this, from);
    if (snapshot && !recovered) this.#answerWithSnapshot(request, answer, snapshot);
    else this.say([3, request, answer, 1]);
    if (recovered) for (let offset = from + 1; offset <= head; offset++) this.event(topic, offset);
  }

  #answerWithSnapshot(request: number, answer: { [name: string]: unknown }, snapshot: Uint8Array): void {
    const entries = Object.entries(answer).flatMap(([name, value]) => [pack(name), pack(value)]);
    const fields = concatenate(Uint8Array.of(0x80 | (entries.length / 2 + 1)), ...entries, pack('snapshot'), snapshot);
    this.sayBody([3, request], fields, 1);
  }

  #unsubscribe([, request, ref, name]: [5, number, string, string]): void {
    this.#edge.topic(ref, name).links.delete(this);
    this.say([3, request, {}, 1]);
  }

  #token([, request, token]: [7, number, string]): void {
    this.#edge.tokens.push(token);
    this.say([3, request, { now: this.#edge.settings.now(), tokenExpiresAt: this.#expiry() }, 1]);
  }

  #renew([, request]: [8, number]): void {
    this.#session = this.#edge.session(undefined).session;
    this.say([3, request, { session: this.#session.id }, 1]);
  }
}

/** Several encoded values, one after the other. */
function concatenate(...parts: readonly Uint8Array[]): Uint8Array {
  return new Uint8Array(Buffer.concat(parts));
}
