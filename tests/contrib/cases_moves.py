"""Operators that move elements or compute with few of them."""
import numpy as np

from case import floats, maybe, one, operator, pick, sizes


def elements(rng, *shape):
    dtype = pick(rng, np.float32, np.float64, np.int64, np.int32, np.uint8)
    return rng.integers(0, 9, shape).astype(dtype)


@operator("ExpandDims")
def expand_dims(rng):
    shape = sizes(rng, rng.integers(1, 4))
    axis = np.array(rng.integers(-len(shape) - 1, len(shape) + 1), np.int32)
    return one(rng, "ExpandDims", {"x": elements(rng, *shape), "axis": axis}, fixed=["axis"])


@operator("GatherND")
def gather_nd(rng):
    shape = sizes(rng, rng.integers(1, 4))
    n = int(rng.integers(1, len(shape) + 1))
    outer = sizes(rng, rng.integers(0, 3), high=4)
    at = np.stack([rng.integers(0, size, outer) for size in shape[:n]], -1)
    at = at.astype(pick(rng, np.int32, np.int64))
    return one(rng, "GatherND", {"x": elements(rng, *shape), "indices": at})


@operator("GridSample")
def grid_sample(rng):
    n, c = sizes(rng, 2, high=3)
    x = floats(rng, n, c, *sizes(rng, 2, 2, 7))
    grid = floats(rng, n, *sizes(rng, 2, 1, 6), 2, low=-1.3, high=1.3)
    return one(rng, "GridSample", {"x": x, "grid": grid}, tolerance=2e-4,
               align_corners=int(rng.random() < 0.5),
               mode=pick(rng, "bilinear", "nearest", "bicubic"),
               padding_mode=pick(rng, "zeros", "border", "reflection"))


@operator("Pad")
def pad(rng):
    shape = sizes(rng, rng.integers(1, 4), 3, 6)
    pads = rng.integers(0, 3, 2 * len(shape)).astype(np.int64)
    pads = pads[None] if rng.random() < 0.3 else pads
    mode = pick(rng, "constant", "reflect", "edge", None)
    value = maybe(rng, floats(rng, *pick(rng, [], [1])))
    return one(rng, "Pad", {"x": floats(rng, *shape), "pads": pads, "value": value}, mode=mode)


@operator("Range")
def value_range(rng):
    dtype = pick(rng, np.int32, np.int64, np.float32, np.float64, np.int16)
    shape = pick(rng, [], [1])
    number = lambda lo, hi: np.full(shape, rng.integers(lo, hi), dtype)
    delta = pick(rng, None, number(1, 4), -number(1, 4))
    return one(rng, "Range", {"start": number(-3, 9), "limit": number(-3, 9), "delta": delta})


@operator("Trilu")
def trilu(rng):
    x = rng.integers(1, 9, sizes(rng, rng.integers(2, 4))).astype(
        pick(rng, np.float32, np.float64, np.int64))
    k = maybe(rng, np.array(rng.integers(-4, 5), np.int64))
    return one(rng, "Trilu", {"x": x, "k": k}, upper=pick(rng, 0, 1, None))


@operator("Unique")
def unique(rng):
    x = rng.integers(0, 5, rng.integers(0, 12)).astype(np.float32)
    return one(rng, "Unique", {"x": x}, 3)


@operator("UnfoldTensor")
def unfold(rng):
    shape = sizes(rng, rng.integers(1, 4), 2, 7)
    dim = int(rng.integers(-len(shape), len(shape)))
    size = int(rng.integers(1, shape[dim] + 1))
    return one(rng, "UnfoldTensor", {"x": elements(rng, *shape)}, dim=dim, size=size,
               step=pick(rng, 1, 2, 3, None))


@operator("CropAndResize")
def crop_and_resize(rng):
    n, c, h, w = sizes(rng, 4, 1, 6)
    r = int(rng.integers(1, 5))
    arrays = {"x": floats(rng, n, c, h, w),
              "boxes": floats(rng, r, 4, low=-0.2, high=1.2),
              "indices": rng.integers(0, n, r).astype(np.int32),
              "size": rng.integers(1, 6, 2).astype(np.int32)}
    return one(rng, "CropAndResize", arrays, tolerance=1e-4,
               mode=pick(rng, "bilinear", "nearest", None),
               extrapolation_value=maybe(rng, 1.5))


@operator("Inverse")
def inverse(rng):
    n = int(rng.integers(1, 7))
    batch = sizes(rng, rng.integers(0, 3), high=3)
    x = floats(rng, *batch, n, n) + 5 * np.eye(n)
    dtype = pick(rng, np.float32, np.float64, np.float16)
    tolerance = 2e-4 if dtype == np.float32 else None
    return one(rng, "Inverse", {"x": x.astype(dtype)}, tolerance=tolerance)


@operator("MurmurHash3")
def murmur(rng):
    dtype = pick(rng, np.int32, np.uint32, np.int64, np.uint64, np.float32, np.float64, str)
    shape = sizes(rng, rng.integers(1, 3))
    if dtype is str:
        words = ["", "a", "or", "the", "four", "wörld", "a longer text"]
        x = rng.choice(words, shape).astype(object)
    else:
        x = rng.integers(0, 1 << 30, shape).astype(dtype)
    return one(rng, "MurmurHash3", {"x": x}, seed=maybe(rng, int(rng.integers(0, 1 << 31))),
               positive=pick(rng, 0, 1, None))


@operator("NGramRepeatBlock")
def repeat_block(rng):
    b, s, v = int(rng.integers(1, 4)), int(rng.integers(1, 20)), int(rng.integers(2, 6))
    arrays = {"ids": rng.integers(0, v, (b, s)), "scores": floats(rng, b, v)}
    return one(rng, "NGramRepeatBlock", arrays, ngram_size=int(rng.integers(1, 5)))


@operator("BifurcationDetector")
def bifurcation(rng):
    source = rng.integers(0, 3, rng.integers(1, 12))
    current = rng.integers(0, 3, rng.integers(1, 6))
    start = int(rng.integers(0, len(source) + 1))
    predicted = np.append(source[start:], 1)
    wrong = int(rng.integers(0, len(predicted)))
    predicted[wrong] = (predicted[wrong] + int(rng.integers(0, 2))) % 3
    arrays = {"source": source, "current": current, "match": np.array([start]),
              "predicted": maybe(rng, predicted, 0.8)}
    low = int(rng.integers(1, 3))
    return one(rng, "BifurcationDetector", arrays, 2, min_ngram_size=low,
               max_ngram_size=low + int(rng.integers(0, 3)))


@operator("DynamicTimeWarping")
def time_warping(rng):
    costs = floats(rng, *sizes(rng, 2, 1, 9))
    return one(rng, "DynamicTimeWarping", {"costs": costs[None] if rng.random() < 0.4 else costs})


@operator("WordConvEmbedding")
def word_conv_embedding(rng):
    words, length, f, e = sizes(rng, 4, 1, 7)
    k = int(rng.integers(1, length + 1))
    ids = rng.integers(0, 9, (words, length)).astype(np.int32)
    # Of a word whose first id is 0 ONNX Runtime writes nothing.
    ids[:, 0] = np.maximum(ids[:, 0], 1)
    arrays = {"ids": ids, "w": floats(rng, f, 1, k, e), "b": floats(rng, f),
              "table": floats(rng, 9, e)}
    return one(rng, "WordConvEmbedding", arrays, fixed=["w"], embedding_size=maybe(rng, f),
               conv_window_size=maybe(rng, k), char_embedding_size=maybe(rng, e))
