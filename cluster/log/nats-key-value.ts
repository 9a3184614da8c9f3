/**
 * Key and value in a NATS KV bucket, without direct gets: those may be answered by a replica that lags. A bucket that
 * exists keeps its own configuration silently, so what matters of it is checked.
 */
import { jetstream } from '@nats-io/jetstream';
import { type KV, Kvm } from '@nats-io/kv';
import { ProtocolError } from '../../protocol/errors.ts';
import { apiCode, REPLICAS_UNSUPPORTED, requestError, WRONG_LAST_SEQUENCE } from './jetstream-error.ts';
import { demandKey, type Entry, type KeyValue } from './key-value.ts';
import { differs } from './log.ts';
import type { NatsLink } from './nats-connection.ts';

const REQUEST_TIMEOUT_MS = 2_000; // Callers retry.
const MAX_BUCKET_BYTES = 16 * 1024 * 1024; // A few kilobytes for each of some thousand keys; the limit keeps a fault small.

export class NatsKeyValue implements KeyValue {
  readonly #link: NatsLink;
  readonly #bucket: KV;

  private constructor(link: NatsLink, bucket: KV) {
    this.#link = link;
    this.#bucket = bucket;
  }

  /** Opens a bucket, making it if there is none. Errors: `log_misconfigured`, `log_unavailable`. */
  static async open(link: NatsLink, bucket: string, replicas: number): Promise<NatsKeyValue> {
    if (!link.isUp) throw new ProtocolError('log_unavailable', 'not connected');
    try {
      const client = jetstream(link.connection, { timeout: REQUEST_TIMEOUT_MS });
      const options = {
        replicas,
        history: 1,
        storage: 'file',
        max_bytes: MAX_BUCKET_BYTES,
        allow_direct: false,
      } as const;
      const opened = await new Kvm(client).create(bucket, options);
      await checkBucket(opened, replicas);
      return new NatsKeyValue(link, opened);
    } catch (error) {
      if (apiCode(error) === REPLICAS_UNSUPPORTED)
        throw new ProtocolError('log_misconfigured', `${bucket}: ${error}`, 'num_replicas');
      throw requestError(error);
    }
  }

  async get(key: string): Promise<Entry | undefined> {
    const entry = await this.#request(() => this.#bucket.get(demandKey(key)));
    return entry && entry.operation === 'PUT' ? { value: entry.value, revision: entry.revision } : undefined;
  }

  put(key: string, value: Uint8Array): Promise<number> {
    return this.#request(() => this.#bucket.put(demandKey(key), value));
  }

  compareAndSet(key: string, value: Uint8Array, revision: number): Promise<number> {
    return this.#request(() => this.#bucket.put(demandKey(key), value, { previousSeq: revision }));
  }

  async #request<T>(run: () => Promise<T>): Promise<T> {
    if (!this.#link.isUp) throw new ProtocolError('log_unavailable', 'not connected');
    try {
      return await run();
    } catch (error) {
      if (error instanceof RangeError) throw error;
      if (apiCode(error) === WRONG_LAST_SEQUENCE) throw new ProtocolError('wrong_last_sequence', String(error));
      throw requestError(error);
    }
  }
}

async function checkBucket(bucket: KV, replicas: number): Promise<void> {
  const { config } = (await bucket.status()).streamInfo;
  if (config.allow_direct) throw differs(config.name, 'allow_direct', true, false);
  if (config.storage !== 'file') throw differs(config.name, 'storage', config.storage, 'file');
  if (config.max_age) throw differs(config.name, 'max_age', config.max_age, 0);
  if (config.num_replicas !== replicas) throw differs(config.name, 'num_replicas', config.num_replicas, replicas);
}
