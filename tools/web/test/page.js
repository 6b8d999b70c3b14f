// What the tests do inside a page (and, but for onnxruntime-web, in Node): each export is a test
// that throws, or says what it found.
import { different } from './compare.js';
import { bytes, check, data, fails, folder, list, pauses } from './helpers.js';
import { bombs } from './write.js';

/** Every trained model gives what is expected of it. */
export async function trained(rinfer, base) {
  const names = (await list(`${base}/trained`)).filter((name) => !/\.|contrib|drawn/.test(name));
  for (const name of names) {
    const text = await folder(rinfer, `${base}/trained/${name}`);
    check(text === undefined, `${name}: ${text}`);
  }
  check(names.length >= 6, `${names.length} models`);
  return `${names.length} trained models`;
}

/** Official tests `from` to `to` of a suite: names of those that do not pass. */
export async function official(rinfer, base, suite, from, to) {
  const names = (await list(`${base}/conformance/${suite}`)).slice(from, to);
  const problems = [];
  for (const name of names) {
    let text;
    try {
      text = await folder(rinfer, `${base}/conformance/${suite}/${name}`);
    } catch (error) {
      text = `${error.kind}: ${error.message}`;
    }
    if (text) problems.push([`${suite}/${name}`, text]);
  }
  return { done: names.length, problems };
}

/** onnxruntime-web computes the same, in the same page. */
export async function parity(rinfer, base) {
  const ort = await import(`${base}/ort/ort.wasm.bundle.min.mjs`);
  ort.env.wasm.wasmPaths = `${base}/ort/`;
  ort.env.wasm.numThreads = 1;
  const found = [];
  for (const name of ['digits', 'mnist', 'ultraface-rfb-320', 'dtln-1', 'silero-vad']) {
    const model = await bytes(`${base}/trained/${name}/model.onnx`);
    const ours = await rinfer.InferenceSession.create(model);
    const theirs = await ort.InferenceSession.create(model, { logSeverityLevel: 3 });
    const { feeds } = await data(rinfer, `${base}/trained/${name}`, ours);
    const copies = Object.entries(feeds).map(([key, t]) => [
      key,
      new ort.Tensor(t.type, t.data, t.dims),
    ]);
    const expected = await theirs.run(Object.fromEntries(copies));
    const made = await ours.run(feeds);
    for (const [key, t] of Object.entries(expected)) {
      const wanted = new rinfer.Tensor(t.type, t.data, t.dims);
      const text = different(made[key], wanted, { rtol: 1e-3, atol: 1e-5 });
      check(text === undefined, `${name} ${key}: ${text}`);
    }
    check(String(ours.inputNames) === String(theirs.inputNames), `${name}: input names`);
    check(String(ours.outputNames) === String(theirs.outputNames), `${name}: output names`);
    await ours.release();
    await theirs.release();
    found.push(name);
  }
  return `as onnxruntime-web: ${found.join(', ')}`;
}

/** A hundred sessions, one after the other, take no more memory than a few. */
export async function cycles(rinfer, base) {
  const model = await bytes(`${base}/trained/ultraface-rfb-320/model.onnx`);
  const once = async () => {
    const session = await rinfer.InferenceSession.create(model);
    const input = new rinfer.Tensor('float32', new Float32Array(3 * 240 * 320), [1, 3, 240, 320]);
    await session.run({ input });
    await session.release();
  };
  for (let i = 0; i < 5; i += 1) await once();
  const before = rinfer.memoryInUse();
  for (let i = 0; i < 100; i += 1) await once();
  const after = rinfer.memoryInUse();
  check(after <= before * 1.05, `${before} bytes became ${after}`);
  return `${(before / 2 ** 20).toFixed(1)} MiB after 5 cycles, ${(after / 2 ** 20).toFixed(1)} after 105`;
}

