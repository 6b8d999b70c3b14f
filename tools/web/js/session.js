// Sessions: a model made ready to run, with onnxruntime-web's names.

import { breathe, engine, slice } from './engine.js';
import { RinferError, checkSignal } from './errors.js';
import { gpuEngine, lost, openGpu, ready } from './gpu.js';
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

/** The first provider that is there, and the engine that has it. */
async function provider(options) {
  const asked = options.executionProviders ?? ['wasm'];
  const names = asked.map((one) => (typeof one === 'string' ? one : one?.name));
  for (const name of names) {
    if (name === 'wasm' || name === 'cpu') return { name: 'wasm', home: await engine('wasm') };
    if (name === 'webgpu') {
      const home = await gpuEngine();
      if (home) return { name, home };
    }
  }
  throw new RinferError(
    'device',
    names.includes('webgpu')
      ? `none of [${names}] is there: the browser gives no GPU adapter`
      : `none of [${names}] is in this build: it has webgpu and wasm`,
  );
}

/** The outputs that stay on the GPU, of `outputNames`. */
function kept(preferred = 'cpu', outputNames) {
  const place = (name) => (typeof preferred === 'string' ? preferred : preferred[name]);
  const places = { cpu: false, 'gpu-buffer': true };
  return outputNames.filter((name) => {
    const asked = place(name) ?? 'cpu';
    if (!(asked in places)) {
      throw new RinferError('invalid', `the output ${name} cannot be left in ${asked}`);
    }
    return places[asked];
  });
}

/** What the engine is fed: tensors that are on its GPU by their numbers, others with their data. */
async function fed(home, value) {
  if (Array.isArray(value)) return Promise.all(value.map((item) => fed(home, item)));
  if (!(value instanceof Tensor) || !value.resident) return value;
  if (value.resident.home === home) {
    return { type: value.type, dims: value.dims, gpu: value.resident.number };
  }
  return { type: value.type, dims: value.dims, data: await value.getData() };
}

/** Puts the model, which is being opened, and the files beside it into the loader. */
async function fill(call, opening, options) {
  const { signal, onProgress, externalData = [] } = options;
  const files = [
    { path: 'model', opened: opening },
    ...externalData.map((file) => (typeof file === 'string' ? { path: file, data: file } : file)),
  ];
  for (const { path, data, opened } of files) {
    checkSignal(signal, 'loading');
    const { size, pieces } = await (opened ?? open(data, signal));
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

function settle(loader, options, onGpu) {
  for (const [symbol, size] of Object.entries(options.freeDimensionOverrides ?? {})) {
    if (!Number.isInteger(size) || size < 0 || size > 0xffffffff) {
      throw new RinferError('invalid', `the dimension ${symbol} cannot be ${size}`);
    }
    loader.dim(symbol, size);
  }
  if (options.outputs) loader.outputs([...options.outputs]);
  if (options.graphOptimizationLevel === 'disabled') loader.optimize(false);
  if (onGpu) loader.gpu(true);
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

  #kept;

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
    this.#kept = found.provider === 'webgpu' ? kept(found.preferred, this.outputNames) : [];
    this.weightBytes = found.engine.call(() => found.handle.weightBytes());
  }

  /** Loads a model. */
  static async create(source, ...rest) {
    const [from, options] = createArguments(source, rest);
    // The model is on its way while the engine is made ready.
    const opening = open(from, options.signal);
    opening.catch(() => {});
    const { name, home } = await provider(options);
    // The engine stays for as long as anything is made in it.
    const making = {};
    home.add(making);
    const { limits } = options;
    const untrusted = limits === 'untrusted' || limits?.untrusted === true;
    let loader = home.call(({ Loader }) => new Loader(untrusted));
    try {
      home.call(() => settle(loader, options, name === 'webgpu'));
      await fill((f) => home.call(() => f(loader)), opening, options);
      options.onProgress?.({ phase: 'prepare' });
      await breathe();
      checkSignal(options.signal, 'loading');
      const taken = loader;
      // The loader is used up, whether it succeeds or not.
      loader = undefined;
      const handle = home.call(() => taken.build());
      const { preferredOutputLocation: preferred } = options;
      const found = { engine: home, handle, provider: name, preferred };
      const session = new InferenceSession(SECRET, found);
      home.add(session);
      return session;
    } finally {
      if (!home.broken) loader?.free();
      home.remove(making);
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

  /** A run on a GPU that is lost is run once more, on one that is opened anew. */
  async #go(feeds, second, third, profile) {
    try {
      return await this.#once(feeds, second, third, profile);
    } catch (error) {
      if (this.#provider !== 'webgpu' || error.kind !== 'device') throw error;
      const [home, handle] = [this.#engine, this.#handle];
      if (!handle || !(await lost(() => home.call(() => handle.isLost())))) throw error;
      await openGpu(home);
      home.call(() => handle.moveToGpu());
      return this.#once(feeds, second, third, profile);
    }
  }

  async #once(feeds, second, third, profile) {
    const [wanted, { signal, seed = 0, timeout = -1 }] = runArguments(
      this.outputNames,
      second,
      third,
    );
    const home = this.#engine;
    checkSignal(signal, 'the run');
    let given = feeds;
    if (Object.values(feeds ?? {}).some((value) => value?.resident)) {
      const pair = async ([key, value]) => [key, await fed(home, value)];
      given = Object.fromEntries(await Promise.all(Object.entries(feeds).map(pair)));
    }
    if (!this.#handle) throw new RinferError('invalid', 'the session is released');
    const keep = this.#kept;
    const run = home.call(() => this.#handle.start(given, seed, timeout, profile, keep));
    try {
      let made;
      while (made === undefined) {
        const time = await slice();
        checkSignal(signal, 'the run');
        made = home.call(() => run.advance(time));
        if (made === undefined && home.call(() => run.waits())) await ready(home, run, signal);
      }
      const pairs = [];
      for (const name of this.outputNames) {
        const tensor = Tensor.fromEngine(made[name], home);
        // An input that is an output too comes back from where it was.
        if (tensor?.resident && !keep.includes(name)) await tensor.getData(true);
        if (wanted.includes(name)) pairs.push([name, tensor]);
        else if (tensor?.resident) tensor.dispose();
      }
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
