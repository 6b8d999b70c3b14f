#!/usr/bin/env python3
"""Writes the digit classifier with planted outliers, and digits with their labels.

    python3 -m pip install -r tests/requirements.txt
    python3 tests/quantized/planted.py FOLDER [--by 200]
    python3 tests/quantized/planted.py FOLDER --score MODEL ...    accuracy in ONNX Runtime

FOLDER/planted.onnx computes what tests/models/digits/model.onnx computes, but some channels inside
are BY times as large, and the next layer's weights make up for it: one scale for a whole tensor
then leaves nothing of the other channels.  FOLDER/calib.npz has `image` and `labels` of the 1437
images that the model was trained on, FOLDER/held_out.npz of the 360 others; these are scored.
"""
import argparse
import os

import numpy as np
import onnx
import onnxruntime
from onnx import numpy_helper
from sklearn.datasets import load_digits

ROOT = os.path.normpath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "../.."))


def digits():
    """Images and labels in the order of tests/models/digits/train.py: the last 360 are held out."""
    found = load_digits()
    order = np.random.default_rng(0).permutation(len(found.images))
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
    parser.add_argument("--score", nargs="+", metavar="MODEL")
    args = parser.parse_args()
    if args.score:
        held_out = np.load(f"{args.folder}/held_out.npz")
        for path in args.score:
            session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
            found = session.run(None, {"image": held_out["image"]})[0].argmax(1)
            right = int((found == held_out["labels"]).sum())
            print(f"{path}: {right} of {len(found)} right: {right / len(found):.1%}")
        return
    os.makedirs(args.folder, exist_ok=True)
    onnx.save(planted(args.by), f"{args.folder}/planted.onnx")
    image, labels = digits()
    np.savez(f"{args.folder}/calib.npz", image=image[:1437], labels=labels[:1437])
    np.savez(f"{args.folder}/held_out.npz", image=image[1437:], labels=labels[1437:])


main()
