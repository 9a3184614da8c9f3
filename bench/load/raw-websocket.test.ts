import assert from 'node:assert/strict';
import { once } from 'node:events';
import { type AddressInfo, createServer, type Socket } from 'node:net';
import { test } from 'node:test';
import { WebSocketServer } from 'ws';
import { frameOf, RawWebsocket } from './raw-websocket.ts';

const ANSWER = 'HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n';
const DEADLINE = { timeout: 20_000 };

/** A message of a server: not masked. */
function serverFrame(payload: Buffer): Buffer {
  const header = Buffer.alloc(payload.length < 126 ? 2 : payload.length < 65_536 ? 4 : 10);
  header[0] = 0x82;
  header[1] = header.length === 2 ? payload.length : header.length === 4 ? 126 : 127;
  if (header.length === 4) header.writeUInt16BE(payload.length, 2);
  if (header.length === 10) header.writeBigUInt64BE(BigInt(payload.length), 2);
  return Buffer.concat([header, payload]);
}

test('messages of each size arrive whole, wherever the network cuts them', DEADLINE, async () => {
  const payloads = [0, 1, 125, 126, 300, 70_000].map((length, i) => Buffer.alloc(length, i + 1));
  const bytes = Buffer.concat([Buffer.from(ANSWER), ...payloads.map(serverFrame)]);
  for (const cut of [1, ANSWER.length - 2, ANSWER.length, ANSWER.length + 1, ANSWER.length + 5, bytes.length - 1]) {
    const server = createServer((socket) => void sendCut(socket, bytes, cut)).listen(0, '127.0.0.1');
    await once(server, 'listening');
    const received: Buffer[] = [];
    const all = new Promise<void>((resolve, reject) => {
      const message = (all: Buffer, start: number, end: number) => {
        received.push(Buffer.from(all.subarray(start, end)));
        if (received.length === payloads.length) resolve();
      };
      const handlers = { message, readEnd: () => undefined, lost: (reason: string) => reject(new Error(reason)) };
      RawWebsocket.open((server.address() as AddressInfo).port, 'any', handlers).then(
        (websocket) => all.then(() => websocket.close()),
        reject,
      );
    });
    await all;
    assert.deepEqual(received, payloads, `cut at ${cut}`);
    await new Promise((resolve) => server.close(resolve));
  }
});

/** In two parts; the second leaves when the first was taken. */
async function sendCut(socket: Socket, bytes: Buffer, cut: number): Promise<void> {
  socket.setNoDelay(true);
  await once(socket, 'data');
  await new Promise((resolve) => socket.write(bytes.subarray(0, cut), resolve));
  setImmediate(() => socket.write(bytes.subarray(cut)));
}

test('another library understands what is sent, and its pings and closes are understood', DEADLINE, async () => {
  const server = new WebSocketServer({ port: 0, host: '127.0.0.1', handleProtocols: () => 'any' });
  await once(server, 'listening');
  const received: Buffer[] = [];
  server.on('connection', (socket) => {
    socket.on('message', (data) => {
      received.push(data as Buffer);
      if (received.length === 2) socket.ping('are you there');
    });
    socket.on('pong', (data) => socket.close(3001, `yes, ${data}`));
  });
  const lost = new Promise<string>((resolve, reject) => {
    const handlers = { message: () => reject(new Error('nothing was sent')), readEnd: () => undefined, lost: resolve };
    RawWebsocket.open((server.address() as AddressInfo).port, 'any', handlers).then((websocket) => {
      websocket.send(Buffer.concat([frameOf(Buffer.from('one')), frameOf(Buffer.alloc(1_000, 2))]));
    }, reject);
  });
  assert.equal(await lost, 'closed: 3001 yes, are you there');
  assert.deepEqual(received, [Buffer.from('one'), Buffer.alloc(1_000, 2)]);
  await new Promise((resolve) => server.close(resolve));
});
