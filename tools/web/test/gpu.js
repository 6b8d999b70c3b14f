// What the tests do in a page whose browser has WebGPU, as page.js. The adapter may be a processor.
import { different } from './compare.js';
import { bytes, check, data, fails, folder, list, pauses } from './helpers.js';
import { hostile } from './page.js';
import { body, graph, model, node, port, tensor } from './write.js';

const GPU = { executionProviders: ['webgpu'] };

const near = (found, expected, what) => {
  const text = different(found, expected, { rtol: 1e-3, atol: 1e-5 });
  check(text === undefined, `${what}: ${text}`);
};

/** Every device that was opened since this script was loaded. */
const opened = [];
const { requestDevice } = GPUAdapter.prototype;
GPUAdapter.prototype.requestDevice = async function request(...args) {
  const device = await requestDevice.apply(this, args);
  opened.push(device);
  return device;
};
const lose = () => opened.at(-1).destroy();

/** The buffers that are created and not destroyed, from now on. */
function buffers() {
  const alive = new Set();
  const { createBuffer } = GPUDevice.prototype;
  const { destroy } = GPUBuffer.prototype;
  GPUDevice.prototype.createBuffer = function create(...args) {
    const buffer = createBuffer.apply(this, args);
    alive.add(buffer);
    return buffer;
  };
  GPUBuffer.prototype.destroy = function gone() {
    alive.delete(this);
    return destroy.apply(this);
  };
  const stop = () => {
    Object.assign(GPUDevice.prototype, { createBuffer });
    Object.assign(GPUBuffer.prototype, { destroy });
  };
  return { alive, stop };
}

const face = (rinfer, n = 0.5) => ({
  input: new rinfer.Tensor('float32', new Float32Array(3 * 240 * 320).fill(n), [1, 3, 240, 320]),
});
const ULTRAFACE = 'trained/ultraface-rfb-320/model.onnx';

/** Trained models give what is expected of them, on the GPU. */
export async function gpuTrained(rinfer, base) {
  const names = (await list(`${base}/trained`)).filter((name) => !/\.|contrib|drawn/.test(name));
  const found = [];
  for (const name of names) {
    const url = `${base}/trained/${name}`;
    const session = await rinfer.InferenceSession.create(await bytes(`${url}/model.onnx`), GPU);
    check(session.executionProvider === 'webgpu', 'the provider');
    const { feeds, outputs } = await data(rinfer, url, session);
    const made = await session.profile(feeds);
    for (const [key, expected] of outputs) near(made.outputs[key], expected, `${name} ${key}`);
    const on = (place) => made.nodes.filter(({ backend }) => backend === place).length;
    found.push(`${name} (${on('gpu')} on the GPU, ${on('cpu')} on the CPU)`);
    await session.release();
  }
  check(names.length >= 6, `${names.length} models`);
  return found.join(', ');
}

/** Official tests by name, on the GPU: those that do not pass, and how many ran there at all. */
export async function gpuOfficial(rinfer, base, suite, names) {
  const problems = [];
  let there = 0;
  const count = async (session, feeds) => {
    const { nodes } = await session.profile(feeds);
    there += nodes.some(({ backend }) => backend === 'gpu') ? 1 : 0;
  };
  for (const name of names) {
    let text;
    try {
      text = await folder(rinfer, `${base}/conformance/${suite}/${name}`, GPU, count);
    } catch (error) {
      text = `${error.kind}: ${error.message}`;
    }
    if (text) problems.push([`${suite}/${name}`, text]);
  }
  return { done: names.length, there, problems };
}

/** Without WebGPU the next provider is taken, with it the first. */
export async function gpuProvider(rinfer, base) {
  const url = `${base}/trained/digits/model.onnx`;
  const both = { executionProviders: ['webgpu', 'wasm'] };
  const feed = { image: new rinfer.Tensor('float32', new Float32Array(64).fill(1), [1, 1, 8, 8]) };
  const make = (options) => rinfer.InferenceSession.create(url, options);
  const [first, second] = [await make(both), await make()];
  check(first.executionProvider === 'webgpu', first.executionProvider);
  check(second.executionProvider === 'wasm', second.executionProvider);
  near((await first.run(feed)).scores, (await second.run(feed)).scores, 'scores');
  const { requestAdapter } = GPU_PROTOTYPE();
  GPU_PROTOTYPE().requestAdapter = async () => null;
  try {
    const third = await make(both);
    check(third.executionProvider === 'wasm', `${third.executionProvider} without an adapter`);
    await third.release();
    await fails('device', () => make(GPU));
  } finally {
    GPU_PROTOTYPE().requestAdapter = requestAdapter;
  }
  await first.release();
  await second.release();
  return 'webgpu, then wasm';
}

