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

const LABELS = { wasm: 'CPU', webgpu: 'GPU' };

/** What the browser says of its GPU. */
async function adapter() {
  const { info, limits, features } = (await navigator.gpu?.requestAdapter()) ?? {};
  const name = [info?.vendor, info?.architecture, info?.description].filter(Boolean).join(' ');
  return {
    name: name ? `WebGPU: ${name}` : 'WebGPU',
    kind: info?.isFallbackAdapter ? 'cpu' : 'other',
    features: {
      f16: features?.has('shader-f16') ?? false,
      subgroups: false,
      timestamps: features?.has('timestamp-query') ?? false,
      int8_dot: true,
      cooperative_matrix: [],
    },
    limits: {
      buffer_bytes: limits?.maxBufferSize ?? 0,
      binding_bytes: limits?.maxStorageBufferBindingSize ?? 0,
      buffers: limits?.maxStorageBuffersPerShaderStage ?? 0,
      workgroup_bytes: limits?.maxComputeWorkgroupStorageSize ?? 0,
      workgroup_invocations: limits?.maxComputeInvocationsPerWorkgroup ?? 0,
      workgroups: limits?.maxComputeWorkgroupsPerDimension ?? 0,
      subgroup_lanes: [info?.subgroupMinSize ?? 4, info?.subgroupMaxSize ?? 128],
    },
  };
}

/** What a page knows of the processor. */
const PROCESSOR = {
  name: 'WebAssembly with SIMD, one thread',
  kind: 'cpu',
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
};

/** A result as `rinfer gpubench` writes and merges it (docs/gpubench.md). */
function machine(name, { provider, found, runs, stats: { mean, min, p50, p90 } }) {
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
  const platform = navigator.userAgentData?.platform ?? navigator.platform;
  return {
    label: `${platform}, ${provider === 'wasm' ? 'WebAssembly' : 'WebGPU'}`,
    date: `${new Date().toISOString().slice(0, 19)}Z`,
    rinfer: version,
    quick: false,
    host: {
      os: platform,
      arch: 'wasm32',
      cpu: 'unknown to pages',
      cores: navigator.hardwareConcurrency,
    },
    adapter: {
      name: found.name,
      driver: brands || navigator.userAgent,
      backend: provider,
      kind: found.kind,
    },
    features: found.features,
    limits: found.limits,
    results: [{ group: 'model', name, status: 'ok', unit: 'ms', value: p50, stats }],
  };
}

/** `{provider, found, create, first, runs, stats, nodes}` of a model; times in milliseconds. */
async function measure(bytes, provider, size, signal) {
  const label = LABELS[provider];
  const began = performance.now();
  const session = await InferenceSession.create(bytes, { signal, executionProviders: [provider] });
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
    say(`${label}: warming up…`);
    for (const end = performance.now() + 500; performance.now() < end;) await once();
    const runs = [];
    const end = performance.now() + 3000;
    while (runs.length < 20 || (performance.now() < end && runs.length < 1000)) {
      runs.push(await once());
      say(`${label}: run ${runs.length}, ${ms(runs.at(-1))} ms`);
    }
    const { nodes } = await session.profile(feeds, { signal });
    const sorted = [...runs].sort((a, b) => a - b);
    const stats = {
      min: sorted[0],
      p50: percentile(sorted, 0.5),
      p90: percentile(sorted, 0.9),
      p99: percentile(sorted, 0.99),
      mean: runs.reduce((a, b) => a + b) / runs.length,
    };
    const found = provider === 'webgpu' ? await adapter() : PROCESSOR;
    return { provider, found, create: created - began, first, runs, stats, nodes };
  } finally {
    await session.release();
  }
}

function show(name, all) {
  const heads = all.map(({ provider }) => `${LABELS[provider]}, ms`);
  const row = (text, f) => [text, ...all.map((one) => ms(f(one)))];
  table(
    $('times'),
    ['', ...heads],
    [
      row('make ready', ({ create }) => create),
      row('first run', ({ first }) => first),
      row('median', ({ stats }) => stats.p50),
      row('fastest', ({ stats }) => stats.min),
      row('90 % within', ({ stats }) => stats.p90),
      row('99 % within', ({ stats }) => stats.p99),
    ],
  );
  const byOp = new Map();
  all.forEach(({ nodes }, place) => {
    for (const { op, duration } of nodes) {
      if (!byOp.has(op)) byOp.set(op, { count: 0, sums: all.map(() => 0) });
      const found = byOp.get(op);
      found.count += place === 0 ? 1 : 0;
      found.sums[place] += duration;
    }
  });
  const most = ({ sums }) => Math.max(...sums);
  const ops = [...byOp].sort((a, b) => most(b[1]) - most(a[1]));
  table(
    $('ops'),
    ['operator', 'nodes', ...heads],
    ops.map(([op, { count, sums }]) => [op, count || '–', ...sums.map(ms)]),
  );
  $('results').hidden = false;
  const machines = all.map((one) => machine(name, one));
  result = { schema: 'rinfer-gpubench', version: 1, machines };
  $('save').disabled = false;
  const each = all.map(({ provider, stats }) => `${LABELS[provider]} ${ms(stats.p50)} ms`);
  say(`${each.join(', ')} a run.`);
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
    const { signal } = control;
    version = await ready();
    const bytes =
      source instanceof Blob
        ? await source.arrayBuffer()
        : await (await fetch(source, { signal })).arrayBuffer();
    const all = [];
    const skipped = [];
    for (const provider of $('provider').value.split(',')) {
      try {
        all.push(await measure(bytes, provider, Number($('size').value) || 1, signal));
      } catch (error) {
        if (error.kind !== 'device' || all.length === 0) throw error;
        skipped.push(error.message);
      }
    }
    show(name, all);
    if (skipped.length > 0) say(`${$('status').textContent} ${skipped.join(' ')}`);
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
