/**
 * The log over NATS JetStream: one stream per partition and generation. The stream is configured so that nothing stored
 * ever goes away but by `trim`, and that a full one refuses instead of forgetting; its real configuration is compared with
 * that on every open, because creating a stream that exists does not change it.
 *
 * A newer generation takes the subjects `p.<partition>.>` over from the older stream, whose subjects become
 * `retired.<partition>.g<generation>`, where nobody publishes. The old stream is kept rather than removed: after a loss it
 * is the evidence, and replay and audit still read it. Each message also names the stream it is meant for, so that one
 * sent to an old generation can never land in the new one.
 */
import {
  DiscardPolicy,
  type JetStreamManager,
  jetstreamManager,
  RetentionPolicy,
  StorageType,
  StoreCompression,
  type StreamConfig,
  type StreamInfo,
} from '@nats-io/jetstream';
import { headers, type MsgHdrs, nanos } from 'nats';
import { ProtocolError } from '../../protocol/errors.ts';
import { JetStreamAppender } from './jetstream-appender.ts';
import {
  apiCode,
  REPLICAS_UNSUPPORTED,
  requestError,
  STORAGE_EXCEEDED,
  STREAM_NAME_IN_USE,
  STREAM_NOT_FOUND,
  SUBJECTS_OVERLAP,
} from './jetstream-error.ts';
import { JetStreamReader, parseTimeUs } from './jetstream-reader.ts';
import type { Ack, Log, LogSettings, LogState, PartitionLog, Reader, Stored } from './log.ts';
import { differs, MAX_DATA_BYTES, MAX_MESSAGE_BYTES, newerOwns, streamName, subjectOf } from './log.ts';
import type { NatsLink, ServerFacts } from './nats-connection.ts';

const REQUEST_TIMEOUT_MS = 2_000; // Of one JetStream request; callers retry.
const DUPLICATE_WINDOW_MS = 30_000; // We send no message ids; 0 would mean the server's default of 2 minutes.

export class JetStreamLog implements Log {
  readonly #link: NatsLink;
  readonly #manager: JetStreamManager;
  readonly #appender: JetStreamAppender;
  readonly #readers = new Set<Reader>();

  private constructor(link: NatsLink, manager: JetStreamManager) {
    this.#link = link;
    this.#manager = manager;
    this.#appender = new JetStreamAppender(link);
  }

  /** Over a connection that remains the caller's. */
  static async over(link: NatsLink): Promise<JetStreamLog> {
    return new JetStreamLog(
      link,
      await jetstreamManager(link.connection, { checkAPI: false, timeout: REQUEST_TIMEOUT_MS }),
    );
  }

  get server(): ServerFacts {
    return this.#link.facts;
  }

