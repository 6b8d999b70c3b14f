"""How nodes of products, convolutions, pools, norms, recurrences, quantization are drawn."""
import numpy as np

from draw import NAMES, Skip
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


@recipe("MatMulInteger")
def mat_mul_integer(d):
    a, b = d.ty("T1"), d.ty("T2")
    m, k, n = [max(1, d.size()) for _ in range(3)]
    inputs = {"A": d.values([m, k], a, -128, 255), "B": d.values([k, n], b, -128, 255)}
    if d.chance(0.6):
        inputs["a_zero_point"] = d.values(d.of([[], [1]]), a, -100, 200)
    if d.chance(0.6):
        inputs["b_zero_point"] = d.values(d.of([[], [n]]), b, -100, 200)
    return inputs, {}


QUANT = ("int8", "uint8")


@recipe("QLinearMatMul")
def q_linear_mat_mul(d):
    m, k, n = [max(1, d.size()) for _ in range(3)]
    ta, tb, ty = [d.ty(t, QUANT) for t in ("T1", "T2", "T3")]
    ts = d.ty("TS", ("float",)) if d.opset >= 21 else np.float32
    scale = lambda low, high: d.floats([], low, high, ts)
    return {"a": d.values([m, k], ta, -128, 255), "a_scale": scale(0.01, 0.1),
            "a_zero_point": d.values([], ta, -100, 200), "b": d.values([k, n], tb, -128, 255),
            "b_scale": scale(0.01, 0.1), "b_zero_point": d.values([], tb, -100, 200),
            "y_scale": scale(0.1, 2), "y_zero_point": d.values([], ty, -100, 200)}, {}


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


@recipe("ConvInteger", "QLinearConv")
def conv_integer(d):
    n, group, ci, co = conv_shapes(d)
    sizes = image(d, 3)
    kernel, attrs = window(d, sizes)
    if group > 1:
        attrs["group"] = group
    tx, tw = d.ty("T1", QUANT), d.ty("T2", QUANT)
    x = d.values([n, group * ci] + sizes, tx, -128, 255)
    w = d.values([group * co, ci] + kernel, tw, -128, 255)
    if d.schema.name == "ConvInteger":
        inputs = {"x": x, "w": w}
        if d.chance(0.5):
            inputs["x_zero_point"] = d.values([], tx, -100, 200)
        if d.chance(0.4):
            inputs["w_zero_point"] = d.values([], tw, -100, 200)
        return inputs, attrs
    scale = lambda low, high, shape=(): d.floats(shape, low, high)
    each = [group * co] if d.chance(0.4) else []
    inputs = {"x": x, "x_scale": scale(0.01, 0.1), "x_zero_point": d.values([], tx, 0, 100),
              "w": w, "w_scale": scale(0.01, 0.1, each), "w_zero_point": np.zeros(each, tw),
              "y_scale": scale(0.1, 3), "y_zero_point": d.values([], d.ty("T3", QUANT), 0, 100)}
    if d.chance(0.4):
        inputs["B"] = d.values([group * co], np.int32, -1000, 1000)
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


@recipe("QuantizeLinear", "DequantizeLinear")
def quantize(d):
    to_int = d.schema.name == "QuantizeLinear"
    shape = d.positive(1, 4)
    axis = d.int(0, len(shape) - 1)
    per = d.of(["tensor", "axis"]) if d.opset >= 13 else "tensor"
    if d.opset >= 21 and d.chance(0.3):
        per = "block"
    attrs = {}
    scales = [] if per == "tensor" else [shape[axis]]
    if per == "block":
        block = d.int(1, 3)
        blocks = d.int(1, 3)
        shape[axis] = block * blocks
        scales = shape[:axis] + [blocks] + shape[axis + 1:]
        attrs["block_size"] = block
    if per != "tensor":
        attrs["axis"] = axis - (len(shape) if d.chance(0.3) else 0)
    x, s, z = d.schema.inputs
    tq = d.ty(z.type_str)
    tf = d.ty(s.type_str if s.type_str.startswith("T") else "", FLOATS) \
        if s.type_str.startswith("T") else np.float32
    name = NAMES[np.dtype(tq)]
    if "e8m0" in NAMES[np.dtype(tf)]:
        raise Skip("scales of powers of two")
    high = 3 if "int" not in name else 1
    inputs = {}
    if to_int:
        tx = d.ty(x.type_str)
        inputs[x.name] = d.values(shape, tx, -60, 60)
    else:
        inputs[x.name] = d.values(shape, tq, -128, 255)
    inputs[s.name] = d.values(scales, tf, 0.1, high)
    if d.chance(0.6) or (to_int and name != "uint8"):
        wide = d.values(scales, tq, -5, 5) if "int" in name and "32" not in name else \
            np.zeros(scales, tq)
        inputs[z.name] = wide
    if not to_int and "output_dtype" in d.schema.attributes and d.chance(0.0):
        attrs["output_dtype"] = np.float32
    return inputs, attrs


