// Builds the package: `npm run build`.
//
//   dist/   what is published: the wasm module, the scripts, their types
//   site/   dist/ and the example pages with their models: any static server can serve it
//
// The module is built with a standard library of its own, so that panics unwind and become errors.
// That needs the library's source: rustup's component rust-src, or Debian's packages rustc-web,
// cargo-web, rust-web-src and lld. Where rustup has only the prebuilt library for
// wasm32-unknown-unknown, a panic ends the instance instead, and the next session gets another.
// RINFER_WEB_TOOLCHAIN=rustup|debian chooses.
import { execFileSync } from 'node:child_process';
import {
  cpSync,
  existsSync,
  mkdirSync,
  readFileSync,
  readdirSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { brotliCompressSync, constants } from 'node:zlib';

const here = dirname(fileURLToPath(import.meta.url));
const root = join(here, '../..');
const target = process.env.CARGO_TARGET_DIR ?? join(root, 'target/web');
const dist = join(here, 'dist');
const site = join(here, 'site');

/**
 * The modules, and the bytes that each may have, raw and packed with brotli (the first is to stay at
 * 1.0 MB; folders and compilers move it by a few thousand bytes). What wgpu gives
 * wasm-bindgen must not unwind: in that module a panic ends the instance. Threads need a standard
 * library made for them.
 */
const MODULES = [
  { name: 'rinfer', glue: 'glue', features: [], unwinds: true, raw: 4.3e6, brotli: 1.005e6 },
  {
    name: 'rinfer-threads',
    glue: 'glue-threads',
    features: ['threads'],
    unwinds: true,
    shared: true,
    raw: 4.5e6,
    brotli: 1.05e6,
  },
  {
    name: 'rinfer-webgpu',
    glue: 'glue-webgpu',
    features: ['webgpu'],
    unwinds: false,
    raw: 4.6e6,
    brotli: 1.1e6,
  },
];

const FEATURES = '+simd128,+bulk-memory,+nontrapping-fptoint,+sign-ext,+mutable-globals';

/** What makes the memory one that threads share, and tells wasm-bindgen how they begin. */
const SHARED = [
  '--shared-memory',
  '--import-memory',
  `--max-memory=${2 ** 32}`,
  ...['__wasm_init_tls', '__tls_size', '__tls_align', '__tls_base'].map((it) => `--export=${it}`),
];

function run(command, args, env = {}) {
  execFileSync(command, args, { cwd: here, stdio: 'inherit', env: { ...process.env, ...env } });
}

function says(command, args, env = {}) {
  try {
    const options = { cwd: here, stdio: ['ignore', 'pipe', 'ignore'], timeout: 120_000 };
    return execFileSync(command, args, { ...options, env: { ...process.env, ...env } })
      .toString()
      .trim();
  } catch {
    return undefined;
  }
}

/** rustup's toolchain, with the library's source if it can be had. */
function rustup() {
  if (says('rustup', ['--version']) === undefined) return undefined;
  const source = () => {
    const sysroot = says('rustc', ['--print', 'sysroot']);
    return sysroot && existsSync(join(sysroot, 'lib/rustlib/src/rust/library/std/Cargo.toml'));
  };
  if (source() || (says('rustup', ['component', 'add', 'rust-src']) !== undefined && source())) {
    return { name: 'rustup, own standard library', cargo: 'cargo', env: {}, own: true };
  }
  if (says('rustup', ['target', 'add', 'wasm32-unknown-unknown']) === undefined) return undefined;
  return { name: 'rustup, prebuilt standard library', cargo: 'cargo', env: {}, own: false };
}

/** Debian's toolchain. */
function debian() {
  if (!existsSync('/usr/lib/rustlib/src/rust/library/std/Cargo.toml')) return undefined;
  if (!existsSync('/usr/bin/cargo') || !existsSync('/usr/bin/wasm-ld')) return undefined;
  const env = {
    PATH: `/usr/bin:${process.env.PATH}`,
    CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER: 'wasm-ld',
  };
  return { name: 'Debian, own standard library', cargo: '/usr/bin/cargo', env, own: true };
}

function toolchain() {
  const kinds = { rustup, debian };
  const asked = process.env.RINFER_WEB_TOOLCHAIN;
  const order = asked ? [asked] : ['rustup', 'debian'];
  let found = order.map((name) => kinds[name]?.()).filter(Boolean);
  found = [...found.filter(({ own }) => own), ...found];
  if (found.length === 0) {
    throw new Error(
      "no compiler for wasm32-unknown-unknown: install rustup, or Debian's " +
        'rustc-web cargo-web rust-web-src lld',
    );
  }
  return found[0];
}

/** Compiles a module; gives its path. */
function compile({ cargo, env, own }, { features, unwinds, shared }) {
  const unwinding = unwinds && process.env.RINFER_WEB_PANIC !== 'abort';
  const flags = [
    `-Ctarget-feature=${FEATURES}${shared ? ',+atomics' : ''}`,
    ...(shared ? SHARED.map((arg) => `-Clink-arg=${arg}`) : []),
    ...(own ? [`-Cpanic=${unwinding ? 'unwind' : 'abort'}`, '-Zlocation-detail=none'] : []),
    // What kernels are made of is inlined, and made of vectors, whatever is said here; of the rest
    // there is more than of kernels, and its size is what browsers download and compile.
    '-Cllvm-args=-inline-threshold=25',
    '-Cno-vectorize-loops',
    '-Cno-vectorize-slp',
  ].join(' ');
  const std = own
    ? [
        `-Zbuild-std=std,${unwinding ? 'panic_unwind' : 'panic_abort'}`,
        '-Zbuild-std-features=optimize_for_size',
      ]
    : [];
  const chosen = features.length > 0 ? ['--features', features.join()] : [];
  run(cargo, ['build', '--release', '--target', 'wasm32-unknown-unknown', ...chosen, ...std], {
    ...env,
    CARGO_TARGET_DIR: target,
    CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_RUSTFLAGS: flags,
    ...(own ? { RUSTC_BOOTSTRAP: '1' } : {}),
  });
  return join(target, 'wasm32-unknown-unknown/release/rinfer_web.wasm');
}

/** wasm-bindgen, in the version that the crate was built with; gives its output folder. */
function bindgen(module, { cargo, env }) {
  const out = join(target, 'bindgen');
  rmSync(out, { recursive: true, force: true });
  const build = ['run', '--quiet', '-p', 'rinfer-web-bindgen', '--', module, out];
  run(cargo, build, { ...env, CARGO_TARGET_DIR: target });
  return out;
}

/** wasm-bindgen's script holds one instance; a function around it makes as many as are needed. */
export function factory(script) {
  const names = [];
  let body = script
    .replace(/^export (?:async )?(function|class) (\w+)/gm, (all, kind, name) => {
      names.push(name);
      return all.replace('export ', '');
    })
    .replace(/^export \{([^}]*)\};?$/gm, (_, list) => {
      for (const item of list.split(',').map((text) => text.trim())) {
        const [inner, outer = inner] = item.split(/\s+as\s+/);
        if (outer !== 'default' && item) names.push(outer === inner ? inner : `${outer}: ${inner}`);
      }
      return '';
    })
    .replace(/new URL\('[^']*', import\.meta\.url\)/g, 'undefined');
  if (/^export /m.test(body) || body.includes('import.meta')) {
    throw new Error('wasm-bindgen writes its script in another form than build.mjs knows');
  }
  body = body.replace(/^\/\* @ts-self-types.*\n/m, '');
  const head = '// Written by wasm-bindgen; made a function of by build.mjs.\n';
  return `${head}export default function make() {\n${body}\nreturn { ${names.join(', ')} };\n}\n`;
}

/** Prints a module's size; fails if it is over the bars. */
function weigh({ name, raw, brotli }) {
  const bytes = readFileSync(join(dist, `${name}.wasm`));
  const params = { [constants.BROTLI_PARAM_QUALITY]: 11, [constants.BROTLI_PARAM_LGWIN]: 24 };
  const packed = brotliCompressSync(bytes, { params }).length;
  const show = (n) => `${(n / 1e6).toFixed(3)} MB`;
  console.log(`${name}.wasm: ${show(bytes.length)}, ${show(packed)} with brotli`);
  if (bytes.length > raw || packed > brotli) {
    throw new Error(`${name}.wasm may have ${show(raw)}, ${show(brotli)} with brotli`);
  }
}

/** The pages, and what they need, in one folder. */
function pages() {
  rmSync(site, { recursive: true, force: true });
  mkdirSync(join(site, 'models'), { recursive: true });
  cpSync(join(here, 'examples'), site, { recursive: true });
  cpSync(dist, join(site, 'dist'), { recursive: true });
  const models = join(root, 'tests/models');
  for (const name of ['digits', 'mnist', 'ultraface-rfb-320']) {
    cpSync(join(models, name, 'model.onnx'), join(site, 'models', `${name}.onnx`));
  }
}

const compiler = toolchain();
console.log(`compiler: ${compiler.name}`);
rmSync(dist, { recursive: true, force: true });
mkdirSync(dist, { recursive: true });
for (const file of readdirSync(join(here, 'js'))) cpSync(join(here, 'js', file), join(dist, file));
const modules = MODULES.filter(({ name, shared }) => {
  if (!shared || compiler.own) return true;
  console.log(`${name}.wasm is left out: threads need a standard library of their own`);
  return false;
});
for (const module of modules) {
  const output = bindgen(compile(compiler, module), compiler);
  const script = factory(readFileSync(join(output, 'rinfer.js'), 'utf8'));
  writeFileSync(join(dist, `${module.glue}.js`), script);
  cpSync(join(output, 'rinfer_bg.wasm'), join(dist, `${module.name}.wasm`));
}
pages();
modules.forEach(weigh);
