"""Products with something fused, convolutions, distances, inverses."""
import numpy as np

from case import Case, floats, maybe, node, one, operator, pick, sizes


def matrices(rng, name):
    """Operands of a product and its attributes."""
    m, k, n = sizes(rng, 3, high=9)
    batch = sizes(rng, rng.integers(0, 3), high=4)
    trans = {key: int(rng.random() < 0.4) for key in ["transA", "transB"]}
    a = [k, m] if trans["transA"] else [m, k]
    b = [n, k] if trans["transB"] else [k, n]
    moved = lambda x, first: [x[-2], *batch, x[-1]] if first else [*batch, *x]
    first_a = first_b = False
    if name == "FusedMatMul" and batch:
        first_a, first_b = rng.random() < 0.3, rng.random() < 0.3
    shape_a = moved(a, first_a)
    shape_b = moved(b, first_b) if rng.random() < 0.7 or first_b else list(b)
    if rng.random() < 0.1 and not first_a:
        shape_a = [k]
    attributes = dict(trans, alpha=maybe(rng, 0.37))
    if name == "FusedMatMul":
        attributes.update(transBatchA=int(first_a), transBatchB=int(first_b))
    return shape_a, shape_b, attributes


@operator("FusedMatMul")
def fused_matmul(rng):
    dtype = pick(rng, np.float32, np.float32, np.float64)
    a, b, attributes = matrices(rng, "FusedMatMul")
    arrays = {"a": floats(rng, *a, dtype=dtype), "b": floats(rng, *b, dtype=dtype)}
    return one(rng, "FusedMatMul", arrays, **attributes)


@operator("TransposeMatMul")
def transpose_matmul(rng):
    a, b, attributes = matrices(rng, "TransposeMatMul")
    return one(rng, "TransposeMatMul", {"a": floats(rng, *a), "b": floats(rng, *b)}, **attributes)


@operator("SparseToDenseMatMul")
def sparse_matmul(rng):
    m, k, n = sizes(rng, 3, high=9)
    trans_a, trans_b = (int(rng.random() < 0.4) for _ in range(2))
    a = [k, m] if trans_a else [m, k]
    a = floats(rng, *a) * (rng.random(a) < 0.4)
    b = floats(rng, *([n, k] if trans_b else [k, n]))
    attributes = dict(transA=trans_a, transB=trans_b, alpha=maybe(rng, 0.5))
    dense = a.astype(np.float32)
    case = Case([node("SparseToDenseMatMul", ["a", "b"], ["y0"], **attributes)], {"b": b}, {},
                ["y0"], sparse={"a": dense})
    steps = [node("FusedMatMul", ["a", "b"], ["y0"], **attributes)]
    case.oracle = Case(steps, case.inputs, {"a": dense}, case.outputs)
    return case


@operator("FusedGemm")
def fused_gemm(rng):
    m, k, n = sizes(rng, 3, high=9)
    trans_a, trans_b = (int(rng.random() < 0.4) for _ in range(2))
    c = pick(rng, [n], [1, n], [m, n], [m, 1], [1], [])
    arrays = {"a": floats(rng, *([k, m] if trans_a else [m, k])),
              "b": floats(rng, *([n, k] if trans_b else [k, n])), "c": maybe(rng, floats(rng, *c))}
    name, parameters = pick(
        rng, ("Relu", {}), ("Sigmoid", {}), ("Tanh", {}), ("Softplus", {}), ("Softsign", {}),
        ("LeakyRelu", {"activation_alpha": 0.2}), ("Elu", {"activation_alpha": 0.7}),
        ("ThresholdedRelu", {"activation_alpha": 0.7}), ("Celu", {"activation_alpha": 0.7}),
        ("HardSigmoid", {"activation_alpha": 0.3, "activation_beta": 0.4}),
        ("Selu", {"activation_alpha": 1.5, "activation_gamma": 1.1}))
    return one(rng, "FusedGemm", arrays, activation=name, transA=trans_a, transB=trans_b,
               alpha=maybe(rng, 0.7), beta=maybe(rng, 0.6), **parameters)


@operator("FusedConv")
def fused_conv(rng):
    axes = int(pick(rng, 1, 2, 2))
    group = pick(rng, 1, 1, 2)
    kernel, space = sizes(rng, axes, high=3), sizes(rng, axes, 5, 9)
    strides, pads = sizes(rng, axes, high=2), sizes(rng, 2 * axes, 0, 2)
    n, c, m = pick(rng, 1, 2), 2 * group, 3 * group
    padded = [space[i] + pads[i] + pads[axes + i] for i in range(axes)]
    outer = [(padded[i] - kernel[i]) // strides[i] + 1 for i in range(axes)]
    name, parameters = pick(rng, ("Relu", None), ("Tanh", None), ("Sigmoid", None),
                            ("LeakyRelu", [0.1]), ("Clip", [-0.5, 0.7]),
                            ("HardSigmoid", [0.3, 0.4]))
    arrays = {"x": floats(rng, n, c, *space), "w": floats(rng, m, c // group, *kernel),
              "b": maybe(rng, floats(rng, m)), "z": maybe(rng, floats(rng, n, m, *outer), 0.3)}
    return one(rng, "FusedConv", arrays, fixed=["w", "b"], activation=name, group=group,
               activation_params=parameters, kernel_shape=kernel, strides=strides, pads=pads)


@operator("ConvTransposeWithDynamicPads")
def conv_transpose(rng):
    n, c, m = sizes(rng, 3, high=3)
    kernel, space = sizes(rng, 2, 1, 3), sizes(rng, 2, 3, 6)
    strides = sizes(rng, 2, 1, 2)
    pads = rng.integers(0, 2, 4).astype(np.int64)
    arrays = {"x": floats(rng, n, c, *space), "w": floats(rng, c, m, *kernel), "pads": pads,
              "b": maybe(rng, floats(rng, m))}
    return one(rng, "ConvTransposeWithDynamicPads", arrays, fixed=["w", "b", "pads"],
               kernel_shape=kernel, strides=strides)


@operator("CDist")
def cdist(rng):
    m, k, n = sizes(rng, 3, high=9)
    dtype = pick(rng, np.float32, np.float64)
    arrays = {"a": floats(rng, m, n, dtype=dtype), "b": floats(rng, k, n, dtype=dtype)}
    return one(rng, "CDist", arrays, tolerance=2e-4,
               metric=pick(rng, "sqeuclidean", "euclidean", None))


@operator("GemmFastGelu")
def gemm_fast_gelu(rng):
    b, m, k, n = sizes(rng, 4)
    arrays = {"x": floats(rng, b, m, k), "w": floats(rng, k, n), "b": maybe(rng, floats(rng, n))}
    case = one(rng, "GemmFastGelu", arrays)
    bias = "b" if arrays["b"] is not None else None
    steps = [node("MatMul", ["x", "w"], ["z"], domain=""), node("FastGelu", ["z", bias], ["y0"])]
    case.oracle = Case(steps, case.inputs, case.constants, case.outputs)
    return case
