// What the tests of threads do inside a page, which is cross-origin isolated but for `alone`.
import { different } from './compare.js';
import { bytes, check, data, fails } from './helpers.js';

const exact = { rtol: 0, atol: 0 };

/** The threads that this page has started, by the script that each of them loads. */
const started = () =>
  performance.getEntriesByType('resource').filter(({ name }) => name.endsWith('/thread.js')).length;

const loaded = (file) =>
  performance.getEntriesByType('resource').some(({ name }) => name.endsWith(`/${file}`));

/** Sessions on so many threads, and what they make of what a folder feeds. */
async function ran(rinfer, folder, threads) {
  rinfer.env.wasm.numThreads = threads;
  const session = await rinfer.InferenceSession.create(await bytes(`${folder}/model.onnx`));
  const { feeds } = await data(rinfer, folder, session);
  const outputs = await session.run(feeds);
  // Once more, with plans made.
  await session.run(feeds);
  return { session, outputs };
}

/** One thread and four make the same bits. */
export async function same(rinfer, base) {
  check(globalThis.crossOriginIsolated, 'the page is not cross-origin isolated');
  const names = ['digits', 'mnist', 'ultraface-rfb-320', 'dtln-1', 'silero-vad'];
  for (const name of names) {
    const folder = `${base}/trained/${name}`;
    const [one, four] = [await ran(rinfer, folder, 1), await ran(rinfer, folder, 4)];
    for (const [key, wanted] of Object.entries(one.outputs)) {
      const text = different(four.outputs[key], wanted, exact);
      check(text === undefined, `${name} ${key}: ${text}`);
    }
    await one.session.release();
    await four.session.release();
  }
  const page = typeof document !== 'undefined';
  check(!page || (loaded('rinfer-threads.wasm') && started() > 0), 'there were no threads');
  return `the same bits: ${names.join(', ')}`;
}

/** A session on four threads that stays: the test looks at the page's workers. */
export async function hold(rinfer, base) {
  rinfer.env.wasm.numThreads = 4;
  globalThis.held = await rinfer.InferenceSession.create(
    `${base}/trained/ultraface-rfb-320/model.onnx`,
  );
  return 'held';
}

/** A signal stops a run on threads; the next goes on as if nothing had been. */
export async function cancel({ Tensor, env }) {
  const session = globalThis.held;
  const values = Float32Array.from({ length: 3 * 240 * 320 }, (_, i) => (i % 97) / 97);
  const input = new Tensor('float32', values, [1, 3, 240, 320]);
  const wanted = await session.run({ input });
  const { slice } = env.wasm;
  env.wasm.slice = 1;
  const control = new AbortController();
  const run = session.run({ input }, { signal: control.signal });
  setTimeout(() => control.abort(), 2);
  await fails('cancelled', () => run);
  env.wasm.slice = slice;
  const made = await session.run({ input });
  for (const name of session.outputNames) {
    check(different(made[name], wanted[name], exact) === undefined, name);
  }
  await fails('invalid', () => session.run({}));
  return 'a run on threads is stopped';
}

/** Lets the session go, and its threads with it. */
export async function release() {
  await globalThis.held.release();
  await fails('invalid', () => globalThis.held.run({}));
  return 'released';
}

/** Again and again: threads come and go. */
export async function cycles(rinfer, base) {
  const before = started();
  for (let i = 0; i < 10; i += 1) {
    const { session } = await ran(rinfer, `${base}/trained/digits`, 3);
    await session.release();
  }
  check(started() >= before, 'threads were started');
  // Two at a time share their threads.
  const pair = await Promise.all([1, 2].map(() => ran(rinfer, `${base}/trained/mnist`, 3)));
  await pair[0].session.release();
  const folder = `${base}/trained/mnist`;
  const { feeds } = await data(rinfer, folder, pair[1].session);
  await pair[1].session.run(feeds);
  await pair[1].session.release();
  return 'ten times';
}

/** In the worker of worker.js, which starts threads of its own. */
export async function worker(rinfer, base) {
  const wrapped = await import(`${base}/dist/worker.js`);
  const folder = `${base}/trained/ultraface-rfb-320`;
  const one = await ran(rinfer, folder, 1);
  const four = await ran({ ...rinfer, InferenceSession: wrapped.InferenceSession }, folder, 4);
  for (const [key, wanted] of Object.entries(one.outputs)) {
    const text = different(four.outputs[key], wanted, exact);
    check(text === undefined, `${key}: ${text}`);
  }
  await one.session.release();
  await four.session.release();
  wrapped.terminate();
  rinfer.env.wasm.numThreads = 1;
  return 'threads of a worker';
}

/** What runs take on one thread, on two and on four. */
export async function speed(rinfer, base) {
  const found = [];
  for (const threads of [1, 2, 4]) {
    const { session } = await ran(rinfer, `${base}/trained/ultraface-rfb-320`, threads);
    const { feeds } = await data(rinfer, `${base}/trained/ultraface-rfb-320`, session);
    for (const end = performance.now() + 1500; performance.now() < end;) await session.run(feeds);
    const times = [];
    for (let i = 0; i < 15; i += 1) {
      const began = performance.now();
      await session.run(feeds);
      times.push(performance.now() - began);
    }
    await session.release();
    found.push(`${threads}: ${times.sort((a, b) => a - b)[7].toFixed(1)} ms`);
  }
  rinfer.env.wasm.numThreads = 1;
  return `${navigator.hardwareConcurrency} cores; by threads ${found.join(', ')}`;
}

/** Where the page is not isolated there is one thread, and no complaint. */
export async function alone(rinfer, base) {
  check(!globalThis.crossOriginIsolated, 'the page is cross-origin isolated');
  const { session } = await ran(rinfer, `${base}/trained/digits`, 4);
  await session.release();
  rinfer.env.wasm.numThreads = 1;
  check(!loaded('rinfer-threads.wasm') && started() === 0, 'there are threads');
  return 'one thread';
}