@recipe("DynamicQuantizeLinear")
def dynamic_quantize(d):
    return {"x": d.values(d.positive(1, 3), np.float32, -9, 9)}, {}, 3


@recipe("Resize")
def resize(d):
    if d.opset < 11:
        raise Skip("old")
    dtype = d.ty("T1")
    mode = d.of(["nearest", "linear", "cubic"])
    shape = [d.int(1, 2), d.int(1, 2), d.int(2, 7), d.int(2, 7)]
    attrs = {"mode": mode}
    coords = ["half_pixel", "align_corners", "asymmetric", "pytorch_half_pixel"]
    if d.opset >= 19:
        coords.append("half_pixel_symmetric")
    if d.chance(0.7):
        attrs["coordinate_transformation_mode"] = d.of(coords)
    if mode == "nearest" and d.chance(0.6):
        attrs["nearest_mode"] = d.of(["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"])
    if mode == "cubic" and d.chance(0.4):
        attrs["cubic_coeff_a"] = -0.5
        attrs["exclude_outside"] = d.int(0, 1)
    if d.opset >= 18 and mode != "nearest" and d.chance(0.3):
        attrs["antialias"] = 1
    inputs = {"X": d.values(shape, dtype, -9, 9)}
    if d.opset < 13:
        inputs["roi"] = np.zeros([0], np.float32)
    if d.chance(0.5):
        inputs["scales"] = np.array([1, 1, d.of([0.5, 1.5, 2, 0.7, 3]), d.of([0.5, 2, 1, 0.8])],
                                    np.float32)
    else:
        if d.opset < 13:
            inputs["scales"] = np.zeros([0], np.float32)
        inputs["sizes"] = np.array(shape[:2] + [d.int(1, 9), d.int(1, 9)], np.int64)
    return inputs, attrs


@recipe("GridSample")
def grid_sample(d):
    modes = ["linear", "nearest", "cubic"] if d.opset >= 20 else ["bilinear", "nearest", "bicubic"]
    attrs = {"mode": d.of(modes), "padding_mode": d.of(["zeros", "border", "reflection"]),
             "align_corners": d.int(0, 1)}
    n = d.int(1, 2)
    x = d.values([n, d.int(1, 2), d.int(2, 5), d.int(2, 5)], d.ty("T1"), -9, 9)
    return {"X": x, "grid": d.values([n, d.int(1, 4), d.int(1, 4), 2], d.ty("T2"), -1.2, 1.2)}, attrs


@recipe("AffineGrid")
def affine_grid(d):
    n, k = d.int(1, 2), d.of([2, 3])
    size = np.array([n, 1] + [d.int(2, 4) for _ in range(k)], np.int64)
    return {"theta": d.values([n, k, k + 1], d.ty("T1"), -2, 2), "size": size}, {
        "align_corners": d.int(0, 1)}


@recipe("RoiAlign")
def roi_align(d):
    n = d.int(1, 2)
    x = d.values([n, d.int(1, 2), 6, 7], d.ty("T1"), -9, 9)
    k = d.int(1, 3)
    corner = d.floats([k, 2], 0, 3)
    rois = np.concatenate([corner, corner + d.floats([k, 2], 1, 3)], 1).astype(d.ty("T1"))
    attrs = {"output_height": d.int(1, 3), "output_width": d.int(1, 3),
             "sampling_ratio": d.int(1, 2), "mode": d.of(["avg", "max"])}
    if d.opset >= 16:
        attrs["coordinate_transformation_mode"] = d.of(["half_pixel", "output_half_pixel"])
    return {"X": x, "rois": rois, "batch_indices": d.ints([k], 0, n - 1)}, attrs


