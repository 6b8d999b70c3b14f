#!/usr/bin/env python3
"""Draws models with operators of com.microsoft, runs ONNX Runtime and rinfer, and compares.

    python3 -m pip install -r tests/requirements.txt
    cargo build --release
    python3 tests/contrib/run.py [--cases N] [--only NAME ...] [--seed N] [--rinfer PATH]
    python3 tests/contrib/run.py --keep FOLDER     # leaves the test folders there

A table with one line per operator: how many cases agree, how many are wrong, what rinfer refuses
("unsupported") or fails at, and how many ONNX Runtime itself refused (these are not compared).
Numbers may be off by a few units of the last place of the largest in their output; integers and
strings by nothing. Exit code 1 if a case is wrong or failed.
"""
import argparse
import collections
import glob
import importlib
import json
import os
import subprocess
import sys
import tempfile

import numpy as np
import onnx
import onnxruntime
from onnx import numpy_helper

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.normpath(os.path.join(HERE, "..", ".."))
sys.path.insert(0, HERE)
for path in sorted(glob.glob(f"{HERE}/cases_*.py")):
    importlib.import_module(os.path.basename(path)[:-3])
from case import GENERATORS, model_of, typed  # noqa: E402


def expected(case):
    """What ONNX Runtime computes; None if it refuses the model."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    case = case.oracle or case
    try:
        model = model_of(case).SerializeToString()
        session = onnxruntime.InferenceSession(model, options, ["CPUExecutionProvider"])
        run = over if case.shared else lambda session, case: session.run(case.outputs, case.inputs)
        return run(session, case), None
    except Exception as why:  # its errors have many classes
        return None, str(why)


def over(session, case):
    """The outputs where some of them lie in the memory of inputs."""
    binding = session.io_binding()
    values = {name: onnxruntime.OrtValue.ortvalue_from_numpy(x.copy())
              for name, x in case.inputs.items()}
    for name, value in values.items():
        binding.bind_ortvalue_input(name, value)
    for name in case.outputs:
        if name in case.shared:
            binding.bind_ortvalue_output(name, values[case.shared[name]])
        else:
            binding.bind_output(name)
    session.run_with_iobinding(binding)
    return binding.copy_outputs_to_cpu()


def write(folder, case, arrays, symbolic):
    """One test in ONNX's folder layout."""
    data = f"{folder}/test_data_set_0"
    os.makedirs(data)
    onnx.save(typed(model_of(case, symbolic), arrays), f"{folder}/model.onnx")

    def save(path, name, array):
        with open(path, "wb") as f:
            f.write(numpy_helper.from_array(np.asarray(array), name).SerializeToString())

    for i, (name, array) in enumerate(case.inputs.items()):
        save(f"{data}/input_{i}.pb", name, array)
    largest = 0.0
    for i, (name, array) in enumerate(zip(case.outputs, arrays)):
        save(f"{data}/output_{i}.pb", name, array)
        if array.dtype.kind == "f" and array.size:
            finite = np.abs(array[np.isfinite(array)].astype(np.float64))
            largest = max(largest, finite[finite < 1e30].max(initial=0.0))
    with open(f"{folder}/data.json", "w") as f:
        json.dump({"rtol": case.tolerance, "atol": case.tolerance * max(largest, 1e-3)}, f)


def draw(args, root):
    """Writes the folders; {operator: Counter}, and why ONNX Runtime refused."""
    table, refusals = {}, collections.defaultdict(collections.Counter)
    for name in args.only or sorted(GENERATORS):
        counts = table[name] = collections.Counter()
        for i in range(args.cases):
            rng = np.random.default_rng([args.seed, i, *name.encode()])
            generator = GENERATORS[name][i % len(GENERATORS[name])]
            case = generator(rng)
            arrays, why = expected(case)
            if arrays is None:
                counts["refused"] += 1
                refusals[name][why[:300]] += 1
                continue
            write(f"{root}/{name}/{i:04}", case, arrays, rng.random() < 0.4)
    return table, refusals


def main():
    p = argparse.ArgumentParser(description=__doc__,
                                formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--cases", type=int, default=100, help="models per operator")
    p.add_argument("--only", nargs="+", metavar="NAME", choices=sorted(GENERATORS))
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--rinfer", default=f"{ROOT}/target/release/rinfer", metavar="PATH")
    p.add_argument("--keep", metavar="FOLDER", help="an empty folder that takes the tests")
    p.add_argument("--refusals", action="store_true", help="print why ONNX Runtime refused cases")
    args = p.parse_args()
    if not os.access(args.rinfer, os.X_OK):
        sys.exit(f"{args.rinfer} is no program: cargo build --release, or --rinfer PATH")
    with tempfile.TemporaryDirectory() as temporary:
        root = args.keep or f"{temporary}/tests"
        os.makedirs(root, exist_ok=True)
        table, refusals = draw(args, root)
        report = f"{temporary}/report.json"
        done = subprocess.run([args.rinfer, "test", root, "--quiet", "--json", report],
                              capture_output=True, text=True)
        if not os.path.exists(report):
            sys.exit(f"rinfer test ended with {done.returncode}: {done.stderr}")
        with open(report) as f:
            tests = json.load(f)["tests"]
    bad = []
    for test in tests:
        name = test["test"].split(os.sep)[-2]
        table[name][test["result"]] += 1
        if test["result"] != "pass":
            bad.append((test["result"], test["test"], test["why"]))
    for result, path, why in sorted(bad)[:40]:
        print(f"{result:12} {os.path.relpath(path, root)}: {why}")
    columns = ["pass", "wrong", "failed", "unsupported", "refused"]
    print(f"{'operator':34}" + "".join(f"{c:>13}" for c in columns))
    for name, counts in table.items():
        print(f"{name:34}" + "".join(f"{counts[c]:13}" for c in columns))
        if args.refusals:
            for why, n in refusals[name].most_common(5):
                print(f"    {n} x {why}")
    sys.exit(any(result != "unsupported" for result, _, _ in bad))


main()
