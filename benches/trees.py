#!/usr/bin/env python3
"""Times tree ensembles of 100 trees on 10,000 rows: rinfer against ONNX Runtime.

    cargo build --release -p rinfer-cli
    python3 benches/trees.py [--rinfer target/release/rinfer] [--threads 1] [--rounds 5]

Both engines take turns; the table has the median over the rounds of each round's fastest run, and
rinfer's time as a multiple of ONNX Runtime's.  Trees are drawn with a fixed seed: each node splits
a feature at a normal deviate, paths end at random, as trees grown by scikit-learn do.
"""
import argparse
import json
import os
import statistics
import subprocess
import tempfile
import time

import numpy as np
import onnxruntime as ort
from onnx import TensorProto, helper

ROWS = 10_000


def grow(rng, features, depth, trees):
    """The node table of an ensemble, as attributes without their prefix."""
    table = {k: [] for k in ("treeids", "nodeids", "featureids", "values", "modes", "truenodeids",
                             "falsenodeids")}
    leaves = []
    for tree in range(trees):
        todo, made = [(0, 0)], 1
        while todo:
            node, level = todo.pop(0)
            leaf = level == depth or (level > depth // 2 and rng.random() < 0.15)
            table["treeids"].append(tree)
            table["nodeids"].append(node)
            table["featureids"].append(0 if leaf else int(rng.integers(features)))
            table["values"].append(0.0 if leaf else float(np.float32(rng.normal())))
            table["modes"].append("LEAF" if leaf else "BRANCH_LEQ")
            table["truenodeids"].append(0 if leaf else made)
            table["falsenodeids"].append(0 if leaf else made + 1)
            if leaf:
                leaves.append((tree, node))
            else:
                todo += [(made, level + 1), (made + 1, level + 1)]
                made += 2
    return {f"nodes_{k}": v for k, v in table.items()}, leaves


def model(kind, rng, features, depth, trees):
    attrs, leaves = grow(rng, features, depth, trees)
    classes = {"regressor": 1, "classifier of 2": 1, "classifier of 5": 5}[kind]
    prefix = "target" if kind == "regressor" else "class"
    votes = [(t, n, c, float(np.float32(rng.random() / trees)))
             for t, n in leaves for c in range(classes)]
    attrs |= {f"{prefix}_{k}": list(v) for k, v in
              zip(("treeids", "nodeids", "ids", "weights"), zip(*votes))}
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [ROWS, features])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    if kind == "regressor":
        node = helper.make_node("TreeEnsembleRegressor", ["x"], ["y"], domain="ai.onnx.ml",
                                n_targets=1, **attrs)
        outputs = [y]
    else:
        labels = list(range(max(2, classes)))
        node = helper.make_node("TreeEnsembleClassifier", ["x"], ["label", "y"],
                                domain="ai.onnx.ml", classlabels_int64s=labels,
                                post_transform="NONE", **attrs)
        outputs = [helper.make_tensor_value_info("label", TensorProto.INT64, None), y]
    graph = helper.make_graph([node], "trees", [x], outputs)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def time_ort(session, x, runs):
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        session.run(None, {"x": x})
        times.append((time.perf_counter() - start) * 1e3)
    return min(times)


def time_rinfer(binary, path, data, threads, runs):
    command = [binary, "bench", path, "--input", f"x={data}", "--threads", str(threads), "--warmup",
               "0.1", "--runs", str(runs), "--json"]
    found = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    return found[0]["min_ms"]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rinfer", default="target/release/rinfer")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--runs", type=int, default=10)
    args = parser.parse_args()
    options = ort.SessionOptions()
    options.intra_op_num_threads = args.threads
    print("| ensemble | features | depth | rinfer ms | ONNX Runtime ms | ratio |")
    print("|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for kind in ("regressor", "classifier of 2", "classifier of 5"):
            for features, depth in ((20, 8), (50, 10)):
                rng = np.random.default_rng(7)
                path, data = os.path.join(folder, "m.onnx"), os.path.join(folder, "x.npy")
                content = model(kind, rng, features, depth, 100).SerializeToString()
                with open(path, "wb") as f:
                    f.write(content)
                x = rng.normal(size=(ROWS, features)).astype(np.float32)
                np.save(data, x)
                session = ort.InferenceSession(content, options)
                time_ort(session, x, 2)
                pairs = [(time_rinfer(args.rinfer, path, data, args.threads, args.runs),
                          time_ort(session, x, args.runs)) for _ in range(args.rounds)]
                ours, theirs = (statistics.median(t) for t in zip(*pairs))
                print(f"| {kind} | {features} | {depth} | {ours:.2f} | {theirs:.2f} "
                      f"| {ours / theirs:.2f} |", flush=True)


if __name__ == "__main__":
    main()
