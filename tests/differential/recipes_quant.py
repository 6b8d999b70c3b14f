"""How nodes that quantize, and quantized products and convolutions, are drawn."""
import numpy as np

from draw import NAMES, Skip
from recipes import recipe
from recipes_nn import FLOATS, conv_shapes, image, window

QUANT = ("int8", "uint8")
NARROW = ("int4", "uint4", "int2", "uint2")


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
    try:
        tq = d.ty(z.type_str, NARROW if d.chance(0.3) else None)
    except Skip:  # an old version
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
