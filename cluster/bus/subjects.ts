/** Names of the bus's subjects: one place, since permissions are written against them. */

export const repliesTo = (edge: string): string => `r.${edge}`;
export const queriesOf = (partition: string): string => `q.${partition}`;
export const headsOf = (partition: string): string => `h.${partition}`;
export const heartbeatOf = (node: string): string => `hb.${node}`;
export const ALL_HEARTBEATS = 'hb.*';
export const ALL_HEADS = 'h.*';

/** A topic's subject. References and names hold characters that no subject may, hence base64url. */
export function topicSubject(ref: string, topic: string): string {
  return `t.${Buffer.from(`${ref}/${topic}`).toString('base64url')}`;
}
/** Requests of operators to one host, and to whichever host is there. */
export const operationsOf = (node: string): string => `ops.${node}`;
