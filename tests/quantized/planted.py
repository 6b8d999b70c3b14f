#!/usr/bin/env python3
"""Plants outliers in trained models, and says what quantization then leaves of them.

    python3 -m pip install -r tests/requirements.txt -r tests/quantized/requirements.txt
    cargo build --release -p rinfer-cli
    python3 tests/quantized/planted.py [--rinfer target/release/rinfer] [--by 200] [--keep FOLDER]

A planted model computes what the model did, but some channels inside are BY times as large, and the
weights that read them make up for it: channels before a Relu, gammas of a normalization that only
products read, values of an attention.  One scale for a whole tensor then leaves nothing of the
other channels.  Prints a table; exit code 1 if naive quantization leaves more than 65 %, if the
search loses more than half a point or leaves less than nine tenths of the steps in integers, or if
balancing alone loses more than a point.
"""
import argparse
import json
import os
import sys
import tempfile

import numpy as np
import onnx
from onnx import numpy_helper

from data import HERE, Rinfer, accuracy, examples
from zoo import KINDS

DIGITS = os.path.normpath(f"{HERE}/../models/digits/model.onnx")


class Plant:
    """A model's weights, and who makes and reads each value."""

    def __init__(self, model, by, seed=0):
        self.model, self.by, self.rng = model, np.float32(by), np.random.default_rng(seed)
        self.weights = {t.name: numpy_helper.to_array(t).copy() for t in model.graph.initializer}
        self.readers, self.made, self.planted = {}, {}, []
        for node in model.graph.node:
            self.made.update({v: node for v in node.output})
            for v in node.input:
                self.readers.setdefault(v, []).append(node)

    def reader(self, value):
        """The one node that reads it."""
        found = self.readers.get(value, [])
        return found[0] if len(found) == 1 else None

    def follow(self, value, kinds):
        """The value at the end of a chain of nodes of these kinds, and the one node that reads it."""
        node = self.reader(value)
        while node and node.op_type in kinds and node.input[0] == value:
            value, node = node.output[0], self.reader(node.output[0])
        return value, node

    def pick(self, count, few=2):
        return self.rng.choice(count, few, replace=False)

    def rows(self, node, c, count):
        """Divides what the node's weight makes of channel c of `count`."""
        w = self.weights[node.input[1]]
        if node.op_type == "Conv":
            w[:, c] /= self.by
            return
        swapped = any(a.name == "transB" and a.i for a in node.attribute)
        w = w.T if swapped else w
        each = len(w) // count
        w[c * each:(c + 1) * each] /= self.by

    def takes(self, node, value):
        """Whether it is a layer that reads the value, all channels of it at once."""
        if not node or node.op_type not in ("Conv", "Gemm", "MatMul") or node.input[0] != value:
            return False
        grouped = any(a.name == "group" and a.i > 1 for a in node.attribute)
        return node.input[1] in self.weights and not grouped

    def relus(self):
        """[Conv, Gemm] → [BatchNormalization] → Relu → a layer."""
        for node in self.model.graph.node:
            if node.op_type != "Relu":
                continue
            value, after = self.follow(node.output[0], ("MaxPool", "Flatten"))
            before = self.made.get(node.input[0])
            alone = before and self.reader(before.output[0]) is node
            kinds = ("Conv", "Gemm", "BatchNormalization")
            if not alone or before.op_type not in kinds or not self.takes(after, value):
                continue
            w, b = (self.weights[v] for v in before.input[1:3])
            for c in self.pick(len(b)):
                self.rows(after, c, len(b))
                swapped = before.op_type != "Gemm" or any(a.name == "transB" and a.i for a in before.attribute)
                (w if swapped else w.T)[c] *= self.by
                b[c] *= self.by
            self.planted.append(after.name)

    def norms(self):
        """LayerNormalization, or Mul with a gamma, that layers alone read."""
        for node in self.model.graph.node:
            value, readers = node.output[0], self.readers.get(node.output[0], [])
            gammas = {"LayerNormalization": list(node.input[1:]), "Mul": [v for v in node.input if v in self.weights]}
            gammas = [self.weights[v] for v in gammas.get(node.op_type, []) if self.weights[v].ndim == 1]
            if not gammas or not readers or not all(self.takes(r, value) for r in readers):
                continue
            for c in self.pick(len(gammas[0])):
                for gamma in gammas:
                    gamma[c] *= self.by
                for reader in readers:
                    self.rows(reader, c, len(gammas[0]))
            self.planted += [r.name for r in readers]

    def values(self):
        """MatMul → Add → … → MatMul(softmax, v) → … → MatMul."""
        moves = ("Reshape", "Transpose")
        for node in self.model.graph.node:
            if node.op_type != "MatMul" or node.input[1] not in self.weights:
                continue
            value, after, bias = node.output[0], self.reader(node.output[0]), None
            if after and after.op_type == "Add":
                bias = next((v for v in after.input if v in self.weights), None)
                value = after.output[0]
            value, mixer = self.follow(value, moves)
            if not mixer or mixer.op_type != "MatMul" or mixer.input[1] != value or mixer.input[0] in self.weights:
                continue
            scores = self.made.get(mixer.input[0])
            value, after = self.follow(mixer.output[0], moves)
            if not scores or scores.op_type != "Softmax" or not self.takes(after, value):
                continue
            w = self.weights[node.input[1]]
            for c in self.pick(w.shape[1]):
                w[:, c] *= self.by
                if bias:
                    self.weights[bias][c] *= self.by
                self.rows(after, c, w.shape[1])
            self.planted.append(after.name)

    def done(self):
        self.relus()
        self.norms()
        self.values()
        for t in self.model.graph.initializer:
            t.CopyFrom(numpy_helper.from_array(self.weights[t.name], t.name))
        return self.model