/** A signal stops its own run and no other, while the page goes on. */
export async function abort(rinfer, base) {
  const model = await bytes(`${base}/trained/ultraface-rfb-320/model.onnx`);
  const session = await rinfer.InferenceSession.create(model);
  const feed = (n) => ({
    input: new rinfer.Tensor('float32', new Float32Array(3 * 240 * 320).fill(n), [1, 3, 240, 320]),
  });
  const expected = await session.run(feed(0.5));
  const [first, second] = [new AbortController(), new AbortController()];
  const slow = { ...rinfer.env.wasm };
  rinfer.env.wasm.slice = 1;
  const runs = [
    session.run(feed(0.1), { signal: first.signal }),
    session.run(feed(0.5), { signal: second.signal }),
  ];
  first.abort();
  rinfer.env.wasm.slice = slow.slice;
  const error = await fails('cancelled', () => runs[0]);
  check(error.name === 'AbortError', `its name is ${error.name}`);
  const made = await runs[1];
  for (const name of session.outputNames) {
    check(different(made[name], expected[name], { rtol: 0, atol: 0 }) === undefined, name);
  }
  const gone = AbortSignal.abort();
  await fails('cancelled', () => session.run(feed(0.1), { signal: gone }));
  await fails('cancelled', () => rinfer.InferenceSession.create(model, { signal: gone }));
  await session.run(feed(0.1));
  await session.release();
  await fails('invalid', () => session.run(feed(0.1)));
  return 'the right run is stopped';
}

/** The page's thread is free again soon, again and again, while models run. */
export async function responsive(rinfer, base) {
  const session = await rinfer.InferenceSession.create(
    `${base}/trained/ultraface-rfb-320/model.onnx`,
  );
  const input = new rinfer.Tensor('float32', new Float32Array(3 * 240 * 320), [1, 3, 240, 320]);
  for (let i = 0; i < 5; i += 1) await session.run({ input });
  const { took, turns, pause, text } = await pauses(async () => {
    for (let i = 0; i < 30; i += 1) await session.run({ input });
  });
  await session.release();
  // Runs that fit a slice take turns too: one after another they must not become one long pause.
  check(turns >= took / 50, `${turns} turns in ${took.toFixed(1)} ms`);
  check(pause <= 50, `pauses of ${text}`);
  return `longest pauses ${text}`;
}

/** A model of 1.3 MB has its first answer soon after its bytes are there. */
export async function start(rinfer, base) {
  const model = await bytes(`${base}/trained/ultraface-rfb-320/model.onnx`);
  await rinfer.ready();
  const began = performance.now();
  const session = await rinfer.InferenceSession.create(model);
  const created = performance.now();
  const input = new rinfer.Tensor('float32', new Float32Array(3 * 240 * 320), [1, 3, 240, 320]);
  await session.run({ input });
  const ran = performance.now();
  await session.release();
  return { create: created - began, first: ran - created, all: ran - began };
}

/** Every way to give a model, every kind of answer about it. */
export async function sources(rinfer, base) {
  const { InferenceSession, Tensor } = rinfer;
  const url = `${base}/trained/digits/model.onnx`;
  const model = await bytes(url);
  const padded = new Uint8Array(model.length + 7);
  padded.set(model, 3);
  const ways = {
    address: [url],
    url: [new URL(url)],
    bytes: [model],
    buffer: [model.buffer.slice(0)],
    part: [padded.buffer, 3, model.length],
    response: [await fetch(url)],
    stream: [(await fetch(url)).body],
    blob: [new Blob([model])],
  };
  const feed = { image: new Tensor('float32', new Float32Array(64).fill(1), [1, 1, 8, 8]) };
  for (const [way, given] of Object.entries(ways)) {
    const session = await InferenceSession.create(...given);
    const { scores } = await session.run(feed);
    check(scores.dims.join() === '1,10' && scores.type === 'float32', way);
    await session.release();
  }
  const phases = [];
  const fixed = await InferenceSession.create(url, {
    freeDimensionOverrides: { batch: 2 },
    onProgress: ({ phase, loaded, total }) => phases.push([phase, loaded, total]),
  });
  check(fixed.inputMetadata[0].shape.join() === '2,1,8,8', 'freeDimensionOverrides');
  check(
    phases.some(([p, n, all]) => p === 'load' && n === model.length && all === n),
    'progress',
  );
  await fails('invalid', () => fixed.run(feed));
  await fixed.release();
  await fails('invalid', () => InferenceSession.create(`${base}/nowhere.onnx`));
  await fails('invalid', () => InferenceSession.create(new Uint8Array(100)));
  await fails('invalid', () => InferenceSession.create({}));
  await fails('limit', () => InferenceSession.create(model, { limits: { modelBytes: 10 } }));
  await fails('device', () => InferenceSession.create(model, { executionProviders: ['webgpu'] }));
  const any = await InferenceSession.create(model, { executionProviders: ['webgpu', 'wasm'] });
  check(any.executionProvider === 'wasm', 'the provider');
  const picked = await any.run(feed, ['scores']);
  check(Object.keys(picked).join() === 'scores', 'fetches');
  await fails('invalid', () => any.run(feed, ['nothing']));
  const { nodes } = await any.profile(feed);
  check(
    nodes.some(({ op }) => op === 'Conv'),
    'profile',
  );
  await any.release();
  return `${Object.keys(ways).length} ways to give a model`;
}

