"""Networks that are written once: JAX trains them, and the same lines write them as ONNX.

A `Net` computes with JAX as it is called; with `graph=True` it also notes the ONNX node of every
call.  `fake=True` rounds what enters layers to the codes that 8 bits have (straight-through
gradients), and notes QuantizeLinear and DequantizeLinear.
"""
import jax
import jax.numpy as jnp
import numpy as np
import onnx
from jax import lax
from onnx import TensorProto, helper, numpy_helper


class Value:
    """An array, its name in the graph, and what it is in codes."""

    def __init__(self, array, name=None):
        self.a, self.name, self.coded = array, name, None

    @property
    def shape(self):
        return self.a.shape


def straight_through(exact, rounded):
    return exact + lax.stop_gradient(rounded - exact)


class Net:
    def __init__(self, params, rng=None, train=False, fake=False, graph=False, float_weights=False):
        self.params, self.rng, self.train, self.fake = params, rng, train, fake
        self.float_weights = float_weights
        self.updates = {}
        self.nodes = [] if graph else None
        self.initializers, self.count, self.sums, self.folded = {}, 0, 0, False

    # Names and weights

    def op(self, kind, array, inputs, scope="", **attrs):
        """A value that `array` is and that the node computes."""
        if self.nodes is None:
            return Value(array)
        self.count += 1
        name = f"{scope}/{kind}" if scope else f"{kind}_{self.count}"
        while any(n.name == name for n in self.nodes):
            name += "_1"
        domain = attrs.pop("domain", "")
        names = [v.name if v is not None else "" for v in inputs]
        self.nodes.append(helper.make_node(kind, names, [f"{name}_output_0"], name, domain=domain, **attrs))
        return Value(array, f"{name}_output_0")

    def initializer(self, name, array):
        array = np.asarray(array)
        if name not in self.initializers:
            self.initializers[name] = numpy_helper.from_array(array.copy(order="C"), name)
        return name

    def const(self, array, name=None):
        array = np.asarray(array)
        if self.nodes is None:
            return Value(array)
        self.count += 1
        return Value(array, self.initializer(name or f"const_{self.count}", array))

    def param(self, name, shape, std=0.0, at=0.0):
        """A weight, drawn around `at` where there is none of that name yet."""
        if name not in self.params:
            self.params[name] = jnp.asarray(at + std * self.rng.standard_normal(shape), jnp.float32)
        value = Value(self.params[name])
        if self.nodes is not None:
            value.name = self.initializer(name, self.params[name])
        return value

    # Codes of 8 bits

    def coded(self, x, name):
        """x as uint8 codes have it; the range is a running one, found in training."""
        if not self.fake:
            return x
        if x.coded is not None:
            return x.coded
        low, high = f"{name}.input_min", f"{name}.input_max"
        seen = jnp.minimum(x.a.min(), 0.0), jnp.maximum(x.a.max(), 1e-6)
        if self.train or low not in self.params:
            old = self.params.get(low, seen[0]), self.params.get(high, seen[1])
            self.updates[low] = 0.98 * old[0] + 0.02 * lax.stop_gradient(seen[0])
            self.updates[high] = 0.98 * old[1] + 0.02 * lax.stop_gradient(seen[1])
        lo = self.updates.get(low, self.params.get(low))
        hi = self.updates.get(high, self.params.get(high))
        scale = (hi - lo) / 255
        zero = jnp.round(-lo / scale)
        codes = jnp.clip(jnp.round(x.a / scale) + zero, 0, 255)
        # Outside of the range there is no gradient.
        inside = jnp.clip(x.a, lo, hi)
        x.coded = Value(straight_through(inside, (codes - zero) * scale))
        if self.nodes is not None:
            s = self.const(np.float32(scale), f"{name}.input_scale")
            z = self.const(np.uint8(zero), f"{name}.input_zero_point")
            q = self.op("QuantizeLinear", None, [x, s, z], f"{name}/input")
            x.coded = self.op("DequantizeLinear", x.coded.a, [q, s, z], f"{name}/input")
            x.coded.scale = np.float32(scale)
        return x.coded

    def coded_weight(self, w, name, axis):
        """A weight as int8 codes have it, one scale for each output channel."""
        if not self.fake:
            return w
        others = tuple(i for i in range(w.a.ndim) if i != axis)
        scale = jnp.maximum(jnp.abs(w.a).max(others, keepdims=True), 1e-8) / 127
        codes = jnp.clip(jnp.round(w.a / scale), -127, 127)
        made = Value(straight_through(w.a, codes * scale))
        if self.nodes is not None:
            flat = np.asarray(scale, np.float32).ravel()
            s = self.const(flat, f"{name}.weight_scale")
            z = self.const(np.zeros(len(flat), np.int8), f"{name}.weight_zero_point")
            if self.float_weights:
                q = self.op("QuantizeLinear", None, [w, s, z], f"{name}/weight", axis=axis)
            else:
                del self.initializers[w.name]
                q = self.const(np.asarray(codes, np.int8), f"{name}.weight_quantized")
            made = self.op("DequantizeLinear", made.a, [q, s, z], f"{name}/weight", axis=axis)
            made.scale = flat
        return made

    def coded_bias(self, b, x, w, name):
        """A bias as int32 codes of both scales."""
        if not self.fake or self.nodes is None or self.float_weights:
            return b
        del self.initializers[b.name]
        s = (x.scale * w.scale).astype(np.float32)
        codes = np.round(np.asarray(b.a, np.float64) / s).astype(np.int32)
        s, q = self.const(s, f"{name}.bias_scale"), self.const(codes, f"{name}.bias_quantized")
        return self.op("DequantizeLinear", b.a, [q, s], f"{name}/bias", axis=0)

    # Layers

    def linear(self, x, name, n, bias=True, gemm=False, std=None):
        k = x.shape[-1]
        w = self.param(f"{name}.weight", (n, k) if gemm else (k, n), std or 1 / np.sqrt(k))
        b = self.param(f"{name}.bias", (n,)) if bias else None
        x, w = self.coded(x, name), self.coded_weight(w, name, 0 if gemm else 1)
        if b is not None:
            bias_of_codes = gemm and self.fake
            b = self.coded_bias(b, x, w, name) if bias_of_codes else b
        if gemm:
            return self.op("Gemm", x.a @ w.a.T + b.a, [x, w, b], name, transB=1)
        y = self.op("MatMul", x.a @ w.a, [x, w], name)
        return self.op("Add", y.a + b.a, [b, y], name) if bias else y

    def conv(self, x, name, m, k=3, stride=1, group=1, bias=True):
        rank = x.a.ndim - 2
        c = x.shape[1]
        shape = (m, c // group) + (k,) * rank
        w = self.param(f"{name}.weight", shape, np.sqrt(2 / np.prod(shape[1:])))
        b = self.param(f"{name}.bias", (m,)) if bias or self.folded else None
        x, w = self.coded(x, name), self.coded_weight(w, name, 0)
        p = k // 2 if stride < k or k == 1 else 0
        if group == 1:
            dims = ("NCHW", "OIHW", "NCHW") if rank == 2 else ("NCH", "OIH", "NCH")
            y = lax.conv_general_dilated(x.a, w.a, (stride,) * rank, [(p, p)] * rank, dimension_numbers=dims)
        else:
            y = depthwise(x.a, w.a, stride, p)
        inputs = [x, w]
        if b is not None:
            y = y + b.a.reshape((1, m) + (1,) * rank)
            inputs.append(self.coded_bias(b, x, w, name))
        return self.op("Conv", y, inputs, name, kernel_shape=[k] * rank, strides=[stride] * rank,
                       pads=[p] * (2 * rank), group=group, dilations=[1] * rank)

    def up(self, x, name, m):
        """Twice the height and width."""
        w = self.param(f"{name}.weight", (x.shape[1], m, 2, 2), np.sqrt(1 / x.shape[1]))
        b = self.param(f"{name}.bias", (m,))
        n, _, h, width = x.shape
        y = jnp.einsum("nchw,cmij->nmhiwj", x.a, w.a).reshape(n, m, 2 * h, 2 * width)
        return self.op("ConvTranspose", y + b.a.reshape(1, m, 1, 1), [x, w, b], name,
                       kernel_shape=[2, 2], strides=[2, 2])

    def bn(self, x, name):
        if self.folded:
            return x
        m, axes = x.shape[1], tuple(i for i in range(x.a.ndim) if i != 1)
        gamma, beta = self.param(f"{name}.weight", (m,), 0, 1), self.param(f"{name}.bias", (m,))
        mean, var = self.param(f"{name}.running_mean", (m,)), self.param(f"{name}.running_var", (m,), 0, 1)
        mu, v = mean.a, var.a
        if self.train:
            mu, v = x.a.mean(axes), x.a.var(axes)
            self.updates[f"{name}.running_mean"] = 0.95 * mean.a + 0.05 * lax.stop_gradient(mu)
            self.updates[f"{name}.running_var"] = 0.95 * var.a + 0.05 * lax.stop_gradient(v)
        wide = (1, m) + (1,) * (x.a.ndim - 2)
        factor = gamma.a / jnp.sqrt(v + 1e-5)
        y = x.a * factor.reshape(wide) + (beta.a - mu * factor).reshape(wide)
        return self.op("BatchNormalization", y, [x, gamma, beta, mean, var], name, epsilon=1e-5)

    def ln(self, x, name):
        n = x.shape[-1]
        w, b = self.param(f"{name}.weight", (n,), 0, 1), self.param(f"{name}.bias", (n,))
        mu, v = x.a.mean(-1, keepdims=True), x.a.var(-1, keepdims=True)
        y = (x.a - mu) / jnp.sqrt(v + 1e-5) * w.a + b.a
        return self.op("LayerNormalization", y, [x, w, b], name, axis=-1, epsilon=1e-5)

    def rms(self, x, name):
        """As exporters of Llama write it."""
        w = self.param(f"{name}.weight", (x.shape[-1],), 0, 1)
        square = self.op("Pow", x.a ** 2, [x, self.const(np.float32(2))], name)
        axes = self.const(np.array([-1], np.int64))
        mean = self.op("ReduceMean", square.a.mean(-1, keepdims=True), [square, axes], name)
        mean = self.op("Add", mean.a + 1e-6, [mean, self.const(np.float32(1e-6))], name)
        root = self.op("Sqrt", jnp.sqrt(mean.a), [mean], name)
        y = self.op("Div", x.a / root.a, [x, root], name)
        return self.op("Mul", w.a * y.a, [w, y], f"{name}/scale")

    def embed(self, ids, name, vocab, d, std=0.05):
        w = self.param(f"{name}.weight", (vocab, d), std)
        return self.op("Gather", w.a[ids.a], [w, ids], name)

    def lstm(self, x, name, h):
        """x [t, n, k]; the last state [n, h]."""
        k = x.shape[-1]
        w = self.param(f"{name}.W", (1, 4 * h, k), 1 / np.sqrt(k))
        r = self.param(f"{name}.R", (1, 4 * h, h), 1 / np.sqrt(h))
        b = self.param(f"{name}.B", (1, 8 * h))

        def step(carry, xt):
            hidden, cell = carry
            i, o, f, c = jnp.split(xt @ w.a[0].T + hidden @ r.a[0].T + b.a[0, :4 * h] + b.a[0, 4 * h:], 4, -1)
            cell = jax.nn.sigmoid(f + 0.0) * cell + jax.nn.sigmoid(i) * jnp.tanh(c)
            hidden = jax.nn.sigmoid(o) * jnp.tanh(cell)
            return (hidden, cell), None

        zero = jnp.zeros((x.shape[1], h))
        (last, _), _ = lax.scan(step, (zero, zero), x.a)
        if self.nodes is None:
            return Value(last)
        self.nodes.append(helper.make_node("LSTM", [x.name, w.name, r.name, b.name], ["", f"{name}_h"],
                                           f"{name}/LSTM", hidden_size=h))
        axes = self.const(np.array([0], np.int64))
        return self.op("Squeeze", last, [Value(None, f"{name}_h"), axes], name)

    # What only moves or mixes numbers

    def relu(self, x):
        return self.op("Relu", jax.nn.relu(x.a), [x])

    def relu6(self, x):
        return self.op("Clip", jnp.clip(x.a, 0, 6), [x, self.const(np.float32(0)), self.const(np.float32(6))])

    def gelu(self, x):
        """As exporters below opset 20 write it."""
        root = np.float32(np.sqrt(2))
        e = self.op("Div", x.a / root, [x, self.const(root)])
        e = self.op("Erf", jax.scipy.special.erf(e.a), [e])
        e = self.op("Add", e.a + 1, [e, self.const(np.float32(1))])
        y = self.op("Mul", x.a * e.a, [x, e])
        return self.op("Mul", y.a * 0.5, [y, self.const(np.float32(0.5))])

    def silu(self, x):
        return self.mul(x, self.op("Sigmoid", jax.nn.sigmoid(x.a), [x]))

    def tanh(self, x):
        return self.op("Tanh", jnp.tanh(x.a), [x])

    def softmax(self, x):
        return self.op("Softmax", jax.nn.softmax(x.a, -1), [x], axis=-1)

    def add(self, x, y):
        if self.fake and x.a.ndim == 4 and self.folded:
            # Images are added as codes.
            self.sums += 1
            x, y = self.coded(x, f"sum{self.sums}.a"), self.coded(y, f"sum{self.sums}.b")
        return self.op("Add", x.a + y.a, [x, y])

    def sub(self, x, y):
        return self.op("Sub", x.a - y.a, [x, y])

    def mul(self, x, y):
        return self.op("Mul", x.a * y.a, [x, y])

    def div(self, x, y):
        return self.op("Div", x.a / y.a, [x, y])

    def matmul(self, x, y, name=None):
        """Of two activations."""
        if name:
            x, y = self.coded(x, f"{name}.a"), self.coded(y, f"{name}.b")
        return self.op("MatMul", x.a @ y.a, [x, y], name or "")

    def transpose(self, x, perm):
        return self.op("Transpose", x.a.transpose(perm), [x], perm=perm)

    def reshape(self, x, shape):
        """0 keeps an axis."""
        full = [x.shape[i] if s == 0 else s for i, s in enumerate(shape)]
        return self.op("Reshape", x.a.reshape(full), [x, self.const(np.array(shape, np.int64))])

    def flatten(self, x):
        return self.op("Flatten", x.a.reshape(x.shape[0], -1), [x], axis=1)

    def concat(self, xs, axis):
        return self.op("Concat", jnp.concatenate([x.a for x in xs], axis), xs, axis=axis)

    def part(self, x, axis, start, end):
        args = [self.const(np.array([v], np.int64)) for v in (start, end, axis)]
        return self.op("Slice", lax.slice_in_dim(x.a, start, end, axis=axis), [x, *args])

    def pick(self, x, axis, index):
        y = lax.index_in_dim(x.a, index, axis, keepdims=False)
        return self.op("Gather", y, [x, self.const(np.int64(index))], axis=axis)

    def maxpool(self, x):
        rank = x.a.ndim - 2
        two = (1, 1) + (2,) * rank
        y = lax.reduce_window(x.a, -jnp.inf, lax.max, two, two, "VALID")
        return self.op("MaxPool", y, [x], kernel_shape=[2] * rank, strides=[2] * rank)

    def average(self, x):
        """Over all pixels, flat."""
        x = self.coded(x, "pool") if self.folded else x
        y = x.a.mean(tuple(range(2, x.a.ndim)), keepdims=True)
        return self.flatten(self.op("GlobalAveragePool", y, [x]))

    def mean(self, x, axis):
        axes = self.const(np.array([axis], np.int64))
        return self.op("ReduceMean", x.a.mean(axis), [x, axes], keepdims=0)

    # The model

    def model(self, x, y, dtype, opset, note):
        """The graph from x to y; the first axis of both is `batch`."""
        used = {i for n in self.nodes for i in n.input}
        kept = [t for name, t in self.initializers.items() if name in used]
        shapes = [["batch", *v.shape[1:]] for v in (x, y)]
        self.nodes[-1].output[0] = "logits"
        graph = helper.make_graph(
            self.nodes, note.split(":")[0], [helper.make_tensor_value_info(x.name, dtype, shapes[0])],
            [helper.make_tensor_value_info("logits", TensorProto.FLOAT, shapes[1])], kept)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)],
                                  producer_name="rinfer tests/quantized/train.py")
        model.ir_version = 10 if opset >= 21 else 9 if opset >= 19 else 8
        model.doc_string = note
        onnx.checker.check_model(model, full_check=True)
        return model


