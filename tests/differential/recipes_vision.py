"""How nodes of images and boxes are drawn."""
import numpy as np

from draw import Skip
from recipes import recipe
from recipes_nn import scaled


@recipe("Resize")
def resize(d):
    if d.opset < 11:
        raise Skip("old")
    dtype = d.ty("T1")
    mode = d.of(["nearest", "linear", "cubic"])
    shape = [d.int(1, 2), d.int(1, 2), d.int(2, 7), d.int(2, 7)]
    attrs = {"mode": mode}
    coords = ["half_pixel", "align_corners", "asymmetric", "pytorch_half_pixel"]
    if d.opset >= 19:
        coords.append("half_pixel_symmetric")
    if d.chance(0.7):
        attrs["coordinate_transformation_mode"] = d.of(coords)
    if mode == "nearest" and d.chance(0.6):
        attrs["nearest_mode"] = d.of(["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"])
    if mode == "cubic" and d.chance(0.4):
        attrs["cubic_coeff_a"] = -0.5
        attrs["exclude_outside"] = d.int(0, 1)
    if d.opset >= 18 and mode != "nearest" and d.chance(0.3):
        attrs["antialias"] = 1
    inputs = {"X": d.values(shape, dtype, -9, 9)}
    if d.opset < 13:
        inputs["roi"] = np.zeros([0], np.float32)
    if d.chance(0.5):
        inputs["scales"] = np.array([1, 1, d.of([0.5, 1.5, 2, 0.7, 3]), d.of([0.5, 2, 1, 0.8])],
                                    np.float32)
    else:
        if d.opset < 13:
            inputs["scales"] = np.zeros([0], np.float32)
        inputs["sizes"] = np.array(shape[:2] + [d.int(1, 9), d.int(1, 9)], np.int64)
    return inputs, attrs


@recipe("GridSample")
def grid_sample(d):
    modes = ["linear", "nearest", "cubic"] if d.opset >= 20 else ["bilinear", "nearest", "bicubic"]
    attrs = {"mode": d.of(modes), "padding_mode": d.of(["zeros", "border", "reflection"]),
             "align_corners": d.int(0, 1)}
    n = d.int(1, 2)
    x = d.values([n, d.int(1, 2), d.int(2, 5), d.int(2, 5)], d.ty("T1"), -9, 9)
    grid = d.values([n, d.int(1, 4), d.int(1, 4), 2], d.ty("T2"), -1.2, 1.2)
    return {"X": x, "grid": grid}, attrs


@recipe("AffineGrid")
def affine_grid(d):
    n, k = d.int(1, 2), d.of([2, 3])
    size = np.array([n, 1] + [d.int(2, 4) for _ in range(k)], np.int64)
    return {"theta": d.values([n, k, k + 1], d.ty("T1"), -2, 2), "size": size}, {
        "align_corners": d.int(0, 1)}


@recipe("RoiAlign")
def roi_align(d):
    n = d.int(1, 2)
    x = d.values([n, d.int(1, 2), 6, 7], d.ty("T1"), -9, 9)
    k = d.int(1, 3)
    corner = d.floats([k, 2], 0, 3)
    rois = np.concatenate([corner, corner + d.floats([k, 2], 1, 3)], 1).astype(d.ty("T1"))
    attrs = {"output_height": d.int(1, 3), "output_width": d.int(1, 3),
             "sampling_ratio": d.int(1, 2), "mode": d.of(["avg", "max"])}
    if d.opset >= 16:
        attrs["coordinate_transformation_mode"] = d.of(["half_pixel", "output_half_pixel"])
    return {"X": x, "rois": rois, "batch_indices": d.ints([k], 0, n - 1)}, attrs


@recipe("MaxRoiPool")
def max_roi_pool(d):
    k = d.int(1, 3)
    corner = d.ints([k, 2], 0, 3)
    rois = np.concatenate([np.zeros([k, 1]), corner, corner + d.ints([k, 2], 0, 3)], 1)
    return {"X": d.values([1, 2, 7, 7], d.ty("T"), -9, 9), "rois": rois.astype(d.ty("T"))}, {
        "pooled_shape": [d.int(1, 3), d.int(1, 3)]}