const GPU_PROTOTYPE = () => Object.getPrototypeOf(navigator.gpu);

/** A device that is lost is opened anew, once; what cannot be opened is a typed error. */
export async function gpuLoss(rinfer, base) {
  const url = `${base}/${ULTRAFACE}`;
  const plain = await rinfer.InferenceSession.create(url);
  const expected = await plain.run(face(rinfer));
  const session = await rinfer.InferenceSession.create(url, {
    ...GPU,
    preferredOutputLocation: { scores: 'gpu-buffer' },
  });
  const same = async (made) => {
    for (const name of session.outputNames) {
      await made[name].getData();
      near(made[name], expected[name], name);
    }
  };
  const kept = await session.run(face(rinfer));
  const before = opened.length;
  await same(await session.run(face(rinfer)));
  lose();
  await same(await session.run(face(rinfer)));
  check(opened.length === before + 1, `${opened.length - before} devices were opened`);
  await fails('device', () => kept.scores.getData());
  // In the middle of runs, at several times.
  for (const delay of [0, 1, 5, 20, 60]) {
    const run = session.run(face(rinfer));
    setTimeout(lose, delay);
    await same(await run);
    await new Promise((resolve) => {
      setTimeout(resolve, 80);
    });
  }
  const { requestAdapter } = GPU_PROTOTYPE();
  GPU_PROTOTYPE().requestAdapter = async () => null;
  lose();
  try {
    await fails('device', () => session.run(face(rinfer)));
  } finally {
    GPU_PROTOTYPE().requestAdapter = requestAdapter;
  }
  await same(await session.run(face(rinfer)));
  // A second loss in the same run is an error.
  const own = GPUAdapter.prototype.requestDevice;
  GPUAdapter.prototype.requestDevice = async function request(...args) {
    const device = await own.apply(this, args);
    setTimeout(() => device.destroy(), 0);
    return device;
  };
  lose();
  try {
    await fails('device', () => session.run(face(rinfer)));
  } finally {
    GPUAdapter.prototype.requestDevice = own;
  }
  await same(await session.run(face(rinfer)));
  await session.release();
  await plain.release();
  return `${opened.length - before} devices were opened`;
}

/** A signal stops its own run and no other; a timeout too. */
export async function gpuAbort(rinfer, base) {
  const session = await rinfer.InferenceSession.create(`${base}/${ULTRAFACE}`, GPU);
  const expected = await session.run(face(rinfer));
  const control = new AbortController();
  const runs = [
    session.run(face(rinfer, 0.1), { signal: control.signal }),
    session.run(face(rinfer)),
  ];
  const stopped = fails('cancelled', () => runs[0]);
  setTimeout(() => control.abort(), 5);
  const error = await stopped;
  check(error.name === 'AbortError', error.name);
  const made = await runs[1];
  for (const name of session.outputNames) near(made[name], expected[name], name);
  await fails('deadline', () => session.run(face(rinfer), { timeout: 1 }));
  await session.run(face(rinfer));
  await session.release();
  await fails('invalid', () => session.run(face(rinfer)));
  return 'the right run is stopped';
}

