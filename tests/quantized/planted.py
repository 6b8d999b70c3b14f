#!/usr/bin/env python3
"""Writes the digit classifier with planted outliers, and digits with their labels.

    python3 -m pip install -r tests/requirements.txt
    python3 tests/quantized/planted.py FOLDER [--by 200]

FOLDER/planted.onnx computes what tests/models/digits/model.onnx computes, but some channels inside
are BY times as large, and the next layer's weights make up for it: one scale for a whole tensor
then leaves nothing of the other channels.  FOLDER/digits.npz has `image` and `labels`: 360 images
that the model was not trained on, then the 1437 others.
"""
import argparse
import os

import numpy as np
import onnx
from onnx import numpy_helper
from sklearn.datasets import load_digits

ROOT = os.path.normpath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "../.."))


def digits():
    """Images and labels, the held-out ones first: the order of tests/models/digits/train.py."""
    found = load_digits()
    order = np.random.default_rng(0).permutation(len(found.images))
    order = np.concatenate([order[1437:], order[:1437]])
    return (found.images / 16).astype(np.float32)[order, None], found.target[order].astype(np.int64)


def planted(by):
    model = onnx.load(f"{ROOT}/tests/models/digits/model.onnx")
    weights = {t.name: numpy_helper.to_array(t).copy() for t in model.graph.initializer}
    convs = [n for n in model.graph.node if n.op_type == "Conv"]
    gemm = next(n for n in model.graph.node if n.op_type == "Gemm")
    for c in (3, 9):
        weights[convs[0].input[1]][c] *= by
        weights[convs[0].input[2]][c] *= by
        weights[convs[1].input[1]][:, c] /= by
    swap = any(a.name == "transB" and a.i for a in gemm.attribute)
    w = weights[gemm.input[1]]
    w = w.T if swap else w
    each = len(w) // len(weights[convs[1].input[1]])
    for c in (5, 20):
        weights[convs[1].input[1]][c] *= by
        weights[convs[1].input[2]][c] *= by
        w[c * each:(c + 1) * each] /= by
    for t in model.graph.initializer:
        t.CopyFrom(numpy_helper.from_array(weights[t.name], t.name))
    return model


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("--by", type=float, default=200)
    args = parser.parse_args()
    os.makedirs(args.folder, exist_ok=True)
    onnx.save(planted(args.by), f"{args.folder}/planted.onnx")
    image, labels = digits()
    np.savez(f"{args.folder}/digits.npz", image=image, labels=labels)


main()
