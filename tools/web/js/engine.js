// The WebAssembly modules: compiled once, instantiated when needed, replaced if they break.

import { RinferError } from './errors.js';

/** Settings that hold for everything; the names are onnxruntime-web's. */
export const env = {
  wasm: {
    /** Where the .wasm file is: a URL of the file, or of the folder it is in. */
    wasmPaths: undefined,
    /** The .wasm file itself. */
    wasmBinary: undefined,
    /**
     * Threads that share a run: 0 for one per core. More than one where memory can be shared: in
     * pages that are cross-origin isolated, in their workers, and in Node.
     */
    numThreads: 1,
    /** Milliseconds that a run goes on before others get their turn. */
    slice: typeof document === 'undefined' ? 40 : 12,
  },
  webgpu: {
    /** The .wasm file with WebGPU itself. */
    wasmBinary: undefined,
  },
};

/** The module with the CPU alone, that with threads, that with WebGPU: one loads what one needs. */
const MODULES = {
  wasm: { file: 'rinfer.wasm', glue: () => import('./glue.js') },
  threads: { file: 'rinfer-threads.wasm', glue: () => import('./glue-threads.js') },
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
    threads: () => new URL('./rinfer-threads.wasm', import.meta.url),
    webgpu: () => new URL('./rinfer-webgpu.wasm', import.meta.url),
  };
  const plain = typeof wasmPaths !== 'object' || wasmPaths instanceof URL;
  const given = plain ? wasmPaths : (wasmPaths?.[kind] ?? wasmPaths?.wasm);
  if (given === undefined) return own[kind]();
  const base = typeof location === 'undefined' ? import.meta.url : location.href;
  const path = String(given);
  if (!path.endsWith('.wasm')) return new URL(`${path.replace(/\/?$/, '/')}${file}`, base);
  // The file of the CPU says where the others are.
  const named = kind === 'wasm' || (!plain && wasmPaths[kind] !== undefined);
  return named ? new URL(path, base) : new URL(file, new URL(path, base));
}

async function compile(kind) {
  const wasmBinary = env[kind]?.wasmBinary;
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
    this.threads = [];
    this.broken = undefined;
  }

  /** Starts threads, `count` with this one; once it resolves all of them work. */
  async share(module, count) {
    const { startThread } = await import('./threads.js');
    this.call((glue) => glue.hostThreads(count));
    const failed = (error) => {
      if (!this.broken) this.breakDown(error, false);
    };
    const start = () => startThread(module, this.memory, failed);
    this.threads = await Promise.all(Array.from({ length: count - 1 }, start));
  }

  /** Does `f`; whatever it throws is a RinferError, and a trap is the end of this instance. */
  call(f) {
    if (this.broken) throw this.broken;
    // With WebGPU no panic is caught, and one may have been where nobody heard of it: in what the
    // browser calls when the GPU is through.
    if (this.kind === 'webgpu' && this.glue.last_words() !== undefined) {
      throw this.breakDown(new Error('a panic'), false);
    }
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
    this.threads.forEach((thread) => thread.terminate());
    this.threads = [];
  }

  add(session) {
    this.sessions.add(session);
  }

  /**
   * Memory that WebAssembly got it keeps: after a large model the whole instance goes. So it does
   * where it has threads, and they with it.
   */
  remove(session) {
    this.sessions.delete(session);
    if (this.sessions.size > 0 || this.broken) return;
    const large = this.memory.buffer.byteLength > KEEP;
    if (this.kind === 'webgpu') this.call((glue) => glue.leaveGpu(large));
    if (large || this.threads.length > 0) this.retire();
  }
}

/** By kind: what is loaded, and the instance that new sessions live in. */
const loaded = {};
const current = {};

async function load(kind) {
  const [module, glue] = await Promise.all([compile(kind), MODULES[kind].glue()]);
  return { module, glue: glue.default };
}

/** How many threads share a run here. */
function threads() {
  const { numThreads } = env.wasm;
  if (numThreads === 1 || !(inNode || globalThis.crossOriginIsolated)) return 1;
  return numThreads > 0 ? numThreads : (globalThis.navigator?.hardwareConcurrency ?? 1);
}

/** The instance that new sessions live in. */
export async function engine(wanted = 'wasm') {
  const count = wanted === 'wasm' ? threads() : 1;
  const kind = count > 1 ? 'threads' : wanted;
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
  try {
    current[kind] ??= new Engine(kind, found);
  } catch (error) {
    // Its memory is asked for here, and what it may grow to where threads share it.
    throw new RinferError('limit', `there is no memory for the engine: ${error.message}`, {
      cause: error,
    });
  }
  const made = current[kind];
  if (kind === 'threads') {
    made.shared ??= made.share(found.module, count);
    try {
      await made.shared;
    } catch (error) {
      made.retire();
      throw RinferError.from(error);
    }
  }
  return made;
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