/** Tensors that stay on the GPU from run to run, are read when they are asked for, and let go. */
export async function gpuResident(rinfer) {
  const float = (data, dims) => new rinfer.Tensor('float32', Float32Array.from(data), dims);
  const add = model({
    nodes: [node('Add', ['sum', 'x'], ['next']), node('Mul', ['x', 'x'], ['square'])],
    inputs: [port('sum', 1, ['n']), port('x', 1, ['n'])],
    outputs: [port('next', 1, ['n']), port('square', 1, ['n'])],
  });
  const create = (options) => rinfer.InferenceSession.create(add, options);
  const kept = { ...GPU, preferredOutputLocation: { next: 'gpu-buffer' } };
  const [session, other, host] = [await create(kept), await create(GPU), await create()];
  const x = float([1, 2, 3, 4], [4]);
  let sum = float([0, 0, 0, 0], [4]);
  const watch = buffers();
  let most = 0;
  for (let i = 0; i < 20; i += 1) {
    const { next, square } = await session.run({ sum, x });
    check(next.location === 'gpu-buffer' && square.location === 'cpu', 'locations');
    check(square.data.join() === '1,4,9,16', `${square.data}`);
    sum.dispose();
    sum = next;
    if (i === 4) most = watch.alive.size;
  }
  check(watch.alive.size <= most, `${most} buffers became ${watch.alive.size}`);
  watch.stop();
  await fails('invalid', () => sum.data);
  // Another session of the same GPU, and one on the CPU, read it.
  for (const reader of [other, host]) {
    const { next } = await reader.run({ sum, x });
    check(next.data.join() === '21,42,63,84', `${next.data}`);
  }
  const found = await sum.getData();
  check(found.join() === '20,40,60,80' && sum.location === 'cpu', `${found}`);
  const { next: last } = await session.run({ sum, x });
  const read = await last.getData(true);
  check(read.join() === '21,42,63,84' && last.data === read, `${read}`);
  sum.dispose();
  check(sum.location === 'none', sum.location);
  await fails('invalid', () => session.run({ sum, x }));
  const { next: gone } = await session.run({ sum: x, x });
  gone.dispose();
  await fails('invalid', () => gone.getData());
  await fails('invalid', () => create({ ...GPU, preferredOutputLocation: 'texture' }));
  await readAgain(rinfer);
  await Promise.all([session, other, host].map((one) => one.release()));
  return 'twenty runs on one tensor';
}

/** What is on the GPU comes back where a shape depends on it, and where the CPU reads it. */
async function readAgain({ InferenceSession, Tensor }) {
  const vector = (name, type, n = 'n') => port(name, type, [n]);
  const sizes = model({
    nodes: [node('Add', ['s', 's'], ['t'])],
    inputs: [vector('s', 7)],
    outputs: [vector('t', 7)],
  });
  const reader = model({
    nodes: [node('Reshape', ['x', 't'], ['y']), node('Cast', ['t'], ['d'], [castTo(11)])],
    inputs: [vector('x', 1, 'k'), vector('t', 7)],
    outputs: [port('y', 1, ['a', 'b']), vector('d', 11)],
  });
  const everything = { ...GPU, preferredOutputLocation: 'gpu-buffer' };
  const [first, second] = [
    await InferenceSession.create(sizes, everything),
    await InferenceSession.create(reader, everything),
  ];
  for (const [a, b] of [
    [1, 3],
    [3, 1],
  ]) {
    const { t } = await first.run({ s: new Tensor('int64', [a, b], [2]) });
    check(t.location === 'gpu-buffer', `it is in ${t.location}`);
    const x = new Tensor(
      'float32',
      Float32Array.from({ length: 12 }, (_, i) => i),
      [12],
    );
    const { y, d } = await second.run({ x, t });
    check(y.dims.join() === `${2 * a},${2 * b}`, `dims ${y.dims}`);
    check((await y.getData())[11] === 11, 'its content');
    check((await d.getData()).join() === `${2 * a},${2 * b}` && d.type === 'float64', 'the cast');
    t.dispose();
  }
  await first.release();
  await second.release();
}

