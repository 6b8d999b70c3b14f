"""How nodes of pointwise operators, reductions and moves are drawn."""
import numpy as np

from draw import NAMES, Skip

RECIPES = {}


def recipe(*names):
    def add(f):
        for name in names:
            RECIPES[name] = f
        return f
    return add


def first(d):
    """The name and the type parameter of the first input."""
    return d.schema.inputs[0].name, d.schema.inputs[0].type_str


# Where a function has a domain of its own.
DOMAIN = {"Acos": (-1, 1), "Asin": (-1, 1), "Atanh": (-0.95, 0.95), "Acosh": (1, 9),
          "Log": (0.01, 9), "Sqrt": (0, 9), "Exp": (-5, 3), "Sinh": (-3, 3), "Cosh": (-3, 3),
          "Reciprocal": (0.1, 4), "Tan": (-1.4, 1.4)}
UNARY = """Abs Acos Acosh Asin Asinh Atan Atanh BitwiseNot Ceil Celu Cos Cosh Elu Erf Exp Floor Gelu
HardSigmoid HardSwish Identity IsInf IsNaN LeakyRelu Log Mish Neg Not Reciprocal Relu Round Selu
Shrink Sigmoid Sign Sin Sinh Softplus Softsign Sqrt Swish Tan Tanh ThresholdedRelu""".split()


@recipe(*UNARY)
def unary(d):
    name, ty = first(d)
    dtype = d.ty(ty) if ty in ("T", "T1", "V") else np.bool_
    bounds = DOMAIN.get(d.schema.name)
    if bounds and not d.rare:
        x = d.values(d.shape(), dtype, *bounds)
    else:
        x = d.values(d.shape(), dtype)
    attrs = {}
    for a in ("alpha", "beta", "gamma", "bias", "lambd"):
        if a in d.schema.attributes and d.chance(0.5):
            attrs[a] = float(np.float32(d.rng.uniform(0.1, 2)))
    if d.schema.name == "Gelu" and d.chance(0.5):
        attrs["approximate"] = d.of(["none", "tanh"])
    for a in ("detect_negative", "detect_positive"):
        if a in d.schema.attributes and d.chance(0.4):
            attrs[a] = d.int(0, 1)
    return {name: x}, attrs


def shift_free(d, a, b):
    """The legacy way to broadcast, of versions that have the attribute."""
    if "broadcast" in d.schema.attributes:
        return a, list(a), {}
    return a, b, {}


@recipe(*"""Add Sub Mul Div Pow Mod And Or Xor Equal Greater GreaterOrEqual Less LessOrEqual PRelu
BitShift BitwiseAnd BitwiseOr BitwiseXor SwiGLU StringConcat""".split())
def binary(d):
    op = d.schema.name
    (an, at), (bn, bt) = [(i.name, i.type_str) for i in d.schema.inputs]
    ta, tb = d.ty(at), d.ty(bt)
    sa, sb = d.broadcast(2)
    if op == "PRelu":
        full = d.shape(0, 4)
        sa, sb = full, [1 if d.chance(0.3) else n for n in full[d.int(0, len(full)):]]
    if op == "SwiGLU":
        sb = sa
    sa, sb, attrs = shift_free(d, sa, sb)
    a, b = d.values(sa, ta), d.values(sb, tb)
    integer = "int" in NAMES[np.dtype(tb)]
    if op == "Mod":
        floating = not integer
        if "fmod" in d.schema.attributes and (floating or d.chance(0.4)):
            attrs["fmod"] = 1
        a = d.values(sa, ta, -50, 50)
    if op in ("Div", "Mod") and integer:
        a, b = d.values(sa, ta, -100, 100), d.values(sb, tb, 1, 7)
        if NAMES[np.dtype(tb)][0] == "i":
            b = np.where(d.values(sb, np.bool_), b, -b).astype(tb)
    if op == "Pow":
        whole = "int" in NAMES[np.dtype(ta)]
        a = d.values(sa, ta) if d.rare and not whole else d.values(sa, ta, 0.1, 3)
        b = d.values(sb, tb, 0 if "int" in NAMES[np.dtype(ta)] else -3, 3)
    if op == "BitShift":
        attrs["direction"] = d.of(["LEFT", "RIGHT"])
        bits = np.dtype(ta).itemsize * 8
        a, b = d.values(sa, ta, 0, 1 << min(bits, 62)), d.values(sb, tb, 0, bits - 1)
    if op == "SwiGLU" and d.chance(0.5):
        attrs["alpha"] = 1.5
    return {an: a, bn: b}, attrs


