/**
 * What a handler is given. One object per depth of `call`, used again for every record, since making one each time would
 * cost more than most handlers.
 */
import type { Context, Rejection, Source, TableWriter, WebhookRequest } from '../../actors/definition.ts';
import { ProtocolError } from '../../protocol/errors.ts';
import type { ActiveActor } from './actors.ts';

/** What the fold does for a context. */
export type Machine = {
  readonly nowMs: number;
  random(): number;
  id(): string;
  tables(actor: ActiveActor): Record<string, TableWriter>;
  publish(actor: ActiveActor, topic: string, event: unknown): void;
  send(actor: ActiveActor, to: readonly string[], command: string, fields: object): void;
  call(actor: ActiveActor, depth: number, to: string, command: string, fields: object): object | Rejection;
  setTimer(actor: ActiveActor, name: string, atMs: number, command: string, fields: object): void;
  clearTimer(actor: ActiveActor, name: string): void;
  webhook(actor: ActiveActor, request: WebhookRequest, result: string): string;
  /** Reads the principal of the record being handled. */
  principal(): string;
};

export class HandlerContext implements Context {
  readonly #machine: Machine;
  readonly #depth: number;
  #actor: ActiveActor | undefined;
  #type: Source['type'] = 'client';
  #principal: string | undefined;

  constructor(machine: Machine, depth: number) {
    this.#machine = machine;
    this.#depth = depth;
  }

  /** `principal` undefined: read from the record when asked for. */
  begin(actor: ActiveActor, type: Source['type'], principal: string | undefined): void {
    this.#actor = actor;
    this.#type = type;
    this.#principal = principal;
  }

  /** A context kept after its handler returned is of no use: every use throws. */
  end(): void {
    this.#actor = undefined;
  }

  get now(): number {
    return this.#machine.nowMs;
  }

  get self(): string {
    return this.#active().ref;
  }

  get key(): string {
    return this.#active().key;
  }

  get source(): Source {
    this.#principal ??= this.#machine.principal();
    return { type: this.#type, principal: this.#principal };
  }

  get table(): Context['table'] {
    return this.#machine.tables(this.#active());
  }

  random(): number {
    this.#active();
    return this.#machine.random();
  }

  id(): string {
    this.#active();
    return this.#machine.id();
  }

  publish(topic: string, event: unknown): void {
    this.#machine.publish(this.#active(), topic, event);
  }

  send(to: string | readonly string[], command: string, fields: object): void {
    this.#machine.send(this.#active(), typeof to === 'string' ? [to] : to, command, fields);
  }

  call(to: string, command: string, fields: object): object | Rejection {
    return this.#machine.call(this.#active(), this.#depth, to, command, fields);
  }

  setTimer(name: string, atMs: number, command: string, fields: object): void {
    this.#machine.setTimer(this.#active(), name, atMs, command, fields);
  }

  clearTimer(name: string): void {
    this.#machine.clearTimer(this.#active(), name);
  }

  webhook(request: WebhookRequest, result: string): string {
    return this.#machine.webhook(this.#active(), request, result);
  }

  #active(): ActiveActor {
    if (!this.#actor) throw new ProtocolError('internal', 'ctx is used after the handler returned');
    return this.#actor;
  }
}
