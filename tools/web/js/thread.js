// What runs in a thread of an engine.

import make from './glue-threads.js';

/** Bytes of a thread's stack: what threads do is shallow, the model is walked by their host. */
const STACK = 2 ** 21;

function begin({ module, memory }, tell) {
  try {
    const glue = make();
    glue.initSync({ module, memory, thread_stack_size: STACK });
    tell('ready');
    glue.work();
  } catch (error) {
    tell({ failed: error?.message ?? String(error) });
  }
}

if (typeof process !== 'undefined' && process.versions?.node) {
  import('node:worker_threads').then(({ parentPort }) => {
    parentPort.once('message', (data) => begin(data, (said) => parentPort.postMessage(said)));
  });
} else {
  onmessage = ({ data }) => begin(data, (said) => postMessage(said));
}
