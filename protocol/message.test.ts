import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  ClientMessageReader,
  writeCommand,
  writeHello,
  writePing,
  writeQuery,
  writeRenew,
  writeSubscribe,
  writeToken,
  writeUnsubscribe,
} from './client-messages.ts';
import { ERRORS, ProtocolError } from './errors.ts';
import { generateHostile, seededRandom } from './fuzz.ts';
import { CLOSE_CODES, FROM_CLIENT, FROM_EDGE, MAX_MESSAGES, mayReconnect } from './message.ts';
import { pack } from './msgpack.ts';
import { MsgpackWriter } from './msgpack-writer.ts';
import {
  ServerMessageReader,
  type Welcome,
  writeAnswer,
  writeConflated,
  writeEnded,
  writeError,
  writeEvent,
  writeFailed,
  writeGoaway,
  writeMapAnswer,
  writeReply,
  writeSubscribed,
  writeWelcome,
} from './server-messages.ts';
import { readUtf8 } from './utf8.ts';

const HOSTILE_INPUTS = 100_000; // About two seconds.

const refused = (code: string) => (error: unknown) => error instanceof ProtocolError && error.code === code;

function written(...writes: readonly ((writer: MsgpackWriter) => void)[]): Uint8Array {
  const writer = new MsgpackWriter();
  for (const write of writes) write(writer);
  return writer.copy();
}

const body = pack([1, 'two', [3]]);
const layout = Uint8Array.of(1, 0, 0, 0, 0, 0, 0, 0);
const command = { number: 4_000_000_000, low: 7, ref: 'chat:c_é', name: 'say', body, binary: false };

function clientReader(bytes: Uint8Array): ClientMessageReader {
  const reader = new ClientMessageReader();
  reader.reset(bytes);
  return reader;
}

function serverReader(bytes: Uint8Array): ServerMessageReader {
  const reader = new ServerMessageReader();
  reader.reset(bytes);
  return reader;
}

const target = (reader: ClientMessageReader): (string | undefined)[] => [
  readUtf8(reader.bytes, reader.refStart, reader.refEnd),
  readUtf8(reader.bytes, reader.nameStart, reader.nameEnd),
];

test('the edge reads what the client writes, one message after the other', () => {
  const reader = clientReader(
    written(
      (writer) => writeHello(writer, { token: 'abc', session: 'xyz' }),
      (writer) => writeCommand(writer, command),
      (writer) => writeCommand(writer, { ...command, number: 8, body: layout, binary: true }),
      (writer) => writeQuery(writer, 9, 'board:2026-11/3', 'top', body, 2 ** 40),
      (writer) => writeQuery(writer, 10, 'board:2026-11/3', 'top', body),
      (writer) => writeSubscribe(writer, 11, 'a:b', 'trades', { from: 2 ** 33, rate: 0.5 }),
      (writer) => writeUnsubscribe(writer, 12, 'a:b', 'trades'),
      writePing,
      (writer) => writeToken(writer, 13, 'newer'),
      (writer) => writeRenew(writer, 14),
    ),
  );
  assert.ok(reader.next());
  assert.equal(reader.type, FROM_CLIENT.hello);
  assert.deepEqual(reader.hello(), { token: 'abc', session: 'xyz', client: undefined });

  assert.ok(reader.next());
  assert.deepEqual([reader.type, reader.number, reader.low, reader.isBinary], [2, 4_000_000_000, 7, false]);
  assert.deepEqual(target(reader), ['chat:c_é', 'say']);
  assert.deepEqual(reader.bytes.slice(reader.bodyStart, reader.bodyEnd), body);

  assert.ok(reader.next());
  assert.deepEqual([reader.number, reader.isBinary], [8, true]);
  assert.deepEqual(reader.bytes.slice(reader.bodyStart, reader.bodyEnd), layout);

  for (const [request, minSequence] of [
    [9, 2 ** 40],
    [10, undefined],
  ]) {
    assert.ok(reader.next());
    assert.deepEqual([reader.type, reader.request, reader.minSequence], [3, request, minSequence]);
    assert.deepEqual(target(reader), ['board:2026-11/3', 'top']);
    assert.deepEqual(reader.bytes.slice(reader.bodyStart, reader.bodyEnd), body);
  }

  assert.ok(reader.next());
  assert.deepEqual([reader.type, reader.request, ...target(reader)], [4, 11, 'a:b', 'trades']);
  assert.deepEqual(reader.subscribeOptions(), { from: 2 ** 33, generation: undefined, rate: 0.5 });

  assert.ok(reader.next());
  assert.deepEqual([reader.type, reader.request, ...target(reader)], [5, 12, 'a:b', 'trades']);
  assert.ok(reader.next());
  assert.deepEqual([reader.type, reader.request], [FROM_CLIENT.ping, 0]);
  assert.ok(reader.next());
  assert.deepEqual([reader.type, reader.request, reader.token()], [7, 13, 'newer']);
  assert.ok(reader.next());
  assert.deepEqual([reader.type, reader.request], [8, 14]);
  assert.equal(reader.next(), false);
  assert.equal(reader.count, 10);
});

