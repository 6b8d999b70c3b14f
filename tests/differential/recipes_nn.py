"""How nodes of products, convolutions, pools, norms, recurrences, losses are drawn."""
import numpy as np

from draw import Skip
from recipes import recipe

FLOATS = ("float", "double", "float16", "bfloat16")


def scaled(d, shape, dtype, s=1.0):
    return d.values(shape, dtype, -s, s)


@recipe("MatMul")
def mat_mul(d, bounds=(-3, 3)):
    batch_a, batch_b = d.broadcast(2, 2)
    m, k, n = d.size(), d.size(), d.size()
    a, b = batch_a + [m, k], batch_b + [k, n]
    if d.chance(0.15):
        a = [k]
    if d.chance(0.15):
        b = [k]
    return {"A": d.values(a, d.ty("T"), *bounds), "B": d.values(b, d.ty("T"), *bounds)}, {}


@recipe("Gemm")
def gemm(d):
    m, k, n = d.size(), d.size(), d.size()
    attrs = {a: 1 for a in ("transA", "transB") if d.chance(0.4)}
    attrs |= {a: d.of([0.5, 2.0, 1.0, 0.0]) for a in ("alpha", "beta") if d.chance(0.3)}
    a = [k, m] if "transA" in attrs else [m, k]
    b = [n, k] if "transB" in attrs else [k, n]
    inputs = {"A": d.values(a, d.ty("T"), -3, 3), "B": d.values(b, d.ty("T"), -3, 3)}
    if d.opset < 11 or d.chance(0.7):
        c = d.of([[m, n], [n], [1, n], [m, 1], [1], []]) if d.opset >= 7 else [m, n]
        inputs["C"] = d.values(c, d.ty("T"), -3, 3)
    return inputs, attrs


@recipe("Einsum")
def einsum(d):
    equation = d.of(["ij,jk->ik", "ij->ji", "ii->i", "ii", "ij,ij->", "bij,bjk->bik", "i,j->ij",
                     "...ij,...jk->...ik", "ij->", "ijk->kj", "bhqd,bhkd->bhqk", "i,i", "ij,j",
                     "abc,cd,de->abe", "...i->...", "ij, kj -> ik"])
    sizes = {c: max(1, d.size()) % 9 + 1 for c in "abcdehijkq"}
    lead = d.positive(0, 2)
    shapes = []
    for term in equation.split("->")[0].replace(" ", "").split(","):
        shape = list(lead) if term.startswith("...") else []
        shapes.append(shape + [sizes[c] for c in term.replace("...", "")])
    return {"Inputs": [d.values(s, d.ty("T"), -3, 3) for s in shapes]}, {"equation": equation}


def window(d, sizes, transposed=False):
    """Attributes of a window that fits into these sizes."""
    kernel, attrs = [], {}
    strides = [d.int(1, 3) for _ in sizes] if d.chance(0.6) else None
    dilations = [d.int(1, 2) for _ in sizes] if d.chance(0.4) else None
    pads = [d.int(0, 2) for _ in sizes * 2] if d.chance(0.5) else None
    for i, n in enumerate(sizes):
        reach = n if transposed else n + (pads[i] + pads[i + len(sizes)] if pads else 0)
        k = d.int(1, max(1, min(3, reach)))
        if dilations and (k - 1) * dilations[i] + 1 > reach:
            dilations[i] = 1
        kernel.append(k)
    if strides:
        attrs["strides"] = strides
    if dilations:
        attrs["dilations"] = dilations
    if pads:
        attrs["pads"] = pads
    elif d.chance(0.3):
        attrs["auto_pad"] = d.of(["SAME_UPPER", "SAME_LOWER", "VALID"])
        attrs.pop("dilations", None)
    return kernel, attrs


def image(d, least=1):
    return [d.of([least, 5, 6, 7, 8, 9, 12]) for _ in range(d.of([1, 2, 2, 2, 3]))]


def conv_shapes(d):
    group = d.of([1, 1, 1, 2, 3])
    ci, co = d.of([1, 2, 3, 8]), d.of([1, 2, 3, 16])
    if d.chance(0.2):
        group, ci, co = d.of([2, 4, 16]), 1, d.of([1, 2])
    return d.of([1, 1, 2]), group, ci, co


@recipe("Conv")
def conv(d):
    dtype = d.ty("T")
    n, group, ci, co = conv_shapes(d)
    sizes = image(d, 3)
    kernel, attrs = window(d, sizes)
    if d.chance(0.5):
        attrs["kernel_shape"] = kernel
    if group > 1:
        attrs["group"] = group
    inputs = {"X": scaled(d, [n, group * ci] + sizes, dtype),
              "W": scaled(d, [group * co, ci] + kernel, dtype)}
    if d.chance(0.5):
        inputs["B"] = scaled(d, [group * co], dtype)
    return inputs, attrs


