"""Models drawn at random, of the kinds that people quantize: same seed, same model."""
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


class Net:
    """A graph being drawn."""

    def __init__(self, seed, opset=None):
        self.rng = np.random.RandomState(seed)
        self.opset = opset or int(self.rng.choice([13, 14, 15, 16, 17, 18, 19, 20, 21]))
        self.nodes, self.weights, self.inputs, self.outputs, self.n = [], [], [], [], 0

    def pick(self, *choices):
        return choices[self.rng.randint(len(choices))]

    def chance(self, p):
        return self.rng.rand() < p

    def name(self, hint):
        self.n += 1
        return f"{hint}_{self.n}"

    def weight(self, *shape, scale=None, array=None):
        if array is None:
            fan = int(np.prod(shape[1:])) if len(shape) > 1 else 1
            scale = scale or 1 / np.sqrt(max(fan, 1))
            array = (self.rng.randn(*shape) * scale).astype(np.float32)
            if self.chance(0.1) and array.ndim > 1:
                array[self.rng.randint(shape[0])] = 0
            if self.chance(0.1) and array.ndim > 1:
                array.flat[self.rng.randint(array.size)] *= 20
        name = self.name("w")
        self.weights.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def op(self, kind, *inputs, outputs=1, **attrs):
        made = [self.name(kind.lower()) for _ in range(outputs)]
        name = self.name(kind) if self.chance(0.8) else ""
        self.nodes.append(helper.make_node(kind, list(inputs), made, name=name, **attrs))
        return made[0] if outputs == 1 else made

    def input(self, shape, dtype=TensorProto.FLOAT):
        name = self.name("x")
        self.inputs.append(helper.make_tensor_value_info(name, dtype, shape))
        return name

    def output(self, name, rank):
        self.outputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, [None] * rank))

    def ints(self, *values):
        return self.weight(array=np.array(values, np.int64))

    def activation(self, x):
        kind = self.pick("Relu", "Relu", "Clip", "LeakyRelu", "Sigmoid", "Tanh", "Gelu", "Silu", "HardSwish", "none")
        if kind == "Clip":
            zero, six = (self.weight(array=np.array(v, np.float32)) for v in (0, 6))
            return self.op("Clip", x, zero, six)
        if kind == "Gelu":
            root = self.weight(array=np.array(np.sqrt(2), np.float32))
            one, half = (self.weight(array=np.array(v, np.float32)) for v in (1, 0.5))
            e = self.op("Add", self.op("Erf", self.op("Div", x, root)), one)
            return self.op("Mul", self.op("Mul", x, e), half)
        if kind == "Silu":
            return self.op("Mul", x, self.op("Sigmoid", x))
        if kind == "HardSwish" and self.opset < 14 or kind == "none":
            return x
        return self.op(kind, x)

    def linear(self, x, k, n, rank):
        """x [.., k] times a weight, in one of the ways that exporters write it."""
        form = self.pick("MatMul", "MatMul", "Add", "Gemm", "Transpose") if rank == 2 else \
            self.pick("MatMul", "Add", "Add", "Transpose")
        if form == "Gemm":
            swap = int(self.rng.randint(2))
            w = self.weight(*((n, k) if swap else (k, n)))
            bias = self.pick([], [self.weight(n)], [self.weight(1, n)], [self.weight(1)])
            attrs = {"transB": swap}
            if self.chance(0.2):
                attrs["alpha"] = 0.5
            if self.chance(0.2):
                attrs["beta"] = 2.0
            return self.op("Gemm", x, w, *bias, **attrs)
        if form == "Transpose":
            w = self.op("Transpose", self.weight(n, k), perm=[1, 0])
        else:
            w = self.weight(k, n)
        y = self.op("MatMul", x, w)
        return self.op("Add", y, self.weight(n)) if form == "Add" else y

    def norm(self, x, n):
        if self.opset >= 17:
            return self.op("LayerNormalization", x, self.weight(array=np.ones(n, np.float32)), self.weight(n, scale=0.1), axis=-1)
        mean = self.op("ReduceMean", x, axes=[-1], keepdims=1)
        d = self.op("Sub", x, mean)
        two, eps = self.weight(array=np.array(2, np.float32)), self.weight(array=np.array(1e-5, np.float32))
        var = self.op("ReduceMean", self.op("Pow", d, two), axes=[-1], keepdims=1)
        return self.op("Div", d, self.op("Sqrt", self.op("Add", var, eps)))

    def model(self):
        graph = helper.make_graph(self.nodes, "drawn", self.inputs, self.outputs, self.weights)
        opsets = [helper.make_opsetid("", self.opset)]
        m = helper.make_model(graph, opset_imports=opsets)
        m.ir_version = 10 if self.opset >= 19 else 8
        return m


