/** For tests: a Chromium with an empty profile, and a page in it that remembers what it complained about. */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { chromium, type Page } from 'playwright-core';

/** Generous: the machine may be busy; a healthy page needs a tenth. */
export const PATIENCE_MS = 20_000;
const ARGUMENTS = [
  '--no-sandbox',
  '--disable-gpu',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
];

/** CHROMIUM, or one on the PATH; undefined where neither starts. */
export function findChromium(): string | undefined {
  const { CHROMIUM, PATH = '' } = process.env;
  const names = ['chromium', 'chromium-browser', 'google-chrome'];
  const found = PATH.split(delimiter).flatMap((folder) => names.map((name) => join(folder, name)));
  return [...(CHROMIUM ? [CHROMIUM] : []), ...found].find(
    (path) => existsSync(path) && spawnSync(path, ['--version'], { timeout: PATIENCE_MS }).status === 0,
  );
}

export type OpenPage = {
  readonly page: Page;
  /** Errors of the page, and requests that left the server's origin. */
  readonly complaints: string[];
  /** Waits until the element's whole text matches. */
  shows(id: string, pattern: RegExp): Promise<void>;
  text(id: string): Promise<string>;
  /** Texts of the cells of each row that is in use. */
  rows(id: string): Promise<string[][]>;
  close(): Promise<void>;
};

export async function openPage(executablePath: string, url: string): Promise<OpenPage> {
  const profile = mkdtempSync(join(tmpdir(), 'troupe-console-'));
  const options = { executablePath, args: ARGUMENTS, viewport: { width: 1_200, height: 900 } };
  const context = await chromium.launchPersistentContext(profile, options);
  const page = context.pages()[0] ?? (await context.newPage());
  page.setDefaultTimeout(PATIENCE_MS);
  const complaints = complaintsOf(page, url);
  await page.goto(url);
  return {
    page,
    complaints,
    shows: (id, pattern) => shows(page, id, pattern),
    text: async (id) => (await page.locator(`#${id}`).textContent()) ?? '',
    rows: (id) => rowsOf(page, id),
    close: async () => {
      await context.close();
      rmSync(profile, { recursive: true, force: true });
    },
  };
}

function complaintsOf(page: Page, url: string): string[] {
  const complaints: string[] = [];
  page.on('console', (message) => message.type() === 'error' && complaints.push(message.text()));
  page.on('pageerror', (error) => complaints.push(String(error)));
  page.on('request', (request) => {
    if (!request.url().startsWith(url)) complaints.push(`a request to ${request.url()}`);
  });
  return complaints;
}

async function shows(page: Page, id: string, pattern: RegExp): Promise<void> {
  await page.waitForFunction(
    ([id, source]) => new RegExp(source ?? '').test(document.getElementById(id ?? '')?.textContent ?? ''),
    [id, pattern.source],
    { polling: 50 },
  );
}

async function rowsOf(page: Page, id: string): Promise<string[][]> {
  return page.locator(`#${id} tr`).evaluateAll((rows) => {
    const texts = rows.map((row) => [...row.children].map((cell) => cell.textContent ?? ''));
    return texts.filter(([first]) => first !== '');
  });
}
