#!/usr/bin/env python3
"""Quantizes models and compares what each processor makes of them, bit for bit.

    cargo build --release -p rinfer-cli
    python3 tests/quantized/processors.py target/models [--only resnet50,…] [--mode static]
    python3 tests/quantized/processors.py tests/models --also 'wasm=node tests/quantized/wasm.mjs'

A folder holds NAME.onnx and NAME/CASE/INPUT.npy, as tests/agree_with_onnxruntime.py makes them, or
NAME/model.onnx and NAME/test_data_set_0, as ONNX does; the first case is what is calibrated with and
run.  Compared are the instruction sets of this machine, and whatever `--also NAME=COMMAND` names:
COMMAND is given what `rinfer run` is, so it may be

    neon=tests/arm/run rinfer run                            the same program in an emulator of ARM
    wasm=node tests/quantized/wasm.mjs                       the package for browsers, in Node
    gpu=target/release/rinfer run --backend gpu-or-cpu       a GPU

Sums of codes are exact and float sums have one order on every processor, so nothing may differ; where
products and sums are not fused (wasm) or rounded as the driver likes (GPUs), models that keep float
layers may, and `--may-differ wasm,gpu` forgives it.  Exit code 1 if something else does.
"""
import argparse
import os
import shlex
import subprocess
import sys
import tempfile
import time

import numpy as np

SETS = ["avx512", "avx2", "scalar"]


def run(command, isa=None):
    """Seconds that it takes; what it says is shown only where it fails."""
    env = dict(os.environ, **({"RINFER_ISA": isa} if isa else {}))
    start = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, env=env)
    if done.returncode:
        sys.exit(f"{shlex.join(command)}\n{done.stderr}")
    return time.perf_counter() - start


def find(folder):
    """{name: (model, {input: array}, what to calibrate with if not the inputs)}"""
    found = {}
    for entry in sorted(os.listdir(folder)):
        path = os.path.join(folder, entry)
        if entry.endswith(".onnx"):
            cases = path[:-5]
            case = next(c.path for c in sorted(os.scandir(cases), key=lambda c: c.name) if c.is_dir())
            feeds = {f[:-4]: np.load(os.path.join(case, f))
                     for f in sorted(os.listdir(case)) if f.endswith(".npy")}
            found[entry[:-5]] = path, feeds, None
        elif os.path.isdir(os.path.join(path, "test_data_set_0")):
            model = os.path.join(path, "model.onnx")
            found[entry] = model, messages(model, os.path.join(path, "test_data_set_0")), path
    return found


def messages(model, case):
    """The inputs of a case in ONNX's layout."""
    import onnx
    from onnx import numpy_helper
    graph = onnx.load(model).graph
    held = {x.name for x in graph.initializer}
    names = [x.name for x in graph.input if x.name not in held]
    feeds = {}
    for i, name in enumerate(names):
        tensor = onnx.TensorProto()
        with open(os.path.join(case, f"input_{i}.pb"), "rb") as file:
            tensor.ParseFromString(file.read())
        feeds[name] = numpy_helper.to_array(tensor)
    return feeds


def compare(a, b):
    """How many elements are the same, of how many, and the largest difference in parts of the scale."""
    if a.keys() != b.keys() or any(a[f].shape != b[f].shape for f in a):
        return 0, 1, float("inf")
    same, off, total = 0, 0.0, 0
    for f, x in a.items():
        y = b[f]
        same += int(((x == y) | ((x != x) & (y != y))).sum())
        total += x.size
        x, y = x.astype(np.float64), y.astype(np.float64)
        scale = max(float(np.abs(x).max(initial=0)), 1e-30)
        off = max(off, float(np.abs(x - y).max(initial=0)) / scale)
    return same, total, off


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models")
    parser.add_argument("--rinfer", default="target/release/rinfer")
    parser.add_argument("--only", default="")
    parser.add_argument("--mode", default="static")
    parser.add_argument("--sets", default=",".join(SETS), help="instruction sets of this machine")
    parser.add_argument("--also", action="append", default=[], metavar="NAME=COMMAND")
    parser.add_argument("--may-differ", default="", metavar="NAME,…")
    args, forwarded = parser.parse_known_args()
    ways = {isa: ([args.rinfer, "run"], isa) for isa in args.sets.split(",")}
    for also in args.also:
        name, command = also.split("=", 1)
        ways[name] = shlex.split(command), None
    wrong = 0
    with tempfile.TemporaryDirectory() as tmp:
        for name, (model, feeds, samples) in find(args.models).items():
            if args.only and name not in args.only.split(","):
                continue
            path, calib = os.path.join(tmp, "q.onnx"), os.path.join(tmp, "calib.npz")
            np.savez(calib, **feeds)
            samples = ["--calib", samples or calib] if args.mode == "static" else []
            run([args.rinfer, "quantize", model, "-o", path, "--overwrite", "--mode", args.mode,
                 "--no-check", *samples, *forwarded])
            inputs = []
            for feed, array in feeds.items():
                file = os.path.join(tmp, f"{len(inputs)}.npy")
                np.save(file, array)
                inputs += ["-i", f"{feed}={file}"]
            made, took = {}, {}
            for way, (command, isa) in ways.items():
                out = os.path.join(tmp, name, way)
                took[way] = run([*command, path, "--overwrite", "--output-dir", out, *inputs], isa)
                made[way] = {f: np.load(os.path.join(out, f)) for f in sorted(os.listdir(out))}
            first = next(iter(ways))
            differs = []
            for way in list(ways)[1:]:
                same, total, off = compare(made[first], made[way])
                if same != total:
                    wrong += way not in args.may_differ.split(",")
                    differs.append(f"{way}: {same / total:.1%} the same, at most {off:.1e} of scale off")
            times = ", ".join(f"{way} {took[way]:.1f} s" for way in ways)
            print(f"{name:18} {'; '.join(differs) or 'the same bits'}  ({times})", flush=True)
    sys.exit(bool(wrong))


main()
