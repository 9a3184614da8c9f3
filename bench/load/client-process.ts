/** The load client: its own process, told what to do by the process that measures. */
import { issueToken } from '../../cluster/edge/tokens.ts';
import { serve } from './child.ts';
import { CommandLoad } from './command-load.ts';
import { EventLoad } from './event-load.ts';
import { IdleLoad } from './idle-load.ts';

const TOKEN_LIFE_MS = 3_600_000;

let commands: CommandLoad | undefined;
let events: EventLoad | undefined;
const idle = new IdleLoad();

export type Target = { readonly port: number; readonly secret: Uint8Array };
export type CommandOpening = Target & {
  readonly connections: number;
  readonly prefix: string;
  readonly countersPerConnection: number;
};

serve(
  {
    async openCommands({ port, secret, connections, prefix, countersPerConnection }: CommandOpening) {
      commands?.close();
      const tokens = await makeTokens(secret, connections);
      commands = await CommandLoad.open({ port, tokens, prefix, countersPerConnection });
    },
    closed: (settings: { inFlight: number; warmMs: number; runMs: number }) => commands?.closed(settings),
    paced: (settings: { perSecond: number; warmMs: number; runMs: number }) => commands?.paced(settings),
    acknowledged: () => commands?.acknowledged,
    async applied() {
      return { acknowledged: commands?.acknowledged, applied: await commands?.applied() };
    },
    async openEvents({ port, secret, sockets }: Target & { sockets: number }) {
      events = await EventLoad.open({ port, tokens: await makeTokens(secret, sockets), sockets });
    },
    fanout: (settings: { onTheWay: number; warmMs: number; runMs: number }) => events?.run(settings),
    fanoutTotals: () => events?.totals(),
    async openIdle({ port, secret, connections }: Target & { connections: number }) {
      return idle.open(port, await makeTokens(secret, connections));
    },
    closeIdle: () => idle.close(),
  },
  () => {
    commands?.close();
    events?.close();
    idle.close();
  },
);

/** A user each. */
function makeTokens(secret: Uint8Array, count: number): Promise<string[]> {
  const users = Array.from({ length: count }, (_, i) => `user${i}`);
  return Promise.all(
    users.map((principal) => issueToken(secret, { principal, roles: ['user'], lifeMs: TOKEN_LIFE_MS })),
  );
}