  async open(partition: string, generation: number, settings: LogSettings): Promise<PartitionLog> {
    const stream = streamName(partition, generation);
    demandUp(this.#link);
    try {
      const info = (await this.#infoOf(stream)) ?? (await this.#create(partition, generation, settings));
      const retired = info.config.subjects?.[0] === retiredSubject(partition, generation);
      checkConfig(info.config, wantedConfig(partition, generation, settings), retired);
      if (!retired) await this.#retireOlder(partition, generation);
      return new JetStreamPartitionLog(this.#partsFor(partition, generation), info, retired);
    } catch (error) {
      throw requestError(error);
    }
  }

  async remove(partition: string, generation: number): Promise<void> {
    demandUp(this.#link);
    try {
      await this.#manager.streams.delete(streamName(partition, generation));
    } catch (error) {
      if (apiCode(error) !== STREAM_NOT_FOUND) throw requestError(error);
    }
  }

  async close(): Promise<void> {
    for (const reader of [...this.#readers]) reader.stop();
    this.#appender.close();
  }

  #partsFor(partition: string, generation: number): Parts {
    return {
      link: this.#link,
      manager: this.#manager,
      appender: this.#appender,
      readers: this.#readers,
      partition,
      generation,
    };
  }

  async #infoOf(stream: string): Promise<StreamInfo | undefined> {
    try {
      return await this.#manager.streams.info(stream);
    } catch (error) {
      if (apiCode(error) === STREAM_NOT_FOUND) return undefined;
      throw error;
    }
  }

  async #create(partition: string, generation: number, settings: LogSettings): Promise<StreamInfo> {
    await this.#retireOlder(partition, generation);
    try {
      return await this.#manager.streams.add(wantedConfig(partition, generation, settings));
    } catch (error) {
      return this.#createFailed(error, partition, generation);
    }
  }

  async #createFailed(error: unknown, partition: string, generation: number): Promise<StreamInfo> {
    const code = apiCode(error);
    const stream = streamName(partition, generation);
    const text = error instanceof Error ? error.message : String(error);
    // Somebody else was first: what he made is compared like any other.
    const existing = code === STREAM_NAME_IN_USE ? await this.#infoOf(stream) : undefined;
    if (existing) return existing;
    if (code === SUBJECTS_OVERLAP) throw newerOwns(partition, (await this.#owner(partition)) ?? 'of another name');
    if (code === REPLICAS_UNSUPPORTED)
      throw new ProtocolError('log_misconfigured', `${stream}: ${text}`, 'num_replicas');
    if (code === STORAGE_EXCEEDED) {
      const detail = `${stream}: max_bytes does not fit into what the server may store (max_file_store): ${text}`;
      throw new ProtocolError('log_misconfigured', detail, 'max_bytes');
    }
    throw error;
  }

  /** Takes the subjects from an older generation. Errors: `log_misconfigured` if a newer one has them. */
  async #retireOlder(partition: string, generation: number): Promise<void> {
    const owner = await this.#owner(partition);
    if (owner === undefined || owner === streamName(partition, generation)) return;
    const ownerGeneration = Number(/_g(\d+)$/.exec(owner)?.[1]);
    if (!(ownerGeneration < generation)) throw newerOwns(partition, owner);
    const { config } = await this.#manager.streams.info(owner);
    await this.#manager.streams.update(owner, { ...config, subjects: [retiredSubject(partition, ownerGeneration)] });
  }

  /** The stream that takes the partition's subjects now. */
  async #owner(partition: string): Promise<string | undefined> {
    const names = await this.#manager.streams.names(subjectOf(partition, 'own')).next();
    return names[0];
  }
}

function retiredSubject(partition: string, generation: number): string {
  return `retired.${partition}.g${generation}`;
}

/** Everything that matters for safety, said explicitly. */
function wantedConfig(
  partition: string,
  generation: number,
  settings: LogSettings,
): Partial<StreamConfig> & { name: string } {
  return {
    name: streamName(partition, generation),
    subjects: [subjectOf(partition, '>')],
    retention: RetentionPolicy.Limits,
    storage: StorageType.File,
    num_replicas: settings.replicas,
    discard: DiscardPolicy.New,
    discard_new_per_subject: false,
    max_bytes: settings.maxBytes,
    max_age: 0,
    max_msgs: -1,
    max_msgs_per_subject: -1,
    max_msg_size: MAX_MESSAGE_BYTES,
    max_consumers: -1,
    duplicate_window: nanos(DUPLICATE_WINDOW_MS),
    compression: StoreCompression.None,
    allow_direct: true,
    allow_rollup_hdrs: false,
    allow_msg_ttl: false,
    allow_atomic: false,
    allow_batched: false,
    allow_msg_schedules: false,
    allow_msg_counter: false,
    no_ack: false,
    sealed: false,
    deny_delete: true,
    deny_purge: false,
  };
}

/** Settings that we never make; a stream that has one was made by somebody else. */
const FORBIDDEN = [
  'mirror',
  'sources',
  'republish',
  'subject_transform',
  'persist_mode',
  'subject_delete_marker_ttl',
] as const;

/** Errors: `log_misconfigured`, with the setting's name as field. */
function checkConfig(real: StreamConfig, wanted: Partial<StreamConfig>, retired: boolean): void {
  for (const [setting, value] of Object.entries(wanted)) {
    if (retired && setting === 'subjects') continue;
    // The server leaves out what is false or zero.
    const there = (real as unknown as Record<string, unknown>)[setting] ?? (typeof value === 'boolean' ? false : 0);
    if (JSON.stringify(there) !== JSON.stringify(value)) throw differs(real.name, setting, there, value);
  }
  for (const setting of FORBIDDEN) {
    const there = real[setting];
    if (there && there !== 'default') throw differs(real.name, setting, there, null);
  }
}

type Parts = {
  readonly link: NatsLink;
  readonly manager: JetStreamManager;
  readonly appender: JetStreamAppender;
  readonly readers: Set<Reader>;
  readonly partition: string;
  readonly generation: number;
};

class JetStreamPartitionLog implements PartitionLog {
  readonly partition: string;
  readonly generation: number;
  readonly stream: string;
  readonly #parts: Parts;
  readonly #createdAt: string;
  readonly #retired: boolean;
  readonly #headers: MsgHdrs;

  constructor(parts: Parts, info: StreamInfo, retired: boolean) {
    this.partition = parts.partition;
    this.generation = parts.generation;
    this.stream = info.config.name;
    this.#parts = parts;
    this.#createdAt = info.created;
    this.#retired = retired;
    this.#headers = expectStream(this.stream);
  }

  async append(token: string, data: Uint8Array, expectLastOnSubject?: number): Promise<Ack> {
    if (this.#retired) throw new ProtocolError('log_misconfigured', `${this.stream} was retired by a newer generation`);
    const messageHeaders = expectLastOnSubject === undefined ? this.#headers : expectStream(this.stream);
    if (expectLastOnSubject !== undefined) {
      messageHeaders.set('Nats-Expected-Last-Subject-Sequence', String(expectLastOnSubject));
    }
    if (data.length > MAX_DATA_BYTES) throw new ProtocolError('payload_too_large');
    return this.#parts.appender.append(subjectOf(this.partition, token), data, messageHeaders);
  }

  lastOn(token: string): Promise<Stored | undefined> {
    return this.#message({ last_by_subj: subjectOf(this.partition, token) });
  }

  get(sequence: number): Promise<Stored | undefined> {
    return this.#message({ seq: sequence });
  }

  async state(): Promise<LogState> {
    demandUp(this.#parts.link);
    try {
      const { config, created, state } = await this.#parts.manager.streams.info(this.stream);
      // A stream that never held anything begins at 0; an emptied one one above its last.
      const first = Math.max(1, state.first_seq);
      return { first, last: state.last_seq, bytes: state.bytes, maxBytes: config.max_bytes, createdAt: created };
    } catch (error) {
      throw requestError(error);
    }
  }

  read(from: number, handler: (message: Stored) => void, onProblem: (error: ProtocolError) => void): Reader {
    const { link, manager, readers } = this.#parts;
    const onStop = (stopped: Reader) => readers.delete(stopped);
    const reader = new JetStreamReader({
      link,
      manager,
      log: this,
      createdAt: this.#createdAt,
      from,
      handler,
      onProblem,
      onStop,
    });
    readers.add(reader);
    return reader;
  }

  async trim(before: number): Promise<void> {
    // A purge beyond the end would move the sequence itself.
    const { first, last } = await this.state();
    if (before > last + 1) throw new RangeError(`cannot trim to ${before}: the last sequence is ${last}`);
    if (before <= first) return;
    try {
      await this.#parts.manager.streams.purge(this.stream, { seq: before });
    } catch (error) {
      throw requestError(error);
    }
  }

  /** From the stream's leader; a direct get may come from a replica that lags. */
  async #message(query: { seq: number } | { last_by_subj: string }): Promise<Stored | undefined> {
    demandUp(this.#parts.link);
    try {
      const message = await this.#parts.manager.streams.getMessage(this.stream, query);
      if (!message) return undefined;
      const { seq, timestamp, subject, data } = message;
      return { sequence: seq, timeUs: parseTimeUs(timestamp), subject, data };
    } catch (error) {
      throw requestError(error);
    }
  }
}

/** The client would let a request wait for its time-out. */
function demandUp(link: NatsLink): void {
  if (!link.isUp) throw new ProtocolError('log_unavailable', 'not connected');
}

/** The stream refuses a message that names another one. */
function expectStream(stream: string): MsgHdrs {
  const expected = headers();
  expected.set('Nats-Expected-Stream', stream);
  return expected;
}
