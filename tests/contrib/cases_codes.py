"""Attention and embeddings in 8-bit codes, and mixtures of experts in floats and in codes."""
import numpy as np

from case import Case, floats, maybe, node, one, operator, pick
from cases_attention import mask_for


def codes(rng, *shape, signed=False):
    """Random 8-bit codes."""
    low, high = (-128, 128) if signed else (0, 256)
    return rng.integers(low, high, shape).astype(np.int8 if signed else np.uint8)


def scale(rng, *shape):
    """Random scales of 8-bit codes, for numbers around one."""
    return rng.uniform(0.005, 0.02, shape).astype(np.float32)


@operator("QAttention")
def quantized_attention(rng):
    b, s, heads, d = (int(n) for n in rng.integers(1, 5, 4))
    d, width = 2 * d, int(rng.integers(3, 12))
    hidden, signed = heads * d, rng.random() < 0.5
    past = int(rng.integers(1, 5)) if rng.random() < 0.3 else 0
    each = [3 * hidden] if rng.random() < 0.4 else []
    zero = rng.random() < 0.8
    arrays = {
        "x": codes(rng, b, s, width),
        "weight": codes(rng, width, 3 * hidden, signed=signed),
        "bias": floats(rng, 3 * hidden),
        "x_scale": scale(rng),
        "weight_scale": scale(rng, *each),
        "mask": mask_for(rng, b, s, s + past),
        "x_zero": codes(rng) if zero else None,
        "weight_zero": codes(rng, *each, signed=signed) if zero else None,
        "past": floats(rng, 2, b, heads, past, d) if past else None,
    }
    outputs = ["y", "present"] if past else pick(rng, ["y"], ["y", "present"])
    tolerance = 2e-3 if arrays["mask"] is not None else None
    return one(rng, "QAttention", arrays, outputs, fixed=["weight", "bias", "weight_scale"],
               num_heads=heads, tolerance=tolerance, unidirectional=int(rng.random() < 0.4),
               scale=maybe(rng, 0.4, 0.3), mask_filter_value=maybe(rng, -3.0, 0.2))


@operator("QEmbedLayerNormalization")
def quantized_embed(rng):
    b, s = (int(n) for n in rng.integers(1, 7, 2))
    h, signed, segments = pick(rng, 4, 8, 24), rng.random() < 0.5, rng.random() < 0.6
    ids = lambda n, *shape: rng.integers(0, n, shape).astype(np.int32)
    table = lambda *shape: codes(rng, *shape, signed=signed)
    arrays = {
        "input_ids": ids(11, b, s),
        "segment_ids": ids(2, b, s) if segments else None,
        "word": table(11, h),
        "position": table(s + 3, h),
        "segment": table(2, h) if segments else None,
        "gamma": table(h),
        "beta": table(h),
        "mask": maybe(rng, ids(2, b, s)),
    }
    for name in ("word", "position", "segment", "gamma", "beta"):
        arrays[f"{name}_scale"] = scale(rng) if arrays[name] is not None else None
    for name in ("word", "position", "segment", "gamma", "beta"):
        arrays[f"{name}_zero"] = table() if arrays[name] is not None else None
    fixed = [name for name in arrays if name.endswith(("_scale", "_zero"))]
    return one(rng, "QEmbedLayerNormalization", arrays, ["y", "n"], fixed=fixed, epsilon=1e-3)


def routed(rng, least=1):
    """Tokens, router and attributes of a mixture: [lead], hidden, inner, experts, attributes."""
    lead = [int(n) for n in rng.integers(1, 6, pick(rng, 1, 2))]
    experts = int(rng.integers(1, 6))
    attributes = {"k": int(rng.integers(1, min(experts, 3) + 1)),
                  "normalize_routing_weights": int(rng.random() < 0.5)}
    kind = pick(rng, "relu", "gelu", "silu", "identity", "swiglu", "swiglu")
    attributes["activation_type"] = kind
    if kind == "swiglu":
        attributes |= {"swiglu_fusion": 1, "activation_alpha": maybe(rng, 1.702),
                       "activation_beta": maybe(rng, 1.0), "swiglu_limit": maybe(rng, 1.5)}
    return lead, experts, attributes


