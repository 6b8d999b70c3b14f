// Threads, in a page that is cross-origin isolated and in one that is not.
import { call } from './browser.mjs';
import { serve } from './serve.mjs';

/** Waits until the page has so many workers. */
async function workers(page, count) {
  for (let i = 0; i < 50 && page.workers().length !== count; i += 1) {
    await page.waitForTimeout(100);
  }
  const found = page.workers().length;
  if (found !== count) throw new Error(`${found} workers where there should be ${count}`);
}

export async function threadTests({ test, wanted, browser, url }) {
  const names = ['same', 'hold', 'cancel', 'release', 'cycles', 'worker', 'speed', 'alone'];
  if (!names.some((name) => wanted(`threads-${name}`))) return;
  const server = await serve(0, { isolated: true });
  const page = await browser.open(`${server.url}/test/blank.html`);
  const inPage = (name) => call(page, server.url, 'threads.js', name, []);
  const counted = { hold: 3, cancel: 3, release: 0 };
  for (const name of names.slice(0, -1)) {
    await test(`threads-${name}`, async () => {
      const line = await inPage(name);
      await workers(page, counted[name] ?? 0);
      return line;
    });
  }
  await test('threads-console', () => {
    if (page.problems.length > 0) throw new Error(page.problems.join('\n'));
    return 'nothing was complained about';
  });
  await page.close();
  await test('threads-alone', async () => {
    const other = await browser.open(`${url}/test/blank.html`);
    const line = await call(other, url, 'threads.js', 'alone', []);
    await workers(other, 0);
    await other.close();
    return line;
  });
  server.close();
}