const welcome: Welcome = {
  session: 's',
  principal: 'u_1',
  node: 'n1',
  now: 1_790_000_000_000,
  heartbeatMs: 25_000,
  maxPayloadBytes: 65_536,
  maxInFlight: 256,
  tokenExpiresAt: 1_790_000_360_000,
  resumed: true,
  sessionHorizonMs: 86_400_000,
};

test('the client reads what the edge writes', () => {
  const subscribed = { topicId: 3, generation: 2, offset: 2 ** 35, recovered: true };
  const reader = serverReader(
    written(
      (writer) => writeWelcome(writer, welcome),
      (writer) => writeReply(writer, 77, body),
      (writer) => writeAnswer(writer, 5, body, 2 ** 41),
      (writer) => writeSubscribed(writer, 6, { ...subscribed, snapshot: body }),
      (writer) => writeSubscribed(writer, 6, subscribed),
      (writer) => writeMapAnswer(writer, 7, { session: 't', none: undefined }),
      (writer) => writeEvent(writer, 3, 2 ** 35 + 1, body),
      (writer) => writeConflated(writer, 3, 12, body),
      (writer) => writeFailed(writer, 78, 'rejected', 'no'),
      (writer) => writeError(writer, 0, 'overloaded', 'later', 250),
      (writer) => writeGoaway(writer, 2_000, 'drain'),
      (writer) => writeEnded(writer, 3, 'forbidden', 'role taken'),
      writePing,
    ),
  );
  const at = (type: number, offset?: number): void => {
    assert.ok(reader.next());
    assert.equal(reader.type, type);
    if (offset !== undefined) assert.equal(reader.offset, offset);
  };
  const bodyIs = (): void => assert.deepEqual(reader.bytes.slice(reader.bodyStart, reader.bodyEnd), body);

  at(FROM_EDGE.welcome);
  assert.deepEqual(reader.welcome(), welcome);
  at(FROM_EDGE.reply);
  assert.equal(reader.about, 77);
  bodyIs();
  at(FROM_EDGE.answer);
  assert.deepEqual([reader.about, reader.sequence()], [5, 2 ** 41]);
  bodyIs();
  at(FROM_EDGE.answer);
  assert.deepEqual(reader.subscribed(), { ...subscribed, snapshot: body });
  assert.equal(reader.sequence(), undefined);
  at(FROM_EDGE.answer);
  assert.deepEqual(reader.subscribed(), { ...subscribed, snapshot: undefined });
  at(FROM_EDGE.answer);
  assert.deepEqual(reader.map(2), { session: 't' });
  at(FROM_EDGE.event, 2 ** 35 + 1);
  assert.equal(reader.about, 3);
  bodyIs();
  at(FROM_EDGE.conflated, 12);
  bodyIs();
  at(FROM_EDGE.failed);
  assert.equal(reader.about, 78);
  assert.deepEqual(reader.problem(), { name: 'rejected', message: 'no', retryAfterMs: undefined });
  at(FROM_EDGE.error);
  assert.deepEqual([reader.about, reader.problem()], [0, { name: 'overloaded', message: 'later', retryAfterMs: 250 }]);
  at(FROM_EDGE.goaway);
  assert.deepEqual(reader.goaway(), { afterMs: 2_000, reason: 'drain' });
  at(FROM_EDGE.ended);
  assert.deepEqual(reader.problem(), { name: 'forbidden', message: 'role taken', retryAfterMs: undefined });
  at(FROM_EDGE.ping);
  assert.equal(reader.next(), false);
});

