// Small ONNX models, written byte by byte.

const varint = (n) => {
  const bytes = [];
  let rest = BigInt.asUintN(64, BigInt(n));
  while (rest >= 128n) {
    bytes.push(Number(rest & 127n) | 128);
    rest >>= 7n;
  }
  return [...bytes, Number(rest)];
};
const number = (field, n) => [...varint(field * 8), ...varint(n)];
const bytes = (field, content) => [...varint(field * 8 + 2), ...varint(content.length), ...content];
const text = (field, string) => bytes(field, [...new TextEncoder().encode(string)]);

/** A TensorProto from a typed array. */
export function tensor(name, type, dims, data) {
  const raw = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
  return [
    ...dims.flatMap((d) => number(1, d)),
    ...number(2, type),
    ...text(8, name),
    ...bytes(9, [...raw]),
  ];
}

/** A ValueInfoProto of a tensor; a string is a symbolic dimension. */
export function port(name, type, dims) {
  const shape = dims.flatMap((d) => bytes(1, typeof d === 'string' ? text(2, d) : number(1, d)));
  return [...text(1, name), ...bytes(2, bytes(1, [...number(1, type), ...bytes(2, shape)]))];
}

/** A NodeProto; attributes are bytes of AttributeProtos. */
export function node(op, inputs, outputs, attributes = []) {
  return [
    ...inputs.flatMap((name) => text(1, name)),
    ...outputs.flatMap((name) => text(2, name)),
    ...text(4, op),
    ...attributes.flatMap((attribute) => bytes(5, attribute)),
  ];
}

/** An attribute that is a graph. */
export const body = (name, graph) => [...text(1, name), ...bytes(6, graph), ...number(20, 5)];

/** A GraphProto. */
export function graph({ nodes, weights = [], inputs = [], outputs }) {
  return [
    ...nodes.flatMap((n) => bytes(1, n)),
    ...text(2, 'g'),
    ...weights.flatMap((w) => bytes(5, w)),
    ...inputs.flatMap((p) => bytes(11, p)),
    ...outputs.flatMap((p) => bytes(12, p)),
  ];
}

/** The bytes of a ModelProto. */
export function model(parts, opset = 17) {
  return new Uint8Array([
    ...number(1, 8),
    ...bytes(7, graph(parts)),
    ...bytes(8, [...text(1, ''), ...number(2, opset)]),
  ]);
}

const i64 = (name, values) => tensor(name, 7, [values.length], BigInt64Array.from(values, BigInt));

/** Models that ask for more than there is, by name. */
export function bombs() {
  const y = [port('y', 1, ['n'])];
  const shape = (...sizes) => ({
    nodes: [node('ConstantOfShape', ['s'], ['y'])],
    weights: [i64('s', sizes)],
    outputs: y,
  });
  const yes = tensor('yes', 9, [], Uint8Array.of(1));
  const endless = graph({
    nodes: [node('Identity', ['c'], ['c2']), node('Sin', ['v'], ['v2'])],
    inputs: [port('i', 7, []), port('c', 9, []), port('v', 1, [])],
    outputs: [port('c2', 9, []), port('v2', 1, [])],
  });
  const deep = (levels) =>
    levels === 0
      ? graph({ nodes: [node('Identity', ['yes'], ['z'])], outputs: [port('z', 9, [])] })
      : graph({
          nodes: [
            node(
              'If',
              ['yes'],
              ['z'],
              [body('then_branch', deep(levels - 1)), body('else_branch', deep(0))],
            ),
          ],
          outputs: [port('z', 9, [])],
        });
  return {
    'four tebibytes': model(shape(2 ** 40)),
    'two gibibytes and more': model(shape(1 << 30)),
    'a size that wraps in 32 bits': model(shape(65536, 65536)),
    'a size that wraps in 64 bits': model(shape(2 ** 33, 2 ** 33, 4)),
    'a range without an end': model({
      nodes: [node('Range', ['a', 'b', 'c'], ['y'])],
      weights: [
        tensor('a', 1, [], Float32Array.of(0)),
        tensor('b', 1, [], Float32Array.of(1)),
        tensor('c', 1, [], Float32Array.of(1e-30)),
      ],
      outputs: y,
    }),
    'tiles of tiles': model({
      nodes: [node('Tile', ['a', 'n'], ['y'])],
      weights: [tensor('a', 1, [1], Float32Array.of(1)), i64('n', [2 ** 52])],
      outputs: y,
    }),
    'a loop without an end': model({
      nodes: [node('Loop', ['', 'yes', 'a'], ['y'], [body('body', endless)])],
      weights: [yes, tensor('a', 1, [], Float32Array.of(1))],
      outputs: [port('y', 1, [])],
    }),
    'twenty bodies in one another': model({
      nodes: [
        node('If', ['yes'], ['y'], [body('then_branch', deep(19)), body('else_branch', deep(0))]),
      ],
      weights: [yes],
      outputs: [port('y', 9, [])],
    }),
  };
}

/** last_hidden_state = Gather(table, input_ids): each word has a vector of its own, 1 at a place. */
export function lookup(words) {
  const n = words.length;
  const table = Float32Array.from({ length: n * n }, (_, i) => (i % (n + 1) === 0 ? 1 : 0));
  return model({
    nodes: [node('Gather', ['table', 'input_ids'], ['last_hidden_state'])],
    weights: [tensor('table', 1, [n, n], table)],
    inputs: [port('input_ids', 7, ['batch', 'sequence'])],
    outputs: [port('last_hidden_state', 1, ['batch', 'sequence', n])],
  });
}
