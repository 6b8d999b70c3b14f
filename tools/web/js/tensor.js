// Tensors: a type, data, and the size of each axis.

import { RinferError } from './errors.js';
import { Resident } from './gpu.js';
import { pixels } from './image.js';

const Half = globalThis.Float16Array;

/** type → [the class of its data, bits of an element]. */
const TYPES = new Map(
  Object.entries({
    float32: [Float32Array, 32],
    float64: [Float64Array, 64],
    float16: [Uint16Array, 16],
    bfloat16: [Uint16Array, 16],
    int8: [Int8Array, 8],
    int16: [Int16Array, 16],
    int32: [Int32Array, 32],
    int64: [BigInt64Array, 64],
    uint8: [Uint8Array, 8],
    uint16: [Uint16Array, 16],
    uint32: [Uint32Array, 32],
    uint64: [BigUint64Array, 64],
    bool: [Uint8Array, 8],
    string: [Array, 0],
    int4: [Int8Array, 4],
    uint4: [Uint8Array, 4],
    int2: [Int8Array, 2],
    uint2: [Uint8Array, 2],
    float4e2m1: [Uint8Array, 4],
    float8e4m3fn: [Uint8Array, 8],
    float8e4m3fnuz: [Uint8Array, 8],
    float8e5m2: [Uint8Array, 8],
    float8e5m2fnuz: [Uint8Array, 8],
    float8e8m0: [Uint8Array, 8],
    complex64: [Float32Array, 64],
    complex128: [Float64Array, 128],
  }),
);

const bad = (text) => new RinferError('invalid', text);

/** The nearest half-precision number, as its bits. */
function halfBits(x) {
  const single = new Float32Array([x]);
  const bits = new Uint32Array(single.buffer)[0];
  const sign = (bits >>> 16) & 0x8000;
  const abs = Math.abs(single[0]);
  if (Number.isNaN(x)) return sign | 0x7e00;
  if (abs >= 65520) return sign | 0x7c00;
  const step = 2 ** Math.max(Math.floor(Math.log2(abs || 1)) - 10, -24);
  let n = Math.floor(abs / step);
  const rest = abs / step - n;
  if (rest > 0.5 || (rest === 0.5 && n % 2 === 1)) n += 1;
  const value = n * step;
  if (value < 2 ** -14) return sign | (value * 2 ** 24);
  const exponent = Math.floor(Math.log2(value));
  return sign | ((exponent + 15) << 10) | ((value * 2 ** (10 - exponent)) & 0x3ff);
}

function typeOfData(data) {
  if (Half && data instanceof Half) return 'float16';
  if (data instanceof Uint8ClampedArray) return 'uint8';
  if (Array.isArray(data)) {
    if (typeof data[0] === 'string') return 'string';
    if (typeof data[0] === 'boolean') return 'bool';
    throw bad('data that is an array of numbers needs a type');
  }
  for (const [type, [Data]] of TYPES) {
    if (Data !== Array && data instanceof Data) return type;
  }
  throw bad('the data is neither a typed array nor an array of strings or booleans');
}

/** The data as the type has it; copied only where its form is another. */
function dataFor(type, data) {
  const [Data] = TYPES.get(type);
  if (type === 'string') {
    if (!Array.isArray(data) || data.some((text) => typeof text !== 'string')) {
      throw bad('a tensor of strings needs an array of strings');
    }
    return data;
  }
  if (data instanceof Data) return data;
  if (type === 'float16' && Half && data instanceof Half) {
    return new Uint16Array(data.buffer, data.byteOffset, data.length);
  }
  if (Data.BYTES_PER_ELEMENT === 1 && ArrayBuffer.isView(data) && data.BYTES_PER_ELEMENT === 1) {
    return new Data(data.buffer, data.byteOffset, data.length);
  }
  if (Array.isArray(data)) {
    try {
      if (Data === BigInt64Array || Data === BigUint64Array) return Data.from(data, BigInt);
      if (type === 'float16') return Uint16Array.from(data, halfBits);
      if (type === 'bool') return Uint8Array.from(data, (x) => (x ? 1 : 0));
      if (type !== 'bfloat16' && TYPES.get(type)[1] >= 8) return Data.from(data);
    } catch (error) {
      throw bad(`the data does not fit ${type}: ${error.message}`);
    }
  }
  throw bad(`a tensor of ${type} needs data in a ${Data.name}`);
}

