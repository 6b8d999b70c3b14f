// The same API, with everything done in a worker of its own: the page is never kept waiting.

import { env } from './engine.js';
import { RinferError } from './errors.js';
import { createArguments } from './session.js';
import { Tensor } from './tensor.js';

export { RinferError, Tensor, env };

let worker;
const waiting = new Map();
let last = 0;

function thread() {
  if (worker) return worker;
  worker = new Worker(new URL('./worker-main.js', import.meta.url), { type: 'module' });
  worker.onmessage = ({ data: { id, result, error, progress } }) => {
    const call = waiting.get(id);
    if (progress) {
      call?.onProgress?.(progress);
      return;
    }
    waiting.delete(id);
    call?.done();
    if (error) call?.reject(new RinferError(error.kind, error.message, error));
    else call?.resolve(result);
  };
  worker.onerror = (event) => {
    const error = new RinferError(
      'internal',
      `the worker failed: ${event.message ?? 'not loaded'}`,
    );
    waiting.forEach(({ reject, done }) => {
      done();
      reject(error);
    });
    waiting.clear();
    worker = undefined;
  };
  const { wasmPaths, slice, numThreads } = env.wasm;
  const { href } = location;
  const whole = (path) => String(new URL(path, href));
  const each = (paths) => Object.fromEntries(Object.entries(paths).map(([k, v]) => [k, whole(v)]));
  const plain = typeof wasmPaths !== 'object' || wasmPaths instanceof URL;
  const paths = wasmPaths && (plain ? whole(wasmPaths) : each(wasmPaths));
  const settings = { wasmPaths: paths, slice: Math.max(slice, 40), numThreads };
  worker.postMessage({ method: 'env', args: [settings] });
  return worker;
}

function ask(method, args, { signal, onProgress, transfer = [] } = {}) {
  if (signal?.aborted) {
    return Promise.reject(
      new RinferError('cancelled', 'it was cancelled', { cause: signal.reason }),
    );
  }
  last += 1;
  const id = last;
  return new Promise((resolve, reject) => {
    const abort = () => thread().postMessage({ id, method: 'abort', args: [] });
    const done = () => signal?.removeEventListener('abort', abort);
    waiting.set(id, { resolve, reject, onProgress, done });
    signal?.addEventListener('abort', abort);
    try {
      thread().postMessage({ id, method, args }, transfer);
    } catch (error) {
      waiting.delete(id);
      done();
      reject(new RinferError('invalid', `this cannot be sent to the worker: ${error.message}`));
    }
  });
}

const packed = (value) => {
  if (value instanceof Tensor) return { type: value.type, data: value.data, dims: value.dims };
  if (Array.isArray(value)) return value.map(packed);
  if (value instanceof Map) return new Map([...value].map(([key, item]) => [key, packed(item)]));
  return value;
};

const unpacked = (value) => {
  if (value === null) return null;
  if (Array.isArray(value)) return value.map(unpacked);
  if (value instanceof Map) return new Map([...value].map(([key, item]) => [key, unpacked(item)]));
  return new Tensor(value.type, value.data, value.dims);
};

const all = (object, f) =>
  Object.fromEntries(Object.entries(object).map(([key, value]) => [key, f(value)]));

/** An address as the worker understands it. */
const absolute = (source) =>
  typeof source === 'string' || source instanceof URL
    ? String(new URL(source, location.href))
    : source;

export class InferenceSession {
  #id;

  constructor(found) {
    this.#id = found.session;
    Object.assign(this, found.facts);
  }

  static async create(source, ...rest) {
    const [from, { signal, onProgress, ...options }] = createArguments(source, rest);
    if (options.externalData) {
      options.externalData = options.externalData.map((file) =>
        typeof file === 'string'
          ? { path: file, data: absolute(file) }
          : { ...file, data: absolute(file.data) },
      );
    }
    const data = absolute(from);
    const transfer =
      typeof ReadableStream !== 'undefined' && data instanceof ReadableStream ? [data] : [];
    return new InferenceSession(
      await ask('create', [data, options], { signal, onProgress, transfer }),
    );
  }

  async run(feeds, fetches, options) {
    const split = (given) => {
      const { signal, ...rest } = given ?? {};
      return [signal, rest];
    };
    const plain =
      fetches &&
      !Array.isArray(fetches) &&
      !Object.keys(fetches).some((name) => this.outputNames.includes(name));
    const [signal, rest] = split(plain ? { ...fetches, ...options } : options);
    const names =
      plain || !fetches ? undefined : Array.isArray(fetches) ? fetches : Object.keys(fetches);
    const made = await ask('run', [this.#id, all(feeds, packed), names, rest], { signal });
    return all(made, unpacked);
  }

  async profile(feeds, { signal, ...options } = {}) {
    const made = await ask('profile', [this.#id, all(feeds, packed), options], { signal });
    return { ...made, outputs: all(made.outputs, unpacked) };
  }

  /** Gives back the memory that runs left for later runs, as soon as the worker can. */
  trim() {
    ask('trim', [this.#id]).catch(() => {});
  }

  async release() {
    await ask('release', [this.#id]);
  }
}

/** Ends the worker with everything in it; the next session starts another. */
export function terminate() {
  worker?.terminate();
  worker = undefined;
  const error = new RinferError('cancelled', 'the worker was ended');
  waiting.forEach(({ reject, done }) => {
    done();
    reject(error);
  });
  waiting.clear();
}
