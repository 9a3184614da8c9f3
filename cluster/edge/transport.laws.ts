/** What every transport must do: one suite for all implementations, over real sockets. */
import assert from 'node:assert/strict';
import { request as httpRequest } from 'node:http';
import { connect } from 'node:net';
import { after, before, describe, test } from 'node:test';
import { WebSocket } from 'ws';
import { until } from './test-edge.ts';
import {
  type Exchange,
  SENT,
  type Socket,
  type Transport,
  type TransportHandlers,
  type TransportSettings,
} from './transport.ts';

type State = { name: string; drained: number; codes: number[]; opened: number; received: Buffer[] };
type Make = (settings: TransportSettings, handlers: TransportHandlers<State>) => Transport;

const SETTINGS: TransportSettings = {
  host: '127.0.0.1',
  port: 0,
  sharePort: false,
  maxMessageBytes: 4_096,
  maxBufferedBytes: 64 * 1024,
  idleTimeoutSeconds: 60,
  maxBodyBytes: 1_000,
  bodyTimeoutMs: 150,
};
const PROTOCOL = 'laws.v1';

export function transportLaws(name: string, make: Make): void {
  describe(`transport: ${name}`, () => {
    const sockets = new Map<string, Socket<State>>();
    const failures: unknown[] = [];
    let transport: Transport;
    let port = 0;
    let onMessage: (socket: Socket<State>, bytes: Uint8Array, isBinary: boolean) => void;
    let onRequest: (exchange: Exchange) => void | Promise<void>;

    const handlers: TransportHandlers<State> = {
      upgrade({ path, protocols, origin, address, host }) {
        if (path === '/throw') throw new Error('upgrade');
        if (path === '/refused') return { status: 403, name: 'forbidden', message: `${address} ${origin} ${host}` };
        assert.equal(protocols, PROTOCOL);
        return { state: { name: path, drained: 0, codes: [], opened: 0, received: [] }, protocol: PROTOCOL };
      },
      open(socket) {
        socket.state.opened++;
        sockets.set(socket.state.name, socket);
      },
      message: (socket, bytes, isBinary) => onMessage(socket, bytes, isBinary),
      drained: (socket) => void socket.state.drained++,
      close(socket, code) {
        socket.state.codes.push(code);
      },
      request: (exchange) => onRequest(exchange),
      failed: (error) => void failures.push(error),
    };

    before(async () => {
      transport = make(SETTINGS, handlers);
      port = await transport.listen();
    });
    after(() => transport.close());

    const dial = async (
      path: string,
    ): Promise<{ client: WebSocket; socket: Socket<State>; got: Buffer[]; closed: () => number | undefined }> => {
      const client = new WebSocket(`ws://127.0.0.1:${port}${path}`, PROTOCOL);
      const got: Buffer[] = [];
      let code: number | undefined;
      client.on('message', (data: Buffer) => got.push(data));
      client.on('error', () => undefined);
      client.on('close', (its) => {
        code = its;
      });
      await until('open', () => sockets.has(path) && client.readyState === WebSocket.OPEN);
      return { client, socket: sockets.get(path) as Socket<State>, got, closed: () => code };
    };
    const url = (path: string) => `http://127.0.0.1:${port}${path}`;

    test('a message arrives whole, both ways, and its bytes may be reused after send', async () => {
      onMessage = ({ state }, bytes, isBinary) => void (isBinary && state.received.push(Buffer.from(bytes)));
      const { client, socket, got } = await dial('/echo');
      client.send(Buffer.from('hello'));
      await until('received', () => socket.state.received.length === 1);
      assert.equal(socket.state.received[0]?.toString(), 'hello');
      const bytes = Buffer.from('first');
      assert.equal(socket.send(bytes), SENT);
      bytes.fill(0);
      assert.equal(socket.sendAll([Buffer.from('a'), Buffer.from('b'), Buffer.from('c')]), 3);
      await until('sent', () => got.length === 4);
      assert.deepEqual(got.map(String), ['first', 'a', 'b', 'c']);
      client.terminate();
    });

    test('an upgrade is refused as HTTP, also when its handler throws', async () => {
      for (const [path, status] of [
        ['/refused', 403],
        ['/throw', 500],
      ] as const) {
        const client = new WebSocket(url(path).replace('http', 'ws'), PROTOCOL);
        const answered = new Promise<number | undefined>((resolve) =>
          client.on('unexpected-response', (_, { statusCode }) => resolve(statusCode)),
        );
        client.on('error', () => undefined);
        assert.equal(await answered, status);
        client.terminate();
      }
      assert.match(String(failures.pop()), /upgrade/);
    });

    test('the end is told once, and a closed socket takes nothing and throws nothing', async () => {
      const { socket, closed } = await dial('/end');
      socket.end(3001, 'going_away');
      assert.deepEqual([socket.closed, socket.state.codes.length], [true, 1]);
      socket.end(3002, 'again');
      socket.terminate();
      assert.equal(socket.sendAll([Buffer.from('x')]), 0);
      socket.send(Buffer.from('x'));
      assert.equal(socket.bufferedBytes(), 0);
      await until('closed', () => closed() !== undefined);
      assert.equal(closed(), 3001);
      const other = await dial('/gone');
      other.client.terminate();
      await until('told', () => other.socket.state.codes.length === 1);
      assert.deepEqual(other.socket.state.codes, [1006]);
    });

    test('a socket may be ended within its own message handler', async () => {
      onMessage = (socket) => socket.end(3501, 'protocol_error');
      const { client, closed } = await dial('/inside');
      client.send(Buffer.from('1'));
      client.send(Buffer.from('2'));
      await until('closed', () => closed() !== undefined);
      assert.equal(closed(), 3501);
    });

    test('a message beyond the limit closes its connection only', async () => {
      onMessage = ({ state }, bytes) => void state.received.push(Buffer.from(bytes));
      const large = await dial('/large');
      const small = await dial('/small');
      large.client.send(Buffer.alloc(4_096));
      await until('the largest', () => large.socket.state.received.length === 1);
      large.client.send(Buffer.alloc(4_097));
      await until('closed', () => large.closed() !== undefined);
      small.client.send(Buffer.from('x'));
      await until('the other', () => small.socket.state.received.length === 1);
      small.client.terminate();
    });

    test('a handler that throws is told to `failed`, and its connection lives', async () => {
      onMessage = () => {
        throw new Error('bug');
      };
      const { client, socket, got } = await dial('/throws');
      client.send(Buffer.from('x'));
      await until('failed', () => failures.length === 1);
      assert.match(String(failures.pop()), /bug/);
      socket.send(Buffer.from('still'));
      await until('still', () => got.length === 1);
      client.terminate();
    });

    test('a reader that does not read: BUFFERED, then `drained`, nothing lost', async () => {
      const { client, socket, got } = await dial('/slow');
      client.pause();
      const chunk = Buffer.alloc(64 * 1024, 7);
      let sent = 0;
      while (socket.send(chunk) === SENT) if (++sent > 1_000) assert.fail('the network takes everything');
      sent++;
      assert.ok(socket.bufferedBytes() > 0);
      assert.equal(socket.state.drained, 0);
      client.resume();
      await until('drained', () => socket.state.drained > 0 && socket.bufferedBytes() === 0);
      await until('all', () => got.length === sent);
      client.terminate();
    });

    test('a request is answered, with its parts as they were sent', async () => {
      onRequest = (exchange) => {
        const { method, path, query, body } = exchange;
        const told = [method, path, query, exchange.header('x-test'), Buffer.from(body).toString()];
        exchange.answer(201, { 'content-type': 'text/plain', 'x-answer': 'yes' }, JSON.stringify(told));
        exchange.answer(200, {}, 'twice');
      };
      const response = await fetch(url('/a%20b/c?d=e&f'), {
        method: 'PUT',
        headers: { 'x-test': 'héllo' },
        body: 'body',
      });
      assert.deepEqual([response.status, response.headers.get('x-answer')], [201, 'yes']);
      const [method, path, query, , body] = (await response.json()) as string[];
      assert.deepEqual([method, path, query, body], ['PUT', '/a%20b/c', 'd=e&f', 'body']);
      assert.equal((await fetch(url('/'), { method: 'HEAD' })).status, 201);
    });

    test('whatever a handler does, the request ends', async () => {
      onRequest = () => {
        throw new Error('thrown');
      };
      assert.equal((await fetch(url('/'))).status, 500);
      onRequest = async () => {
        await Promise.resolve();
        throw new Error('rejected');
      };
      assert.equal((await fetch(url('/'))).status, 500);
      onRequest = () => undefined;
      assert.equal((await fetch(url('/'))).status, 500);
      assert.deepEqual(
        failures.splice(0).map((error) => /thrown|rejected|no answer/.test(String(error))),
        [true, true, true],
      );
    });

    test('a request that is aborted leaves its late answer without effect', async () => {
      let exchange: Exchange | undefined;
      let release: () => void = () => undefined;
      onRequest = (its) => {
        exchange = its;
        return new Promise((resolve) => {
          release = resolve;
        });
      };
      const socket = connect(port, '127.0.0.1');
      socket.write('GET /late HTTP/1.1\r\nHost: x\r\n\r\n');
      await until('request', () => exchange !== undefined);
      socket.destroy();
      await until('aborted', () => exchange?.ended === true);
      exchange?.answer(200, {}, 'late');
      release();
    });

    test('bodies have a size and a time', async () => {
      onRequest = (exchange) => exchange.answer(200, {}, String(exchange.body.length));
      assert.equal(await (await fetch(url('/'), { method: 'POST', body: 'x'.repeat(1_000) })).text(), '1000');
      assert.equal((await fetch(url('/'), { method: 'POST', body: 'x'.repeat(1_001) })).status, 413);
      const chunked = await new Promise<number | undefined>((resolve, reject) => {
        const sending = httpRequest(
          url('/'),
          { method: 'POST', headers: { 'transfer-encoding': 'chunked' } },
          (response) => {
            resolve(response.statusCode);
            response.resume();
          },
        );
        sending.on('error', reject);
        sending.write('x'.repeat(600));
        sending.write('x'.repeat(600));
      });
      assert.equal(chunked, 413);
      const socket = connect(port, '127.0.0.1');
      let answer = '';
      socket.on('data', (data) => {
        answer += data.toString();
      });
      socket.write('POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc');
      await until('too slow', () => answer.startsWith('HTTP/1.1 408'));
      socket.destroy();
    });

    test('a taken address is an error that names it; after stopListening what is open goes on', async () => {
      const second = make({ ...SETTINGS, port }, handlers);
      await assert.rejects(second.listen(), new RegExp(`127\\.0\\.0\\.1:${port}`));
      second.close();
      const leaving = make(SETTINGS, handlers);
      const leavingPort = await leaving.listen();
      const client = new WebSocket(`ws://127.0.0.1:${leavingPort}/leaving`, PROTOCOL);
      await until('open', () => client.readyState === WebSocket.OPEN);
      leaving.stopListening();
      await assert.rejects(fetch(`http://127.0.0.1:${leavingPort}/`));
      onMessage = ({ state }, bytes) => void state.received.push(Buffer.from(bytes));
      client.send(Buffer.from('x'));
      await until('still there', () => sockets.get('/leaving')?.state.received.length === 1);
      leaving.close();
      await until('cut', () => client.readyState === WebSocket.CLOSED);
      const anew = make({ ...SETTINGS, port: leavingPort }, handlers);
      assert.equal(await anew.listen(), leavingPort, 'a port can be used again at once');
      anew.close();
    });

    test('settings out of bounds never reach native code', () => {
      for (const wrong of [
        { idleTimeoutSeconds: 5 },
        { idleTimeoutSeconds: 961 },
        { port: -1 },
        { maxMessageBytes: 0 },
        { bodyTimeoutMs: 0.5 },
        { host: '' },
      ]) {
        assert.throws(() => make({ ...SETTINGS, ...wrong }, handlers), RangeError);
      }
    });
  });
}
