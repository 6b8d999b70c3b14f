"""How attention, its caches and its recurrent kin are drawn."""
import numpy as np

from recipes import recipe
from recipes_nn import FLOATS


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
    if d.chance(0.2):
        attrs["softmax_precision"] = d.of([np.float32, np.float64])
    if d.has("nonpad_kv_seqlen") and outputs == 1 and d.chance(0.3):
        inputs["nonpad_kv_seqlen"] = d.ints([b], 1, k)
    for side in ("left_window_size", "right_window_size"):
        if d.has(side) and d.chance(0.3):
            attrs[side] = d.int(0, 3)
    if d.chance(0.25):
        attrs["qk_matmul_output_mode"] = d.int(0, 3)
        outputs = 4 if outputs == 3 else 1
    return inputs, attrs, outputs


@recipe("LinearAttention")
def linear_attention(d):
    dtype = d.ty("T")
    b, t, hk, g, k, v = (d.int(1, 2), d.int(1, 5), d.int(1, 2), d.int(1, 2), d.int(1, 4),
                         d.int(1, 4))
    rule = d.of(["linear", "gated", "delta", "gated_delta"])
    value = lambda shape, low=-1, high=1: d.values(shape, dtype, low, high)
    inputs = {"query": value([b, t, hk * g * k]), "key": value([b, t, hk * k], -0.5, 0.5),
              "value": value([b, t, hk * v])}
    if d.chance(0.5):
        inputs["past_state"] = d.values([b, hk, k, v], d.ty("S"), -1, 1)
    if "gated" in rule:
        inputs["decay"] = value([b, t, hk * d.of([1, k])], -1, 0)
    if "delta" in rule:
        inputs["beta"] = value([b, t, hk], 0, 1)
    attrs = {"q_num_heads": hk * g, "kv_num_heads": hk, "update_rule": rule}
    if d.chance(0.3):
        attrs["scale"] = 0.5
    if d.chance(0.3):
        attrs["chunk_size"] = d.int(1, 4)
    return inputs, attrs, 2


@recipe("CausalConvWithState")
def causal_conv(d):
    dtype = d.ty("T")
    b, c, t, k = d.int(1, 2), d.int(1, 4), d.int(1, 6), d.int(1, 4)
    value = lambda shape: d.values(shape, dtype, -2, 2)
    inputs = {"input": value([b, c, t]), "weight": value([c, 1, k])}
    if d.chance(0.5):
        inputs["bias"] = value([c])
    if d.chance(0.5):
        inputs["past_state"] = value([b, c, k - 1])
    return inputs, {"activation": d.of(["none", "silu", "swish"])}, 2


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
