// What runs in the worker of worker.js.

import { breathe, env } from './engine.js';
import { RinferError } from './errors.js';
import { InferenceSession } from './session.js';
import { Tensor } from './tensor.js';

const sessions = new Map();
const running = new Map();
let last = 0;

function found(id) {
  const session = sessions.get(id);
  if (!session) throw new RinferError('invalid', 'the session is released');
  return session;
}

const tensor = (value) => {
  if (Array.isArray(value)) return value.map(tensor);
  if (value instanceof Map) return new Map([...value].map(([key, item]) => [key, tensor(item)]));
  return value === null ? null : new Tensor(value.type, value.data, value.dims);
};

const plain = (value) => {
  if (value instanceof Tensor) return { type: value.type, data: value.data, dims: value.dims };
  if (Array.isArray(value)) return value.map(plain);
  if (value instanceof Map) return new Map([...value].map(([key, item]) => [key, plain(item)]));
  return value;
};

const all = (object, f) =>
  Object.fromEntries(Object.entries(object).map(([key, value]) => [key, f(value)]));

/** The buffers of outputs, which move to the page instead of being copied. */
function buffers(value, into = new Set()) {
  if (ArrayBuffer.isView(value?.data)) into.add(value.data.buffer);
  else if (Array.isArray(value)) value.forEach((item) => buffers(item, into));
  else if (value instanceof Map) [...value.values()].forEach((item) => buffers(item, into));
  return into;
}

const methods = {
  async create(id, signal, source, options) {
    const onProgress = (progress) => postMessage({ id, progress });
    if (JSON.stringify(options.preferredOutputLocation ?? 'cpu').includes('gpu-buffer')) {
      throw new RinferError('unsupported', "a worker's tensors on the GPU cannot come to the page");
    }
    const session = await InferenceSession.create(source, { ...options, signal, onProgress });
    last += 1;
    sessions.set(last, session);
    const { inputNames, outputNames, inputMetadata, outputMetadata } = session;
    const { weightBytes, executionProvider } = session;
    return {
      session: last,
      facts: {
        inputNames,
        outputNames,
        inputMetadata,
        outputMetadata,
        weightBytes,
        executionProvider,
      },
    };
  },
  async run(id, signal, session, feeds, names, options) {
    const made = await found(session).run(all(feeds, tensor), names, { ...options, signal });
    return all(made, plain);
  },
  async profile(id, signal, session, feeds, options) {
    const made = await found(session).profile(all(feeds, tensor), { ...options, signal });
    return { ...made, outputs: all(made.outputs, plain) };
  },
  async trim(id, signal, session) {
    found(session).trim();
  },
  async release(id, signal, session) {
    await sessions.get(session)?.release();
    sessions.delete(session);
  },
};

onmessage = async ({ data: { id, method, args } }) => {
  if (method === 'env') {
    Object.assign(env.wasm, args[0]);
    return;
  }
  if (method === 'abort') {
    running.get(id)?.abort();
    return;
  }
  const control = new AbortController();
  running.set(id, control);
  try {
    // A signal may be right behind.
    await breathe();
    const result = await methods[method](id, control.signal, ...args);
    const moved = new Set();
    Object.values(result?.outputs ?? (method === 'run' ? result : {})).forEach((value) =>
      buffers(value, moved),
    );
    postMessage({ id, result }, [...moved]);
  } catch (error) {
    const { kind = 'internal', message, node, op } = error;
    postMessage({ id, error: { kind, message, node, op } });
  } finally {
    running.delete(id);
  }
};
