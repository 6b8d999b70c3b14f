// Beside onnxruntime-web: `npm run bench`. Both in one page of one Chromium, one thread each, runs
// in turns; the models are those of tests/models and of target/models (or RINFER_MODELS).
import { launch } from './browser.mjs';
import { serve } from './serve.mjs';

const MODELS = [
  ['ultraface-rfb-320', '/trained/ultraface-rfb-320/model.onnx', {}],
  ['mobilenet-v2', '/large/mobilenet-v2.onnx', {}],
  ['minilm-l6', '/large/minilm-l6.onnx', { sequence: 128 }],
];

/** In the page: medians of both, in milliseconds. */
async function compare([base, path, sizes, rounds]) {
  const rinfer = await import(`${base}/dist/index.js`);
  const ort = await import(`${base}/ort/ort.wasm.bundle.min.mjs`);
  Object.assign(ort.env, { logLevel: 'error' });
  Object.assign(ort.env.wasm, { wasmPaths: `${base}/ort/`, numThreads: 1 });
  const model = new Uint8Array(await (await fetch(`${base}${path}`)).arrayBuffer());
  const timed = async (f) => {
    const began = performance.now();
    const made = await f();
    return [performance.now() - began, made];
  };
  const [ourCreate, ours] = await timed(() => rinfer.InferenceSession.create(model));
  const [theirCreate, theirs] = await timed(() => ort.InferenceSession.create(model));
  const dim = (d, i) => (typeof d === 'number' ? d : i === 0 ? 1 : (sizes.sequence ?? 1));
  const feeds = (Tensor) =>
    Object.fromEntries(
      ours.inputMetadata.map(({ name, type, shape }) => {
        const dims = shape.map(dim);
        const n = dims.reduce((a, b) => a * b, 1);
        const data =
          type === 'int64'
            ? BigInt64Array.from({ length: n }, (_, i) =>
                BigInt(
                  name.includes('ids') && !name.includes('type')
                    ? 100 + (i % 900)
                    : name.includes('mask')
                      ? 1
                      : 0,
                ),
              )
            : Float32Array.from({ length: n }, (_, i) => ((i * 7919) % 1000) / 1000);
        return [name, new Tensor(type, data, dims)];
      }),
    );
  const [a, b] = [feeds(rinfer.Tensor), feeds(ort.Tensor)];
  const [ourFirst, made] = await timed(() => ours.run(a));
  const [theirFirst, wanted] = await timed(() => theirs.run(b));
  let worst = 0;
  for (const name of theirs.outputNames) {
    const [x, y] = [made[name].data, wanted[name].data];
    for (let i = 0; i < y.length; i += 1)
      worst = Math.max(worst, Math.abs(Number(x[i]) - Number(y[i])));
  }
  // Long enough for both to be compiled by the second tier.
  for (const end = performance.now() + 3000; performance.now() < end;) {
    await ours.run(a);
    await theirs.run(b);
  }
  const times = [[], []];
  for (let i = 0; i < rounds; i += 1) {
    times[0].push((await timed(() => ours.run(a)))[0]);
    times[1].push((await timed(() => theirs.run(b)))[0]);
  }
  const { nodes } = await ours.profile(a);
  const byOp = new Map();
  for (const { op, duration } of nodes) byOp.set(op, (byOp.get(op) ?? 0) + duration);
  const ops = [...byOp].sort((x, y) => y[1] - x[1]).slice(0, 6);
  const middle = (list) => list.sort((x, y) => x - y)[list.length >> 1];
  const least = (list) => Math.min(...list);
  const result = {
    ours: middle(times[0]),
    theirs: middle(times[1]),
    ourLeast: least(times[0]),
    theirLeast: least(times[1]),
    ourCreate,
    theirCreate,
    ourFirst,
    theirFirst,
    worst,
    ops,
  };
  await ours.release();
  await theirs.release();
  return result;
}

const server = await serve();
const browser = await launch();
let [product, count] = [1, 0];
try {
  for (const [name, path, sizes] of MODELS) {
    if (process.argv[2] && process.argv[2] !== name) continue;
    if (!(await fetch(server.url + path, { method: 'HEAD' })).ok) {
      console.log(`${name}: ${path} is not there`);
      continue;
    }
    const page = await browser.open(`${server.url}/test/blank.html`);
    const r = await page.evaluate(compare, [
      server.url,
      path,
      sizes,
      Number(process.env.ROUNDS ?? 15),
    ]);
    await page.close();
    const ms = (x) => x.toFixed(1);
    product *= r.theirs / r.ours;
    count += 1;
    console.log(
      `${name}: rinfer ${ms(r.ours)} ms (least ${ms(r.ourLeast)}), onnxruntime-web ${ms(r.theirs)} ms ` +
        `(least ${ms(r.theirLeast)}): ${(r.theirs / r.ours).toFixed(2)}x; make ready ${ms(r.ourCreate)} / ` +
        `${ms(r.theirCreate)}, first ${ms(r.ourFirst)} / ${ms(r.theirFirst)}; largest difference ${r.worst}`,
    );
    console.log(`  ${r.ops.map(([op, t]) => `${op} ${ms(t)}`).join(', ')}`);
  }
} finally {
  await browser.close();
  server.close();
}
if (count > 0) console.log(`geometric mean ${(product ** (1 / count)).toFixed(2)}x`);
process.exit(0);
