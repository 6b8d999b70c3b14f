#!/usr/bin/env python3
"""Float, dynamic, static, and trained with rounding: size, time, and what accuracy is lost.

    cargo build --release -p rinfer-cli
    python3 tests/quantized/table.py [--rinfer target/release/rinfer] [--models target/models] [--only bert-base,…]

`bert-base` has random weights: what is lost is the cosine distance of its output to the float
model's, and a graph that was trained with rounding is the same graph as the static one, with
other numbers in it.  `minilm-real` is a trained sentence encoder: the distance is that of the mean
of a sentence's states, over the sentences of sentences.txt that calibration did not see.  `encoder`
is trained here, and what is lost is points of accuracy.  Times are medians of one thread, of runs
of all four in turn.
"""
import argparse
import json
import os
import tempfile

import numpy as np

from data import HERE, Rinfer, accuracy, calibration, examples
from zoo import KINDS


def distance(a, b):
    """One less the cosine, the mean over rows."""
    a, b = (x.reshape(len(x), -1).astype(np.float64) for x in (a, b))
    return float(np.mean(1 - (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)))


class Bert:
    """Random tokens."""

    def __init__(self, args, tmp):
        self.path = f"{args.models}/bert-base.onnx"
        folder = f"{args.models}/bert-base/1x128"
        feeds = {f[:-4]: np.load(f"{folder}/{f}") for f in sorted(os.listdir(folder)) if f.endswith(".npy")}
        self.bench = [x for name in feeds for x in ("-i", f"{name}={folder}/{name}.npy")]
        rng = np.random.default_rng(0)

        def drawn(n):
            """Tokens in random order; all else as in the sample."""
            many = {name: np.repeat(a, n, 0) for name, a in feeds.items()}
            many["input_ids"] = rng.integers(1000, 30000, many["input_ids"].shape)
            return many

        np.savez(f"{tmp}/bert.npz", **drawn(16))
        self.static, self.held, self.folder = ["--calib", f"{tmp}/bert.npz"], drawn(4), tmp

    def outputs(self, rinfer, model):
        made = []
        for i in range(4):
            inputs = []
            for name, a in self.held.items():
                np.save(f"{self.folder}/{name}.npy", a[i:i + 1])
                inputs += ["-i", f"{name}={self.folder}/{name}.npy"]
            rinfer.call("run", model, "-q", *inputs, "--overwrite", "--output-dir", f"{self.folder}/out")
            first = sorted(os.listdir(f"{self.folder}/out"))[0]
            made.append(np.load(f"{self.folder}/out/{first}"))
        return np.concatenate(made)

    def lost(self, float_outputs, outputs):
        return f"{distance(float_outputs, outputs):.5f}"


class MiniLm:
    """Sentences; every other one calibrates."""

    def __init__(self, args, tmp):
        self.path, folder = f"{args.models}/minilm-real.onnx", f"{args.models}/minilm-real"
        self.tokenizer, self.folder = ["--tokenizer", f"{folder}/tokenizer.json"], tmp
        case = f"{folder}/1x128"
        feeds = [f[:-4] for f in sorted(os.listdir(case)) if f.endswith(".npy")]
        self.bench = [x for name in feeds for x in ("-i", f"{name}={case}/{name}.npy")]
        with open(args.sentences) as f:
            lines = [line for line in f.read().splitlines() if line.strip()]
        with open(f"{tmp}/calib.txt", "w") as f:
            f.write("\n".join(lines[::2]) + "\n")
        self.static, self.held = ["--calib", f"{tmp}/calib.txt", *self.tokenizer], lines[1::8]

    def outputs(self, rinfer, model):
        made = []
        for line in self.held:
            with open(f"{self.folder}/line.txt", "w") as f:
                f.write(line + "\n")
            rinfer.call("run", model, "-q", "-i", f"input_ids={self.folder}/line.txt", *self.tokenizer,
                        "--overwrite", "--output-dir", f"{self.folder}/out")
            first = sorted(os.listdir(f"{self.folder}/out"))[0]
            made.append(np.load(f"{self.folder}/out/{first}").reshape(-1, 384).mean(0))
        return np.stack(made)

    def lost(self, float_outputs, outputs):
        return f"{distance(float_outputs, outputs):.5f}"


class Encoder:
    """Sequences and the rules that made them."""

    def __init__(self, args, tmp):
        self.path, self.trained = f"{HERE}/trained/encoder.onnx", f"{HERE}/trained/encoder-qat.onnx"
        self.x, self.labels = examples("encoder", "held_out", 4000)
        self.static, self.bench = ["--calib", calibration("encoder", tmp)], ["--dim", "batch=1"]

    def outputs(self, rinfer, model):
        return rinfer.logits(model, KINDS["encoder"].name, self.x)

    def lost(self, float_outputs, outputs):
        before, after = (accuracy(o, self.labels) for o in (float_outputs, outputs))
        return f"{before - after:+.2f} points of {before:.2f} %"


SUBJECTS = {"bert-base": Bert, "minilm-real": MiniLm, "encoder": Encoder}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rinfer", default="target/release/rinfer")
    parser.add_argument("--models", default="target/models")
    parser.add_argument("--sentences", default=f"{HERE}/sentences.txt")
    parser.add_argument("--only", default="")
    parser.add_argument("--rounds", type=int, default=5, help="how often each takes its turn")
    args = parser.parse_args()
    print("| model | | size | time | faster | lost |\n|---|---|--:|--:|--:|--:|", flush=True)
    for name in SUBJECTS:
        if args.only and name not in args.only.split(","):
            continue
        with tempfile.TemporaryDirectory() as tmp:
            rinfer, subject = Rinfer(args.rinfer, tmp), SUBJECTS[name](args, tmp)
            files = {"FP32": subject.path, "dynamic": f"{tmp}/dynamic.onnx", "static": f"{tmp}/static.onnx"}
            rinfer.quantize(subject.path, files["dynamic"], "--mode", "dynamic")
            rinfer.quantize(subject.path, files["static"], "--mode", "static", *subject.static)
            if hasattr(subject, "trained"):
                files["QAT"] = subject.trained
            times = {which: [] for which in files}
            for _ in range(args.rounds):
                # One after the other, again and again: what else the machine does meets all of them.
                told = rinfer.call("bench", *files.values(), *subject.bench, "--threads", "1", "--duration", "1", "--json")
                told = told[:told.rindex("]") + 1]
                for which, found in zip(files, json.loads(told)):
                    times[which].append(found["median_ms"])
            before = subject.outputs(rinfer, subject.path)
            for which, path in files.items():
                time = min(times[which])
                lost = subject.lost(before, subject.outputs(rinfer, path)) if which != "FP32" else ""
                print(f"| {name} | {which} | {os.path.getsize(path) / 2**20:.2f} MiB | {time:.3g} ms "
                      f"| {min(times['FP32']) / time:.2f}× | {lost} |", flush=True)
            if "QAT" not in files:
                same = "as static" if name == "bert-base" else "not trained here"
                print(f"| {name} | QAT | {same} | | | |", flush=True)


if __name__ == "__main__":
    main()