@recipe("ConvTranspose")
def conv_transpose(d):
    dtype = d.ty("T")
    n, group, ci, co = conv_shapes(d)
    sizes = [d.int(1, 6) for _ in range(d.of([1, 2, 2, 3]))]
    kernel, attrs = window(d, sizes, True)
    if "pads" in attrs:
        attrs["pads"] = [0 if kernel[i % len(sizes)] < 3 else d.int(0, 1)
                         for i in range(len(sizes) * 2)]
    if attrs.get("auto_pad", "")[:4] == "SAME" and d.opset < 11:
        del attrs["auto_pad"]
    strides = attrs.get("strides", [1] * len(sizes))
    if d.chance(0.3) and "auto_pad" not in attrs:
        attrs["output_padding"] = [d.int(0, s - 1) for s in strides]
    if group > 1:
        attrs["group"] = group
    attrs["kernel_shape"] = kernel
    inputs = {"X": scaled(d, [n, group * ci] + sizes, dtype),
              "W": scaled(d, [group * ci, co] + kernel, dtype)}
    if d.chance(0.5):
        inputs["B"] = scaled(d, [group * co], dtype)
    return inputs, attrs


@recipe("MaxPool", "AveragePool", "LpPool")
def pool(d):
    op = d.schema.name
    sizes = image(d, 3)
    kernel, attrs = window(d, sizes)
    if "pads" in attrs:
        attrs["pads"] = [min(p, (kernel * 2)[i] - 1) for i, p in enumerate(attrs["pads"])]
        dil = attrs.get("dilations", [1] * len(sizes))
        for i, n in enumerate(sizes):
            full = n + attrs["pads"][i] + attrs["pads"][i + len(sizes)]
            while (kernel[i] - 1) * dil[i] + 1 > full:
                kernel[i] -= 1
            for at in (i, i + len(sizes)):
                attrs["pads"][at] = min(attrs["pads"][at], kernel[i] - 1)
    attrs["kernel_shape"] = kernel
    for a, draw in (("ceil_mode", lambda: d.int(0, 1)), ("count_include_pad", lambda: d.int(0, 1)),
                    ("p", lambda: d.int(1, 3)), ("storage_order", lambda: d.int(0, 1))):
        if a in d.schema.attributes and d.chance(0.4):
            attrs[a] = draw()
    dtype = d.ty("T")
    outputs = d.int(1, min(2, len(d.schema.outputs))) if op == "MaxPool" else 1
    return {"X": d.values([d.int(1, 2), d.int(1, 3)] + sizes, dtype, -9, 9)}, attrs, outputs


@recipe("GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool")
def global_pool(d):
    attrs = {"p": d.int(1, 3)} if "p" in d.schema.attributes and d.chance(0.5) else {}
    return {"X": d.values(d.positive(3, 5), d.ty("T"), -9, 9)}, attrs


@recipe("BatchNormalization")
def batch_norm(d):
    if d.opset < 7:
        raise Skip("old")
    shape = d.positive(2, 5)
    c = [shape[1]]
    names = [i.name for i in d.schema.inputs]
    types = [d.ty(i.type_str) for i in d.schema.inputs]
    values = [d.values(shape, types[0], -3, 3)] + [d.values(c, t, -2, 2) for t in types[1:4]]
    values.append(d.values(c, types[4], 0.2, 3))
    attrs = {"epsilon": 1e-3} if d.chance(0.4) else {}
    return dict(zip(names, values)), attrs


@recipe("InstanceNormalization", "GroupNormalization")
def instance_norm(d):
    dtype = d.ty("T")
    groups, per = d.int(1, 3), d.int(1, 3)
    c = groups * per
    shape = [d.int(1, 2), c] + [d.int(2, 6) for _ in range(d.int(1, 3))]
    x, s, b = [i.name for i in d.schema.inputs]
    attrs = {"epsilon": 1e-3} if d.chance(0.4) else {}
    n = c
    if d.schema.name == "GroupNormalization":
        attrs["num_groups"] = groups
        n = c if d.opset >= 21 else groups
    return {x: d.values(shape, dtype, -3, 3), s: d.values([n], dtype, -2, 2),
            b: d.values([n], dtype, -2, 2)}, attrs


@recipe("LayerNormalization", "RMSNormalization")
def layer_norm(d):
    dtype = d.ty("T")
    shape = d.positive(1, 4)
    shape[-1] += 1
    attrs = {"axis": d.axis(len(shape))} if d.chance(0.5) else {}
    tail = shape[attrs.get("axis", -1):]
    if d.chance(0.5):
        attrs["epsilon"] = 1e-3
    x, s = [i.name for i in d.schema.inputs[:2]]
    inputs = {x: d.values(shape, dtype, -3, 3), s: d.values(tail, d.ty(d.schema.inputs[1].type_str),
                                                           -2, 2)}
    if len(d.schema.inputs) > 2 and d.chance(0.6):
        inputs["B"] = d.values(tail, dtype, -2, 2)
    return inputs, attrs


