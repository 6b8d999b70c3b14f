"""Experimental operators of ONNX's first releases, which ONNX Runtime kept."""
import numpy as np

from case import floats, maybe, one, operator, pick, sizes


def legacy(rng, name, arrays, **attributes):
    return one(rng, name, arrays, domain="", opset=pick(rng, 7, 8, 9), **attributes)


def any_shape(rng):
    return floats(rng, *sizes(rng, rng.integers(1, 5)))


@operator("Affine")
def affine(rng):
    return legacy(rng, "Affine", {"x": any_shape(rng)}, alpha=maybe(rng, 0.7),
                  beta=maybe(rng, -0.4))


@operator("Scale")
def scale(rng):
    return legacy(rng, "Scale", {"x": any_shape(rng)}, scale=maybe(rng, 0.7))


@operator("ScaledTanh")
def scaled_tanh(rng):
    return legacy(rng, "ScaledTanh", {"x": any_shape(rng)}, alpha=1.7, beta=0.6)


@operator("ParametricSoftplus")
def parametric_softplus(rng):
    return legacy(rng, "ParametricSoftplus", {"x": any_shape(rng)}, alpha=1.7, beta=0.6)


@operator("ImageScaler")
def image_scaler(rng):
    n, c, h, w = sizes(rng, 4)
    bias = [float(b) for b in floats(rng, c)]
    return legacy(rng, "ImageScaler", {"x": floats(rng, n, c, h, w)}, bias=bias,
                  scale=maybe(rng, 0.5))


@operator("Crop")
def crop(rng):
    n, c = sizes(rng, 2)
    border = [int(b) for b in rng.integers(0, 3, 4)]
    h, w = border[1] + border[3] + int(rng.integers(1, 4)), border[0] + border[2] + 2
    size = [int(rng.integers(1, h - border[1] + 1)), int(rng.integers(1, w - border[0] + 1))]
    return legacy(rng, "Crop", {"x": floats(rng, n, c, h, w)}, border=border,
                  scale=maybe(rng, size))


@operator("DynamicSlice")
def dynamic_slice(rng):
    shape = sizes(rng, rng.integers(1, 4))
    axes = rng.permutation(len(shape))[:int(rng.integers(1, len(shape) + 1))]
    dtype = pick(rng, np.int32, np.int64)
    ends = [shape[a] if rng.random() < 0.3 else rng.integers(-2, shape[a] + 3) for a in axes]
    arrays = {"x": floats(rng, *shape), "starts": rng.integers(-2, 3, len(axes)).astype(dtype),
              "ends": np.array(ends, dtype), "axes": axes.astype(dtype)}
    if len(axes) == len(shape) and list(axes) == list(range(len(shape))) and rng.random() < 0.5:
        arrays["axes"] = None
    return legacy(rng, "DynamicSlice", arrays, fixed=["starts", "ends", "axes"])
