/** Key and value in memory, for tests and simulation. */
import { ProtocolError } from '../../protocol/errors.ts';
import { demandKey, type Entry, type KeyValue } from './key-value.ts';

export class MemoryKeyValue implements KeyValue {
  readonly #entries = new Map<string, Entry>();
  #revision = 0;
  /** Fault: nothing answers. */
  isDown = false;

  async get(key: string): Promise<Entry | undefined> {
    this.#demandUp();
    return this.#entries.get(demandKey(key));
  }

  async put(key: string, value: Uint8Array): Promise<number> {
    this.#demandUp();
    this.#entries.set(demandKey(key), { value: value.slice(), revision: ++this.#revision });
    return this.#revision;
  }

  async compareAndSet(key: string, value: Uint8Array, revision: number): Promise<number> {
    const found = this.#entries.get(demandKey(key))?.revision ?? 0;
    if (found !== revision) throw new ProtocolError('wrong_last_sequence', `${key} is at revision ${found}`);
    return this.put(key, value);
  }

  #demandUp(): void {
    if (this.isDown) throw new ProtocolError('log_unavailable');
  }
}