test('a client skips what a newer edge may add', () => {
  const newer = [pack([99, 'what']), pack([2, 5, [1], 'more']), pack([8, { afterMs: 1, reason: 'x', url: 'y' }, 7])];
  const reader = serverReader(Buffer.concat(newer));
  assert.ok(reader.next());
  assert.equal(reader.type, 99);
  assert.ok(reader.next());
  assert.deepEqual([reader.about, reader.endOf(2) - reader.bodyStart], [5, 2]);
  assert.ok(reader.next());
  assert.deepEqual(reader.goaway(), { afterMs: 1, reason: 'x' });
});

for (const [what, message, code] of [
  ['no array', 5, 'malformed_message'],
  ['an empty array', [], 'malformed_message'],
  ['a type that is no number', ['hello'], 'malformed_message'],
  ['a negative type', [-1], 'malformed_message'],
  ['an array of 16', new Array(16).fill(6), 'malformed_message'],
  ['a command without body', [2, 1, 1, 'a:b', 'x'], 'malformed_message'],
  ['a command with more than a body', [2, 1, 1, 'a:b', 'x', [], 0], 'malformed_message'],
  ['command number 0', [2, 0, 0, 'a:b', 'x', []], 'malformed_message'],
  ['a command number of 33 bits', [2, 2 ** 32, 1, 'a:b', 'x', []], 'malformed_message'],
  ['low above number', [2, 1, 2, 'a:b', 'x', []], 'malformed_message'],
  ['low 0', [2, 1, 0, 'a:b', 'x', []], 'malformed_message'],
  ['a reference that is no text', [2, 1, 1, 7, 'x', []], 'malformed_message'],
  ['a name that is bytes', [2, 1, 1, 'a:b', new Uint8Array(2), []], 'malformed_message'],
  ['request 0', [3, 0, 'a:b', 'x', []], 'malformed_message'],
  ['a fraction as request', [3, 1.5, 'a:b', 'x', []], 'malformed_message'],
  ['a ping with more', [6, 1], 'malformed_message'],
  ['a body that is too deep', [2, 1, 1, 'a:b', 'x', [[[[[[[[[[[[[[[[[0]]]]]]]]]]]]]]]]]], 'too_deep'],
  ['a body with a text of 600 kB', [2, 1, 1, 'a:b', 'x', ['x'.repeat(600_000)]], 'payload_too_large'],
] as const) {
  test(`the edge refuses ${what}`, () => assert.throws(() => clientReader(pack(message)).next(), refused(code)));
}

test('one to 64 messages', () => {
  assert.throws(() => clientReader(new Uint8Array(0)).next(), refused('malformed_message'));
  const reader = clientReader(new Uint8Array((MAX_MESSAGES + 1) * 2).map((_, i) => (i % 2 ? FROM_CLIENT.ping : 0x91)));
  for (let i = 0; i < MAX_MESSAGES; i++) assert.ok(reader.next());
  assert.throws(() => reader.next(), refused('malformed_message'));
});