@recipe("LpNormalization", "LRN", "MeanVarianceNormalization")
def other_norm(d):
    dtype = d.ty("T")
    attrs = {}
    if d.schema.name == "LpNormalization":
        shape = d.positive(1, 4)
        attrs = {"axis": d.axis(len(shape)), "p": d.int(1, 2)}
    elif d.schema.name == "LRN":
        shape = d.positive(3, 5)
        attrs = {"size": d.of([1, 3, 5])}
        attrs |= {a: v for a, v in (("alpha", 0.01), ("beta", 0.5), ("bias", 2.0)) if d.chance(0.4)}
    else:
        shape = d.positive(4, 4)
        shape[2] += 1
        if d.chance(0.5):
            attrs["axes"] = d.of([[0, 2, 3], [2, 3], [-1], [0, 1, 2, 3]])
    return {d.schema.inputs[0].name: d.values(shape, dtype, 0.5, 3)}, attrs


@recipe("Softmax", "LogSoftmax", "Hardmax")
def softmax(d):
    shape = d.positive(1, 4)
    attrs = {}
    if d.chance(0.7):
        attrs["axis"] = d.axis(len(shape)) if d.opset >= 11 else d.int(0, len(shape) - 1)
    return {"input": d.values(shape, d.ty("T"), -5, 5)}, attrs


@recipe("RNN", "GRU", "LSTM")
def recurrent(d):
    op = d.schema.name
    if d.opset < 7:
        raise Skip("old")
    dtype = d.ty("T")
    gates = {"RNN": 1, "GRU": 3, "LSTM": 4}[op]
    seq, batch, size, hidden = d.int(1, 4), d.int(1, 3), d.int(1, 5), d.int(1, 5)
    direction = d.of(["forward", "reverse", "bidirectional"])
    n = 2 if direction == "bidirectional" else 1
    attrs = {"hidden_size": hidden, "direction": direction}
    layout = "layout" in d.schema.attributes and d.chance(0.15)
    if layout:
        attrs["layout"] = 1
    x = [batch, seq, size] if layout else [seq, batch, size]
    h = [batch, n, hidden] if layout else [n, batch, hidden]
    inputs = {"X": scaled(d, x, dtype), "W": scaled(d, [n, gates * hidden, size], dtype),
              "R": scaled(d, [n, gates * hidden, hidden], dtype)}
    if d.chance(0.6):
        inputs["B"] = scaled(d, [n, 2 * gates * hidden], dtype)
    if d.chance(0.4):
        lens = d.ints([batch], 1, seq, np.int32)
        lens[d.int(0, batch - 1)] = seq
        inputs["sequence_lens"] = lens
    if d.chance(0.4):
        inputs["initial_h"] = scaled(d, h, dtype)
    if op == "LSTM" and d.chance(0.4):
        inputs["initial_c"] = scaled(d, h, dtype)
    if op == "LSTM" and d.chance(0.3):
        inputs["P"] = scaled(d, [n, 3 * hidden], dtype)
    if op == "GRU" and d.chance(0.5):
        attrs["linear_before_reset"] = 1
    if d.chance(0.2):
        attrs["clip"] = 0.5
    if d.chance(0.3):
        names = ["Tanh", "Sigmoid", "Relu", "Softsign", "HardSigmoid", "LeakyRelu", "Elu"]
        each = {"RNN": 1, "GRU": 2, "LSTM": 3}[op]
        attrs["activations"] = [d.of(names) for _ in range(each * n)]
    return inputs, attrs, len(d.schema.outputs)


@recipe("Det")
def det(d):
    k = d.int(1, 4)
    return {"X": d.values(d.positive(0, 2) + [k, k], d.ty("T"), -2, 2)}, {}


@recipe("Dropout")
def dropout(d):
    name, ty = d.schema.inputs[0].name, d.schema.inputs[0].type_str
    return {name: d.values(d.shape(), d.ty(ty))}, {} if d.opset > 6 else {"is_test": 1}


@recipe("NegativeLogLikelihoodLoss", "SoftmaxCrossEntropyLoss")
def loss(d):
    x, t, w = [i.name for i in d.schema.inputs]
    c = d.int(2, 5)
    shape = [d.int(1, 3), c] + d.positive(0, 2)
    attrs = {"reduction": d.of(["none", "sum", "mean"])}
    if d.chance(0.4):
        attrs["ignore_index"] = d.int(0, c - 1)
    inputs = {x: d.values(shape, d.ty("T"), -4.5, 0),
              t: d.ints([shape[0]] + shape[2:], 0, c - 1, d.ty("Tind"))}
    if d.chance(0.5):
        inputs[w] = d.values([c], d.ty("T"), 0.1, 2)
    return inputs, attrs, len(d.schema.outputs)
