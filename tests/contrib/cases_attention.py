"""Attention in its many spellings, and rotary positions."""
import numpy as np

from case import Case, floats, maybe, node, one, operator, pick


@operator("RotaryEmbedding")
def rotary(rng):
    b, s, heads = (int(n) for n in rng.integers(1, 5, 3))
    half, most = int(rng.integers(1, 9)), s + 4
    partial = rng.random() < 0.4
    size = 2 * half + (int(rng.integers(0, 5)) if partial else 0)
    dtype = pick(rng, np.float32, np.float32, np.float16)
    rank4 = rng.random() < 0.4
    shape = [b, heads, s, size] if rank4 else [b, s, heads * size]
    angles = floats(rng, most, half, low=-3, high=3)
    if rng.random() < 0.5:
        ids = rng.integers(0, most, (b, s))
    else:
        ids = rng.integers(0, 4, 1)
    arrays = {"x": floats(rng, *shape, dtype=dtype), "ids": ids.astype(np.int64),
              "cos": np.cos(angles).astype(dtype), "sin": np.sin(angles).astype(dtype)}
    named = {"num_heads": heads, "rotary_embedding_dim": 2 * half} if partial else {}
    if not partial and rng.random() < 0.5:
        named = {"num_heads": heads}
    return one(rng, "RotaryEmbedding", arrays, fixed=["cos", "sin"],
               interleaved=maybe(rng, int(rng.random() < 0.5)), **named)


def mask_for(rng, b, s, t, rank1=True):
    """A mask of one of the forms, or None."""
    lens = rng.integers(1, t + 1, b)
    form = pick(rng, None, "2d", "2d", "3d", *(["ends", "both"] if rank1 else []))
    if form == "2d":
        mask = (np.arange(t) < lens[:, None])
        return (mask if rng.random() < 0.6 else rng.random((b, t)) < 0.7).astype(np.int32)
    if form == "3d":
        return (rng.random((b, s, t)) < 0.7).astype(np.int32)
    if form == "ends":
        return lens.astype(np.int32)
    if form == "both":
        return np.concatenate([lens, rng.integers(0, lens)]).astype(np.int32)
    return None


@operator("Attention")
def attention(rng):
    b, s, heads, d = (int(n) for n in rng.integers(1, 5, 4))
    d *= 2
    past = int(rng.integers(1, 5)) if rng.random() < 0.3 else 0
    e = d if past or rng.random() < 0.7 else d + 2
    hidden, v_hidden, width = heads * d, heads * e, int(rng.integers(3, 12))
    t = s + past
    arrays = {
        "x": floats(rng, b, s, width),
        "weights": floats(rng, width, 2 * hidden + v_hidden),
        # Without it ONNX Runtime 1.31 reads address 0.
        "bias": floats(rng, 2 * hidden + v_hidden),
        "mask": mask_for(rng, b, s, t),
        "past": floats(rng, 2, b, heads, past, d) if past else None,
        "more": maybe(rng, floats(rng, pick(rng, 1, b), pick(rng, 1, heads), s, t), 0.3),
    }
    given = e != d or rng.random() < 0.3
    causal = int(rng.random() < 0.4)
    outputs = pick(rng, ["y"], ["y", "present"]) if e == d else ["y"]
    if past:
        outputs = ["y", "present"]
    # At -10000 the last places of scores are lost; where all keys are masked these decide.
    scale = 2e-3 if arrays["mask"] is not None else None
    return one(rng, "Attention", arrays, outputs, fixed=["weights", "bias"], num_heads=heads,
               tolerance=scale,
               qkv_hidden_sizes=[hidden, hidden, v_hidden] if given else None,
               scale=maybe(rng, 0.4, 0.3), unidirectional=causal,
               mask_filter_value=maybe(rng, -3.0, 0.2))