/** Faults on the GPU, and what it has no memory for, are errors; what it cannot do the CPU does. */
export async function gpuFaults(rinfer) {
  const { Tensor, InferenceSession } = rinfer;
  const gather = model({
    nodes: [node('Gather', ['table', 'i'], ['y'])],
    weights: [tensor('table', 1, [4], Float32Array.of(1, 2, 3, 4))],
    inputs: [port('i', 7, ['n'])],
    outputs: [port('y', 1, ['n'])],
  });
  const session = await InferenceSession.create(gather, GPU);
  const index = (...i) => ({ i: new Tensor('int64', i, [i.length]) });
  check((await session.run(index(3, 0))).y.data.join() === '4,1', 'gather');
  const error = await fails('invalid', () => session.run(index(3, 9)));
  check(error.op === 'Gather', `at ${error.op}`);
  check((await session.run(index(1))).y.data.join() === '2', 'gather again');
  await session.release();

  const large = model({
    nodes: [node('Expand', ['x', 's'], ['y']), node('ReduceMax', ['y'], ['z'])],
    weights: [tensor('s', 7, [1], BigInt64Array.of(2n ** 31n))],
    inputs: [port('x', 1, [1])],
    outputs: [port('z', 1, [1])],
  });
  const vast = await InferenceSession.create(large, GPU);
  const one = new Tensor('float32', [1], [1]);
  await fails('limit', () => vast.run({ x: one }));
  await vast.release();

  // float64 runs on the CPU, control flow in the session, its bodies on the CPU.
  const branch = (op) => graph({ nodes: [node(op, ['a'], ['z'])], outputs: [port('z', 1, ['n'])] });
  const bodies = [body('then_branch', branch('Neg')), body('else_branch', branch('Abs'))];
  const mixed = model({
    nodes: [
      node('Exp', ['x'], ['a']),
      node('If', ['yes'], ['b'], bodies),
      node('Cast', ['b'], ['c'], [castTo(11)]),
      node('Sin', ['c'], ['d']),
      node('Cast', ['d'], ['e'], [castTo(1)]),
      node('Mul', ['e', 'a'], ['y']),
    ],
    inputs: [port('x', 1, ['n']), port('yes', 9, [])],
    outputs: [port('y', 1, ['n'])],
  });
  const [there, here] = [
    await InferenceSession.create(mixed, GPU),
    await InferenceSession.create(mixed),
  ];
  for (const yes of [true, false]) {
    const feeds = {
      x: new Tensor('float32', [0.5, 1, 2], [3]),
      yes: new Tensor('bool', [yes], []),
    };
    near((await there.run(feeds)).y, (await here.run(feeds)).y, 'on both');
  }
  const feeds = { x: new Tensor('float32', [0.5], [1]), yes: new Tensor('bool', [true], []) };
  const { nodes } = await there.profile(feeds);
  const places = new Set(nodes.map(({ backend }) => backend));
  check(places.has('gpu') && places.has('cpu'), [...places].join());
  await there.release();
  await here.release();
  return 'faults are errors';
}

/** Damaged models, and such that ask for too much, are errors here too. */
export const gpuHostile = (rinfer, base) => hostile(rinfer, base, GPU, 60);

/** The attribute `to`. */
const castTo = (type) => [10, 2, 116, 111, 24, type, 160, 1, 2];

/** The page's thread is free while kernels are compiled and run. */
export async function gpuResponsive(rinfer, base) {
  let line;
  // An adapter that is a processor takes the page's cores too: once of three times must do.
  for (let i = 0; i < 3; i += 1) {
    const session = await rinfer.InferenceSession.create(`${base}/${ULTRAFACE}`, GPU);
    const first = await pauses(() => session.run(face(rinfer)));
    const later = await pauses(async () => {
      for (let k = 0; k < 5; k += 1) await session.run(face(rinfer));
    });
    await session.release();
    const show = ({ took, text }) => `${took.toFixed(0)} ms with pauses of ${text}`;
    line = `first run ${show(first)}, five more ${show(later)}`;
    if (first.pause <= 100 && later.pause <= 100) return line;
  }
  throw new Error(line);
}

/** Sessions, one after the other, leave no memory behind, neither here nor on the GPU. */
export async function gpuCycles(rinfer, base) {
  const content = await bytes(`${base}/${ULTRAFACE}`);
  const once = async () => {
    const session = await rinfer.InferenceSession.create(content, GPU);
    await session.run(face(rinfer));
    await session.release();
  };
  const watch = buffers();
  for (let i = 0; i < 3; i += 1) await once();
  const [memory, alive] = [rinfer.memoryInUse(), watch.alive.size];
  for (let i = 0; i < 15; i += 1) await once();
  const after = [rinfer.memoryInUse(), watch.alive.size];
  watch.stop();
  check(after[0] <= memory * 1.05, `${memory} bytes became ${after[0]}`);
  check(after[1] <= alive, `${alive} buffers became ${after[1]}`);
  return `${(after[0] / 2 ** 20).toFixed(1)} MiB, ${after[1]} buffers after 18 sessions`;
}

/** The same in a worker. */
export async function gpuWorker(rinfer, base) {
  const wrapped = await import(`${base}/dist/worker.js`);
  const url = `${base}/${ULTRAFACE}`;
  const [here, there] = [
    await rinfer.InferenceSession.create(url),
    await wrapped.InferenceSession.create(url, GPU),
  ];
  check(there.executionProvider === 'webgpu', there.executionProvider);
  const [a, b] = [await here.run(face(rinfer)), await there.run(face(rinfer))];
  for (const name of here.outputNames) near(b[name], a[name], name);
  const stays = { ...GPU, preferredOutputLocation: 'gpu-buffer' };
  await fails('unsupported', () => wrapped.InferenceSession.create(url, stays));
  await there.release();
  await here.release();
  wrapped.terminate();
  return 'a worker';
}