def depthwise(x, w, stride, p):
    """A convolution of each channel by itself: sums of shifted images, which CPUs do fast."""
    k = w.shape[2]
    x = jnp.pad(x, ((0, 0), (0, 0), (p, p), (p, p)))
    h, width = ((n - k) // stride + 1 for n in x.shape[2:])
    y = 0.0
    for i in range(k):
        for j in range(k):
            part = x[:, :, i:i + stride * (h - 1) + 1:stride, j:j + stride * (width - 1) + 1:stride]
            y = y + part * w[:, 0, i, j].reshape(1, -1, 1, 1)
    return y


def fold(params):
    """Weights whose batch normalization is part of the convolution before it (NAME, NAME_bn)."""
    made = dict(params)
    for key in list(params):
        if not key.endswith("_bn.running_mean"):
            continue
        name = key[:-len("_bn.running_mean")]
        gamma, beta, mean, var = (made.pop(f"{name}_bn.{k}") for k in ("weight", "bias", "running_mean", "running_var"))
        factor = gamma / jnp.sqrt(var + 1e-5)
        w = made[f"{name}.weight"]
        made[f"{name}.weight"] = w * factor.reshape((-1,) + (1,) * (w.ndim - 1))
        made[f"{name}.bias"] = made.get(f"{name}.bias", 0.0) * factor + beta - mean * factor
    return made
