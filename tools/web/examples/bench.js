// Benchmark: create, first run, percentiles of later runs, and what each operator takes.
import { InferenceSession, Tensor, ready } from './dist/index.js';

const $ = (id) => document.getElementById(id);
let [control, result, file, version] = [];

const say = (text, error = false) => {
  $('status').textContent = text;
  $('status').classList.toggle('error', error);
};

/** Numbers that are the same each time, for any type. */
function random(type, dims) {
  const n = dims.reduce((a, b) => a * b, 1);
  let state = 1;
  const next = () => {
    state = (Math.imul(state, 1103515245) + 12345) & 0x7fffffff;
    return state / 0x7fffffff;
  };
  if (type === 'string') return new Tensor(type, Array(n).fill('a'), dims);
  if (type === 'bool' || /int/.test(type)) {
    return new Tensor(
      type,
      Array.from({ length: n }, () => 1),
      dims,
    );
  }
  return new Tensor(type, Array.from({ length: n }, next), dims);
}

const ms = (x) => (x < 10 ? x.toFixed(2) : x.toFixed(1));
const percentile = (sorted, p) =>
  sorted[Math.min(sorted.length - 1, Math.floor(p * sorted.length))];

function table(element, head, rows) {
  const row = (cells, tag) => {
    const line = document.createElement('tr');
    line.append(
      ...cells.map((text) => Object.assign(document.createElement(tag), { textContent: text })),
    );
    return line;
  };
  element.replaceChildren(row(head, 'th'), ...rows.map((cells) => row(cells, 'td')));
}

/** The result as `rinfer gpubench` writes and merges it (docs/gpubench.md). */
function report(name, runs, { mean, min, p50, p90 }) {
  const spread = Math.sqrt(runs.reduce((sum, x) => sum + (x - mean) ** 2, 0) / runs.length);
  const brands = navigator.userAgentData?.brands?.map(({ brand }) => brand).join(', ');
  const stats = {
    repetitions: runs.length,
    median_ms: p50,
    min_ms: min,
    p90_ms: p90,
    cv: spread / mean,
    timer: 'host',
  };
  const machine = {
    label: `${navigator.userAgentData?.platform ?? navigator.platform}, WebAssembly`,
    date: `${new Date().toISOString().slice(0, 19)}Z`,
    rinfer: version,
    quick: false,
    host: {
      os: navigator.userAgentData?.platform ?? navigator.platform,
      arch: 'wasm32',
      cpu: 'unknown to pages',
      cores: navigator.hardwareConcurrency,
    },
    adapter: {
      name: 'WebAssembly with SIMD, one thread',
      driver: brands || navigator.userAgent,
      backend: 'wasm',
      kind: 'cpu',
    },
    features: {
      f16: false,
      subgroups: false,
      timestamps: false,
      int8_dot: false,
      cooperative_matrix: [],
    },
    limits: {
      buffer_bytes: 2 ** 32,
      binding_bytes: 2 ** 32,
      buffers: 1,
      workgroup_bytes: 0,
      workgroup_invocations: 1,
      workgroups: 1,
      subgroup_lanes: [4, 4],
    },
    results: [{ group: 'model', name, status: 'ok', unit: 'ms', value: p50, stats }],
  };
  return { schema: 'rinfer-gpubench', version: 1, machines: [machine] };
}

/** `{create, first, runs, nodes}` of a model; times in milliseconds. */
async function measure(source, size, signal) {
  version = await ready();
  const bytes =
    source instanceof Blob
      ? await source.arrayBuffer()
      : await (await fetch(source, { signal })).arrayBuffer();
  const began = performance.now();
  const session = await InferenceSession.create(bytes, { signal });
  const created = performance.now();
  try {
    const sizes = (shape) => (shape ?? []).map((d) => (typeof d === 'number' ? d : size));
    const feeds = Object.fromEntries(
      session.inputMetadata.map(({ name, type, shape }) => [name, random(type, sizes(shape))]),
    );
    const once = async () => {
      const start = performance.now();
      await session.run(feeds, { signal });
      return performance.now() - start;
    };
    const first = await once();
    say('Warming up…');
    for (const end = performance.now() + 500; performance.now() < end;) await once();
    const runs = [];
    const end = performance.now() + 3000;
    while (runs.length < 20 || (performance.now() < end && runs.length < 1000)) {
      runs.push(await once());
      say(`Run ${runs.length}: ${ms(runs.at(-1))} ms`);
    }
    const { nodes } = await session.profile(feeds, { signal });
    return { create: created - began, first, runs, nodes };
  } finally {
    await session.release();
  }
}

function show(name, { create, first, runs, nodes }) {
  const sorted = [...runs].sort((a, b) => a - b);
  const stats = {
    min: sorted[0],
    p50: percentile(sorted, 0.5),
    p90: percentile(sorted, 0.9),
    p99: percentile(sorted, 0.99),
    mean: runs.reduce((a, b) => a + b) / runs.length,
  };
  table(
    $('times'),
    ['', 'ms'],
    [
      ['make ready', ms(create)],
      ['first run', ms(first)],
      [`median of ${runs.length}`, ms(stats.p50)],
      ['fastest', ms(stats.min)],
      ['90 % within', ms(stats.p90)],
      ['99 % within', ms(stats.p99)],
    ],
  );
  const byOp = new Map();
  for (const { op, duration } of nodes) {
    const [n, sum] = byOp.get(op) ?? [0, 0];
    byOp.set(op, [n + 1, sum + duration]);
  }
  const total = nodes.reduce((sum, { duration }) => sum + duration, 0);
  const ops = [...byOp].sort((a, b) => b[1][1] - a[1][1]);
  table(
    $('ops'),
    ['operator', 'nodes', 'ms', '%'],
    ops.map(([op, [n, sum]]) => [
      op,
      n,
      ms(sum),
      total > 0 ? ((100 * sum) / total).toFixed(0) : '–',
    ]),
  );
  $('results').hidden = false;
  result = report(name, runs, stats);
  $('save').disabled = false;
  say(`${ms(stats.p50)} ms a run.`);
}

$('file').addEventListener('change', ({ target }) => {
  [file] = target.files;
  if (file) say(`${file.name} is chosen.`);
});
$('pick').addEventListener('change', () => {
  file = undefined;
});
$('stop').addEventListener('click', () => control?.abort());
$('go').addEventListener('click', async () => {
  control = new AbortController();
  [$('go').disabled, $('stop').disabled] = [true, false];
  try {
    const name = file?.name ?? $('pick').selectedOptions[0].textContent;
    const source = file ?? new URL($('pick').value, location.href);
    show(name, await measure(source, Number($('size').value) || 1, control.signal));
  } catch (error) {
    say(error.kind === 'cancelled' ? 'Stopped.' : error.message, error.kind !== 'cancelled');
  } finally {
    [$('go').disabled, $('stop').disabled] = [false, true];
  }
});
$('save').addEventListener('click', () => {
  const blob = new Blob([JSON.stringify(result, null, 1)], { type: 'application/json' });
  const link = Object.assign(document.createElement('a'), {
    href: URL.createObjectURL(blob),
    download: 'rinfer-bench.json',
  });
  link.click();
  URL.revokeObjectURL(link.href);
});
