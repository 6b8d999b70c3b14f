// All tests: `npm test`. In Chromium under a strict policy, and in Node.
//
//   node test/run.mjs [NAME…]      only these tests
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { call, launch } from './browser.mjs';
import { gpuTests } from './gpu.mjs';
import * as tests from './page.js';
import { nodeTests } from './node.mjs';
import { pageTests } from './pages.mjs';
import { root, serve } from './serve.mjs';
import { threadTests } from './threads.mjs';

const only = process.argv.slice(2);
const wanted = (name) => only.length === 0 || only.includes(name);

let failed = 0;
async function test(name, f) {
  if (!wanted(name)) return;
  const began = performance.now();
  let line;
  try {
    const found = await f();
    line = `ok    ${name}: ${typeof found === 'string' ? found : JSON.stringify(found)}`;
  } catch (error) {
    failed += 1;
    line = `FAIL  ${name}: ${error.stack ?? error}`;
  }
  console.log(`${line} (${((performance.now() - began) / 1e3).toFixed(1)} s)`);
}

const server = await serve();
const browser = await launch();

/** Calls a test of page.js in a page. */
const inPage = (page, name, ...args) => call(page, server.url, 'page.js', name, args);

/** Formats of pictures that this build does not read (the browser itself does). */
const PICTURES = ['bmp', 'jpeg2k', 'png', 'pnm', 'tiff', 'webp'];

/** Official tests known not to pass. */
function expectedFailures() {
  const text = readFileSync(join(root, 'tests/conformance/expected_failures.txt'), 'utf8');
  const lines = text
    .split('\n')
    .map((line) => line.split('#')[0].trim())
    .filter(Boolean);
  const names = lines.map((line) => line.split(': ')[0]);
  return new Set([
    ...names,
    ...PICTURES.map((format) => `node/test_image_decoder_decode_${format}_rgb`),
  ]);
}

async function official(page) {
  const expected = expectedFailures();
  const problems = [];
  let [done, from] = [0, 0];
  for (const suite of ['node', 'simple', 'pytorch-operator', 'pytorch-converted']) {
    for (from = 0; ; from += 100) {
      const found = await inPage(page, 'official', suite, from, from + 100);
      if (found.done === 0) break;
      done += found.done;
      problems.push(...found.problems.filter(([name]) => !expected.has(name)));
    }
  }
  if (done < 200) throw new Error(`there are only ${done} official tests`);
  if (problems.length > 0) {
    const lines = problems.map(([name, text]) => `${name}: ${text}`);
    throw new Error(`${problems.length} of ${done} do not pass:\n${lines.join('\n')}`);
  }
  return `${done} official tests, ${expected.size} of them listed as failures`;
}

try {
  await test('start', async () => {
    // Each in a page of its own, where nothing is compiled yet. The bar is 300 ms; other programs,
    // and the browser's own compiler, have this machine too, so only far more than that fails.
    const all = [];
    for (let i = 0; i < 4; i += 1) {
      const fresh = await browser.open(`${server.url}/test/blank.html`);
      all.push(await inPage(fresh, 'start'));
      await fresh.close();
    }
    const show = ({ create, first }) => `${create.toFixed(0)} + ${first.toFixed(0)}`;
    const line = `create + first run in ms: ${all.map(show).join(', ')}`;
    if (Math.min(...all.map((times) => times.all)) > 900) throw new Error(line);
    return line;
  });
  const page = await browser.open(`${server.url}/test/blank.html`);
  const names = Object.keys(tests).filter((name) => !['official', 'start'].includes(name));
  for (const name of names) await test(name, () => inPage(page, name));
  await test('official', () => official(page));
  await test('console', () => {
    // The failed fetch of `sources` is on purpose.
    const loud = page.problems.filter((text) => !/404/.test(text));
    if (loud.length > 0) throw new Error(loud.join('\n'));
    return 'nothing was complained about';
  });
  await threadTests({ test, wanted, browser, url: server.url });
  await gpuTests({ test, wanted, url: server.url, expected: expectedFailures() });
  for (const [name, f] of Object.entries(nodeTests))
    await test(`node-${name}`, () => f(server.url));
  for (const [name, f] of Object.entries(pageTests)) {
    await test(`page-${name}`, () => f(browser, server.url));
  }
} finally {
  await browser.close();
  server.close();
}
if (failed > 0) {
  console.error(`${failed} failed`);
  process.exit(1);
}
process.exit(0);
