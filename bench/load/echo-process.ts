/**
 * What the websocket library gives to a server that does nothing: a command is answered at once, and, where it is told to, goes
 * out as an event to all who follow, by the library's own publish. It speaks just enough of the protocol for the same clients.
 * The measure for what edge, log and host cost beyond the transport.
 */
import { App, us_listen_socket_close, us_socket_local_port, type WebSocket } from 'uWebSockets.js';
import { writePing } from '../../protocol/client-messages.ts';
import { FROM_CLIENT, FROM_EDGE, SUBPROTOCOL } from '../../protocol/message.ts';
import { MsgpackWriter } from '../../protocol/msgpack-writer.ts';
import { writeEvent, writeReply, writeSubscribed, writeWelcome } from '../../protocol/server-messages.ts';
import { shapeOf } from '../../protocol/shape.ts';
import { beacon, NOTE_BYTES } from './beacon.ts';
import { serve } from './child.ts';
import { NUMBER_OFFSET } from './command-frames.ts';
import { residentBytes } from './resident-memory.ts';

const TOPIC = 't';
const TOPIC_ID = 1;
const EVENT = shapeOf(beacon.tables.told.row).encode({ note: 'n'.repeat(NOTE_BYTES) });
const EMPTY_REPLY = Uint8Array.of(0x90);
const BACKPRESSURE_BYTES = 16 * 1024 * 1024; // Nothing may be dropped; the loads bound what is on the way.
const WELCOME = {
  session: '',
  principal: '',
  node: 'echo',
  now: 0,
  heartbeatMs: 25_000,
  maxPayloadBytes: 65_536,
  maxInFlight: 256,
  tokenExpiresAt: 0,
  resumed: false,
  sessionHorizonMs: 86_400_000,
};

type Nothing = Record<string, never>;

const app = App();
const writer = new MsgpackWriter();
let listening: unknown;
let publishes = false;

app.ws<Nothing>('/*', {
  maxBackpressure: BACKPRESSURE_BYTES,
  upgrade: (response, request, context) => {
    const key = request.getHeader('sec-websocket-key');
    response.upgrade<Nothing>({}, key, SUBPROTOCOL, request.getHeader('sec-websocket-extensions'), context);
  },
  message: (ws, message) => answer(ws, new Uint8Array(message)),
});

function answer(ws: WebSocket<Nothing>, bytes: Uint8Array): void {
  writer.reset();
  if (bytes[1] === FROM_CLIENT.command) return reply(ws, bytes);
  if (bytes[1] === FROM_CLIENT.ping) writePing(writer);
  else if (bytes[1] === FROM_CLIENT.hello) writeWelcome(writer, WELCOME);
  else writeSubscribed(writer, 1, { topicId: TOPIC_ID, generation: 1, offset: 0, recovered: false });
  if (bytes[1] === FROM_CLIENT.subscribe) ws.subscribe(TOPIC);
  ws.send(writer.view(), true, false);
}

/** The value of a counter that only this command's connection adds to, and only once each; or nothing, and an event. */
function reply(ws: WebSocket<Nothing>, bytes: Uint8Array): void {
  const number = new DataView(bytes.buffer, bytes.byteOffset).getUint32(NUMBER_OFFSET);
  if (publishes) {
    writeReply(writer, number, EMPTY_REPLY);
    ws.send(writer.view(), true, false);
    writer.reset();
    writeEvent(writer, TOPIC_ID, number, EVENT);
    app.publish(TOPIC, writer.view(), true, false);
    return;
  }
  writer.array(3);
  writer.int(FROM_EDGE.reply);
  writer.int(number);
  writer.array(1);
  writer.int(number);
  ws.send(writer.view(), true, false);
}

function start(settings: { publishes: boolean }): Promise<{ port: number }> {
  publishes = settings.publishes;
  return new Promise((resolve, reject) => {
    app.listen('127.0.0.1', 0, (socket) => {
      if (!socket) return reject(new Error('cannot listen'));
      listening = socket;
      resolve({ port: us_socket_local_port(socket) });
    });
  });
}

serve({ start, residentBytes }, () => {
  if (listening) us_listen_socket_close(listening as Parameters<typeof us_listen_socket_close>[0]);
  app.close();
});
