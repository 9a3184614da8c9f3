/** The console in a real Chromium, against a seeded market. CHROMIUM names the browser; without one the tests are skipped. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { findChromium, type OpenPage, openPage, PATIENCE_MS } from './browser.ts';
import type { Level } from './ladder.ts';
import { type ConsoleServer, serveConsole } from './market-double.ts';

const SEED = 7;

const browserPath = findChromium();
const skip = browserPath === undefined ? 'no Chromium: set CHROMIUM to the path of one' : false;

let server: ConsoleServer;
let view: OpenPage;

before(async () => {
  if (browserPath === undefined) return;
  server = await serveConsole(import.meta.dirname, SEED);
  view = await openPage(browserPath, server.url);
});

after(async () => {
  await view?.close();
  await server?.stop();
});

const expectedRow = ({ price, quantity }: Level): string[] => [(price / 100).toFixed(2), quantity.toLocaleString('en')];

/** Waits until the page shows the server's book: the market rests. */
async function agrees(): Promise<void> {
  const { bids, asks } = server.market.ladder.rows(12);
  const expected = JSON.stringify([asks.toReversed().map(expectedRow), bids.map(expectedRow)]);
  const shown = async (): Promise<string> => {
    const [asks, bids] = await Promise.all([view.rows('asks'), view.rows('bids')]);
    const brief = (rows: string[][]): string[][] => rows.map(([price = '', , quantity = '']) => [price, quantity]);
    return JSON.stringify([brief(asks), brief(bids)]);
  };
  const endMs = performance.now() + PATIENCE_MS;
  let last = await shown();
  while (last !== expected && performance.now() < endMs) last = await shown();
  assert.equal(last, expected);
}

test('the page says that it is synthetic, connects, and shows the book', { skip }, async () => {
  await view.shows('connection', /^Live$/);
  assert.match((await view.page.locator('header').textContent()) ?? '', /Synthetic market.*seeded generator/);
  assert.match(await view.text('symbol'), /DEMO/);
  await agrees();
  assert.match(await view.text('spread'), /^0\.02$/);
});

test('levels, trades and rates move with the market', { skip }, async () => {
  server.run(200);
  await view.shows('trade-count', /^[1-9]\d/);
  await view.shows('event-rate', /^[1-9]/);
  await view.shows('command-rate', /^[1-9]/);
  const [first] = await view.rows('trades');
  assert.equal(first?.length, 4);
  assert.match(first?.[3] ?? '', /^(buy|sell)$/);
  server.rest();
  await agrees();
});

test('it draws at most once per frame, however many events come', { skip }, async () => {
  server.run(2_000);
  const { frames, draws } = await view.page.evaluate(async () => {
    let draws = 0;
    let frames = 0;
    const observer = new MutationObserver(() => draws++);
    observer.observe(document.body, { subtree: true, childList: true, characterData: true, attributes: true });
    const endMs = performance.now() + 1_000;
    while (performance.now() < endMs) {
      await new Promise(requestAnimationFrame);
      frames++;
    }
    observer.disconnect();
    return { frames, draws };
  });
  server.rest();
  assert.ok(draws > 5 && draws <= frames + 1, `${draws} draws in ${frames} frames`);
  await agrees();
});

test('a lost connection is told, and made good when it is back', { skip }, async () => {
  view.complaints.length = 0;
  server.cut(true);
  await view.shows('connection', /^Connection lost, connecting again/);
  assert.equal(await view.page.locator('body').getAttribute('data-state'), 'reconnecting');
  for (let i = 0; i < 200; i++) server.market.step();
  server.cut(false);
  await view.shows('connection', /^Live$/);
  await agrees();
  // The browser itself reports sockets that fail; nothing else may be wrong.
  assert.deepEqual(
    view.complaints.filter((complaint) => !/WebSocket connection/.test(complaint)),
    [],
  );
  view.complaints.length = 0;
});

test('the keyboard reaches the button that pauses and resumes', { skip }, async () => {
  await view.page.locator('body').press('Tab');
  assert.equal(await view.page.evaluate(() => document.activeElement?.id), 'pause');
  await view.page.keyboard.press('Space');
  assert.equal(await view.page.locator('#pause').getAttribute('aria-pressed'), 'true');
  const before = await view.rows('bids');
  for (let i = 0; i < 100; i++) server.market.step();
  await view.page.evaluate(() => new Promise(requestAnimationFrame));
  assert.deepEqual(await view.rows('bids'), before);
  await view.page.keyboard.press('Space');
  assert.equal(await view.page.locator('#pause').getAttribute('aria-pressed'), 'false');
  await agrees();
});

test('it fits a narrow screen, and follows the dark scheme', { skip }, async () => {
  const ground = (): Promise<string> => view.page.evaluate(() => getComputedStyle(document.body).backgroundColor);
  await view.page.emulateMedia({ colorScheme: 'light' });
  const light = await ground();
  await view.page.emulateMedia({ colorScheme: 'dark' });
  assert.notEqual(await ground(), light);
  await view.page.setViewportSize({ width: 360, height: 700 });
  const overflow = await view.page.evaluate(
    () => document.documentElement.scrollWidth - document.documentElement.clientWidth,
  );
  assert.ok(overflow <= 0, `${overflow} pixels too wide`);
});

test('tables have headers, figures are tabular, and nothing was complained about', { skip }, async () => {
  assert.equal(await view.page.locator('table caption').count(), 2);
  assert.equal(await view.page.locator('tbody th[scope=row]').count(), await view.page.locator('tbody tr').count());
  const figures = await view.page.evaluate(() => getComputedStyle(document.body).fontVariantNumeric);
  assert.equal(figures, 'tabular-nums');
  assert.deepEqual(view.complaints, []);
});
