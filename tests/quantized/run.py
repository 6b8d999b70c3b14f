#!/usr/bin/env python3
"""Quantizes models drawn at random with rinfer, and runs what it wrote with ONNX Runtime.

    python3 -m pip install -r tests/requirements.txt
    cargo build --release -p rinfer-cli
    python3 tests/quantized/run.py [--rinfer target/release/rinfer] [--cases 300] [--seed 0]

Case I is model I in settings I: the same arguments give the same cases.  What was written must pass
onnx.checker, load in ONNX Runtime, and give there what it gives in rinfer (cosine at least 0.999);
it must also be near the float model (how near depends on the settings).  Exit code 1 if one is not.
"""
import argparse
import collections
import os
import re
import subprocess
import sys
import tempfile

import numpy as np
import onnx
import onnxruntime

from draw import draw

# Settings, and the least cosine to the float model that is expected of random weights.
SETTINGS = [
    (["--mode", "dynamic"], 0.98),
    (["--mode", "static"], 0.97),
    (["--mode", "weight-only", "--weights", "int8"], 0.98),
    (["--mode", "weight-only", "--weights", "int4-g16"], 0.9),
    (["--mode", "auto"], 0.98),
    (["--mode", "static", "--granularity", "tensor", "--acts", "int8", "--calib-method", "minmax"], 0.9),
    (["--mode", "fp16"], 0.999),
    (["--mode", "static", "--format", "qoperator"], 0.97),
    (["--mode", "static", "--acts", "uint16", "--calib-method", "minmax"], 0.95),
    (["--mode", "weight-only", "--weights", "int4", "--format", "qdq", "--round", "hqq"], 0.9),
    (["--mode", "dynamic", "--symmetric", "off"], 0.98),
    (["--mode", "static", "--smooth", "auto", "--bias-correct", "--calib-method", "entropy"], 0.8),
    (["--mode", "weight-only", "--weights", "int4", "--symmetric", "on", "--round", "awq"], 0.85),
    (["--mode", "weight-only", "--weights", "int4", "--round", "gptq"], 0.85),
    (["--mode", "static", "--weights", "uint8", "--calib-method", "percentile=99.9"], 0.95),
    (["--mode", "dynamic", "--granularity", "tensor", "--weight-range", "mse"], 0.9),
    (["--mode", "static", "--equalize", "--weight-range", "mse"], 0.97),
    (["--mode", "dynamic", "--dynamic-ranges", "tensor"], 0.98),
    (["--mode", "weight-only", "--weights", "int4-g32", "--block-scales", "float16"], 0.85),
    (["--mode", "weight-only", "--weights", "int4", "--format", "qdq", "--block-scales", "float16"], 0.85),
]


def cosine(a, b):
    a, b = (x.astype(np.float64).ravel() for x in (a, b))
    norm = np.sqrt((a @ a) * (b @ b))
    return 1.0 if norm < 1e-30 and np.abs(a - b).max(initial=0) < 1e-12 else float(a @ b / norm)


def onnxruntime_runs(path, feeds):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, ["CPUExecutionProvider"])
    return [o.name for o in session.get_outputs()], session.run(None, feeds)


def rinfer_runs(rinfer, path, feeds, names, folder):
    command = [rinfer, "run", path, "-q", "--output-dir", f"{folder}/out", "--overwrite"]
    for i, (name, array) in enumerate(feeds.items()):
        np.save(f"{folder}/in_{i}.npy", array)
        command += ["-i", f"{name}={folder}/in_{i}.npy"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"rinfer run: {done.stderr.strip()}")
    files = [re.sub(r"[^A-Za-z0-9_.-]", "_", name) for name in names]
    return [np.load(f"{folder}/out/{file}.npy") for file in files]


def case(rinfer, seed, folder, index):
    """Nothing, or what is wrong."""
    kind, model, feeds = draw(seed)
    settings, least = SETTINGS[index % len(SETTINGS)]
    onnx.save(model, f"{folder}/float.onnx")
    try:
        names, want = onnxruntime_runs(f"{folder}/float.onnx", feeds)
    except Exception as e:  # What ONNX Runtime cannot run as floats is no case.
        return kind, settings, None, f"no case: {e}"
    command = [rinfer, "quantize", f"{folder}/float.onnx", "-o", f"{folder}/q.onnx", "--overwrite",
               "-q", "--calib", "rand", "--samples", "8", "--dim", "n=3", "--dim", "t=3", "--dim", "w=3",
               *settings]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        return kind, settings, f"quantize: {done.stderr.strip()}", None
    try:
        onnx.checker.check_model(f"{folder}/q.onnx")
        _, theirs = onnxruntime_runs(f"{folder}/q.onnx", feeds)
    except Exception as e:
        return kind, settings, f"ONNX Runtime: {str(e)[:300]}", None
    try:
        ours = rinfer_runs(rinfer, f"{folder}/q.onnx", feeds, names, folder)
    except Exception as e:
        return kind, settings, str(e), None
    for name, w, t, o in zip(names, want, theirs, ours):
        if cosine(t, o) < 0.999:
            return kind, settings, f"{name}: cosine {cosine(t, o):.5f} to ONNX Runtime", None
        if cosine(w, o) < least:
            return kind, settings, f"{name}: cosine {cosine(w, o):.5f} to the float model", None
    return kind, settings, None, None


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rinfer", default="target/release/rinfer")
    parser.add_argument("--cases", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int, help="one case, by its number")
    parser.add_argument("--keep", help="write the models of what is wrong into this folder")
    args = parser.parse_args()
    wrong, skipped, kinds = 0, 0, collections.Counter()
    cases = range(args.cases) if args.only is None else [args.only]
    with tempfile.TemporaryDirectory() as folder:
        for i in cases:
            kind, settings, why, skip = case(args.rinfer, args.seed + i, folder, i)
            kinds[kind] += 1
            skipped += skip is not None
            if skip and args.only is not None:
                print(skip)
            if why:
                wrong += 1
                print(f"{i} {kind} {' '.join(settings)}: {why}", flush=True)
                if args.keep:
                    os.makedirs(args.keep, exist_ok=True)
                    for name in ("float", "q"):
                        if os.path.exists(f"{folder}/{name}.onnx"):
                            with open(f"{folder}/{name}.onnx", "rb") as f, open(f"{args.keep}/{i}-{name}.onnx", "wb") as g:
                                g.write(f.read())
    print(", ".join(f"{n} {kind}" for kind, n in sorted(kinds.items())))
    print(f"{len(cases) - wrong - skipped} right, {wrong} wrong, {skipped} not run by ONNX Runtime as floats")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
