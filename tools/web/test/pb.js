// ONNX's test data (TensorProto, SequenceProto, OptionalProto) as values for sessions.

const TYPES = {
  1: 'float32',
  2: 'uint8',
  3: 'int8',
  4: 'uint16',
  5: 'int16',
  6: 'int32',
  7: 'int64',
  8: 'string',
  9: 'bool',
  10: 'float16',
  11: 'float64',
  12: 'uint32',
  13: 'uint64',
  14: 'complex64',
  15: 'complex128',
  16: 'bfloat16',
  17: 'float8e4m3fn',
  18: 'float8e4m3fnuz',
  19: 'float8e5m2',
  20: 'float8e5m2fnuz',
  21: 'uint4',
  22: 'int4',
  23: 'float4e2m1',
  24: 'float8e8m0',
  25: 'uint2',
  26: 'int2',
};

/** Every field of a message: `[number, value]`; a value is a BigInt or bytes. */
function* fields(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let at = 0;
  const varint = () => {
    let [value, shift] = [0n, 0n];
    for (;;) {
      const byte = bytes[at];
      at += 1;
      value |= BigInt(byte & 127) << shift;
      if (byte < 128) return value;
      shift += 7n;
    }
  };
  while (at < bytes.length) {
    const key = Number(varint());
    const [number, wire] = [key >> 3, key & 7];
    if (wire === 0) yield [number, varint()];
    else if (wire === 2) {
      const length = Number(varint());
      yield [number, bytes.subarray(at, at + length)];
      at += length;
    } else if (wire === 5) {
      yield [number, bytes.slice(at, at + 4)];
      at += 4;
    } else {
      yield [
        number,
        new Uint8Array(view.buffer.slice(bytes.byteOffset + at, bytes.byteOffset + at + 8)),
      ];
      at += 8;
    }
  }
}

function packed(bytes) {
  const values = [];
  for (let at = 0; at < bytes.length;) {
    let [value, shift] = [0n, 0n];
    for (;;) {
      const byte = bytes[at];
      at += 1;
      value |= BigInt(byte & 127) << shift;
      if (byte < 128) break;
      shift += 7n;
    }
    values.push(BigInt.asIntN(64, value));
  }
  return values;
}

const text = (bytes) => new TextDecoder().decode(bytes);
const joined = (chunks) => {
  const all = new Uint8Array(chunks.reduce((sum, c) => sum + c.length, 0));
  chunks.reduce((at, c) => {
    all.set(c, at);
    return at + c.length;
  }, 0);
  return all;
};

/** `{name, value}` of a TensorProto. */
export function tensor(bytes, Tensor) {
  const [dims, strings, ints, chunks] = [[], [], [], []];
  let [type, name, raw] = [0, '', undefined];
  for (const [number, value] of fields(bytes)) {
    const numbers = () => (typeof value === 'bigint' ? [BigInt.asIntN(64, value)] : packed(value));
    if (number === 1) dims.push(...numbers().map(Number));
    else if (number === 2) type = TYPES[Number(value)];
    else if (number === 4 || number === 10) chunks.push(value);
    else if (number === 5 || number === 7 || number === 11) ints.push(...numbers());
    else if (number === 6) strings.push(text(value));
    else if (number === 8) name = text(value);
    else if (number === 9) raw = value.slice();
  }
  if (type === 'string') return { name, value: new Tensor('string', strings, dims) };
  const empty = new Tensor(type, makeData(type, raw ?? joined(chunks), ints), dims);
  return { name, value: empty };
}

function makeData(type, bytes, ints) {
  const classes = {
    float32: Float32Array,
    float64: Float64Array,
    complex64: Float32Array,
    complex128: Float64Array,
    int64: BigInt64Array,
    uint64: BigUint64Array,
    int32: Int32Array,
    uint32: Uint32Array,
    int16: Int16Array,
    uint16: Uint16Array,
    float16: Uint16Array,
    bfloat16: Uint16Array,
    int8: Int8Array,
    int4: Int8Array,
    int2: Int8Array,
  };
  const Data = classes[type] ?? Uint8Array;
  if (bytes.length > 0 || ints.length === 0) return new Data(bytes.slice().buffer);
  const big = Data === BigInt64Array || Data === BigUint64Array;
  return Data.from(ints, (n) => (big ? n : Number(n)));
}

/** `{name, value}` of a file, whose type is as the model says (`seq(…)`, `optional(…)`, …). */
export function read(bytes, type, Tensor) {
  if (type?.startsWith('optional(')) {
    let [name, value] = ['', null];
    for (const [number, part] of fields(bytes)) {
      if (number === 1) name = text(part);
      else if (number === 3) ({ value } = tensor(part, Tensor));
      else if (number === 5) ({ value } = read(part, 'seq(', Tensor));
    }
    return { name, value };
  }
  if (type?.startsWith('seq(')) {
    const value = [];
    let name = '';
    for (const [number, part] of fields(bytes)) {
      if (number === 1) name = text(part);
      else if (number === 3) value.push(tensor(part, Tensor).value);
      else if (number === 5) value.push(read(part, 'seq(', Tensor).value);
    }
    return { name, value };
  }
  return tensor(bytes, Tensor);
}
