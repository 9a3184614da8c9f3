/**
 * The page: writes the model into the document, at most once per animation frame, and only what changed. Rows are made once;
 * afterwards their texts change, so that a screen reader's place and a selection survive.
 */
import type { Ladder, LadderRow, Side } from './ladder.ts';
import type { RateMeter } from './rate-meter.ts';
import type { TradeList } from './trade-list.ts';

/** Levels of each side on the page. */
const DEPTH = 12;
/** Trades on the page; a screen's height of them. */
export const TRADES_SHOWN = 25;
const CHART_WIDTH = 590;
const CHART_HEIGHT = 60;

export type Model = {
  readonly ladder: Ladder;
  readonly trades: TradeList;
  readonly events: RateMeter;
  /** Commands that changed the book. */
  readonly commands: RateMeter;
  /** The book's phase; empty until it is known. */
  readonly phase: string;
};

export class MarketView {
  readonly #document: Document;
  readonly #model: Model;
  readonly #priceDecimals: number;
  readonly #asks: LadderLine[];
  readonly #bids: LadderLine[];
  readonly #trades: HTMLElement[][];
  #frame: number | undefined;
  #paused = false;

  constructor(document: Document, model: Model, priceDecimals: number) {
    this.#document = document;
    this.#model = model;
    this.#priceDecimals = priceDecimals;
    this.#asks = rowsOf(document, 'asks', DEPTH, 4).map((cells) => new LadderLine(cells, 'ask'));
    this.#bids = rowsOf(document, 'bids', DEPTH, 4).map((cells) => new LadderLine(cells, 'bid'));
    this.#trades = rowsOf(document, 'trades', TRADES_SHOWN, 4);
  }

  /** Something changed: draw it with the next frame. */
  changed(): void {
    if (this.#paused) return;
    this.#frame ??= requestAnimationFrame(() => {
      this.#frame = undefined;
      this.#draw();
    });
  }

  /** Stops or resumes drawing; the model goes on. */
  set paused(paused: boolean) {
    this.#paused = paused;
    this.#document.body.toggleAttribute('data-paused', paused);
    if (!paused) this.changed();
  }

  #draw(): void {
    if (this.#paused) return;
    const nowMs = performance.now();
    this.#drawLadder();
    this.#drawTrades();
    this.#drawFigures(nowMs);
    this.#drawChart(this.#model.events.history(nowMs));
  }

  #drawLadder(): void {
    const { ladder } = this.#model;
    const { bids, asks } = ladder.rows(DEPTH);
    // The best ask stands directly above the middle, so asks are filled from below.
    for (let i = 0; i < DEPTH; i++) {
      this.#asks[DEPTH - 1 - i]?.show(asks[i], this.#priceDecimals);
      this.#bids[i]?.show(bids[i], this.#priceDecimals);
    }
    const { spread } = ladder;
    const [last] = this.#model.trades.newest;
    this.#text('middle-price', last ? this.#price(last.price) : '–');
    this.#text('middle-text', spread === undefined ? 'one side is empty' : `spread ${this.#price(spread)}`);
  }

  #drawTrades(): void {
    this.#model.trades.newest.forEach((trade, index) => {
      const cells = this.#trades[index] ?? [];
      const side = trade.aggressor === undefined ? 'auction' : trade.aggressor === 'bid' ? 'buy' : 'sell';
      const texts = [TIME.format(trade.timeMs), this.#price(trade.price), integer(trade.quantity), side];
      texts.forEach((text, column) => {
        setText(cells[column], text);
      });
      cells[3]?.setAttribute('data-side', trade.aggressor ?? 'none');
    });
  }

  #drawFigures(nowMs: number): void {
    const { trades, events, ladder } = this.#model;
    const [last] = trades.newest;
    this.#text('last', last ? this.#price(last.price) : '–');
    this.#element('last').setAttribute('data-direction', String(trades.direction));
    this.#text('spread', ladder.spread === undefined ? '–' : this.#price(ladder.spread));
    this.#text('command-rate', rate(this.#model.commands.perSecond(nowMs)));
    this.#text('event-rate', rate(events.perSecond(nowMs)));
    this.#text('trade-count', integer(trades.count));
    this.#text('volume', integer(trades.volume));
    this.#text('phase', this.#model.phase.replaceAll('_', ' ') || '–');
  }

  #drawChart(history: readonly number[]): void {
    const top = Math.max(1, ...history);
    const step = CHART_WIDTH / (history.length - 1);
    const points = history.map(
      (count, i) => `${(i * step).toFixed(1)},${(CHART_HEIGHT * (1 - count / top)).toFixed(1)}`,
    );
    this.#element('chart-line').setAttribute('points', points.join(' '));
    this.#text('chart-top', integer(Math.max(0, ...history)));
  }

  #price(ticks: number): string {
    return price(ticks, this.#priceDecimals);
  }

  #text(id: string, text: string): void {
    setText(this.#element(id), text);
  }

  #element(id: string): Element {
    const element = this.#document.getElementById(id);
    if (!element) throw new Error(`the page has no element "${id}"`);
    return element;
  }
}

class LadderLine {
  readonly #cells: HTMLElement[];
  readonly #side: Side;
  readonly #row: HTMLElement | null;
  #share = '';

  constructor(cells: HTMLElement[], side: Side) {
    this.#cells = cells;
    this.#side = side;
    this.#row = cells[0]?.parentElement ?? null;
  }

  show(level: LadderRow | undefined, decimals: number): void {
    const [priceCell, sideCell, quantityCell, totalCell] = this.#cells;
    setText(sideCell, level ? this.#side : '');
    setText(priceCell, level ? price(level.price, decimals) : '');
    setText(quantityCell, level ? integer(level.quantity) : '');
    setText(totalCell, level ? integer(level.total) : '');
    const share = level ? level.share.toFixed(3) : '0';
    if (share === this.#share) return;
    this.#share = share;
    this.#row?.style.setProperty('--share', share);
  }
}

/** Makes the rows of a table body; the first cell of each is its header. */
function rowsOf(document: Document, id: string, rows: number, columns: number): HTMLElement[][] {
  const body = document.getElementById(id);
  return Array.from({ length: rows }, () => {
    const row = document.createElement('tr');
    const cells = Array.from({ length: columns }, (_, column) => document.createElement(column === 0 ? 'th' : 'td'));
    cells[0]?.setAttribute('scope', 'row');
    row.append(...cells);
    body?.append(row);
    return cells;
  });
}

function setText(element: Element | undefined, text: string): void {
  if (element && element.textContent !== text) element.textContent = text;
}

const INTEGER = new Intl.NumberFormat('en', { maximumFractionDigits: 0 });
const TIME = new Intl.DateTimeFormat('en-GB', { hour: '2-digit', minute: '2-digit', second: '2-digit' });
const RATE = new Intl.NumberFormat('en', { maximumFractionDigits: 1, minimumFractionDigits: 1 });

const integer = (value: number): string => INTEGER.format(value);
const rate = (value: number): string => RATE.format(value);

/** Ticks as a decimal price, exact for every integer. */
function price(ticks: number, decimals: number): string {
  const digits = String(Math.abs(ticks)).padStart(decimals + 1, '0');
  const whole = integer(Number(digits.slice(0, digits.length - decimals)));
  return `${ticks < 0 ? '-' : ''}${whole}.${digits.slice(digits.length - decimals)}`;
}
