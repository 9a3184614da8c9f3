/**
 * Messages between processes that need no log: replies, topic events, queries, heartbeats. At most once, in order per
 * sender and subject; whoever needs more asks again (commands by number, topics by offset, heads each second).
 */

export type BusHandler = (bytes: Uint8Array, replyTo: string | undefined, subject: string) => void;

export type Bus = {
  /** Sends and forgets. While disconnected the message is lost. */
  publish(subject: string, bytes: Uint8Array): void;
  /** `*` matches one token, `>` the rest. The bytes are the handler's only until it returns. Returns the end of it. */
  subscribe(subject: string, handler: BusHandler): () => void;
  /** Errors: ProtocolError `timeout`, `no_owner` (nobody listens), `disconnected`. */
  request(subject: string, bytes: Uint8Array, timeoutMs: number): Promise<Uint8Array>;
  close(): Promise<void>;
};