def multi_head(rng, s):
    """The inputs of a MultiHeadAttention of `s` queries."""
    b, heads, d = (int(n) for n in rng.integers(1, 5, 3))
    d *= 2
    form = pick(rng, "self", "self", "cross", "cache")
    past = int(rng.integers(1, 5)) if form == "self" and rng.random() < 0.5 else 0
    new = s if form == "self" else int(rng.integers(1, 7))
    t = past + new
    e = d if past or form == "cache" or rng.random() < 0.7 else d + 2
    kv = lambda size: [b, heads, new, size] if form == "cache" else [b, new, heads * size]
    parts = {
        "query": floats(rng, b, s, heads * d),
        "key": floats(rng, *kv(d)),
        "value": floats(rng, *kv(e)),
        "bias": maybe(rng, floats(rng, heads * (2 * d + e)), 0.5) if form != "cache" else None,
        "mask": mask_for(rng, b, s, t, rank1=False) if rng.random() < 0.6 else None,
        "more": maybe(rng, floats(rng, pick(rng, 1, b), pick(rng, 1, heads), s, t), 0.3),
        "past_key": floats(rng, b, heads, past, d) if past else None,
        "past_value": floats(rng, b, heads, past, e) if past else None,
    }
    outputs = ["y"]
    if form == "self":
        outputs = pick(rng, ["y"], ["y", "k", "v"])
    if past:
        outputs = ["y", "k", "v"]
    return heads, form, parts, outputs


@operator("MultiHeadAttention")
def multi_head_attention(rng):
    s = int(rng.integers(1, 7))
    heads, form, parts, outputs = multi_head(rng, s)
    causal = int(form == "self" and rng.random() < 0.3)
    if parts["mask"] is None and outputs != ["y"] and rng.random() < 0.3:
        outputs = ["y", "k", "v", "qk"]
    return one(rng, "MultiHeadAttention", parts, outputs, num_heads=heads, unidirectional=causal,
               scale=maybe(rng, 0.4, 0.3), mask_filter_value=maybe(rng, -3.0, 0.2))


@operator("MultiHeadAttention")
def packed(rng):
    """Queries, keys and values in one tensor, which ONNX Runtime's CPU has not."""
    b, s, heads, d = (int(n) for n in rng.integers(1, 5, 4))
    qkv = rng.random() < 0.5
    k, v = floats(rng, b, s, heads, d), floats(rng, b, s, heads, d)
    q = floats(rng, b, s, heads, d)
    flat = lambda x: x.reshape(b, s, heads * d)
    apart = {"q": flat(q), "k": flat(k), "v": flat(v)}
    oracle = Case([node("MultiHeadAttention", ["q", "k", "v"], ["y0"], num_heads=heads)],
                  apart, {}, ["y0"])
    if qkv:
        inputs = {"qkv": np.stack([q, k, v], 3)}
    else:
        inputs = {"q": flat(q), "kv": np.stack([k, v], 3)}
    case = Case([node("MultiHeadAttention", list(inputs), ["y0"], num_heads=heads)],
                inputs, {}, ["y0"])
    case.oracle = oracle
    return case


@operator("DecoderMaskedMultiHeadAttention")
def decoder(rng):
    """One query over a cache that has room, or over the keys of a cross attention."""
    b, heads, past, d = (int(n) for n in rng.integers(1, 5, 4))
    d *= 4
    room = past + int(rng.integers(1, 4))
    own = rng.random() < 0.7
    t = past + 1 if own else past
    row = lambda: floats(rng, b, 1, heads * d)
    cache = lambda n: floats(rng, b, heads, n, d)
    mask = (np.arange(t) < rng.integers(1, t + 1, b)[:, None]).astype(np.int32)
    arrays = {
        "query": row(),
        "key": row() if own else cache(past),
        "value": row() if own else cache(past),
        "mask": maybe(rng, mask),
        "more": maybe(rng, floats(rng, 1, pick(rng, 1, heads), 1, t), 0.3) if own else None,
        "past_key": cache(room) if own else None,
        "past_value": cache(room) if own else None,
        "length": np.array([past], np.int32) if own else None,
        "beams": None,
        "cache": None,
        "bias": maybe(rng, floats(rng, 3 * heads * d)) if own else None,
    }
    outputs = ["y", "k", "v"] if own else ["y"]
    return one(rng, "DecoderMaskedMultiHeadAttention", arrays, outputs, num_heads=heads,
               past_present_share_buffer=int(own), scale=maybe(rng, 0.4, 0.3),
               mask_filter_value=maybe(rng, -3.0, 0.2))


