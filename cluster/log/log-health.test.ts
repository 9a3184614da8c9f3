import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { VirtualClock } from './clock.ts';
import { fillPermilleOf, LogHealth, mayAppend } from './log-health.ts';
import { MemoryLog, MemoryServer } from './memory-log.ts';

describe('log health', () => {
  it('reserves the last 15 % for what must go on', () => {
    const uses = ['epoch', 'own', 'effect_result', 'command', 'send'] as const;
    assert.deepEqual(
      uses.map((use) => mayAppend(use, 849)),
      [true, true, true, true, true],
    );
    assert.deepEqual(
      uses.map((use) => mayAppend(use, 850)),
      [true, true, true, false, false],
    );
    assert.deepEqual(
      uses.map((use) => mayAppend(use, 1000)),
      [true, true, true, false, false],
    );
    assert.deepEqual(
      [fillPermilleOf(0, 100), fillPermilleOf(1, 10_000), fillPermilleOf(200, 100), fillPermilleOf(5, -1)],
      [0, 1, 1000, 0],
    );
  });

  it('knows the fill by polls and by what is read in between', async () => {
    const clock = new VirtualClock();
    const server = new MemoryServer();
    const log = await new MemoryLog(server).open('main-0', 1, { maxBytes: 100_000, replicas: 1 });
    const health = new LogHealth(log, clock);
    assert.deepEqual([health.fillPermille, health.ageMs], [0, Number.POSITIVE_INFINITY]);
    health.start();
    await clock.advance(0);
    for (let i = 0; i < 8; i++) await log.append('own', new Uint8Array(10_000));
    assert.equal(health.fillPermille, 0);
    health.noteRead(80_000);
    assert.deepEqual([health.fillPermille, health.allows('command')], [800, true]);
    await clock.advance(1_000);
    assert.equal(health.fillPermille, fillPermilleOf((await log.state()).bytes, 100_000));
    health.noteRead(6_000);
    assert.deepEqual([health.allows('command'), health.allows('own')], [false, true]);
    await log.trim(9);
    await health.refresh();
    assert.deepEqual([health.fillPermille, health.allows('send')], [0, true]);
    server.down();
    await clock.advance(5_000);
    assert.ok(health.ageMs >= 5_000 && health.state?.last === 8);
    health.stop();
  });
});