test('a type that the edge does not know is left to it', () => {
  const reader = clientReader(Buffer.concat([pack([42, 'x', {}]), pack([6])]));
  assert.ok(reader.next());
  assert.deepEqual([reader.type, reader.request], [42, 0]);
  assert.ok(reader.next());
  assert.equal(reader.type, FROM_CLIENT.ping);
});

test('hello: versions and tokens', () => {
  const hello = (map: object): unknown => {
    const reader = clientReader(pack([1, map]));
    reader.next();
    return reader.hello();
  };
  assert.throws(() => hello({ v: 2, token: 'x' }), refused('unsupported_version'));
  assert.throws(() => hello({ token: 'x' }), refused('unsupported_version'));
  assert.throws(() => hello({ v: 1 }), refused('malformed_message'));
  assert.throws(() => hello({ v: 1, token: 'x'.repeat(9_000) }), refused('malformed_message'));
  assert.throws(() => hello({ v: 1, token: 'x', session: 7 }), refused('malformed_message'));
  assert.deepEqual(hello({ v: 1, token: 'x', later: [1] }), { token: 'x', session: undefined, client: undefined });
});

test('a cut websocket message is refused at its last message', () => {
  const whole = written(writePing, (writer) => writeCommand(writer, command));
  for (let end = 2; end < whole.length; end++) {
    const reader = clientReader(whole.subarray(0, end));
    assert.ok(reader.next());
    if (end > 2) assert.throws(() => reader.next(), refused('malformed_message'), `cut at ${end}`);
  }
});

test('hostile bytes: offsets stay inside, or an error with a name', (t) => {
  const seed = Number(process.env.SEED ?? Date.now() % 2 ** 32);
  const random = seededRandom(seed);
  const valid = written(
    (writer) => writeCommand(writer, command),
    (writer) => writeQuery(writer, 9, 'a:b', 'top', body, 5),
    (writer) => writeSubscribe(writer, 9, 'a:b', 'top', { from: 5 }),
  );
  const reader = new ClientMessageReader();
  const stackFrames = Error.stackTraceLimit;
  Error.stackTraceLimit = 0;
  let accepted = 0;
  for (let i = 0; i < HOSTILE_INPUTS; i++) {
    const bytes = generateHostile(random, valid);
    try {
      for (reader.reset(bytes); reader.next(); ) checkInside(reader, bytes.length);
      accepted++;
    } catch (error) {
      assert.ok(error instanceof ProtocolError, `seed ${seed}, bytes ${Buffer.from(bytes).toString('hex')}: ${error}`);
    }
  }
  Error.stackTraceLimit = stackFrames;
  t.diagnostic(`seed ${seed}: ${accepted} of ${HOSTILE_INPUTS} accepted`);
  assert.ok(accepted > 0);
});

function checkInside(reader: ClientMessageReader, length: number): void {
  if (reader.type === FROM_CLIENT.subscribe) reader.subscribeOptions();
  if (reader.type !== FROM_CLIENT.command && reader.type !== FROM_CLIENT.query) return;
  const { refStart, refEnd, nameStart, nameEnd, bodyStart, bodyEnd } = reader;
  assert.ok(0 < refStart && refStart <= refEnd && refEnd < nameStart && nameStart <= nameEnd);
  assert.ok(nameEnd <= bodyStart && bodyStart <= bodyEnd && bodyEnd <= length);
}

test('close codes are names of the registry, and say whether to come back', () => {
  const final = ['unauthorized', 'protocol_error', 'hello_timeout', 'too_many_connections'];
  for (const [name, code] of Object.entries(CLOSE_CODES)) {
    assert.ok(Object.hasOwn(ERRORS, name), name);
    assert.equal(mayReconnect(code), !final.includes(name), name);
  }
  for (const code of [1000, 1001, 1006, 1011, 1012, 1013, 4000]) assert.ok(mayReconnect(code));
});