@operator("MoE")
def mixture(rng):
    lead, experts, attributes = routed(rng)
    hidden, inner = (int(n) for n in rng.integers(1, 12, 2))
    both = inner * (2 if attributes["activation_type"] == "swiglu" else 1)
    tokens = int(np.prod(lead))
    arrays = {
        "x": floats(rng, *lead, hidden),
        "router": floats(rng, tokens, experts),
        "fc1": floats(rng, experts, both, hidden),
        "b1": maybe(rng, floats(rng, experts, both)),
        "fc2": floats(rng, experts, hidden, inner),
        "b2": maybe(rng, floats(rng, experts, hidden)),
    }
    return one(rng, "MoE", arrays, **attributes)


@operator("MoE")
def apart(rng):
    """SwiGLU of two products, or of halves: ONNX Runtime's CPU takes them interleaved. A third
    product beside silu is the same without alpha, beta and limit."""
    lead, experts, attributes = routed(rng)
    hidden, inner = (int(n) for n in rng.integers(1, 12, 2))
    for name in ("activation_alpha", "activation_beta", "swiglu_limit"):
        attributes.pop(name, None)
    attributes["activation_type"] = "swiglu"
    form = pick(rng, "halves", "third", "silu")
    if form != "silu":
        attributes |= {"activation_alpha": 1.5, "activation_beta": 1.0, "swiglu_limit": 2.0}
    gate, linear = floats(rng, experts, inner, hidden), floats(rng, experts, inner, hidden)
    woven = np.stack([gate, linear], 2).reshape(experts, 2 * inner, hidden)
    given = {"x": floats(rng, *lead, hidden), "router": floats(rng, int(np.prod(lead)), experts)}
    fc2 = floats(rng, experts, hidden, inner)
    oracle = Case([node("MoE", ["x", "router", "fc1", None, "fc2"], ["y0"],
                        **{**attributes, "swiglu_fusion": 1})],
                  given, {"fc1": woven, "fc2": fc2}, ["y0"])
    if form == "halves":
        weights = {"fc1": np.concatenate([gate, linear], 1), "fc2": fc2}
        inputs = ["x", "router", "fc1", None, "fc2"]
    else:
        weights = {"fc1": gate, "fc2": fc2, "fc3": linear}
        inputs = ["x", "router", "fc1", None, "fc2", None, "fc3"]
    attributes["swiglu_fusion"] = 2 if form == "halves" else 0
    attributes["activation_type"] = "silu" if form == "silu" else "swiglu"
    case = Case([node("MoE", inputs, ["y0"], **attributes)], given, weights, ["y0"])
    case.oracle = oracle
    return case


@operator("QMoE")
def quantized_mixture(rng):
    lead, experts, attributes = routed(rng)
    bits, block = pick(rng, 2, 4, 4, 8), pick(rng, None, 16, 32)
    hidden, inner = ((block or 8) * int(n) for n in rng.integers(1, 4, 2))
    both = inner * (2 if attributes["activation_type"] == "swiglu" else 1)
    dtype = pick(rng, np.float32, np.float32, np.float16)
    tokens, zero = int(np.prod(lead)), rng.random() < 0.4
    f = lambda *shape: floats(rng, *shape, dtype=dtype)

    def layer(n, k):
        w = codes(rng, experts, n, k * bits // 8)
        each = [k // block] if block else []
        s = (rng.uniform(0.5, 1, (experts, n, *each)) / 2 ** bits).astype(dtype)
        z = [n, -(-each[0] * bits // 8)] if block else [-(-n * bits // 8)]
        return w, s, codes(rng, experts, *z) if zero else None

    (w1, s1, z1), (w2, s2, z2) = layer(both, hidden), layer(hidden, inner)
    arrays = {
        "x": f(*lead, hidden), "router": f(tokens, experts),
        "w1": w1, "s1": s1, "b1": maybe(rng, f(experts, both)),
        "w2": w2, "s2": s2, "b2": maybe(rng, f(experts, hidden)),
        "w3": None, "s3": None, "b3": None, "z1": z1, "z2": z2, "z3": None,
        "p": maybe(rng, np.abs(f(tokens, experts)) + dtype(0.5), 0.3),
    }
    # ONNX Runtime multiplies weights of 8 bits, and some of 2, with activations in 8 bits.
    return one(rng, "QMoE", arrays, fixed=["w1", "s1", "w2", "s2", "z1", "z2"],
               tolerance=4e-3 if bits == 4 else 6e-2, expert_weight_bits=bits, block_size=block,
               **attributes)