@recipe("Max", "Min", "Mean", "Sum")
def variadic(d):
    dtype = d.ty("T")
    shapes = d.broadcast(d.int(1, 4))
    if d.opset < 8:
        shapes = [shapes[0]] * len(shapes)
    return {d.schema.inputs[0].name: [d.values(s, dtype) for s in shapes]}, {}


@recipe("Where")
def where(d):
    c, x, y = d.broadcast(3)
    return {"condition": d.values(c, np.bool_), "X": d.values(x, d.ty("T")),
            "Y": d.values(y, d.ty("T"))}, {}


@recipe("Clip")
def clip(d):
    name, ty = first(d)
    dtype = d.ty(ty)
    inputs, attrs = {name: d.values(d.shape(), dtype)}, {}
    for bound, at in (("min", -1.5), ("max", 2)):
        if not d.chance(0.7):
            continue
        if bound in d.schema.attributes:
            attrs[bound] = float(at)
        else:
            inputs[bound] = d.values([], dtype, at, at + 1)
    return inputs, attrs


@recipe("Cast", "CastLike")
def cast(d):
    source = d.ty("T1")
    target = d.ty("T2")
    low, high = -4, 4
    if np.dtype(target) == np.object_ and np.dtype(source).kind not in "iub":
        raise Skip("how floats are written differs")
    if np.dtype(source) == np.object_:
        if np.dtype(target) == np.object_ or np.dtype(target).kind not in "iuf":
            raise Skip("strings become common numbers")
        text = [str(d.int(0, 100)) for _ in range(3)]
        x = np.array(text, dtype=object)
    else:
        name = NAMES[np.dtype(target)]
        wide = not (name[0] == "u" or "int4" in name or "int2" in name)
        low, high = (-100, 100) if wide else (0, 3)
        if "int2" in name:
            low, high = 0, 1
        if d.rare and "int" not in name:
            low, high = -4.0, 4.0
        x = d.values(d.shape(), source, low, high)
    if d.schema.name == "CastLike":
        return {"input": x, "target_type": d.values([1], target)}, {}
    attrs = {"to": target}
    if "saturate" in d.schema.attributes and d.chance(0.3):
        attrs["saturate"] = d.int(0, 1)
    return {"input": x}, attrs


@recipe(*"""ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd
ReduceSum ReduceSumSquare""".split())
def reduce(d):
    dtype = d.ty("T")
    shape = d.shape(0, 5)
    bounds = (0.1, 3) if d.schema.name in ("ReduceLogSum", "ReduceProd") else (-4, 4)
    inputs, attrs = {"data": d.values(shape, dtype, *bounds)}, {}
    if d.chance(0.75):
        axes = d.axes(len(shape), 1 if d.opset < 18 and d.schema.name != "ReduceSum" else 0)
        (attrs if "axes" in d.schema.attributes else inputs)["axes"] = (
            axes if "axes" in d.schema.attributes else np.array(axes, np.int64))
    if d.chance(0.6):
        attrs["keepdims"] = d.int(0, 1)
    if "noop_with_empty_axes" in d.schema.attributes and d.chance(0.3):
        attrs["noop_with_empty_axes"] = d.int(0, 1)
    return inputs, attrs


@recipe("ArgMax", "ArgMin")
def arg(d):
    shape = d.positive(1, 4)
    attrs = {}
    for name, draw in (("axis", lambda: d.axis(len(shape))), ("keepdims", lambda: d.int(0, 1)),
                       ("select_last_index", lambda: d.int(0, 1))):
        if name in d.schema.attributes and d.chance(0.6):
            attrs[name] = draw()
    return {"data": d.values(shape, d.ty("T"))}, attrs