def digits():
    """Images and labels in the order of tests/models/digits/train.py: the last 360 are held out."""
    from sklearn.datasets import load_digits
    found = load_digits()
    order = np.random.default_rng(0).permutation(len(found.images))
    image, labels = (found.images / 16).astype(np.float32)[order, None], found.target[order].astype(np.int64)
    return "image", "scores", (image[:1437], labels[:1437]), (image[1437:], labels[1437:])


def subject(name):
    """The model, its input and output, samples to calibrate with and samples held out."""
    if name == "digits":
        return DIGITS, *digits()
    sets = (examples(name, "calib", 4096), examples(name, "held_out", 4000))
    return f"{HERE}/trained/{name}.onnx", KINDS[name].name, "logits", *sets


NAIVE = ["--mode", "static", "--granularity", "tensor", "--calib-method", "minmax"]
GOAL = ["--metric", "top1", "--max-drop", "0.5pp", "--samples", "4096"]
SETTINGS = {
    "naive": NAIVE,
    "`--max-drop 0.5pp`": [*NAIVE, *GOAL],
    "`--smooth auto`": ["--mode", "static", "--smooth", "auto"],
    "`--equalize`": ["--mode", "static", "--equalize"],
    "both": ["--mode", "static", "--equalize", "--smooth", "auto"],
}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rinfer", default="target/release/rinfer")
    parser.add_argument("--only", default="digits,cnn,resnet,vit,decoder")
    parser.add_argument("--by", type=float, default=200)
    parser.add_argument("--keep", help="leave models and samples in this folder")
    args = parser.parse_args()
    wrong = []
    with tempfile.TemporaryDirectory() as tmp:
        folder = args.keep or tmp
        os.makedirs(folder, exist_ok=True)
        rinfer = Rinfer(args.rinfer, tmp)
        titles = ["model", "float", "planted", *SETTINGS]
        print(f"| {' | '.join(titles)} | steps in integers | layers left float | layers planted |\n"
              f"|---|{'--:|' * (len(titles) + 2)}", flush=True)
        for name in args.only.split(","):
            path, port, out, (x, y), held = subject(name)
            plant = Plant(onnx.load(path), args.by)
            model, calib = f"{folder}/{name}-planted.onnx", f"{folder}/{name}.npz"
            onnx.save(plant.done(), model)
            np.savez(calib, **{port: x, "labels": y})

            def score(model):
                return accuracy(rinfer.logits(model, port, held[0], out), held[1])

            before, found, report = score(path), {"planted": score(model)}, {}
            for i, (setting, options) in enumerate(SETTINGS.items()):
                q, told = f"{folder}/{name}-{i}.onnx", f"{folder}/{name}-{i}.json"
                shown = rinfer.quantize(model, q, "--calib", calib, "--report", told, *options, may_fail=True)
                found[setting] = score(q if shown is not None else f"{q}.partial")
                report[setting] = json.load(open(told))
                if shown is None:
                    wrong.append(f"{name}: half a point is not shown")
            searched = report["`--max-drop 0.5pp`"]
            left = sum(not layer["integer"] for layer in searched["layers"] if layer["weights"])
            share = searched["integer_macs_share"]
            line = [f"{before:.2f} %"] + [f"{v:.2f} %" for v in found.values()]
            print(f"| {name} | {' | '.join(line)} | {share:.1%} | {left} | {len(plant.planted)} |", flush=True)
            wrong += [f"{name}: {what}" for what, bad in {
                "the planted model is another": abs(found["planted"] - before) > 0.1,
                "naive quantization does no harm": found["naive"] > 65,
                "the search loses more than half a point": before - found["`--max-drop 0.5pp`"] > 0.5,
                "less than nine tenths in integers": share < 0.9,
                "balancing loses more than a point": before - max(list(found.values())[3:]) > 1,
            }.items() if bad]
    print("\n".join(wrong), file=sys.stderr)
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