@recipe("Col2Im")
def col2im(d):
    h, w, kh, kw, c, n = d.int(3, 6), d.int(3, 6), d.int(1, 3), d.int(1, 3), d.int(1, 2), 1
    count = (h - kh + 1) * (w - kw + 1)
    return {"input": d.values([n, c * kh * kw, count], d.ty("T")),
            "image_shape": np.array([h, w]), "block_shape": np.array([kh, kw])}, {}


@recipe("NonMaxSuppression")
def nms(d):
    b, n, c = d.int(1, 2), d.int(1, 6), d.int(1, 2)
    corner = d.floats([b, n, 2], 0, 2)
    boxes = np.concatenate([corner, corner + d.floats([b, n, 2], 0.2, 2)], 2)
    inputs = {"boxes": boxes, "scores": d.floats([b, c, n], 0, 1),
              "max_output_boxes_per_class": np.array([d.int(0, 4)])}
    if d.chance(0.7):
        inputs["iou_threshold"] = np.array([d.of([0.3, 0.5, 0.0])], np.float32)
    if d.chance(0.5):
        inputs["score_threshold"] = np.array([0.4], np.float32)
    return inputs, {"center_point_box": d.int(0, 1)} if d.chance(0.4) else {}


@recipe("MaxUnpool")
def max_unpool(d):
    n, c = d.int(1, 2), d.int(1, 2)
    sizes = [d.int(1, 4) for _ in range(d.int(1, 3))]
    kernel = [d.int(1, 3) for _ in sizes]
    strides = [k + d.int(0, 1) for k in kernel]
    attrs = {"kernel_shape": kernel, "strides": strides}
    full = [(s - 1) * t + k for s, t, k in zip(sizes, strides, kernel)]
    if d.chance(0.3):
        attrs["pads"] = [d.int(0, min(1, k - 1)) for k in kernel * 2]
        half = len(sizes)
        full = [max(1, f - attrs["pads"][i] - attrs["pads"][i + half]) for i, f in enumerate(full)]
    count = int(np.prod(full))
    shape = [n, c] + sizes
    per = int(np.prod(sizes))
    if per > count:
        raise Skip("more elements than places")
    at = np.concatenate([d.rng.permutation(count)[:per] + count * i for i in range(n * c)])
    inputs = {"X": d.values(shape, d.ty("T1"), -9, 9), "I": at.reshape(shape).astype(np.int64)}
    if d.chance(0.3):
        inputs["output_shape"] = np.array([n, c] + full, np.int64)
    return inputs, attrs


@recipe("DeformConv")
def deform_conv(d):
    dtype = d.ty("T")
    n, ci, co = d.int(1, 2), d.int(1, 2), d.int(1, 2)
    group, spread = d.of([1, 1, 2]), d.of([1, 1, 2])
    if group * ci % spread:
        spread = 1
    sizes, kernel = [d.int(3, 6), d.int(3, 6)], [d.int(1, 3), d.int(1, 3)]
    attrs = {"kernel_shape": kernel, "group": group, "offset_group": spread}
    strides, dilations, pads = [1, 1], [1, 1], [0] * 4
    if d.chance(0.4):
        strides = attrs["strides"] = [d.int(1, 2), d.int(1, 2)]
    if d.chance(0.3):
        dilations = attrs["dilations"] = [d.int(1, 2) if (k - 1) * 2 < s else 1
                                          for k, s in zip(kernel, sizes)]
    if d.chance(0.5):
        pads = attrs["pads"] = [d.int(0, 1) for _ in range(4)]
    out = [(sizes[i] + pads[i] + pads[i + 2] - (kernel[i] - 1) * dilations[i] - 1) // strides[i] + 1
           for i in (0, 1)]
    taps = spread * kernel[0] * kernel[1]
    inputs = {"X": scaled(d, [n, group * ci] + sizes, dtype, 2),
              "W": scaled(d, [group * co, ci] + kernel, dtype),
              "offset": scaled(d, [n, 2 * taps] + out, dtype, 1.5)}
    if d.chance(0.5):
        inputs["B"] = scaled(d, [group * co], dtype)
    if d.chance(0.5):
        inputs["mask"] = d.values([n, taps] + out, dtype, 0, 1)
    return inputs, attrs
