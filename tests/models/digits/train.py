#!/usr/bin/env python3
"""Trains the digit classifier of this folder and writes it as ONNX (a minute on one core).

    python3 -m pip install -r tests/requirements.txt
    python3 tests/models/digits/train.py            writes model.onnx, test_data_set_0/, digit.npy
    python3 tests/models/digits/train.py --check    only measures the model.onnx that is here

image [batch,1,8,8] → conv 3×3, relu, maxpool 2×2 → conv 3×3, relu, maxpool 2×2 → gemm → scores

Forward, backward and Adam are written out in numpy; seeds are fixed.
"""
import os
import sys

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from sklearn.datasets import load_digits

HERE = os.path.dirname(os.path.abspath(__file__))
EPOCHS, BATCH, RATE, DECAY = 80, 32, 2e-3, 1e-4
CHANNELS = (16, 32)


def data():
    """Pixels in 0..1 and labels: 1437 images to train on, 360 held out."""
    digits = load_digits()
    x = (digits.images / 16).astype(np.float32)[:, None]
    order = np.random.default_rng(0).permutation(len(x))
    train, held_out = order[:1437], order[1437:]
    return x[train], digits.target[train], x[held_out], digits.target[held_out]


def columns(x):
    """[n,c,h,w] → [n·h·w, c·9]: what each output of a padded 3×3 convolution sees."""
    n, c, h, w = x.shape
    x = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    view = np.lib.stride_tricks.sliding_window_view(x, (3, 3), axis=(2, 3))
    return np.ascontiguousarray(view.transpose(0, 2, 3, 1, 4, 5)).reshape(n * h * w, c * 9)


def uncolumns(columns_grad, shape):
    """The gradient of `columns`: every value goes back to the pixel that it came from."""
    n, c, h, w = shape
    g = columns_grad.reshape(n, h, w, c, 3, 3)
    out = np.zeros((n, c, h + 2, w + 2), np.float32)
    for i in range(3):
        for j in range(3):
            out[:, :, i:i + h, j:j + w] += g[:, :, :, :, i, j].transpose(0, 3, 1, 2)
    return out[:, :, 1:-1, 1:-1]