/** Memory beyond what there is, and graphs that ask for it, are errors that leave the rest alive. */
export async function limits(rinfer, base) {
  const session = await rinfer.InferenceSession.create(`${base}/trained/digits/model.onnx`);
  const feed = (n) => ({
    image: new rinfer.Tensor('float32', new Float32Array(64 * n), [n, 1, 8, 8]),
  });
  const before = await session.run(feed(2));
  const small = await rinfer.InferenceSession.create(`${base}/trained/digits/model.onnx`, {
    limits: { memory: 200_000 },
  });
  await fails('limit', () => small.run(feed(5000)));
  check((await small.run(feed(1))).scores.dims[0] === 1, 'after the limit');
  await small.release();
  const late = await rinfer.InferenceSession.create(
    `${base}/trained/ultraface-rfb-320/model.onnx`,
    { limits: { runTime: 1 } },
  );
  const input = new rinfer.Tensor('float32', new Float32Array(3 * 240 * 320), [1, 3, 240, 320]);
  await fails('deadline', () => late.run({ input }));
  await late.release();
  const after = await session.run(feed(2));
  check(
    different(after.scores, before.scores, { rtol: 0, atol: 0 }) === undefined,
    'the other session',
  );
  await session.release();
  return 'limits are errors';
}

/** Damaged files and models that ask for too much are errors with a kind that says so; none ends
 * the engine. */
export async function hostile(rinfer, base, options = {}, rounds = 200) {
  const { InferenceSession, Tensor } = rinfer;
  const witness = await InferenceSession.create(`${base}/trained/digits/model.onnx`, options);
  const limits = { untrusted: true, memory: 256 * 2 ** 20, runTime: 1000 };
  const counts = {};
  const attempt = async (what, model, trust = limits) => {
    let session;
    let end = 'runs';
    try {
      session = await InferenceSession.create(model, { ...options, limits: trust });
      const feeds = {};
      for (const { name, type, shape } of session.inputMetadata) {
        const dims = (shape ?? []).map((d) => (typeof d === 'number' ? d : 1));
        const n = dims.reduce((a, b) => a * b, 1);
        if (n <= 1e6)
          feeds[name] = new Tensor(type, Array(n).fill(type === 'string' ? 'a' : 1), dims);
      }
      await session.run(feeds);
    } catch (error) {
      end = error.kind ?? error.name;
      const fine = ['invalid', 'unsupported', 'limit', 'deadline'].includes(end);
      check(fine, `${what}: ${end}: ${error.message}`);
    }
    await session?.release();
    counts[end] = (counts[end] ?? 0) + 1;
    return end;
  };
  for (const [what, model] of Object.entries(bombs())) {
    check((await attempt(what, model)) !== 'runs', what);
    const own = { runTime: 1000, loopIterations: 1e5 };
    check((await attempt(`${what}, trusted`, model, own)) !== 'runs' || /bodies/.test(what), what);
  }
  let state = 7;
  const random = (n) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * n);
  };
  for (const name of ['digits', 'mnist', 'xgboost-classifier']) {
    const model = await bytes(`${base}/trained/${name}/model.onnx`);
    for (let n = 0; n < model.length; n += Math.ceil((2 * model.length) / rounds)) {
      await attempt(`${name} cut at ${n}`, model.subarray(0, n));
    }
    for (let i = 0; i < rounds; i += 1) {
      const damaged = model.slice();
      for (let k = random(8); k >= 0; k -= 1) damaged[random(model.length)] ^= 1 << random(8);
      await attempt(`${name}, damage ${i}`, damaged);
    }
  }
  const feed = { image: new Tensor('float32', new Float32Array(64), [1, 1, 8, 8]) };
  check((await witness.run(feed)).scores.dims[1] === 10, 'the session from before');
  await witness.release();
  return counts;
}

