// The tests with WebGPU, in a browser of their own.
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { call, launch } from './browser.mjs';
import { gpuPageTests } from './pages.mjs';
import { conformance } from './serve.mjs';

const NAMES = [
  'gpuProvider',
  'gpuTrained',
  'gpuResident',
  'gpuFaults',
  'gpuHostile',
  'gpuAbort',
  'gpuLoss',
  'gpuResponsive',
  'gpuCycles',
  'gpuWorker',
];

/** Every so many official tests run on the GPU; RINFER_GPU_EVERY=1 runs all. */
const EVERY = Number(process.env.RINFER_GPU_EVERY ?? 5);

/** Official tests that do not pass on any GPU, with the reasons in tests/conformance/gpu_expected.txt. */
const DIFFER = [
  'node/test_attention_4d_causal_fp16_expanded',
  'node/test_dft_inverse',
  'node/test_dft_inverse_opset19',
];

/** Official tests give what is expected of them. */
async function official(page, url, expected) {
  const all = readdirSync(join(conformance, 'node')).sort();
  const names = all.filter((_, i) => i % EVERY === 0);
  const known = new Set([...expected, ...DIFFER]);
  const problems = [];
  let [done, there] = [0, 0];
  for (let from = 0; from < names.length; from += 50) {
    const some = names.slice(from, from + 50);
    const found = await call(page, url, 'gpu.js', 'gpuOfficial', ['node', some]);
    done += found.done;
    there += found.there;
    problems.push(...found.problems.filter(([name]) => !known.has(name)));
  }
  if (there < 200) throw new Error(`only ${there} official tests of ${done} use the GPU`);
  if (problems.length > 0) {
    const lines = problems.map(([name, text]) => `${name}: ${text}`);
    throw new Error(`${problems.length} of ${done} do not pass:\n${lines.join('\n')}`);
  }
  return `${done} official tests, nodes of ${there} on the GPU`;
}

export async function gpuTests({ test, wanted, url, expected }) {
  if (![...NAMES, 'gpuOfficial', 'gpu-page-bench'].some(wanted)) return;
  const browser = await launch({ gpu: true });
  try {
    const page = await browser.open(`${url}/test/blank.html`);
    const adapter = await page.evaluate(async () => {
      const found = await navigator.gpu?.requestAdapter();
      return found && `${found.info.vendor} ${found.info.architecture}`;
    });
    if (!adapter) {
      console.log('skipped: the tests with WebGPU, for this browser gives no adapter');
      return;
    }
    for (const name of NAMES) await test(name, () => call(page, url, 'gpu.js', name, []));
    if (existsSync(conformance)) await test('gpuOfficial', () => official(page, url, expected));
    await test('gpuConsole', () => {
      if (page.problems.length > 0) throw new Error(page.problems.join('\n'));
      return `nothing was complained about, on ${adapter}`;
    });
    for (const [name, f] of Object.entries(gpuPageTests)) {
      await test(`gpu-page-${name}`, () => f(browser, url));
    }
  } finally {
    await browser.close();
  }
}
