import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { chmod, mkdir, mkdtemp, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { ProtocolError } from '../../protocol/errors.ts';
import { until } from './log.laws.ts';
import { findNatsServer } from './nats-binary.ts';
import { connectToNats } from './nats-connection.ts';
import { reportedDurability, startNatsServer } from './nats-server.ts';

const moduleUrl = new URL('./nats-server.js', import.meta.url).href;
const isAlive = (pid: number) => existsSync(`/proc/${pid}/exe`);

describe('nats-server', () => {
  let folder: string;
  before(async () => {
    folder = await mkdtemp(join(tmpdir(), 'troupe-nats-'));
  });
  after(() => rm(folder, { recursive: true, force: true }));

  it('starts healthy on free ports, each durability, and comes back on its port', async () => {
    const dataDir = join(folder, 'a');
    const lines: string[] = [];
    const first = await startNatsServer({ dataDir, durability: 'os', log: (line) => lines.push(line) });
    assert.equal(await reportedDurability(first.monitorUrl), 'os');
    assert.equal((await fetch(`${first.monitorUrl}/healthz`)).status, 200);
    assert.ok(lines.some((line) => line.includes('Server is ready')));
    await first.stop();
    assert.equal(isAlive(first.pid), false);
    const second = await startNatsServer({ dataDir, durability: 'disk', port: first.port });
    assert.equal(await reportedDurability(second.monitorUrl), 'disk');
    assert.equal(second.port, first.port);
    assert.equal(second.password, first.password);
    await second.kill();
    assert.equal((await second.exited).signal, 'SIGKILL');
  });

  it('lets in only who can read its folder', async () => {
    const dataDir = join(folder, 'b');
    const server = await startNatsServer({ dataDir, durability: 'os' });
    const refused = (error: unknown) => error instanceof ProtocolError && error.code === 'unauthorized';
    await assert.rejects(connectToNats({ servers: server.url, name: 'test' }), refused);
    await assert.rejects(
      connectToNats({ servers: server.url, name: 'test', user: 'troupe', password: 'guess' }),
      refused,
    );
    for (const file of ['nats-password', 'nats-server.conf']) {
      assert.equal((await stat(join(dataDir, file))).mode & 0o777, 0o600, file);
    }
    assert.equal((await stat(dataDir)).mode & 0o777, 0o700);
    const { user, password } = server;
    await (await connectToNats({ servers: server.url, name: 'test', user, password })).close();
    await server.stop();
  });

  it('is not started twice on one folder', async () => {
    const dataDir = join(folder, 'c');
    const server = await startNatsServer({ dataDir, durability: 'os' });
    await assert.rejects(startNatsServer({ dataDir, durability: 'os' }), /already runs/);
    await server.stop();
  });

  it('says why it did not start', async () => {
    const blocked = await startNatsServer({ dataDir: join(folder, 'd'), durability: 'os' });
    const again = startNatsServer({ dataDir: join(folder, 'e'), durability: 'os', port: blocked.port });
    await assert.rejects(again, /address already in use/);
    await blocked.stop();
  });

  it('dies with its parent', { skip: process.platform !== 'linux' && 'needs the kernel of Linux' }, async () => {
    const dataDir = join(folder, 'f');
    const script = `import { startNatsServer } from ${JSON.stringify(moduleUrl)};
      console.log((await startNatsServer({ dataDir: ${JSON.stringify(dataDir)}, durability: 'os' })).pid);`;
    const parent = spawn(process.execPath, ['--input-type=module', '-e', script], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    let output = '';
    parent.stdout.on('data', (data: Buffer) => {
      output += data.toString();
    });
    await until(() => output.includes('\n'), 'the server runs');
    const pid = Number(output);
    assert.equal(isAlive(pid), true);
    parent.kill('SIGKILL');
    await until(() => !isAlive(pid), 'the server is dead');
  });

  it('ends a server that outlived its parent before it starts anew', async (test) => {
    const dataDir = join(folder, 'g');
    await (await startNatsServer({ dataDir, durability: 'os' })).stop();
    const binary = (await findNatsServer()).path;
    const orphan = spawn(binary, ['-c', join(dataDir, 'nats-server.conf')], { stdio: 'ignore' });
    test.after(() => orphan.kill('SIGKILL'));
    await writeFile(join(dataDir, 'nats-server.owner'), '999999999'); // Its parent is another than who started it.
    const pidIn = (file: string) => (existsSync(file) ? Number(readFileSync(file, 'utf8')) : 0);
    await until(() => pidIn(join(dataDir, 'nats-server.pid')) === orphan.pid, 'the orphan runs');
    const ended = new Promise((resolve) => orphan.once('exit', resolve));
    const server = await startNatsServer({ dataDir, durability: 'os' });
    await ended;
    assert.notEqual(server.pid, orphan.pid);
    await server.stop();
  });
});

describe('the binary', () => {
  let folder: string;
  before(async () => {
    folder = await mkdtemp(join(tmpdir(), 'troupe-binary-'));
  });
  after(() => rm(folder, { recursive: true, force: true }));

  async function fake(path: string, version: string): Promise<string> {
    await mkdir(join(path, '..'), { recursive: true });
    await writeFile(path, `#!/bin/sh\necho "nats-server: v${version}"\n`);
    await chmod(path, 0o755);
    return path;
  }

  it('is the chosen one, or the first that is new enough', async () => {
    const old = await fake(join(folder, 'old', 'nats-server'), '2.9.10');
    const written = await fake(join(folder, 'written', 'nats-server'), '2.15.2');
    const cached = await fake(join(folder, 'cache', 'troupe', 'x', 'nats-server'), '2.15.1');
    const onPath = await fake(join(folder, 'path', 'nats-server'), '2.16.0');
    const PATH = [join(folder, 'old'), join(folder, 'path')].join(':');
    const outdated = (error: unknown) =>
      error instanceof ProtocolError && error.code === 'log_outdated_server' && error.message.includes('2.9.10');
    await assert.rejects(findNatsServer({ NATS_SERVER: old, PATH }, folder), outdated);
    assert.deepEqual(await findNatsServer({ NATS_SERVER: onPath }, folder), { path: onPath, version: '2.16.0' });
    assert.equal((await findNatsServer({ HOME: folder, PATH }, folder)).path, onPath);
    const withCache = { XDG_CACHE_HOME: join(folder, 'cache'), PATH };
    assert.equal((await findNatsServer(withCache, folder)).path, cached);
    await mkdir(join(folder, 'dist'));
    await writeFile(join(folder, 'dist', '.nats-server'), `${written}\n`);
    assert.equal((await findNatsServer(withCache, folder)).path, written);
  });
});