@recipe("MaxRoiPool")
def max_roi_pool(d):
    k = d.int(1, 3)
    corner = d.ints([k, 2], 0, 3)
    rois = np.concatenate([np.zeros([k, 1]), corner, corner + d.ints([k, 2], 0, 3)], 1)
    return {"X": d.values([1, 2, 7, 7], d.ty("T"), -9, 9), "rois": rois.astype(d.ty("T"))}, {
        "pooled_shape": [d.int(1, 3), d.int(1, 3)]}


@recipe("Col2Im")
def col2im(d):
    h, w, kh, kw, c, n = d.int(3, 6), d.int(3, 6), d.int(1, 3), d.int(1, 3), d.int(1, 2), 1
    count = (h - kh + 1) * (w - kw + 1)
    return {"input": d.values([n, c * kh * kw, count], d.ty("T")),
            "image_shape": np.array([h, w]), "block_shape": np.array([kh, kw])}, {}


@recipe("Det")
def det(d):
    k = d.int(1, 4)
    return {"X": d.values(d.positive(0, 2) + [k, k], d.ty("T"), -2, 2)}, {}


@recipe("Dropout")
def dropout(d):
    name, ty = d.schema.inputs[0].name, d.schema.inputs[0].type_str
    return {name: d.values(d.shape(), d.ty(ty))}, {} if d.opset > 6 else {"is_test": 1}


@recipe("HannWindow", "HammingWindow", "BlackmanWindow")
def cosine_window(d):
    attrs = {"periodic": d.int(0, 1)} if d.chance(0.5) else {}
    if d.chance(0.3):
        attrs["output_datatype"] = d.ty("T2", ("float", "double"))
    return {"size": np.array(d.int(2, 20), d.ty("T1"))}, attrs


@recipe("DFT")
def dft(d):
    dtype = d.ty("T1")
    shape = d.positive(1, 3) + [d.of([1, 2])]
    shape[0] = max(shape[0], 2)
    rank = len(shape)
    axis = d.int(0, rank - 2)
    inputs, attrs = {"input": d.values(shape, dtype, -3, 3)}, {}
    if d.chance(0.4):
        inputs["dft_length"] = np.array(d.int(1, 9), np.int64)
    if d.opset >= 20:
        inputs["axis"] = np.array(axis - (rank if d.chance(0.4) else 0), np.int64)
    else:
        attrs["axis"] = axis
    if shape[-1] == 1 and d.chance(0.5):
        attrs["onesided"] = 1
    elif d.chance(0.5):
        attrs["inverse"] = 1
    return inputs, attrs


@recipe("STFT")
def stft(d):
    dtype = d.ty("T1")
    n, w = d.int(8, 30), d.int(2, 8)
    inputs = {"signal": d.values([d.int(1, 2), n, 1], dtype, -3, 3),
              "frame_step": np.array(d.int(1, 5), d.ty("T2"))}
    if d.chance(0.6):
        inputs["window"] = d.values([w], dtype, 0, 1)
    inputs["frame_length"] = np.array(w, d.ty("T2"))
    return inputs, {"onesided": d.int(0, 1)} if d.chance(0.5) else {}


@recipe("MelWeightMatrix")
def mel(d):
    ti, tf = d.ty("T1"), d.ty("T2", ("float", "double"))
    return {"num_mel_bins": np.array(d.int(2, 6), ti), "dft_length": np.array(64, ti),
            "sample_rate": np.array(8000, ti), "lower_edge_hertz": np.array(0, tf),
            "upper_edge_hertz": np.array(4000, tf)}, {}


@recipe("NonMaxSuppression")
def nms(d):
    b, n, c = d.int(1, 2), d.int(1, 6), d.int(1, 2)
    corner = d.floats([b, n, 2], 0, 2)
    boxes = np.concatenate([corner, corner + d.floats([b, n, 2], 0.2, 2)], 2)
    inputs = {"boxes": boxes, "scores": d.floats([b, c, n], 0, 1),
              "max_output_boxes_per_class": np.array([d.int(0, 4)])}
    if d.chance(0.7):
        inputs["iou_threshold"] = np.array([d.of([0.3, 0.5, 0.0])], np.float32)
    if d.chance(0.5):
        inputs["score_threshold"] = np.array([0.4], np.float32)
    return inputs, {"center_point_box": d.int(0, 1)} if d.chance(0.4) else {}


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


@recipe("StringNormalizer")
def string_normalizer(d):
    x = d.values([d.int(1, 6)], np.object_)
    attrs = {"case_change_action": d.of(["LOWER", "UPPER", "NONE"]),
             "is_case_sensitive": d.int(0, 1)}
    if d.chance(0.6):
        attrs["stopwords"] = ["a", "Ab", "vu"]
    return {"X": x}, attrs


