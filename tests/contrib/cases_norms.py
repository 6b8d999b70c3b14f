"""Layer normalization and what ONNX Runtime fuses with it, and activations."""
import numpy as np

from case import Case, floats, maybe, node, one, operator, pick, sizes


def dtype_of(rng):
    return pick(rng, np.float32, np.float32, np.float16)


@operator("LayerNormalization-1")
def layer_norm(rng):
    shape = sizes(rng, rng.integers(2, 5))
    axis = int(rng.integers(0, len(shape)))
    dtype = pick(rng, np.float32, np.float64, np.float16)
    row = shape[axis:]
    arrays = {"x": floats(rng, *shape, dtype=dtype), "scale": floats(rng, *row, dtype=dtype),
              "b": maybe(rng, floats(rng, *row, dtype=dtype))}
    axis = axis - len(shape) if rng.random() < 0.5 else axis
    outputs = 1 if dtype == np.float64 else pick(rng, 1, 3)
    return one(rng, "LayerNormalization", arrays, outputs, domain="", opset=14, axis=axis,
               epsilon=maybe(rng, 1e-3))


@operator("SimplifiedLayerNormalization")
def simplified(rng):
    shape = sizes(rng, rng.integers(2, 5))
    axis = int(rng.integers(0, len(shape)))
    dtype = pick(rng, np.float32, np.float64, np.float16)
    arrays = {"x": floats(rng, *shape, dtype=dtype),
              "scale": floats(rng, *shape[axis:], dtype=dtype)}
    axis = axis - len(shape) if rng.random() < 0.5 else axis
    outputs = 1 if dtype == np.float64 else pick(rng, 1, 2)
    return one(rng, "SimplifiedLayerNormalization", arrays, outputs, domain="",
               opset=pick(rng, 11, 14, 17, 20), axis=axis, epsilon=maybe(rng, 1e-3), stash_type=1)


def skip_arrays(rng, dtype):
    b, s, h = sizes(rng, 2) + [pick(rng, 1, 4, 8, 17, 64)]
    skip = pick(rng, [b, s, h], [b, s, h], [1, s, h], [s, h])
    return [b, s, h], skip, lambda *shape: floats(rng, *shape, dtype=dtype)


@operator("SkipLayerNormalization")
def skip_layer_norm(rng):
    dtype = dtype_of(rng)
    shape, skip, f = skip_arrays(rng, dtype)
    h = shape[-1]
    arrays = {"x": f(*shape), "skip": f(*skip), "gamma": f(h), "beta": maybe(rng, f(h)),
              "bias": maybe(rng, f(h))}
    outputs = pick(rng, ["y"], ["y", "", "", "sum"])
    return one(rng, "SkipLayerNormalization", arrays, outputs, epsilon=1e-3)


@operator("SkipSimplifiedLayerNormalization")
def skip_simplified(rng):
    dtype = dtype_of(rng)
    shape, skip, f = skip_arrays(rng, dtype)
    h = shape[-1]
    arrays = {"x": f(*shape), "skip": f(*skip), "gamma": f(h), "bias": maybe(rng, f(h))}
    outputs = pick(rng, ["y"], ["y", "", "", "sum"])
    return one(rng, "SkipSimplifiedLayerNormalization", arrays, outputs, epsilon=maybe(rng, 1e-3))


@operator("EmbedLayerNormalization")
def embed(rng):
    b, s, h = sizes(rng, 2) + [pick(rng, 4, 8, 24)]
    segments = rng.random() < 0.6
    ids = lambda n, *shape: rng.integers(0, n, shape).astype(np.int32)
    mask = maybe(rng, ids(2, b, s))
    arrays = {
        "input_ids": ids(11, b, s),
        "segment_ids": ids(2, b, s) if segments else None,
        "word": floats(rng, 11, h),
        "position": floats(rng, s + 3, h),
        "segment": floats(rng, 2, h) if segments else None,
        "gamma": floats(rng, h),
        "beta": floats(rng, h),
        "mask": mask,
        "position_ids": maybe(rng, ids(s + 3, pick(rng, 1, b), s), 0.3),
    }
    outputs = pick(rng, ["y", "n"], ["y", "n", "sum"])
    return one(rng, "EmbedLayerNormalization", arrays, outputs, epsilon=1e-3)


@operator("Gelu")
def gelu(rng):
    return one(rng, "Gelu", {"x": floats(rng, *sizes(rng, rng.integers(0, 5)), low=-6, high=6)})


