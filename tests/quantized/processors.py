#!/usr/bin/env python3
"""Quantizes real graphs and compares what each instruction set makes of them, bit for bit.

    cargo build --release -p rinfer-cli
    python3 tests/quantized/processors.py target/models [--only resnet50,…] [--mode static]

`target/models` holds NAME.onnx and NAME/CASE/INPUT.npy, as tests/agree_with_onnxruntime.py does; the
first case is what is calibrated with and run.  Sums of codes are exact and float sums have one order
everywhere, so nothing may differ.  Exit code 1 if something does.
"""
import argparse
import os
import subprocess
import sys
import tempfile

import numpy as np

SETS = ["avx512", "avx2", "scalar"]


def run(rinfer, *args, isa=None):
    env = dict(os.environ, **({"RINFER_ISA": isa} if isa else {}))
    done = subprocess.run([rinfer, *args], capture_output=True, text=True, env=env)
    if done.returncode:
        sys.exit(f"rinfer {' '.join(args)}\n{done.stderr}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models")
    parser.add_argument("--rinfer", default="target/release/rinfer")
    parser.add_argument("--only", default="")
    parser.add_argument("--mode", default="static")
    args = parser.parse_args()
    names = sorted(f[:-5] for f in os.listdir(args.models) if f.endswith(".onnx"))
    names = [n for n in names if not args.only or n in args.only.split(",")]
    wrong = 0
    with tempfile.TemporaryDirectory() as tmp:
        for name in names:
            folder = os.path.join(args.models, name)
            case = os.path.join(folder, sorted(os.listdir(folder))[0])
            feeds = [f for f in sorted(os.listdir(case)) if f.endswith(".npy")]
            path = os.path.join(tmp, "q.onnx")
            calib = ["--calib", os.path.join(tmp, "calib.npz")] if args.mode == "static" else []
            np.savez(os.path.join(tmp, "calib.npz"), **{f[:-4]: np.load(os.path.join(case, f)) for f in feeds})
            run(args.rinfer, "quantize", os.path.join(args.models, name + ".onnx"), "-o", path,
                "--overwrite", "--mode", args.mode, "--no-check", *calib)
            made = {}
            for isa in SETS:
                out = os.path.join(tmp, name, isa)
                inputs = [x for f in feeds for x in ("-i", f"{f[:-4]}={os.path.join(case, f)}")]
                run(args.rinfer, "run", path, "--overwrite", "--output-dir", out, *inputs, isa=isa)
                made[isa] = {f: np.load(os.path.join(out, f)) for f in sorted(os.listdir(out))}
            same, off, total = 0, 0.0, 0
            for f, a in made[SETS[0]].items():
                for isa in SETS[1:]:
                    b = made[isa][f]
                    same += int((a == b).sum())
                    total += a.size
                    scale = max(float(np.abs(a.astype(np.float64)).max(initial=0)), 1e-30)
                    off = max(off, float(np.abs(a.astype(np.float64) - b).max(initial=0)) / scale)
            exact = same == total
            wrong += not exact
            differs = f"{same / total:.1%} the same, at most {off:.1e} of scale off"
            print(f"{name:18} {'the same bits' if exact else differs}", flush=True)
    sys.exit(bool(wrong))


main()
