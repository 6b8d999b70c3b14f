"""Layers of transformers as ONNX Runtime's optimizer and its exporters write them."""
import numpy as np

from case import Case, floats, node, operator, pick


@operator("BertLayer")
def bert(rng):
    b, s, heads = int(rng.integers(1, 4)), int(rng.integers(2, 9)), pick(rng, 1, 2, 4)
    h = heads * pick(rng, 4, 8)
    w = lambda *shape: floats(rng, *shape, low=-0.4, high=0.4)
    lens = rng.integers(1, s + 1, b)
    constants = {
        "word": w(20, h), "place": w(16, h), "kind": w(2, h), "g0": w(h), "b0": w(h),
        "qkv": w(h, 3 * h), "qkv_b": w(3 * h), "out": w(h, h), "out_b": w(h), "g1": w(h),
        "b1": w(h),
        "up": w(h, 4 * h), "up_b": w(4 * h), "down": w(4 * h, h), "down_b": w(h), "g2": w(h),
        "b2": w(h),
    }
    fast = rng.random() < 0.5
    nodes = [
        node("EmbedLayerNormalization",
             ["ids", "kinds", "word", "place", "kind", "g0", "b0", "mask"], ["x", "n"],
             epsilon=1e-5),
        node("Attention", ["x", "qkv", "qkv_b", "n"], ["a"], num_heads=heads),
        node("MatMul", ["a", "out"], ["o"], domain=""),
        node("SkipLayerNormalization", ["o", "x", "g1", "b1", "out_b"], ["y"], epsilon=1e-5),
        node("MatMul", ["y", "up"], ["u"], domain=""),
        node("FastGelu" if fast else "BiasGelu", ["u", "up_b"], ["v"]),
        node("MatMul", ["v", "down"], ["d"], domain=""),
        node("SkipLayerNormalization", ["d", "y", "g2", "b2", "down_b"], ["z"], epsilon=1e-5),
    ]
    inputs = {
        "ids": rng.integers(0, 20, (b, s)).astype(np.int32),
        "kinds": rng.integers(0, 2, (b, s)).astype(np.int32),
        "mask": (np.arange(s) < lens[:, None]).astype(np.int32),
    }
    return Case(nodes, inputs, constants, ["z"], tolerance=1e-3)


@operator("LlamaLayer")
def llama(rng):
    prompt = rng.random() < 0.5
    b = int(rng.integers(1, 3))
    before, s = (0, int(rng.integers(1, 7))) if prompt else (int(rng.integers(1, 7)), 1)
    kv, group, d = pick(rng, 1, 2), pick(rng, 1, 2, 3), 16
    heads, h, total = kv * group, 24, before + s
    w = lambda *shape: floats(rng, *shape, low=-0.4, high=0.4)
    angles = floats(rng, 20, d // 2, low=-3, high=3)
    constants = {
        "g0": w(h), "qkv": w(h, (heads + 2 * kv) * d), "out": w(heads * d, h), "g1": w(h),
        "gate": w(h, 40), "up": w(h, 40), "down": w(40, h), "g2": w(h),
        "cos": np.cos(angles), "sin": np.sin(angles),
    }
    nodes = [
        node("SimplifiedLayerNormalization", ["x", "g0"], ["n"], domain="", epsilon=1e-5),
        node("MatMul", ["n", "qkv"], ["q"], domain=""),
        node("GroupQueryAttention",
             ["q", None, None, "past_k", "past_v", "lens", "total", "cos", "sin"], ["a", "k", "v"],
             num_heads=heads, kv_num_heads=kv, do_rotary=1),
        node("MatMul", ["a", "out"], ["o"], domain=""),
        node("SkipSimplifiedLayerNormalization", ["x", "o", "g1"], ["m", "", "", "r"],
             epsilon=1e-5),
        node("MatMul", ["m", "gate"], ["f"], domain=""),
        node("QuickGelu", ["f"], ["act"], alpha=1.0),
        node("MatMul", ["m", "up"], ["e"], domain=""),
        node("Mul", ["act", "e"], ["fe"], domain=""),
        node("MatMul", ["fe", "down"], ["t"], domain=""),
        node("SkipSimplifiedLayerNormalization", ["r", "t", "g2"], ["z", "", "", "last"],
             epsilon=1e-5),
    ]
    inputs = {
        "x": floats(rng, b, s, h),
        "past_k": floats(rng, b, kv, before, d),
        "past_v": floats(rng, b, kv, before, d),
        "lens": np.full(b, total - 1, np.int32),
        "total": np.array(total, np.int32),
    }
    return Case(nodes, inputs, constants, ["z", "last", "k", "v"], tolerance=1e-3)
