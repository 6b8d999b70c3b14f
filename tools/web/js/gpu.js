// The browser's GPU: whether there is one, and turns with it.

import { engine } from './engine.js';
import { RinferError } from './errors.js';

/** Whether the browser has an adapter; one that has none may get it later. */
async function adapter() {
  try {
    return Boolean(await globalThis.navigator?.gpu?.requestAdapter());
  } catch {
    return false;
  }
}

/** Opens the GPU in an engine that has WebGPU; what it is. */
export async function openGpu(home) {
  try {
    return await home.call((glue) => glue.openGpu());
  } catch (error) {
    if (error instanceof WebAssembly.RuntimeError) throw home.breakDown(error, false);
    throw RinferError.from(error);
  }
}

/** The engine with the GPU open, or undefined where there is no adapter that gives a device. */
export async function gpuEngine() {
  if (!(await adapter())) return undefined;
  const home = await engine('webgpu');
  try {
    await openGpu(home);
  } catch (error) {
    if (error.kind === 'device') return undefined;
    throw error;
  }
  return home;
}

/** Whether a device is lost: the browser tells of that a little later than what comes of it. */
export async function lost(tells) {
  for (let i = 0; i < 20; i += 1) {
    if (tells()) return true;
    await new Promise((resolve) => {
      setTimeout(resolve, 50);
    });
  }
  return tells();
}

/** How long nothing may be heard from the GPU before the run looks whether it is to stop. */
const LOOK = 100;

/** Waits until a run or a readback has something to do; a signal ends the wait. */
export function ready(home, work, signal) {
  return new Promise((resolve, reject) => {
    let timer;
    const done = () => {
      clearTimeout(timer);
      signal?.removeEventListener('abort', done);
      resolve();
    };
    timer = setTimeout(done, LOOK);
    signal?.addEventListener('abort', done);
    try {
      home.call(() => work.ready()).then(done);
    } catch (error) {
      done();
      reject(error);
    }
  });
}

/** Lets go of tensors on the GPU that nobody can reach any more. */
const collected =
  typeof FinalizationRegistry === 'undefined'
    ? undefined
    : new FinalizationRegistry((held) => held.drop());

/** A tensor in the GPU's memory, by the number that its engine knows it by. */
export class Resident {
  constructor(home, number) {
    this.home = home;
    this.number = number;
    const held = {
      drop() {
        if (!home.broken) home.call((glue) => glue.dropTensor(number));
      },
    };
    this.drop = held.drop;
    collected?.register(this, held, this);
  }

  /** The tensor as the engine tells it, once it is there. */
  async read() {
    const { home, number } = this;
    const read = home.call(({ WebRead }) => new WebRead(number));
    try {
      let made = home.call(() => read.advance());
      while (made === undefined) {
        await ready(home, read);
        made = home.call(() => read.advance());
      }
      return made;
    } finally {
      if (!home.broken) read.free();
    }
  }

  dispose() {
    collected?.unregister(this);
    this.drop();
  }
}
