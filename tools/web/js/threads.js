// Threads of an engine: workers of the package's own, each with an instance on the same memory.

import { RinferError } from './errors.js';

const inNode = typeof process !== 'undefined' && Boolean(process.versions?.node);

/** A worker; `hear` is called with what it says, `fail` if it goes down. */
async function worker(hear, fail) {
  if (inNode) {
    const { Worker: Thread } = await import('node:worker_threads');
    const made = new Thread(new URL('./thread.js', import.meta.url));
    made.on('message', hear);
    made.on('error', fail);
    // It does not keep the process alive.
    made.unref();
    return made;
  }
  const made = new Worker(new URL('./thread.js', import.meta.url), { type: 'module' });
  made.onmessage = ({ data }) => hear(data);
  made.onerror = (event) => fail(new Error(event.message ?? 'it is not loaded'));
  return made;
}

/**
 * Starts a thread; resolves once it works, so that nothing is ever waited for that needs the
 * caller's thread to start. `failed` is called if it goes down later.
 */
export function startThread(module, memory, failed) {
  return new Promise((resolve, reject) => {
    let made;
    const fail = (error) => {
      made?.terminate();
      reject(new RinferError('internal', `a thread does not start: ${error.message}`));
      failed(error);
    };
    const hear = (said) => (said === 'ready' ? resolve(made) : fail(new Error(said.failed)));
    worker(hear, fail).then((started) => {
      made = started;
      made.postMessage({ module, memory });
    }, fail);
  });
}