@recipe("StringSplit")
def string_split(d):
    attrs = {"delimiter": d.of(["a", " ", "@", "."])} if d.chance(0.6) else {}
    if d.chance(0.4):
        attrs["maxsplit"] = d.int(1, 2)
    return {"X": d.values(d.shape(0, 2), np.object_)}, attrs, 2


@recipe("RegexFullMatch")
def regex(d):
    return {"X": d.values(d.shape(0, 2), np.object_)}, {
        "pattern": d.of(["a+", ".*", "[a-z]*\\d", "(a|b)", "\\w+"])}


@recipe("TfIdfVectorizer")
def tf_idf(d):
    attrs = {"mode": d.of(["TF", "IDF", "TFIDF"]), "min_gram_length": 1, "max_gram_length": 2,
             "max_skip_count": d.int(0, 2), "ngram_counts": [0, 3], "ngram_indexes": [0, 1, 2, 3, 4],
             "pool_int64s": [1, 2, 3, 1, 2, 3, 1]}
    if d.chance(0.5):
        attrs["weights"] = [0.5, 2.0, 1.0, 3.0, 0.25]
    return {"X": d.values(d.positive(1, 2), d.ty("T", ("int32", "int64")), 0, 4)}, attrs


@recipe("RotaryEmbedding")
def rotary(d):
    dtype = d.ty("T")
    b, h, s, k = d.int(1, 2), d.int(1, 3), d.int(1, 4), d.of([2, 4, 8])
    attrs, inputs = {"interleaved": d.int(0, 1)}, {}
    shape = [b, h, s, k]
    if d.chance(0.4):
        shape, attrs["num_heads"] = [b, s, h * k], h
    cache = [b, s, k // 2]
    if d.chance(0.5):
        cache = [9, k // 2]
        inputs["position_ids"] = d.ints([b, s], 0, 8)
    return {"X": d.values(shape, dtype, -3, 3), "cos_cache": d.values(cache, dtype, -1, 1),
            "sin_cache": d.values(cache, dtype, -1, 1), **inputs}, attrs


@recipe("Attention")
def attention(d):
    dtype = d.ty("T1", FLOATS)
    d.bound["T2"] = dtype
    b, hk, g, q, k, e, v = (d.int(1, 2), d.int(1, 2), d.int(1, 2), d.int(1, 4), d.int(1, 5),
                            d.of([1, 4, 8]), d.of([1, 4, 8]))
    h = hk * g
    attrs = {}
    value = lambda shape: d.values(shape, dtype, -2, 2)
    if d.chance(0.3):
        inputs = {"Q": value([b, q, h * e]), "K": value([b, k, hk * e]), "V": value([b, k, hk * v])}
        attrs = {"q_num_heads": h, "kv_num_heads": hk}
    else:
        inputs = {"Q": value([b, h, q, e]), "K": value([b, hk, k, e]), "V": value([b, hk, k, v])}
    total = k
    outputs = 1
    if d.chance(0.3):
        past = d.int(1, 3)
        inputs["past_key"], inputs["past_value"] = value([b, hk, past, e]), value([b, hk, past, v])
        total, outputs = k + past, 3
    if d.chance(0.4):
        mask = d.of([[q, total], [1, 1, q, total], [b, h, q, total]])
        boolean = d.chance(0.4)
        d.bound["U"] = np.bool_ if boolean else dtype
        m = d.values(mask, np.bool_) if boolean else value(mask)
        if boolean:
            m[..., 0] = True
        inputs["attn_mask"] = m
    if d.chance(0.3):
        attrs["is_causal"] = 1
    if d.chance(0.3):
        attrs["softcap"] = 2.0
    if d.chance(0.3):
        attrs["scale"] = 0.3
    return inputs, attrs, outputs


@recipe("TensorScatter")
def tensor_scatter(d):
    b, s, n = d.int(1, 3), d.int(3, 6), d.int(1, 3)
    tail = d.positive(1, 2)
    inputs = {"past_cache": d.values([b, s] + tail, d.ty("T")),
              "update": d.values([b, n] + tail, d.ty("T"))}
    attrs = {"axis": 1, "mode": d.of(["linear", "circular"])}
    if d.chance(0.7):
        inputs["write_indices"] = d.ints([b], 0, s - n)
    return inputs, attrs