@operator("QuickGelu")
def quick_gelu(rng):
    x = floats(rng, *sizes(rng, rng.integers(1, 5)), low=-6, high=6)
    return one(rng, "QuickGelu", {"x": x}, alpha=maybe(rng, 0.7))


@operator("BiasGelu")
def bias_gelu(rng):
    shape = sizes(rng, rng.integers(1, 5))
    return one(rng, "BiasGelu", {"x": floats(rng, *shape), "b": floats(rng, shape[-1])})


@operator("FastGelu")
def fast_gelu(rng):
    shape = sizes(rng, rng.integers(1, 5))
    return one(rng, "FastGelu", {"x": floats(rng, *shape, high=5.0),
                                 "b": maybe(rng, floats(rng, shape[-1]))})


def standing_for(rng, name, arrays, steps, outputs=("y0",), **attributes):
    """A node that ONNX Runtime's CPU has not, and ONNX's nodes that compute the same."""
    case = one(rng, name, arrays, list(outputs), **attributes)
    oracle = Case(steps, case.inputs, dict(case.constants), case.outputs, opset=20)
    case.oracle = oracle
    return case


@operator("BiasSoftmax")
def bias_softmax(rng):
    b, h, s, t = sizes(rng, 4)
    inner = rng.random() < 0.5
    bias = [b, 1, 1, t] if inner else [1, 1, s, t]
    arrays = {"x": floats(rng, b, h, s, t), "b": floats(rng, *bias)}
    steps = [node("Add", ["x", "b"], ["z"], domain=""),
             node("Softmax", ["z"], ["y0"], domain="", axis=-1)]
    return standing_for(rng, "BiasSoftmax", arrays, steps, axis=3, is_inner_broadcast=int(inner))


@operator("BiasAdd")
def bias_add(rng):
    b, s, c = sizes(rng, 3)
    arrays = {"x": floats(rng, b, s, c), "b": floats(rng, c), "skip": floats(rng, b, s, c)}
    steps = [node("Add", ["x", "b"], ["z"], domain=""),
             node("Add", ["z", "skip"], ["y0"], domain="")]
    return standing_for(rng, "BiasAdd", arrays, steps)


@operator("BiasSplitGelu")
def bias_split_gelu(rng):
    b, s, c = sizes(rng, 3)
    arrays = {"x": floats(rng, b, s, 2 * c), "b": floats(rng, 2 * c)}
    steps = [node("Add", ["x", "b"], ["z"], domain=""),
             node("Split", ["z"], ["l", "r"], domain="", axis=-1, num_outputs=2),
             node("Gelu", ["r"], ["g"], domain=""),
             node("Mul", ["l", "g"], ["y0"], domain="")]
    return standing_for(rng, "BiasSplitGelu", arrays, steps)


@operator("LinearAttentionGate")
def linear_gate(rng):
    b, t, h = sizes(rng, 3)
    dtype = dtype_of(rng)
    two = rng.random() < 0.7
    arrays = {"a": floats(rng, b, t, h, dtype=dtype), "bias": floats(rng, h),
              "scale": floats(rng, h), "b": floats(rng, b, t, h, dtype=dtype) if two else None}
    return one(rng, "LinearAttentionGate", arrays, 2 if two else 1)


@operator("GatedRMSNorm")
def gated_rms_norm(rng):
    b, t, h, c = sizes(rng, 4)
    dtype = dtype_of(rng)
    h = pick(rng, 1, h)
    f = lambda *shape: floats(rng, *shape, dtype=dtype)
    arrays = {"x": f(b, t, h * c), "scale": f(c), "gate": f(b, t, h * c)}
    return one(rng, "GatedRMSNorm", arrays, fixed=["scale"], epsilon=maybe(rng, 1e-3),
               activation=pick(rng, "silu", "swish", "sigmoid", None))


@operator("GatedAdd")
def gated_add(rng):
    shape = sizes(rng, rng.integers(1, 4))
    dtype = dtype_of(rng)
    f = lambda *shape: floats(rng, *shape, dtype=dtype)
    return one(rng, "GatedAdd", {"x": f(*shape), "y": f(*shape), "gate": f(*shape[:-1], 1)})


@operator("ScaledSiLU")
def scaled_silu(rng):
    dtype = dtype_of(rng)
    x = floats(rng, *sizes(rng, rng.integers(1, 4)), dtype=dtype)
    scale = maybe(rng, floats(rng, dtype=dtype))
    return one(rng, "ScaledSiLU", {"x": x, "scale": scale}, alpha=maybe(rng, 0.6))
