/** Frames of commands as an edge would make them, for folds of synthetic load. */
import { commandFrame, sessionBytes } from '../../cluster/host/command-frames.ts';
import type { Kinds } from '../../cluster/host/kinds.ts';

export type FramesSettings = {
  readonly commands: number;
  readonly actors: number;
  readonly sessions: number;
  readonly commandsPerFrame: number;
  /** When the sessions began: within the fold's horizon of the log's time. */
  readonly createdMs: number;
};

const NOTE = 'x'.repeat(96); // With amount and both headers the body has 100 bytes.
const IN_FLIGHT = 32;

/** State-changing commands in whole frames, at least as many as asked for. Session and actor change with each. */
export function makeFrames(kinds: Kinds, settings: FramesSettings): Uint8Array[] {
  const sessions = Array.from({ length: settings.sessions }, (_, i) => sessionBytes(settings.createdMs, i));
  const numbers = new Array<number>(settings.sessions).fill(0);
  const frames: Uint8Array[] = [];
  for (let made = 0; made < settings.commands; made += settings.commandsPerFrame) {
    const inputs = Array.from({ length: settings.commandsPerFrame }, (_, i) => {
      const which = (made + i) % settings.sessions;
      const number = (numbers[which] as number) + 1;
      numbers[which] = number;
      return {
        ref: `counter:c${(made + i * 7) % settings.actors}`,
        command: 'add',
        fields: { amount: 1, note: NOTE },
        number,
        low: Math.max(1, number - IN_FLIGHT),
        session: sessions[which] as Uint8Array,
        slot: which,
      };
    });
    frames.push(commandFrame(kinds, inputs, { frameNumber: frames.length + 1 }));
  }
  return frames;
}