/** Tensors take what onnxruntime-web's take, and refuse what does not fit. */
export async function tensors({ Tensor }) {
  const t = (...args) => new Tensor(...args);
  check(t(new Float32Array([1, 2])).type === 'float32', 'inferred');
  check(t('int64', [1, 2n], [2]).data[1] === 2n, 'int64 from numbers');
  check(t('bool', [true, false]).data.join() === '1,0', 'bool');
  check(t(['a', 'b'], [2, 1]).type === 'string', 'strings');
  check(
    t('float16', [1.5, -2, 65504, 1e-7, NaN]).data.join() === '15872,49152,31743,2,32256',
    'float16',
  );
  check(t('float16', [0.1, 3]).toNumbers()[1] === 3, 'float16 back');
  check(t('int4', new Int8Array(2), [3]).size === 3, 'int4');
  check(t('float32', [1, 2, 3, 4], [2, 2]).reshape([4]).dims.join() === '4', 'reshape');
  const gone = t('float32', [1]);
  gone.dispose();
  await fails('invalid', () => gone.data);
  await fails('invalid', () => t('float32', [1, 2], [3]));
  await fails('invalid', () => t('float31', [1], [1]));
  await fails('invalid', () => t('float32', ['a'.repeat(3)], [-1]));
  const image = new ImageData(new Uint8ClampedArray([255, 0, 51, 255, 0, 255, 102, 255]), 2, 1);
  const pixels = await Tensor.fromImage(image);
  check(pixels.dims.join() === '1,3,1,2' && Math.abs(pixels.data[4] - 0.2) < 1e-6, 'pixels');
  const raw = await Tensor.fromImage(image, {
    dataType: 'uint8',
    tensorLayout: 'NHWC',
    tensorFormat: 'BGR',
  });
  check(raw.data.join() === '51,0,255,102,255,0', 'NHWC');
  const large = await Tensor.fromImage(image, { resizedWidth: 8, resizedHeight: 4 });
  check(large.dims.join() === '1,3,4,8', 'resized');
  return 'tensors';
}

/** The same in a worker, with a page that is not kept waiting. */
export async function worker(rinfer, base) {
  const wrapped = await import(`${base}/dist/worker.js`);
  const url = `${base}/trained/ultraface-rfb-320/model.onnx`;
  const [here, there] = [
    await rinfer.InferenceSession.create(url),
    await wrapped.InferenceSession.create(url),
  ];
  const input = new rinfer.Tensor(
    'float32',
    Float32Array.from({ length: 3 * 240 * 320 }, (_, i) => (i % 97) / 97),
    [1, 3, 240, 320],
  );
  const [a, b] = [await here.run({ input }), await there.run({ input })];
  check(String(there.inputNames) === String(here.inputNames), 'names');
  for (const name of here.outputNames) {
    check(different(b[name], a[name], { rtol: 0, atol: 0 }) === undefined, name);
  }
  // The last of several: the others keep the worker busy until the signal is there.
  const control = new AbortController();
  const others = Array.from({ length: 6 }, () => there.run({ input }));
  const run = there.run({ input }, { signal: control.signal });
  control.abort();
  await fails('cancelled', () => run);
  await Promise.all(others);
  await there.run({ input });
  await fails('invalid', () => there.run({}));
  await there.release();
  await fails('invalid', () => there.run({ input }));
  await here.release();
  wrapped.terminate();
  return 'a worker';
}

/** The policy under which all of this ran forbids what it should. */
export async function policy() {
  let allowed = true;
  try {
    new Function('return 1')();
  } catch {
    allowed = false;
  }
  check(!allowed, 'the page allows eval: the policy is not in force');
  return "script-src 'self' 'wasm-unsafe-eval'";
}