@recipe("CumSum", "CumProd")
def cumulative(d):
    shape = d.shape(1, 4)
    attrs = {a: d.int(0, 1) for a in ("reverse", "exclusive") if d.chance(0.5)}
    axis = np.array(d.axis(len(shape)), d.ty("T2"))
    bounds = (-4, 4) if d.schema.name == "CumSum" else (0.5, 1.5)
    return {"x": d.values(shape, d.ty("T"), *bounds), "axis": axis}, attrs


@recipe("Transpose")
def transpose(d):
    shape = d.shape(0, 6)
    attrs = {"perm": [int(p) for p in d.rng.permutation(len(shape))]} if d.chance(0.8) else {}
    return {"data": d.values(shape, d.ty("T"))}, attrs


def factors(d, n):
    """Sizes whose product is n."""
    out = []
    while n > 1 and d.chance(0.8):
        f = d.of([k for k in range(1, n + 1) if n % k == 0])
        out.append(f)
        n //= f
    return out + [n]


@recipe("Reshape")
def reshape(d):
    shape = d.shape(0, 5)
    n = int(np.prod(shape, dtype=np.int64))
    attrs = {}
    to = factors(d, n) if n else list(shape)
    if n == 1 and d.chance(0.3):
        to = []
    if n and to and d.chance(0.4):
        to[d.int(0, len(to) - 1)] = -1
    elif n and to and shape and d.chance(0.3) and len(shape) >= 2:
        to = [0, -1]
    elif "allowzero" in d.schema.attributes and 0 in shape:
        attrs["allowzero"] = 1
    dtype = d.ty("T")
    if "shape" in d.schema.attributes:
        return {"data": d.values(shape, dtype)}, {"shape": to}
    return {"data": d.values(shape, dtype), "shape": np.array(to, np.int64)}, attrs


@recipe("Squeeze", "Unsqueeze")
def squeeze(d):
    shape = d.shape(0, 4)
    inputs, attrs = {}, {}
    if d.schema.name == "Unsqueeze":
        n = d.int(1, 2)
        rank = len(shape) + n
        picked = [int(a) for a in d.rng.permutation(rank)[:n]]
    else:
        shape = [1 if d.chance(0.5) else n for n in shape]
        rank = len(shape)
        ones = [i for i, n in enumerate(shape) if n == 1]
        picked = [a for a in ones if d.chance(0.6)] if d.chance(0.7) else None
        if picked == []:
            picked = None
    if picked is not None:
        if d.opset >= 11:
            picked = [a - rank if d.chance(0.3) else a for a in picked]
        else:
            picked = sorted(picked)
        if "axes" in d.schema.attributes:
            attrs["axes"] = picked
        else:
            inputs["axes"] = np.array(picked, np.int64)
    return {d.schema.inputs[0].name: d.values(shape, d.ty("T")), **inputs}, attrs


@recipe("Flatten")
def flatten(d):
    shape = d.shape(0, 5)
    attrs = {}
    if d.chance(0.8):
        attrs["axis"] = d.int(-len(shape) if d.opset >= 11 else 0, len(shape))
    return {"input": d.values(shape, d.ty("T"))}, attrs


@recipe("Expand")
def expand(d):
    shape = d.shape(0, 4)
    to = [d.of([1, n]) if n != 1 else d.int(1, 4) for n in shape]
    to = [d.int(1, 3) for _ in range(d.int(0, 2))] + to
    if d.chance(0.3):
        to = to[d.int(0, len(to)):]
    return {"input": d.values(shape, d.ty("T")), "shape": np.array(to, np.int64)}, {}


@recipe("Tile")
def tile(d):
    if d.opset < 6:
        raise Skip("one axis at a time")
    shape = d.positive(0, 4)
    repeats = [d.of([0, 1, 1, 2, 3]) for _ in shape]
    return {"input": d.values(shape, d.ty("T")), "repeats": np.array(repeats, np.int64)}, {}


@recipe("Concat")
def concat(d):
    shape = d.shape(1, 4)
    axis = d.axis(len(shape)) if d.opset >= 11 else d.int(0, len(shape) - 1)
    parts = []
    for _ in range(d.int(1, 4)):
        part = list(shape)
        part[axis] = d.size()
        parts.append(d.values(part, d.ty("T")))
    return {"inputs": parts}, {"axis": axis}


