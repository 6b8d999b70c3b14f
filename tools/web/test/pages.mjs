// The example pages: they load, do what they say, and look as they should on a phone too.
//
// RINFER_SCREENSHOTS=FOLDER keeps pictures of them.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { lookup } from './write.js';

const WORDS = ['[PAD]', '[UNK]', '[CLS]', '[SEP]', 'red', 'green', 'blue', 'one', 'two', 'three'];
const upload = (name, content) => ({
  name,
  mimeType: 'application/octet-stream',
  buffer: Buffer.from(content),
});

const text = (page, selector) => page.locator(selector).first().textContent();

/** Opens a page, does something with it, and checks that nothing complained. */
async function visit(browser, url, name, act) {
  const page = await browser.open(`${url}/${name}.html`);
  try {
    const found = await act(page);
    const folder = process.env.RINFER_SCREENSHOTS;
    if (folder) await page.screenshot({ path: join(folder, `${name}.png`), fullPage: true });
    await page.setViewportSize({ width: 390, height: 844 });
    const wide = await page.evaluate(() => document.documentElement.scrollWidth);
    if (folder) await page.screenshot({ path: join(folder, `${name}-phone.png`), fullPage: true });
    if (wide > 390) throw new Error(`it is ${wide} pixels wide on a phone of 390`);
    if (page.problems.length > 0) throw new Error(page.problems.join('\n'));
    return found;
  } finally {
    await page.close();
  }
}

async function says(page, selector, pattern) {
  const locator = page.locator(selector).filter({ hasText: pattern });
  try {
    await locator.first().waitFor({ timeout: 30_000 });
  } catch {
    throw new Error(
      `${selector} says ${JSON.stringify(await text(page, selector))}, not ${pattern}`,
    );
  }
  return text(page, selector);
}

export const pageTests = {
  index: (browser, url) =>
    visit(browser, url, 'index', (page) => says(page, '#engine', /ready in/)),

  digit: (browser, url) =>
    visit(browser, url, 'digit', async (page) => {
      await says(page, '#status', /Ready/);
      await page.click('#sample');
      await says(page, '#status', /Read in/);
      const found = await text(page, '#answer');
      if (found !== '3') throw new Error(`the 3 is read as ${found}`);
      return `a 3 is read as ${found}`;
    }),

  faces: (browser, url) =>
    visit(browser, url, 'faces', async (page) => {
      await says(page, '#status', /Choose a picture/);
      // A picture without a face first: the browser's own test pattern is the camera's.
      await page.click('#camera');
      const camera = await says(page, '#status', /faces?, \d+ ms/);
      await page.click('#stop');
      const picture = process.env.RINFER_FACES;
      if (!picture) return `the camera: ${camera}`;
      await page.setInputFiles('#file', picture);
      return says(page, '#status', /found in/);
    }),

  sentences: (browser, url) =>
    visit(browser, url, 'sentences', async (page) => {
      const own = process.env.RINFER_SENTENCES?.split(',');
      await page.setInputFiles(
        '#files',
        own ?? [upload('lookup.onnx', lookup(WORDS)), upload('vocab.txt', WORDS.join('\n'))],
      );
      await says(page, '#status', /sentences in/);
      if (own) return text(page, '#found li');
      await page.fill('#text', 'red green blue\none two three\ngreen red blue\nred one two');
      await page.click('#compare');
      await says(page, '#found li', /green red blue/);
      const order = await page.locator('#found li span:first-child').allTextContents();
      if (order.join('|') !== 'green red blue|red one two|one two three')
        throw new Error(order.join('|'));
      return order.join(' > ');
    }),

  bench: (browser, url) => bench(browser, url, ['wasm']),
};

/** The pages that look different with WebGPU. */
export const gpuPageTests = {
  bench: (browser, url) => bench(browser, url, ['wasm', 'webgpu']),
};

function bench(browser, url, backends) {
  return visit(browser, url, 'bench', async (page) => {
    await page.selectOption('#pick', 'models/digits.onnx');
    await page.click('#go');
    const line = await says(page, '#status', /ms a run/);
    const [download] = await Promise.all([page.waitForEvent('download'), page.click('#save')]);
    const { schema, version, machines } = JSON.parse(readFileSync(await download.path(), 'utf8'));
    const found = machines.map(({ adapter }) => adapter.backend);
    if (found.join() !== backends.join()) throw new Error(`it ran on ${found}: ${line}`);
    for (const { results } of machines) {
      const [{ status, stats }] = results;
      if (schema !== 'rinfer-gpubench' || version !== 1 || status !== 'ok' || !stats.repetitions)
        throw new Error(`${schema} ${version} ${status}`);
    }
    return line;
  });
}
