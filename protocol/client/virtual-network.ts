/**
 * For tests: websockets between a client and an edge double in virtual time. Messages take a while, keep their order, and are
 * gone when the connection is cut while they travel.
 */
import type { Connected, EdgeDouble } from './edge-double.ts';
import type { Socket, SocketClass } from './platform.ts';
import type { VirtualTime } from './virtual-time.ts';

export type Direction = 'up' | 'down';

export class VirtualNetwork {
  readonly #time: VirtualTime;
  readonly #edge: EdgeDouble;
  readonly sockets: VirtualSocket[] = [];
  latencyMs = 5;
  /** false: dialling fails. */
  reachable = true;
  /** true: sockets open, and nothing ever comes back. */
  silent = false;
  /** Websocket messages that have passed, both ways; the hook may cut the connection before (true) each one arrives. */
  passed = 0;
  cutBefore: (count: number, direction: Direction, bytes: Uint8Array) => boolean = () => false;

  constructor(time: VirtualTime, edge: EdgeDouble) {
    this.#time = time;
    this.#edge = edge;
  }

  get socketClass(): SocketClass {
    const network = this;
    return class extends VirtualSocket {
      constructor(_url: string, protocol: string) {
        super(network, protocol);
      }
    };
  }

  get newest(): VirtualSocket | undefined {
    return this.sockets.at(-1);
  }

  later(run: () => void): void {
    this.#time.setTimer(run, this.latencyMs);
  }

  accept(socket: VirtualSocket): Connected {
    return this.#edge.connect({
      send: (bytes) => this.carry(socket, 'down', bytes, () => socket.deliver(bytes)),
      close: (code) => this.later(() => socket.end(code)),
    });
  }

  carry(socket: VirtualSocket, direction: Direction, bytes: Uint8Array, arrive: () => void): void {
    this.later(() => {
      if (!socket.alive || (this.silent && direction === 'down')) return;
      if (this.cutBefore(++this.passed, direction, bytes)) return socket.cut();
      arrive();
    });
  }
}

export class VirtualSocket implements Socket {
  binaryType = 'blob';
  onopen: Socket['onopen'] = null;
  onmessage: Socket['onmessage'] = null;
  onclose: Socket['onclose'] = null;
  onerror: Socket['onerror'] = null;
  alive = true;
  readonly protocol: string;
  readonly sent: Uint8Array[] = [];
  closedWith: number | undefined;
  #peer: Connected | undefined;
  readonly #network: VirtualNetwork;

  constructor(network: VirtualNetwork, protocol: string) {
    this.#network = network;
    this.protocol = protocol;
    network.sockets.push(this);
    network.later(() => this.#open());
  }

  send(data: Uint8Array): void {
    if (!this.#peer) throw new Error('InvalidStateError');
    const peer = this.#peer;
    this.sent.push(data);
    this.#network.carry(this, 'up', data, () => peer.receive(data));
  }

  close(code = 1000): void {
    this.closedWith = code;
    this.#drop();
  }

  /** The connection breaks: both ends learn it, what was travelling is lost. */
  cut(): void {
    this.end(1006);
  }

  end(code: number): void {
    if (!this.alive) return;
    this.#drop();
    this.onclose?.({ code } as never);
  }

  deliver(bytes: Uint8Array): void {
    this.onmessage?.({ data: new Uint8Array(bytes).buffer } as never);
  }

  #open(): void {
    if (!this.alive) return;
    if (!this.#network.reachable) return this.cut();
    this.#peer = this.#network.accept(this);
    this.onopen?.({} as never);
  }

  #drop(): void {
    this.alive = false;
    this.#peer?.closed();
  }
}