@operator("GroupQueryAttention")
def group_query(rng):
    kv_heads, group = int(rng.integers(1, 4)), int(rng.integers(1, 4))
    d = 16 * int(rng.integers(1, 3))
    heads = kv_heads * group
    dtype = pick(rng, np.float32, np.float32, np.float16)
    f = lambda *shape: floats(rng, *shape, dtype=dtype)
    prompt = rng.random() < 0.4
    if prompt:
        b, s, room = int(rng.integers(1, 4)), int(rng.integers(1, 9)), int(rng.integers(0, 4))
        lens, total = np.full(b, s), s
        capacity = pick(rng, 0, s + room)
    else:
        # More than one new token only where the batch is one.
        s = pick(rng, 1, 1, 1, 3)
        b = 1 if s > 1 else int(rng.integers(1, 4))
        before = int(rng.integers(1, 8))
        total = before + s
        lens = rng.integers(s, total + 1, b) if s == 1 else np.full(b, total)
        lens[int(rng.integers(0, b))] = total
        capacity = pick(rng, before, total, total + 3)
    packed, rotate = rng.random() < 0.3, rng.random() < 0.5
    # What stands in the cache beyond a batch's keys is nobody's; zeros stay zeros in both engines.
    held = np.arange(capacity) < (np.zeros((b, 1, 1)) if prompt else lens[:, None, None] - s)
    cache = lambda: (f(b, kv_heads, capacity, d) * held[..., None]).astype(dtype)
    width = heads * d
    half = pick(rng, d // 2, 8)
    angles = floats(rng, 40, half, low=-3, high=3)
    new = lambda: f(b, s, kv_heads * d)
    arrays = {
        "query": f(b, s, width + 2 * kv_heads * d) if packed else f(b, s, width),
        "key": None if packed else new(),
        "value": None if packed else new(),
        "past_key": cache() if capacity or not prompt else None,
        "past_value": cache() if capacity or not prompt else None,
        "lens": (lens - 1).astype(np.int32),
        "total": np.array(total, np.int32),
        "cos": np.cos(angles).astype(dtype) if rotate else None,
        "sin": np.sin(angles).astype(dtype) if rotate else None,
        "ids": None,
        "more": maybe(rng, f(pick(rng, 1, b), pick(rng, 1, heads), s, total), 0.2),
        "sink": maybe(rng, f(heads), 0.2),
    }
    smooth = 1 if arrays["sink"] is None and rng.random() < 0.2 else None
    outputs = ["y", "k", "v"]
    return one(rng, "GroupQueryAttention", arrays, outputs, fixed=["cos", "sin"], num_heads=heads,
               kv_num_heads=kv_heads, do_rotary=int(rotate), smooth_softmax=smooth,
               rotary_interleaved=int(rng.random() < 0.3), scale=maybe(rng, 0.4, 0.3),
               softcap=maybe(rng, 3.0, 0.2),
               local_window_size=maybe(rng, int(rng.integers(1, 6)), 0.4))


@operator("MRotaryEmbedding")
def multimodal_rotary(rng):
    b, s, heads = (int(n) for n in rng.integers(1, 5, 3))
    sections = [int(n) for n in rng.integers(1, 5, 3)]
    layout = int(rng.random() < 0.5)
    if layout:
        sections = [sections[0] + 2, pick(rng, 1, 2), pick(rng, 1, 2)]
    half, most = sum(sections), 9
    dtype = pick(rng, np.float32, np.float32, np.float16)
    shape = [b, heads, s, 2 * half] if rng.random() < 0.4 else [b, s, heads * 2 * half]
    angles = floats(rng, most, half, low=-3, high=3)
    arrays = {"x": floats(rng, *shape, dtype=dtype), "ids": rng.integers(0, most, (3, b, s)),
              "cos": np.cos(angles).astype(dtype), "sin": np.sin(angles).astype(dtype)}
    return one(rng, "MRotaryEmbedding", arrays, fixed=["cos", "sin"], num_heads=heads,
               mrope_section=sections, mrope_layout=layout, interleaved=int(rng.random() < 0.4))


@operator("LinearAttention")
def linear_attention(rng):
    b, t, kv_heads, d, e = (int(n) for n in rng.integers(1, 5, 5))
    heads = kv_heads * pick(rng, 1, 2)
    rule = pick(rng, "linear", "gated", "delta", "gated_delta")
    decay = floats(rng, b, t, kv_heads * pick(rng, 1, d), low=-1, high=0)
    arrays = {"q": floats(rng, b, t, heads * d),
              "k": floats(rng, b, t, kv_heads * d, low=-0.5, high=0.5),
              "v": floats(rng, b, t, kv_heads * e),
              "state": maybe(rng, floats(rng, b, kv_heads, d, e)),
              "decay": decay if "gated" in rule else None,
              "beta": floats(rng, b, t, kv_heads, low=0, high=1) if "delta" in rule else None}
    return one(rng, "LinearAttention", arrays, 2, update_rule=rule,
               q_num_heads=heads, kv_num_heads=kv_heads)


@operator("CausalConvWithState")
def causal_conv(rng):
    b, c, t, k = (int(n) for n in rng.integers(1, 6, 4))
    arrays = {"x": floats(rng, b, c, t), "w": floats(rng, c, 1, k), "b": maybe(rng, floats(rng, c)),
              "past": maybe(rng, floats(rng, b, c, k - 1))}
    return one(rng, "CausalConvWithState", arrays, 2,
               activation=pick(rng, "none", "silu", "swish", None))


def layouts(rng, count, blocks):
    """Which blocks are seen, the diagonal always: row and column indices of each layout."""
    seen = rng.random((count, blocks, blocks)) < 0.5
    seen = np.tril(seen | np.eye(blocks, dtype=bool))
    rows = np.concatenate([np.zeros((count, 1)), seen.sum(2).cumsum(1)], 1).astype(np.int32)
    columns = np.full((count, int(rows.max())), -1, np.int32)
    for layout, found in zip(columns, seen):
        at = np.nonzero(found)[1]
        layout[:len(at)] = at
    return rows, columns


@operator("SparseAttention")
def sparse_attention(rng):
    kv_heads, group, block = int(rng.integers(1, 3)), int(rng.integers(1, 3)), 16
    heads, d, room = kv_heads * group, 16, block * int(rng.integers(1, 4))
    b, prompt = int(rng.integers(1, 3)), rng.random() < 0.5
    s = int(rng.integers(1, room + 1)) if prompt else 1
    total = s if prompt else int(rng.integers(2, room + 1))
    # Where lengths differ ONNX Runtime 1.31 reads scores that nobody wrote.
    lens = np.full(b, total)
    rows, columns = layouts(rng, pick(rng, 1, heads), room // block + int(rng.integers(0, 2)))
    dtype = pick(rng, np.float32, np.float32, np.float16)
    f = lambda *shape: floats(rng, *shape, dtype=dtype)
    packed, rotate = rng.random() < 0.3, rng.random() < 0.5
    angles = floats(rng, room + 2, d // 2, low=-3, high=3)
    width = heads * d
    arrays = {
        "query": f(b, s, width + 2 * kv_heads * d) if packed else f(b, s, width),
        "key": None if packed else f(b, s, kv_heads * d),
        "value": None if packed else f(b, s, kv_heads * d),
        "past_key": f(b, kv_heads, room, d),
        "past_value": f(b, kv_heads, room, d),
        "rows": rows,
        "columns": columns,
        "total": np.array(total, np.int32),
        "lens": lens.astype(np.int32),
        "cos": np.cos(angles).astype(dtype) if rotate else None,
        "sin": np.sin(angles).astype(dtype) if rotate else None,
    }
    case = one(rng, "SparseAttention", arrays, ["y", "k", "v"], fixed=["rows", "columns"],
               num_heads=heads, kv_num_heads=kv_heads, sparse_block_size=block,
               do_rotary=int(rotate), rotary_interleaved=int(rng.random() < 0.3),
               scale=maybe(rng, 0.4, 0.3))
    case.shared = {"k": "past_key", "v": "past_value"}
    case.inputs |= {name: case.constants.pop(name) for name in case.shared.values()
                    if name in case.constants}
    return case
