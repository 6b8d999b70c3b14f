// Sessions: a model made ready to run, with onnxruntime-web's names.

import { breathe, engine, slice } from './engine.js';
import { RinferError, checkSignal } from './errors.js';
import { open } from './source.js';
import { Tensor } from './tensor.js';

const isBytes = (x) =>
  x instanceof ArrayBuffer ||
  (typeof SharedArrayBuffer !== 'undefined' && x instanceof SharedArrayBuffer);

/** `(source, options)`, or `(buffer, byteOffset, byteLength?, options?)`. */
export function createArguments(source, rest) {
  if (!isBytes(source) || typeof rest[0] !== 'number') return [source, rest[0] ?? {}];
  const length = typeof rest[1] === 'number' ? rest[1] : source.byteLength - rest[0];
  if (rest[0] < 0 || length < 0 || rest[0] + length > source.byteLength) {
    throw new RinferError(
      'invalid',
      `${length} bytes at ${rest[0]} are not in a buffer of ${source.byteLength}`,
    );
  }
  return [new Uint8Array(source, rest[0], length), rest.find((x) => typeof x === 'object') ?? {}];
}

/** The first provider that is there; `wasm` alone in this build. */
function provider(options) {
  const asked = options.executionProviders ?? ['wasm'];
  const names = asked.map((one) => (typeof one === 'string' ? one : one?.name));
  if (names.some((name) => name === 'wasm' || name === 'cpu')) return 'wasm';
  throw new RinferError('device', `none of [${names}] is in this build: it has wasm`);
}

/** Puts the model and the files beside it into the loader. */
async function fill(call, source, options) {
  const { signal, onProgress, externalData = [] } = options;
  const files = [
    { path: 'model', data: source },
    ...externalData.map((file) => (typeof file === 'string' ? { path: file, data: file } : file)),
  ];
  for (const { path, data } of files) {
    checkSignal(signal, 'loading');
    const { size, pieces } = await open(data, signal);
    call((loader) => loader.file(path, size));
    let loaded = 0;
    try {
      for await (const piece of pieces) {
        checkSignal(signal, 'loading');
        call((loader) => loader.push(piece));
        loaded += piece.length;
        onProgress?.({ phase: 'load', file: path, loaded, total: size || undefined });
      }
    } catch (error) {
      checkSignal(signal, 'loading');
      throw RinferError.from(error);
    }
  }
}

function settle(loader, options) {
  for (const [symbol, size] of Object.entries(options.freeDimensionOverrides ?? {})) {
    if (!Number.isInteger(size) || size < 0 || size > 0xffffffff) {
      throw new RinferError('invalid', `the dimension ${symbol} cannot be ${size}`);
    }
    loader.dim(symbol, size);
  }
  if (options.outputs) loader.outputs([...options.outputs]);
  if (options.graphOptimizationLevel === 'disabled') loader.optimize(false);
  const { limits } = options;
  if (limits === undefined || typeof limits === 'string') return;
  for (const [name, value] of Object.entries(limits)) {
    if (name !== 'untrusted') loader.limit(name, Number(value));
  }
}

/** Which outputs `run` gives back, and its options: its arguments after the first. */
function runArguments(names, second, third) {
  if (second === undefined || second === null) return [names, third ?? {}];
  if (Array.isArray(second)) {
    const unknown = second.find((name) => !names.includes(name));
    if (unknown !== undefined) {
      throw new RinferError('invalid', `there is no output ${unknown}, there are ${names}`);
    }
    return [second, third ?? {}];
  }
  const fetched = Object.keys(second).filter((name) => names.includes(name));
  return fetched.length > 0 ? [fetched, third ?? {}] : [names, { ...second, ...third }];
}

export class InferenceSession {
  #engine;

  #handle;

  #provider;

  constructor(secret, found) {
    if (secret !== SECRET) throw new TypeError('sessions are made by InferenceSession.create');
    this.#engine = found.engine;
    this.#handle = found.handle;
    this.#provider = found.provider;
    const [inputs, outputs] = found.engine.call(() => [
      found.handle.inputs(),
      found.handle.outputs(),
    ]);
    this.inputMetadata = Object.freeze(inputs.map(Object.freeze));
    this.outputMetadata = Object.freeze(outputs.map(Object.freeze));
    this.inputNames = Object.freeze(inputs.map(({ name }) => name));
    this.outputNames = Object.freeze(outputs.map(({ name }) => name));
    this.weightBytes = found.engine.call(() => found.handle.weightBytes());
  }

  /** Loads a model. */
  static async create(source, ...rest) {
    const [from, options] = createArguments(source, rest);
    const name = provider(options);
    const home = await engine();
    const { limits } = options;
    const untrusted = limits === 'untrusted' || limits?.untrusted === true;
    let loader = home.call(({ Loader }) => new Loader(untrusted));
    try {
      home.call(() => settle(loader, options));
      await fill((f) => home.call(() => f(loader)), from, options);
      options.onProgress?.({ phase: 'prepare' });
      await breathe();
      checkSignal(options.signal, 'loading');
      const taken = loader;
      // The loader is used up, whether it succeeds or not.
      loader = undefined;
      const handle = home.call(() => taken.build());
      const session = new InferenceSession(SECRET, { engine: home, handle, provider: name });
      home.add(session);
      return session;
    } finally {
      if (!home.broken) loader?.free();
    }
  }

  /** Where the session runs. */
  get executionProvider() {
    return this.#provider;
  }

  /** Runs once. */
  async run(feeds, fetches, options) {
    return (await this.#go(feeds, fetches, options, false)).outputs;
  }

  /** Runs once, and says what every node took. */
  async profile(feeds, options) {
    return this.#go(feeds, undefined, options, true);
  }

  async #go(feeds, second, third, profile) {
    const [wanted, { signal, seed = 0, timeout = -1 }] = runArguments(
      this.outputNames,
      second,
      third,
    );
    const home = this.#engine;
    if (!this.#handle) throw new RinferError('invalid', 'the session is released');
    checkSignal(signal, 'the run');
    const run = home.call(() => this.#handle.start(feeds, seed, timeout, profile));
    try {
      let made;
      while (made === undefined) {
        const time = await slice();
        checkSignal(signal, 'the run');
        made = home.call(() => run.advance(time));
      }
      const pairs = wanted.map((name) => [name, Tensor.fromEngine(made[name])]);
      const outputs = Object.fromEntries(pairs);
      return profile ? { outputs, nodes: home.call(() => run.events()) } : { outputs };
    } finally {
      if (!home.broken) run.free();
    }
  }

  /** Gives back the memory that runs left for later runs. */
  trim() {
    this.#engine.call(() => this.#handle?.trim());
  }

  /** Lets go of the model. Runs that are under way still end. */
  async release() {
    const handle = this.#handle;
    this.#handle = undefined;
    if (!handle) return;
    if (!this.#engine.broken) handle.free();
    this.#engine.remove(this);
  }
}

const SECRET = Symbol('create');