def block(x, w, b):
    """conv 3×3, relu, maxpool 2×2; also what `block_grad` needs."""
    n, _, h, wd = x.shape
    cols = columns(x)
    y = cols @ w.reshape(len(w), -1).T + b
    y = np.maximum(y, 0).reshape(n, h, wd, -1).transpose(0, 3, 1, 2)
    windows = y.reshape(n, -1, h // 2, 2, wd // 2, 2)
    pooled = windows.max(axis=(3, 5))
    return pooled, (x.shape, cols, windows, pooled)


def block_grad(grad, w, saved):
    """(gradient of x, of w, of b)."""
    shape, cols, windows, pooled = saved
    best = windows == pooled[:, :, :, None, :, None]
    # Equal values share the gradient; all are 0 where relu was shut.
    share = best / best.sum(axis=(3, 5), keepdims=True)
    grad = share * (grad * (pooled > 0))[:, :, :, None, :, None]
    n, c, h, w_out = windows.shape[0], windows.shape[1], shape[2], shape[3]
    grad = grad.reshape(n, c, h, w_out).transpose(0, 2, 3, 1).reshape(-1, c).astype(np.float32)
    x_grad = uncolumns(grad @ w.reshape(c, -1), shape)
    return x_grad, (grad.T @ cols).reshape(w.shape), grad.sum(0)


def loss_grads(p, x, label):
    """Gradients of the mean cross-entropy."""
    h1, saved1 = block(x, p["conv1.weight"], p["conv1.bias"])
    h2, saved2 = block(h1, p["conv2.weight"], p["conv2.bias"])
    flat = h2.reshape(len(x), -1)
    scores = flat @ p["fc.weight"].T + p["fc.bias"]
    e = np.exp(scores - scores.max(1, keepdims=True))
    d = e / e.sum(1, keepdims=True)
    d[np.arange(len(x)), label] -= 1
    d /= len(x)
    g = {"fc.weight": d.T @ flat, "fc.bias": d.sum(0)}
    d2 = (d @ p["fc.weight"]).reshape(h2.shape)
    d1, g["conv2.weight"], g["conv2.bias"] = block_grad(d2, p["conv2.weight"], saved2)
    _, g["conv1.weight"], g["conv1.bias"] = block_grad(d1, p["conv1.weight"], saved1)
    return g


def shifted(x, r):
    """Each image moved by −1, 0 or 1 pixels both ways."""
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    moves = r.integers(0, 3, (len(x), 2))
    return np.stack([padded[k, :, i:i + 8, j:j + 8] for k, (i, j) in enumerate(moves)])


def train(x, label):
    r = np.random.default_rng(1)
    c1, c2 = CHANNELS
    shapes = {"conv1.weight": (c1, 1, 3, 3), "conv2.weight": (c2, c1, 3, 3),
              "fc.weight": (10, c2 * 4)}
    p = {}
    for name, shape in shapes.items():
        spread = np.sqrt(2 / np.prod(shape[1:]))
        p[name] = (r.standard_normal(shape) * spread).astype(np.float32)
        p[name.replace("weight", "bias")] = np.zeros(shape[0], np.float32)
    m = {k: np.zeros_like(v) for k, v in p.items()}
    v = {k: np.zeros_like(w) for k, w in p.items()}
    step, steps = 0, EPOCHS * (len(x) // BATCH)
    for _ in range(EPOCHS):
        order = r.permutation(len(x))
        for at in range(0, len(x) - BATCH + 1, BATCH):
            chosen = order[at:at + BATCH]
            grads = loss_grads(p, shifted(x[chosen], r), label[chosen])
            step += 1
            rate = RATE * 0.5 * (1 + np.cos(np.pi * step / steps))
            for k, g in grads.items():
                m[k] += 0.1 * (g - m[k])
                v[k] += 0.001 * (g * g - v[k])
                update = m[k] / (1 - 0.9**step) / (np.sqrt(v[k] / (1 - 0.999**step)) + 1e-8)
                p[k] = (p[k] - rate * (update + DECAY * p[k])).astype(np.float32)
    return p


def to_onnx(p):
    def conv(x, name, y):
        inputs = [x, f"{name}.weight", f"{name}.bias"]
        return helper.make_node("Conv", inputs, [y], name, kernel_shape=[3, 3], pads=[1, 1, 1, 1])

    def pool(x, name, y):
        return helper.make_node("MaxPool", [x], [y], name, kernel_shape=[2, 2], strides=[2, 2])

    nodes = [
        conv("image", "conv1", "c1"),
        helper.make_node("Relu", ["c1"], ["r1"], "relu1"),
        pool("r1", "pool1", "p1"),
        conv("p1", "conv2", "c2"),
        helper.make_node("Relu", ["c2"], ["r2"], "relu2"),
        pool("r2", "pool2", "p2"),
        helper.make_node("Flatten", ["p2"], ["flat"], "flatten", axis=1),
        helper.make_node("Gemm", ["flat", "fc.weight", "fc.bias"], ["scores"], "fc", transB=1),
    ]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "digits",
        [value("image", TensorProto.FLOAT, ["batch", 1, 8, 8])],
        [value("scores", TensorProto.FLOAT, ["batch", 10])],
        [numpy_helper.from_array(a, k) for k, a in p.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    model.producer_name = "tests/models/digits/train.py"
    onnx.checker.check_model(model, full_check=True)
    return model


def write(path, proto):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as f:
        f.write(proto.SerializeToString(deterministic=True))


def session():
    return onnxruntime.InferenceSession(f"{HERE}/model.onnx", providers=["CPUExecutionProvider"])


def main():
    if sys.argv[1:] not in ([], ["--check"]):
        sys.exit(__doc__)
    x, label, held_out, held_out_label = data()
    if not sys.argv[1:]:
        write(f"{HERE}/model.onnx", to_onnx(train(x, label)))
        some = held_out[:8]
        scores = session().run(None, {"image": some})[0]
        folder = f"{HERE}/test_data_set_0"
        write(f"{folder}/input_0.pb", numpy_helper.from_array(some, "image"))
        write(f"{folder}/output_0.pb", numpy_helper.from_array(scores, "scores"))
        # Not a 0, which a program that computes nothing would find too.
        np.save(f"{HERE}/digit.npy", held_out[held_out_label == 7][:1])
    scores = session().run(None, {"image": held_out})[0]
    right = int((scores.argmax(1) == held_out_label).sum())
    print(f"{right} of {len(held_out)} held-out images right: {right / len(held_out):.1%}")


main()