function checkDims(dims) {
  for (const n of dims) {
    if (!Number.isInteger(n) || n < 0) throw bad(`dims [${dims}] are no sizes`);
  }
}

const place = (value) => ({ value, writable: true, enumerable: true });

const product = (dims) => dims.reduce((a, b) => a * b, 1);

export class Tensor {
  #data;

  #resident;

  /** `(type, data, dims?)`, or `(data, dims?)` where the data says the type. */
  constructor(first, second, third) {
    const typed = typeof first === 'string';
    const [data, dims] = typed ? [second, third] : [first, second];
    if (data === null || typeof data !== 'object') throw bad('a tensor needs data');
    const type = typed ? first : typeOfData(data);
    if (!TYPES.has(type)) throw bad(`there is no type ${JSON.stringify(type)}`);
    if (data instanceof Resident) {
      this.type = type;
      this.dims = dims;
      this.size = product(dims);
      this.#resident = data;
      Object.defineProperty(this, 'location', place('gpu-buffer'));
      return;
    }
    const held = dataFor(type, data);
    const [Data, bits] = TYPES.get(type);
    this.type = type;
    this.dims = dims === undefined ? [held.length] : [...dims];
    checkDims(this.dims);
    this.size = product(this.dims);
    const needed = Data === Array ? this.size : Math.ceil((this.size * bits) / 8);
    const found = Data === Array ? held.length : held.byteLength;
    if (needed !== found) {
      const unit = Data === Array ? 'strings' : 'bytes';
      throw bad(`${type} with dims [${this.dims}] takes ${needed} ${unit}, there are ${found}`);
    }
    this.#data = held;
    Object.defineProperty(this, 'location', place('cpu'));
  }

  /** Where in the GPU's memory it is, if it is there; for the package itself. */
  get resident() {
    return this.#resident;
  }

  /** The elements. A typed array; for strings an array; for float16 the bits, in a Uint16Array. */
  get data() {
    if (this.#data !== undefined) return this.#data;
    if (this.#resident) throw bad('the data are on the GPU: await getData()');
    throw bad('the tensor is disposed');
  }

  /**
   * The elements, from wherever they are; from then on they are here too. `release` lets go of the
   * GPU's memory.
   */
  async getData(release = false) {
    if (this.#data === undefined && this.#resident) {
      const { type, data } = await this.#resident.read();
      const [Data] = TYPES.get(type);
      this.#data = new Data(data.buffer);
      this.location = 'cpu';
    }
    if (release) {
      this.#resident?.dispose();
      this.#resident = undefined;
    }
    return this.data;
  }

  /** Lets go of the data, and of the GPU's memory. */
  dispose() {
    this.#resident?.dispose();
    this.#resident = undefined;
    this.#data = undefined;
    this.location = 'none';
  }

  /** The same data with other sizes. */
  reshape(dims) {
    return new Tensor(this.type, this.data, dims);
  }

  /** float16 and bfloat16 as numbers; other types as they are. */
  toNumbers() {
    const { data } = this;
    if (this.type === 'bfloat16') {
      return new Float32Array(Uint32Array.from(data, (bits) => bits << 16).buffer);
    }
    if (this.type !== 'float16') return data;
    return Float32Array.from(data, (bits) => {
      const [sign, exponent, rest] = [bits & 0x8000 ? -1 : 1, (bits >> 10) & 31, bits & 0x3ff];
      if (exponent === 31) return rest ? NaN : sign * Infinity;
      return sign * (exponent ? 2 ** (exponent - 25) * (1024 + rest) : 2 ** -24 * rest);
    });
  }

  /** Pixels of an image, an element, a bitmap, a canvas, ImageData or an address, as a tensor. */
  static async fromImage(image, options = {}) {
    const { data, dims, type } = await pixels(image, options);
    return new Tensor(type, data, dims);
  }

  /** What an engine made: `{type, dims, data}`, arrays and maps of them. */
  static fromEngine(value, home) {
    const each = (item) => Tensor.fromEngine(item, home);
    if (value === null) return null;
    if (Array.isArray(value)) return value.map(each);
    if (value instanceof Map) return new Map([...value].map(([key, item]) => [key, each(item)]));
    if (value.gpu !== undefined) {
      return new Tensor(value.type, new Resident(home, value.gpu), value.dims);
    }
    const [Data] = TYPES.get(value.type);
    const data = Data === Array ? value.data : new Data(value.data.buffer);
    return new Tensor(value.type, data, value.dims);
  }
}
