/** The console against a whole cluster with its demo market, in a real Chromium (CHROMIUM names it), also when the edge dies. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { type RunningCluster, startCluster } from '../embedded.ts';
import { findChromium, type OpenPage, openPage } from './browser.ts';

const browserPath = findChromium();
const skip = browserPath === undefined ? 'no Chromium: set CHROMIUM to the path of one' : false;

let folder: string;
let cluster: RunningCluster;
let view: OpenPage;

before(async () => {
  if (browserPath === undefined) return;
  folder = mkdtempSync(join(tmpdir(), 'troupe-console-cluster-'));
  const sizes = { mainPartitions: 1, exchangePartitions: 1 };
  cluster = await startCluster({ data: folder, port: 0, demo: true, demoRate: 200, seed: 1, ...sizes });
  view = await openPage(browserPath, `${cluster.url}/`);
});

after(async () => {
  await view?.close();
  await cluster?.stop();
  if (folder !== undefined) rmSync(folder, { recursive: true, force: true });
});

const pricesOf = async (id: string): Promise<number[]> => (await view.rows(id)).map(([price]) => Number(price));

/** Asks fall and bids fall down the page, and the lowest ask lies above the highest bid: read while the page rests. */
async function checkLadder(): Promise<void> {
  await view.page.locator('#pause').click();
  const prices = [...(await pricesOf('asks')), ...(await pricesOf('bids'))];
  await view.page.locator('#pause').click();
  assert.ok(prices.length >= 10, `${prices.length} levels`);
  for (let i = 1; i < prices.length; i++) assert.ok((prices[i] ?? 0) < (prices[i - 1] ?? 0), `prices ${prices}`);
}

test('the demo market lives on the page', { skip }, async () => {
  await view.shows('connection', /^Live$/);
  await view.shows('trade-count', /^[1-9]\d/);
  await view.shows('command-rate', /^[1-9]/);
  await view.shows('phase', /^continuous$/);
  await checkLadder();
  assert.deepEqual(view.complaints, []);
});

test('the page comes back by itself when the edge is killed', { skip }, async () => {
  const edge = cluster.pidOf('edge') ?? assert.fail('no edge runs');
  process.kill(edge, 'SIGKILL');
  await view.shows('connection', /^Connection lost/);
  await view.shows('connection', /^Live$/);
  const seen = Number((await view.text('trade-count')).replaceAll(',', ''));
  await view.page.waitForFunction(
    (seen) => Number(document.getElementById('trade-count')?.textContent?.replaceAll(',', '')) > seen,
    seen,
    { polling: 50 },
  );
  await checkLadder();
});