def mlp(g):
    k, rank = g.pick(8, 32, 48), g.pick(2, 2, 3)
    x = g.input([g.pick("n", 4), k] if rank == 2 else [g.pick("n", 2), g.pick("t", 5), k])
    for _ in range(g.pick(1, 2, 4)):
        n = g.pick(8, 33, 64, 100)
        y = g.activation(g.linear(x, k, n, rank))
        x, k = (g.norm(y, n) if g.chance(0.3) else y), n
    g.output(x, rank=rank)


def cnn(g):
    c, size = g.pick(1, 3), g.pick(8, 12)
    x = g.input([g.pick("n", 2), c, size, g.pick(size, "w") if g.chance(0.2) else size])
    for _ in range(g.pick(2, 3, 5)):
        m, k = g.pick(4, 8, 16), g.pick(1, 3)
        group = c if g.chance(0.3) else 1
        m = c * g.pick(1, 2) if group > 1 else m
        attrs = {"kernel_shape": [k, k], "pads": [k // 2] * 4, "group": group}
        if g.chance(0.15):
            attrs.update(dilations=[2, 2], pads=[k - 1] * 4)
        bias = [g.weight(m, scale=g.pick(0.1, 5.0))] if g.chance(0.6) else []
        y = g.op("Conv", x, g.weight(m, c // group, k, k), *bias, **attrs)
        if g.chance(0.4):
            stats = [g.weight(array=a.astype(np.float32)) for a in
                     (g.rng.rand(m) + 0.5, g.rng.randn(m), g.rng.randn(m), g.rng.rand(m) + 0.5)]
            y = g.op("BatchNormalization", y, *stats)
        y = g.activation(y)
        if m == c and g.chance(0.7):
            y = g.op("Add", y, x)
        elif g.chance(0.2):
            y, m = g.op("Concat", x, y, axis=1), m + c
        x, c = y, m
        if g.chance(0.3):
            x = g.op(g.pick("MaxPool", "AveragePool"), x, kernel_shape=[2, 2], strides=[2, 2], pads=[1, 1, 1, 1])
        if g.chance(0.1):
            x = g.op("ConvTranspose", x, g.weight(c, c, 2, 2), kernel_shape=[2, 2], strides=[2, 2])
    if g.chance(0.2):
        g.output(x, rank=4)
        x = g.op("Relu", x)
    x = g.op("Flatten", g.op("GlobalAveragePool", x))
    g.output(g.linear(x, c, 10, 2), rank=2)


def conv1d(g):
    x = g.input([1, 2, 40])
    y = g.activation(g.op("Conv", x, g.weight(6, 2, 5), g.weight(6), kernel_shape=[5], strides=[2]))
    y = g.op("Transpose", y, perm=[0, 2, 1])
    g.output(g.linear(y, 6, 20, 3), rank=3)


def transformer(g):
    d, heads, vocab = g.pick(16, 32), 2, g.pick(80, 200)
    ids = g.input([g.pick("n", 1, 2), g.pick("t", 6)], TensorProto.INT64)
    table = g.weight(vocab, d)
    x = g.op("Gather", table, ids)
    for _ in range(g.pick(1, 2)):
        h = g.norm(x, d) if g.chance(0.5) else x
        q, k, v = (g.linear(h, d, d, 3) for _ in range(3))
        split = [g.op("Transpose", g.op("Reshape", t, g.ints(0, 0, heads, d // heads)), perm=p)
                 for t, p in ((q, [0, 2, 1, 3]), (k, [0, 2, 3, 1]), (v, [0, 2, 1, 3]))]
        scores = g.op("MatMul", split[0], split[1])
        scores = g.op("Softmax", g.op("Div", scores, g.weight(array=np.array(3, np.float32))), axis=-1)
        mixed = g.op("Transpose", g.op("MatMul", scores, split[2]), perm=[0, 2, 1, 3])
        x = g.op("Add", x, g.linear(g.op("Reshape", mixed, g.ints(0, 0, d)), d, d, 3))
        f = g.activation(g.linear(g.norm(x, d), d, 4 * d, 3))
        x = g.norm(g.op("Add", x, g.linear(f, 4 * d, d, 3)), d)
    if g.chance(0.5):
        g.output(g.op("MatMul", x, g.op("Transpose", table, perm=[1, 0])), rank=3)
    else:
        g.output(g.linear(x, d, 30, 3), rank=3)


def tied(g):
    """One weight, read both ways."""
    x = g.input([g.pick("n", 3), 32])
    w = g.weight(32, 32)
    y = g.activation(g.op("MatMul", x, w))
    y = g.op("MatMul", y, g.op("Transpose", w, perm=[1, 0]))
    g.output(g.op("Gemm", y, w, transB=1), rank=2)
    g.output(g.op("MatMul", x, w), rank=2)


def branches(g):
    """Products in the bodies of If and Loop, with weights of their own and of the graph around."""
    x = g.input([g.pick("n", 3), 32])
    flag = g.input([], TensorProto.BOOL)
    outer = g.weight(32, 32)
    def body(weight):
        inner = Net(g.rng.randint(1 << 30), g.opset)
        inner.n = g.n + 1000 * (1 + len(g.nodes))
        y = inner.op("MatMul", x, weight or inner.weight(32, 32))
        y = inner.op("Relu", y)
        inner.outputs = [helper.make_tensor_value_info(y, TensorProto.FLOAT, [None, None])]
        return helper.make_graph(inner.nodes, "body", [], inner.outputs, inner.weights)
    y = g.name("chosen")
    then = body(None)
    g.n += 5000
    other = body(outer)
    g.n += 5000
    g.nodes.append(helper.make_node("If", [flag], [y], then_branch=then, else_branch=other))
    g.output(g.linear(y, 32, 12, 2), rank=2)


def recurrent(g):
    x = g.input([5, g.pick("n", 1), 16])
    h = g.pick(8, 12)
    kind, gates = g.pick(("LSTM", 4), ("GRU", 3))
    made = g.op(kind, x, g.weight(1, gates * h, 16), g.weight(1, gates * h, h), outputs=1, hidden_size=h)
    y = g.op("Squeeze", made, g.ints(1))
    g.output(g.linear(y, h, 20, 3), rank=3)


def odd(g):
    """Weights that are all zero, huge, or tiny; a product of constants; a Gather of rank 3."""
    x = g.input([g.pick("n", 4), 32])
    scale = g.pick(1e-12, 1e-3, 1e3)
    y = g.op("MatMul", x, g.weight(32, 40, scale=scale))
    z = g.op("MatMul", x, g.weight(array=np.zeros((32, 40), np.float32)))
    both = g.op("Add", y, z)
    g.output(g.op("Gemm", both, g.weight(40, 8), g.weight(8, scale=10.0)), rank=2)
    ids = g.input([3], TensorProto.INT64)
    if g.chance(0.3):
        g.output(g.op("Gather", g.weight(30, 6, 8), ids, axis=g.pick(0, 1)), rank=3)
    else:
        g.output(g.op("Gather", g.weight(60, 32), ids, axis=0), rank=2)


KINDS = [mlp, mlp, cnn, cnn, cnn, conv1d, transformer, transformer, tied, branches, recurrent, odd]


def draw(seed):
    """A model, and inputs for it."""
    g = Net(seed)
    kind = KINDS[seed % len(KINDS)]
    kind(g)
    model = g.model()
    onnx.checker.check_model(model)
    feeds = {}
    for i in model.graph.input:
        t = i.type.tensor_type
        shape = [d.dim_value or 3 for d in t.shape.dim]
        if t.elem_type == TensorProto.FLOAT:
            feeds[i.name] = g.rng.rand(*shape).astype(np.float32)
        elif t.elem_type == TensorProto.BOOL:
            feeds[i.name] = np.array(bool(g.rng.randint(2)))
        else:
            feeds[i.name] = g.rng.randint(0, 6, shape).astype(np.int64)
    return kind.__name__, model, feeds
