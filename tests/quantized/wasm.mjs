// As `rinfer run`, with the package for browsers (tools/web/dist, which `npm run build` makes there):
//
//   node tests/quantized/wasm.mjs MODEL --output-dir FOLDER -i NAME=FILE.npy …
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { InferenceSession, Tensor } from '../../tools/web/dist/index.js';

const TYPES = {
  '<f4': ['float32', Float32Array],
  '<f8': ['float64', Float64Array],
  '<i8': ['int64', BigInt64Array],
  '<i4': ['int32', Int32Array],
  '|i1': ['int8', Int8Array],
  '|u1': ['uint8', Uint8Array],
  '|b1': ['bool', Uint8Array],
};

/** A tensor out of NumPy's format. */
function load(file) {
  const bytes = readFileSync(file);
  const [start, wide] = bytes[6] === 1 ? [10, 2] : [12, 4];
  const end = start + bytes.readUIntLE(8, wide);
  const header = bytes.toString('latin1', start, end);
  const [, descr] = header.match(/'descr': '([^']+)'/);
  if (!TYPES[descr] || !header.includes("'fortran_order': False")) {
    throw new Error(`${file}: ${header}`);
  }
  const dims = header.match(/'shape': \(([^)]*)\)/)[1].split(',').filter((x) => x.trim());
  const [type, Data] = TYPES[descr];
  const data = new Data(bytes.buffer.slice(bytes.byteOffset + end, bytes.byteOffset + bytes.length));
  return new Tensor(type, data, dims.map(Number));
}

function save(file, { type, dims, data }) {
  const descr = Object.keys(TYPES).find((key) => TYPES[key][0] === type);
  if (!descr) throw new Error(`${file}: a tensor of ${type}`);
  const shape = `(${dims.map((n) => `${n},`).join('')})`;
  const text = `{'descr': '${descr}', 'fortran_order': False, 'shape': ${shape}, }`;
  const header = text.padEnd(Math.ceil((text.length + 11) / 64) * 64 - 11) + '\n';
  const length = Buffer.alloc(2);
  length.writeUInt16LE(header.length);
  const magic = Buffer.from('\x93NUMPY\x01\x00', 'latin1');
  const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
  writeFileSync(file, Buffer.concat([magic, length, Buffer.from(header), bytes]));
}

const { values, positionals } = parseArgs({
  options: {
    input: { type: 'string', short: 'i', multiple: true, default: [] },
    'output-dir': { type: 'string' },
    overwrite: { type: 'boolean' },
  },
  allowPositionals: true,
});
const feeds = values.input.map((spec) => {
  const at = spec.indexOf('=');
  return [spec.slice(0, at), load(spec.slice(at + 1))];
});
const session = await InferenceSession.create(readFileSync(positionals[0]));
const made = await session.run(Object.fromEntries(feeds));
mkdirSync(values['output-dir'], { recursive: true });
for (const [name, value] of Object.entries(made)) {
  // As the command names files.
  const file = `${name.replace(/[^A-Za-z0-9._-]/g, '_')}.npy`;
  save(join(values['output-dir'], file), value);
}
await session.release();
