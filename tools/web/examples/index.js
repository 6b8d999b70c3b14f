// Says how large the engine is and how long it took to be ready.
import { ready } from './dist/index.js';

const began = performance.now();
const version = await ready();
const ms = Math.round(performance.now() - began);
const file = performance.getEntriesByType('resource').find(({ name }) => name.endsWith('.wasm'));
const size = file ? `${(file.decodedBodySize / 1e6).toFixed(1)} MB of WebAssembly, ` : '';
document.querySelector('#engine').textContent = `rinfer ${version}: ${size}ready in ${ms} ms.`;