@recipe("Split")
def split(d):
    shape = d.positive(1, 4)
    axis = d.axis(len(shape)) if d.opset >= 11 else d.int(0, len(shape) - 1)
    n = d.int(1, 4)
    inputs, attrs = {}, {"axis": axis}
    if d.chance(0.5):
        parts = [d.int(1, 3) for _ in range(n)]
        shape[axis] = sum(parts)
        if "split" in d.schema.attributes:
            attrs["split"] = parts
        else:
            inputs["split"] = np.array(parts, np.int64)
    elif "num_outputs" in d.schema.attributes:
        attrs["num_outputs"] = n
        shape[axis] = n * d.int(1, 3) + d.of([0, 0, max(0, n - 1)])
        if -(-shape[axis] // n) * (n - 1) >= shape[axis] and n > 1:
            shape[axis] = n
    else:
        shape[axis] = n * d.int(1, 3)
    return {"input": d.values(shape, d.ty("T")), **inputs}, attrs, n


@recipe("Slice")
def slice_(d):
    shape = d.shape(1, 4)
    n = d.int(1, len(shape))
    axes = d.axes(len(shape), 1) if d.opset >= 10 else sorted(a % len(shape) for a in
                                                             d.axes(len(shape), 1))
    n = len(axes)
    big = d.of([10, 2**31 - 1, 2**62])
    starts = [d.int(-shape[a] - 2, shape[a] + 2) for a in axes]
    ends = [d.of([d.int(-shape[a] - 2, shape[a] + 2), big, -big]) for a in axes]
    if "starts" in d.schema.attributes:
        return {"data": d.values(shape, d.ty("T"))}, {
            "starts": starts, "ends": ends, "axes": axes}
    tind = d.ty("Tind")
    if np.dtype(tind) == np.int32:
        ends = [max(-(2**31), min(2**31 - 1, e)) for e in ends]
    inputs = {"data": d.values(shape, d.ty("T")), "starts": np.array(starts, tind),
              "ends": np.array(ends, tind), "axes": np.array(axes, tind)}
    if d.chance(0.6):
        inputs["steps"] = np.array([d.of([1, 2, 3, -1, -2]) for _ in axes], tind)
    elif n == len(shape) and axes == list(range(n)) and d.chance(0.5):
        del inputs["axes"]
    return inputs, {}


@recipe("Gather")
def gather(d):
    shape = d.positive(1, 4)
    axis = d.axis(len(shape)) if d.opset >= 11 else d.int(0, len(shape) - 1)
    n = shape[axis]
    at = d.ints(d.shape(0, 3), -n if d.opset >= 11 else 0, n - 1, d.ty("Tind"))
    return {"data": d.values(shape, d.ty("T")), "indices": at}, {"axis": axis}


@recipe("GatherElements")
def gather_elements(d):
    shape = d.positive(1, 4)
    axis = d.axis(len(shape))
    to = [d.int(1, n) for n in shape]
    to[axis] = d.size()
    n = shape[axis]
    return {"data": d.values(shape, d.ty("T")),
            "indices": d.ints(to, -n, n - 1, d.ty("Tind"))}, {"axis": axis}


@recipe("GatherND")
def gather_nd(d):
    shape = d.positive(1, 4)
    batch = d.int(0, len(shape) - 1) if "batch_dims" in d.schema.attributes else 0
    depth = d.int(1, len(shape) - batch)
    lead = shape[:batch] + d.shape(0, 2)
    index = np.stack([d.ints(lead, -n, n - 1) for n in shape[batch:batch + depth]], -1)
    return {"data": d.values(shape, d.ty("T")), "indices": index}, (
        {"batch_dims": batch} if batch else {})


def reduction(d):
    if "reduction" in d.schema.attributes and d.chance(0.5):
        return {"reduction": d.of(["none", "add", "mul"] + (["min", "max"] if d.opset >= 18
                                                             else []))}
    return {}


@recipe("Scatter", "ScatterElements")
def scatter_elements(d):
    shape = d.positive(1, 4)
    axis = d.axis(len(shape))
    to = [d.int(1, n) for n in shape]
    n = shape[axis]
    attrs = reduction(d)
    order = np.argsort(d.rng.random(size=to[:axis % len(to)] + [n] + to[axis % len(to) + 1:]),
                       axis=axis)
    index = np.take(order, range(to[axis]), axis=axis).astype(d.ty("Tind"))
    if attrs.get("reduction", "none") != "none":
        index = d.ints(to, -n, n - 1, d.ty("Tind"))
    return {"data": d.values(shape, d.ty("T")), "indices": index,
            "updates": d.values(to, d.ty("T"))}, {"axis": axis, **attrs}


@recipe("ScatterND")
def scatter_nd(d):
    shape = d.positive(1, 4)
    depth = d.int(1, len(shape))
    attrs = reduction(d)
    count = int(np.prod(shape[:depth]))
    n = d.int(0, min(count, 5))
    flat = d.rng.permutation(count)[:n]
    if attrs.get("reduction", "none") != "none":
        flat = d.ints([n], 0, count - 1)
    index = np.stack(np.unravel_index(flat, shape[:depth]), -1).reshape(n, depth)
    return {"data": d.values(shape, d.ty("T")), "indices": index.astype(np.int64),
            "updates": d.values([n] + shape[depth:], d.ty("T"))}, attrs


@recipe("Pad")
def pad(d):
    shape = d.positive(1, 4)
    modes = ["constant", "edge", "reflect"] + (["wrap"] if d.opset >= 19 else [])
    mode = d.of(modes)
    low = -1 if mode == "constant" and d.chance(0.3) else 0
    reach = [max(0, n - 1) if mode == "reflect" else n if mode == "wrap" else 3 for n in shape]
    axes = list(range(len(shape)))
    inputs, attrs = {}, {"mode": mode}
    if d.has("axes") and d.chance(0.4):
        axes = d.axes(len(shape), 1)
        inputs["axes"] = np.array(axes, d.ty("Tind"))
    draw = [min(d.int(low, 3), reach[a]) for a in axes + axes]
    dtype = d.ty("T")
    name = d.schema.inputs[0].name
    if "pads" in d.schema.attributes or "paddings" in d.schema.attributes:
        key = "pads" if "pads" in d.schema.attributes else "paddings"
        if d.chance(0.5):
            attrs["value"] = 1.5
        return {name: d.values(shape, dtype)}, {key: draw, **attrs}
    if mode == "constant" and d.chance(0.6):
        inputs["constant_value"] = d.values([], dtype)
    return {name: d.values(shape, dtype), "pads": np.array(draw, np.int64), **inputs}, attrs


@recipe("DepthToSpace", "SpaceToDepth")
def space_depth(d):
    b = d.int(1, 3)
    n, c, h, w = [d.int(1, 4) for _ in range(4)]
    deep = d.schema.name == "DepthToSpace"
    shape = [n, c * b * b, h, w] if deep else [n, c, h * b, w * b]
    attrs = {"blocksize": b}
    if "mode" in d.schema.attributes and d.chance(0.6):
        attrs["mode"] = d.of(["DCR", "CRD"])
    return {"input": d.values(shape, d.ty("T"))}, attrs


@recipe("Trilu")
def trilu(d):
    shape = d.shape(2, 4)
    inputs = {"input": d.values(shape, d.ty("T"))}
    if d.chance(0.6):
        inputs["k"] = np.array(d.int(-5, 5), np.int64)
    return inputs, {"upper": d.int(0, 1)} if d.chance(0.7) else {}


@recipe("ReverseSequence")
def reverse_sequence(d):
    shape = d.positive(2, 4)
    time = d.int(0, 1)
    lens = d.ints([shape[1 - time]], 1, shape[time])
    return {"input": d.values(shape, d.ty("T")), "sequence_lens": lens}, {
        "time_axis": time, "batch_axis": 1 - time}


@recipe("CenterCropPad")
def center_crop_pad(d):
    shape = d.positive(1, 4)
    inputs, attrs = {"input_data": d.values(shape, d.ty("T"))}, {}
    axes = list(range(len(shape)))
    if d.chance(0.5):
        axes = d.axes(len(shape), 1)
        attrs["axes"] = axes
    inputs["shape"] = d.ints([len(axes)], 1, 7, d.ty("Tind"))
    return inputs, attrs


@recipe("Compress")
def compress(d):
    shape = d.positive(1, 4)
    attrs = {"axis": d.axis(len(shape)) if d.opset >= 11 else 0} if d.chance(0.7) else {}
    n = shape[attrs["axis"]] if attrs else int(np.prod(shape))
    return {"input": d.values(shape, d.ty("T")),
            "condition": d.values([d.int(1, n)], np.bool_)}, attrs


@recipe("NonZero")
def non_zero(d):
    dtype = d.ty("T")
    return {"X": d.values(d.shape(1, 4), dtype, -1, 1)}, {}


@recipe("Shape", "Size")
def shape_(d):
    shape = d.shape(0, 5)
    attrs = {a: d.int(-6, 6) for a in ("start", "end")
             if a in d.schema.attributes and d.chance(0.5)}
    return {"data": d.values(shape, d.ty("T"))}, attrs


@recipe("OneHot")
def one_hot(d):
    depth = d.int(1, 6)
    index = d.ints(d.shape(0, 3), -depth, depth - 1)
    if "uint" in NAMES[np.dtype(d.ty("T1"))]:
        index = np.abs(index) % depth
    index = index.astype(d.ty("T1"))
    shape = list(index.shape)
    attrs = {"axis": d.int(-len(shape) - 1, len(shape))} if d.chance(0.6) else {}
    return {"indices": index, "depth": np.array(depth, d.ty("T2")),
            "values": d.values([2], d.ty("T3"))}, attrs


@recipe("TopK")
def top_k(d):
    shape = d.positive(1, 4)
    axis = d.axis(len(shape)) if d.opset >= 11 else d.int(0, len(shape) - 1)
    attrs = {"axis": axis}
    if d.opset >= 11 and d.chance(0.5):
        attrs["largest"] = d.int(0, 1)
    k = d.int(0 if d.opset >= 10 else 1, shape[axis])
    x = d.values(shape, d.ty("T"), -50, 50)
    if "k" in d.schema.attributes:
        return {"X": x}, {**attrs, "k": k}, 2
    return {"X": x, "K": np.array([k], np.int64)}, attrs, 2


@recipe("Unique")
def unique(d):
    shape = d.positive(1, 3)
    attrs = {"axis": d.axis(len(shape))} if d.chance(0.5) else {}
    if d.chance(0.5):
        attrs["sorted"] = d.int(0, 1)
    return {"X": d.values(shape, d.ty("T"), -2, 2)}, attrs, d.int(1, 4)


@recipe("Range")
def range_(d):
    dtype = d.ty("T")
    step = d.of([1, 2, 3]) * (1 if d.chance(0.6) or "uint" in NAMES[np.dtype(dtype)] else -1)
    start = d.int(0, 5)
    limit = start + step * d.int(0, 6) + d.of([0, 0, 1])
    return {"start": np.array(start, dtype), "limit": np.array(max(limit, -20), dtype),
            "delta": np.array(step, dtype)}, {}


@recipe("EyeLike")
def eye_like(d):
    attrs = {"k": d.int(-3, 3)} if d.chance(0.6) else {}
    if d.chance(0.5):
        attrs["dtype"] = d.ty("T2")
    return {"input": d.values(d.shape(2, 2), d.ty("T1"))}, attrs


@recipe("ConstantOfShape")
def constant_of_shape(d):
    attrs = {"value": d.values([1], d.ty("T2"))} if d.chance(0.8) else {}
    return {"input": np.array(d.shape(0, 4), np.int64)}, attrs


@recipe("BitCast")
def bit_cast(d):
    source = np.dtype(d.ty("T1"))
    target = np.dtype(d.ty("T2"))
    if source.itemsize != target.itemsize or "4" in NAMES[source] + NAMES[target]:
        raise Skip("of the same width")
    return {"input": d.values(d.shape(), source)}, {"to": d.ty("T2")}
