// The WebAssembly modules: compiled once, instantiated when needed, replaced if they break.

import { RinferError } from './errors.js';

/** Settings that hold for everything; the names are onnxruntime-web's. */
export const env = {
  wasm: {
    /** Where the .wasm file is: a URL of the file, or of the folder it is in. */
    wasmPaths: undefined,
    /** The .wasm file itself. */
    wasmBinary: undefined,
    /** This build has one thread. */
    numThreads: 1,
    /** Milliseconds that a run goes on before others get their turn. */
    slice: typeof document === 'undefined' ? 40 : 12,
  },
  webgpu: {
    /** The .wasm file with WebGPU itself. */
    wasmBinary: undefined,
  },
};

/** The module with the CPU alone, and the one with WebGPU too: who needs no GPU loads less. */
const MODULES = {
  wasm: { file: 'rinfer.wasm', glue: () => import('./glue.js') },
  webgpu: { file: 'rinfer-webgpu.wasm', glue: () => import('./glue-webgpu.js') },
};
/** An instance with more memory than this is let go of when its last session is. */
const KEEP = 64 * 2 ** 20;

const inNode = typeof process !== 'undefined' && Boolean(process.versions?.node);

function address(kind) {
  const { wasmPaths } = env.wasm;
  const { file } = MODULES[kind];
  // Bundlers find files that are named like this.
  const own = {
    wasm: () => new URL('./rinfer.wasm', import.meta.url),
    webgpu: () => new URL('./rinfer-webgpu.wasm', import.meta.url),
  };
  const plain = typeof wasmPaths !== 'object' || wasmPaths instanceof URL;
  const given = plain ? wasmPaths : (wasmPaths?.[kind] ?? wasmPaths?.wasm);
  if (given === undefined) return own[kind]();
  const base = typeof location === 'undefined' ? import.meta.url : location.href;
  const path = String(given);
  if (!path.endsWith('.wasm')) return new URL(`${path.replace(/\/?$/, '/')}${file}`, base);
  // The file of the CPU says where the other is.
  const named = kind === 'wasm' || (!plain && wasmPaths.webgpu !== undefined);
  return named ? new URL(path, base) : new URL(file, new URL(path, base));
}

async function compile(kind) {
  const { wasmBinary } = env[kind];
  if (wasmBinary) return WebAssembly.compile(wasmBinary);
  const url = address(kind);
  if (inNode && url.protocol === 'file:') {
    const { readFile } = await import('node:fs/promises');
    return WebAssembly.compile(await readFile(url));
  }
  const response = await fetch(url);
  if (!response.ok) {
    throw new RinferError('invalid', `${url} cannot be fetched: status ${response.status}`);
  }
  const type = response.headers.get('content-type') ?? '';
  if (type.startsWith('application/wasm')) return WebAssembly.compileStreaming(response);
  return WebAssembly.compile(await response.arrayBuffer());
}

/** One instance of the module with its memory. */
class Engine {
  constructor(kind, { module, glue }) {
    this.kind = kind;
    this.glue = glue();
    this.memory = this.glue.initSync({ module }).memory;
    this.sessions = new Set();
    this.broken = undefined;
  }

  /** Does `f`; whatever it throws is a RinferError, and a trap is the end of this instance. */
  call(f) {
    if (this.broken) throw this.broken;
    try {
      return f(this.glue);
    } catch (error) {
      const trap = error instanceof WebAssembly.RuntimeError;
      const deep = error instanceof RangeError && /stack/i.test(error.message);
      if (!trap && !deep) throw RinferError.from(error);
      throw this.breakDown(error, deep);
    }
  }

  /** What a trap means. Whatever this instance holds cannot be relied on any more. */
  breakDown(error, deep) {
    let full = false;
    try {
      this.memory.grow(64);
    } catch {
      full = true;
    }
    let words;
    try {
      words = this.glue.last_words();
    } catch {
      words = undefined;
    }
    const [kind, text] = full
      ? ['limit', 'the 4 GiB that WebAssembly can address are used up']
      : [deep ? 'limit' : 'internal', `internal error: ${words ?? error.message}`];
    const mebibytes = Math.round(this.memory.buffer.byteLength / 2 ** 20);
    const first = new RinferError(kind, `${text} (${mebibytes} MiB in use)`, { cause: error });
    this.broken = new RinferError('lost', `the session was lost with its engine: ${text}`, {
      cause: error,
    });
    this.retire();
    return first;
  }

  /** No further session lives here. */
  retire() {
    if (current[this.kind] === this) delete current[this.kind];
  }

  add(session) {
    this.sessions.add(session);
  }

  /** Memory that WebAssembly got it keeps: after a large model the whole instance goes. */
  remove(session) {
    this.sessions.delete(session);
    if (this.sessions.size > 0 || this.broken) return;
    const large = this.memory.buffer.byteLength > KEEP;
    if (this.kind === 'webgpu') this.call((glue) => glue.leaveGpu(large));
    if (large) this.retire();
  }
}

/** By kind: what is loaded, and the instance that new sessions live in. */
const loaded = {};
const current = {};

async function load(kind) {
  const [module, glue] = await Promise.all([compile(kind), MODULES[kind].glue()]);
  return { module, glue: glue.default };
}

/** The instance that new sessions live in. */
export async function engine(kind = 'wasm') {
  loaded[kind] ??= load(kind);
  let found;
  try {
    found = await loaded[kind];
  } catch (error) {
    // The next one tries again.
    delete loaded[kind];
    throw error instanceof RinferError
      ? error
      : new RinferError('invalid', `the engine cannot be loaded: ${error.message}`, {
          cause: error,
        });
  }
  current[kind] ??= new Engine(kind, found);
  return current[kind];
}

/** Bytes of WebAssembly memory that are in use by the instances of new sessions. */
export function memoryInUse() {
  const sizes = Object.values(current).map(({ memory }) => memory.buffer.byteLength);
  return sizes.reduce((a, b) => a + b, 0);
}

/** Lets everything else that waits have its turn. */
const others = inNode
  ? () =>
      new Promise((resolve) => {
        setImmediate(resolve);
      })
  : (() => {
      const { port1, port2 } = new MessageChannel();
      const waiting = [];
      port1.onmessage = () => waiting.shift()();
      return () =>
        new Promise((resolve) => {
          waiting.push(resolve);
          port2.postMessage(0);
        });
    })();

/** When everything else last had its turn. */
let turn = -Infinity;

/** Waits until everything else that waits has had its turn. */
export async function breathe() {
  await others();
  turn = performance.now();
}

/**
 * Milliseconds to go on for: what is left of the slice since everything else had its turn, however
 * many sessions and runs it was shared by. A slice that is used up is waited for.
 */
export async function slice() {
  const left = turn + env.wasm.slice - performance.now();
  if (left > 0) return left;
  await breathe();
  return env.wasm.slice;
}
