import assert from 'node:assert/strict';
import { cp, mkdtemp, rm } from 'node:fs/promises';
import { connect as connectSocket, createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { jetstreamManager } from '@nats-io/jetstream';
import { ProtocolError } from '../../protocol/errors.ts';
import { JetStreamLog } from './jetstream-log.ts';
import { parseDelivery, parseTimeUs } from './jetstream-reader.ts';
import { type LogLab, logLaws, until } from './log.laws.ts';
import type { Stored } from './log.ts';
import { connectToNats, isOlder, isOutdated, type NatsLink } from './nats-connection.ts';
import { type NatsServer, startNatsServer } from './nats-server.ts';

const STORE_BYTES = 2_000_000_000;
const SETTINGS = { maxBytes: 20_000_000, replicas: 1 };

/** A server of its own with everything that must end with it. */
class ServerLab {
  readonly folder: string;
  server: NatsServer;
  readonly links: NatsLink[] = [];
  readonly #maxConsumers: number | undefined;

  constructor(folder: string, server: NatsServer, maxConsumers?: number) {
    this.folder = folder;
    this.server = server;
    this.#maxConsumers = maxConsumers;
  }

  static async make(maxConsumers?: number): Promise<ServerLab> {
    const folder = await mkdtemp(join(tmpdir(), 'troupe-log-'));
    return new ServerLab(folder, await ServerLab.start(folder, undefined, maxConsumers), maxConsumers);
  }

  static start(folder: string, port?: number, maxConsumers?: number): Promise<NatsServer> {
    const limits = { ...(port && { port }), ...(maxConsumers && { maxConsumers }) };
    return startNatsServer({
      dataDir: join(folder, 'nats'),
      durability: 'os',
      maxFileStoreBytes: STORE_BYTES,
      ...limits,
    });
  }

  async link(url = this.server.url): Promise<NatsLink> {
    const { user, password } = this.server;
    const link = await connectToNats({ servers: url, name: 'test', user, password });
    this.links.push(link);
    return link;
  }

  async restart(meanwhile: () => Promise<void> = async () => undefined): Promise<void> {
    await this.server.kill();
    await meanwhile();
    this.server = await ServerLab.start(this.folder, this.server.port, this.#maxConsumers);
  }

  async close(): Promise<void> {
    for (const link of this.links) await link.close();
    await this.server.kill();
    await rm(this.folder, { recursive: true, force: true });
  }
}

/** Lets a client's bytes through to the server, and the answers back only as long as it is told to. */
async function lossyProxy(port: number) {
  const sockets = new Set<Socket>();
  let answers = true;
  const proxy: Server = createServer((client) => {
    const server = connectSocket(port, '127.0.0.1');
    for (const socket of [client, server]) {
      sockets.add(socket);
      socket.on('error', () => undefined);
    }
    client.pipe(server);
    server.on('data', (data) => {
      if (answers) client.write(data);
    });
  });
  await new Promise<void>((resolve) => proxy.listen(0, '127.0.0.1', resolve));
  const address = proxy.address();
  return {
    url: `nats://127.0.0.1:${typeof address === 'object' ? address?.port : 0}`,
    swallowAnswers: () => {
      answers = false;
    },
    close: () => {
      for (const socket of sockets) socket.destroy();
      proxy.close();
    },
  };
}

async function jetstreamLab(): Promise<LogLab> {
  const lab = await ServerLab.make();
  const store = join(lab.folder, 'nats', 'jetstream');
  const saved = join(lab.folder, 'saved');
  return {
    connect: async () => JetStreamLog.over(await lab.link()),
    kill: () => lab.server.kill(),
    start: async () => {
      lab.server = await ServerLab.start(lab.folder, lab.server.port);
    },
    async appendLosingAck(partition, token, data) {
      const proxy = await lossyProxy(lab.server.port);
      const log = await JetStreamLog.over(await lab.link(proxy.url));
      const own = await (await JetStreamLog.over(await lab.link())).open(partition, 1, {
        maxBytes: 8_000_000,
        replicas: 1,
      });
      const opened = await log.open(partition, 1, { maxBytes: 8_000_000, replicas: 1 });
      const { last } = await own.state();
      proxy.swallowAnswers();
      const appended = opened.append(token, data).catch((error: unknown) => error);
      const seen: Stored[] = [];
      const reader = own.read(last + 1, (message) => seen.push(message), assert.fail);
      await until(() => seen.length === 1, 'it is stored');
      reader.stop();
      proxy.close();
      return appended;
    },
    async save() {
      await lab.restart(() => cp(store, saved, { recursive: true }));
    },
    async restore(meanwhile) {
      const port = lab.server.port;
      await lab.server.kill();
      await rm(store, { recursive: true });
      await cp(saved, store, { recursive: true });
      // On another port, so that the clients stay away for a while.
      lab.server = await ServerLab.start(lab.folder);
      await meanwhile(await JetStreamLog.over(await lab.link()));
      await lab.server.kill();
      lab.server = await ServerLab.start(lab.folder, port);
    },
    close: () => lab.close(),
  };
}

logLaws('JetStream', jetstreamLab);

describe('JetStream reader', () => {
  let lab: ServerLab;
  before(async () => {
    lab = await ServerLab.make(2);
  });
  after(() => lab.close());

  const data = (text: string) => new TextEncoder().encode(text);

  it('survives the loss of its consumer', async () => {
    const link = await lab.link();
    const log = await (await JetStreamLog.over(link)).open('read-0', 1, SETTINGS);
    const got: number[] = [];
    log.read(1, (message) => got.push(message.sequence), assert.fail);
    await log.append('own', data('1'));
    await until(() => got.length === 1, 'the first');
    const manager = await jetstreamManager(link.connection);
    for await (const consumer of manager.consumers.list(log.stream))
      await manager.consumers.delete(log.stream, consumer.name);
    await log.append('own', data('2'));
    await until(() => got.length === 2, 'the second');
    assert.deepEqual(got, [1, 2]);
  });

  it('reads by direct get while the server gives no consumer, then by consumer', async () => {
    const link = await lab.link();
    const log = await (await JetStreamLog.over(link)).open('read-1', 1, SETTINGS);
    const others = [1, 2].map(() => log.read(1, () => undefined, assert.fail));
    const manager = await jetstreamManager(link.connection);
    await untilConsumers(manager, log.stream, 2);
    for (let i = 0; i < 600; i++) void log.append('cmd.e1', data(`m${i}`));
    const got: Stored[] = [];
    const reader = log.read(1, (message) => got.push(message), assert.fail);
    await until(() => got.length === 600, 'all by direct get');
    await log.append('cmd.e1', data('live'));
    await until(() => got.length === 601, 'the newest by direct get');
    for (const [i, message] of got.entries()) assert.equal(message.sequence, i + 1);
    const { data: _, ...head } = (await log.get(300)) ?? { data: undefined };
    assert.deepEqual(head, { sequence: 300, timeUs: got[299]?.timeUs, subject: got[299]?.subject });
    for (const other of others) other.stop();
    await untilConsumers(manager, log.stream, 1);
    await log.append('cmd.e1', data('pushed'));
    await until(() => got.length === 602, 'by consumer');
    reader.stop();
  });

  it('answers flow control: a slow handler gets all of a long log', async () => {
    const link = await lab.link();
    const log = await (await JetStreamLog.over(link)).open('read-2', 1, { maxBytes: 200_000_000, replicas: 1 });
    const frame = new Uint8Array(32_768);
    const count = 3_000;
    for (let i = 0; i < count; i += 100) {
      await Promise.all(Array.from({ length: 100 }, () => log.append('cmd.e1', frame)));
    }
    let got = 0;
    const reader = log.read(
      1,
      () => {
        got++;
        const end = performance.now() + 0.2;
        while (performance.now() < end);
      },
      assert.fail,
    );
    await until(() => got === count, 'all are read');
    assert.equal(reader.position, count);
    reader.stop();
  });

  it('understands both shapes of a delivery subject, and times to the microsecond', () => {
    const expected = { sequence: 1234, consumerSequence: 7, timeUs: 1_795_234_569_293_352 };
    assert.deepEqual(parseDelivery('$JS.ACK.P_main_3_g1.reader_x.1.1234.7.1795234569293352999.0'), expected);
    assert.deepEqual(parseDelivery('$JS.ACK._.ACCHASH.P_main_3_g1.reader_x.1.1234.7.1795234569293352999.0'), expected);
    assert.deepEqual(
      parseDelivery('$JS.ACK.hub.ACCHASH.P_main_3_g1.reader_x.1.1234.7.1795234569293352999.0.r4nd0m'),
      expected,
    );
    assert.equal(parseTimeUs('2026-11-21T04:16:09.293352999Z'), 1_795_234_569_293_352);
    assert.equal(parseTimeUs('2026-11-21T04:16:09.2Z'), 1_795_234_569_200_000);
    assert.equal(parseTimeUs('2026-11-21T04:16:09Z'), 1_795_234_569_000_000);
  });
});

type Manager = Awaited<ReturnType<typeof jetstreamManager>>;

async function untilConsumers(manager: Manager, stream: string, count: number): Promise<void> {
  let found = -1;
  const poll = async () => {
    while (found !== count) found = (await manager.streams.info(stream)).state.consumer_count;
  };
  void poll();
  await until(() => found === count, `${count} consumers`);
}

describe('JetStream stream settings', () => {
  let lab: ServerLab;
  before(async () => {
    lab = await ServerLab.make();
  });
  after(() => lab.close());

  const misconfigured = (field: string) => (error: unknown) =>
    error instanceof ProtocolError && error.code === 'log_misconfigured' && error.field === field;

  it('are what safety needs', async () => {
    const link = await lab.link();
    const log = await (await JetStreamLog.over(link)).open('set-0', 1, SETTINGS);
    const { config } = await (await jetstreamManager(link.connection)).streams.info(log.stream);
    const { subjects, retention, storage, discard, max_age, max_msgs, allow_direct, deny_delete, deny_purge } = config;
    assert.deepEqual(
      { subjects, retention, storage, discard, max_age, max_msgs, allow_direct, deny_delete, deny_purge },
      {
        subjects: ['p.set-0.>'],
        retention: 'limits',
        storage: 'file',
        discard: 'new',
        max_age: 0,
        max_msgs: -1,
        allow_direct: true,
        deny_delete: true,
        deny_purge: false,
      },
    );
    assert.equal(config.duplicate_window, 30e9);
  });

  it('that differ are refused by name', async () => {
    const link = await lab.link();
    const manager = await jetstreamManager(link.connection);
    const log = await JetStreamLog.over(link);
    const { stream } = await log.open('set-1', 1, SETTINGS);
    const good = (await manager.streams.info(stream)).config;
    const wrong = {
      discard: 'old',
      max_age: 3_600e9,
      max_msgs: 1_000_000,
      allow_rollup_hdrs: true,
      max_msg_size: 1_000,
    } as const;
    for (const [field, value] of Object.entries(wrong)) {
      await manager.streams.update(stream, { ...good, [field]: value });
      await assert.rejects(log.open('set-1', 1, SETTINGS), misconfigured(field), field);
      await manager.streams.update(stream, good);
    }
    await log.open('set-1', 1, SETTINGS);
    await assert.rejects(log.open('set-2', 1, { maxBytes: 1_000_000, replicas: 3 }), misconfigured('num_replicas'));
    await assert.rejects(log.open('set-2', 1, { maxBytes: STORE_BYTES * 2, replicas: 1 }), misconfigured('max_bytes'));
  });
});

describe('connection', () => {
  it('refuses a server that is too old', async () => {
    const old = createServer((socket) => {
      socket.write(
        'INFO {"server_id":"X","version":"2.9.10","proto":1,"headers":true,"max_payload":1048576,"jetstream":true}\r\n',
      );
      socket.on('data', (data) => {
        if (data.toString().includes('PING')) socket.write('PONG\r\n');
      });
      socket.on('error', () => undefined);
    });
    await new Promise<void>((resolve) => old.listen(0, '127.0.0.1', resolve));
    const address = old.address();
    const servers = `nats://127.0.0.1:${typeof address === 'object' ? address?.port : 0}`;
    await assert.rejects(
      connectToNats({ servers, name: 'test' }),
      (error) => (error as ProtocolError).code === 'log_outdated_server',
    );
    old.close();
  });

  it('says that nobody answers', async () => {
    const unused = createServer();
    await new Promise<void>((resolve) => unused.listen(0, '127.0.0.1', resolve));
    const address = unused.address();
    const servers = `nats://127.0.0.1:${typeof address === 'object' ? address?.port : 0}`;
    await new Promise((resolve) => unused.close(resolve));
    await assert.rejects(
      connectToNats({ servers, name: 'test' }),
      (error) => (error as ProtocolError).code === 'log_unavailable',
    );
  });

  it('compares versions by number', () => {
    assert.ok(isOlder('2.9.10', '2.15.1') && isOlder('2.15.0', '2.15.1') && isOlder('2.15.1-RC.1', '2.15.1'));
    assert.ok(!isOlder('2.15.1', '2.15.1') && !isOlder('v2.15.2', '2.15.1') && !isOlder('3.0.0-dev', '2.15.1'));
    assert.ok(isOutdated({ version: '2.16.0', apiLevel: 4 }) && !isOutdated({ version: '2.15.1', apiLevel: 5 }));
  });
});
