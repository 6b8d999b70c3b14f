#!/usr/bin/env python3
"""Times quantized models in rinfer and in ONNX Runtime, in turns, and prints the ratio.

    python3 -m pip install -r tests/requirements.txt
    cargo build --release -p rinfer-cli
    python3 tests/quantized/engines.py target/models/resnet50 int8.onnx … [--threads 1] [--write]

The folder is that of the float model: it holds CASE/INPUT.npy, and its NAME.onnx stands beside it.
`--write` first has ONNX Runtime's own quantizer write NAME-ort-static.onnx (QDQ, a scale for each
channel) and NAME-ort-dynamic.onnx into the working folder, and times these too.  Shortest of all
runs; a ratio above one means that rinfer is faster.
"""
import argparse
import json
import os
import subprocess
import time

import numpy as np
import onnxruntime
from onnxruntime import quantization


class Once(quantization.CalibrationDataReader):
    def __init__(self, feeds):
        self.left = [feeds]

    def get_next(self):
        return self.left.pop() if self.left else None


def written(folder, feeds):
    """What ONNX Runtime's quantizer makes of a model."""
    model, name = f"{folder.rstrip('/')}.onnx", os.path.basename(folder.rstrip("/"))
    codes = dict(weight_type=quantization.QuantType.QInt8)
    static, dynamic = f"{name}-ort-static.onnx", f"{name}-ort-dynamic.onnx"
    quantization.quantize_static(
        model, static, Once(feeds), per_channel=True, quant_format=quantization.QuantFormat.QDQ, **codes)
    quantization.quantize_dynamic(model, dynamic, **codes)
    return [static, dynamic]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder")
    parser.add_argument("models", nargs="*")
    parser.add_argument("--rinfer", default="target/release/rinfer")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--write", action="store_true")
    args = parser.parse_args()
    case = next(d.path for d in sorted(os.scandir(args.folder), key=lambda d: d.name) if d.is_dir())
    files = [f for f in sorted(os.listdir(case)) if f.endswith(".npy")]
    feeds = {f[:-4]: np.load(os.path.join(case, f)) for f in files}
    models = args.models + (written(args.folder, feeds) if args.write else [])
    for model in models:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.log_severity_level = args.threads, 3
        session = onnxruntime.InferenceSession(model, options, ["CPUExecutionProvider"])
        mine = {i.name: feeds[i.name] for i in session.get_inputs()}

        def run():
            start = time.perf_counter()
            session.run(None, mine)
            return 1e3 * (time.perf_counter() - start)

        run()
        runs = int(np.clip(300 / run(), 3, 40))
        inputs = [x for f in files if f[:-4] in mine for x in ("-i", f"{f[:-4]}={case}/{f}")]
        command = [args.rinfer, "bench", model, *inputs, "--threads", str(args.threads),
                   "--runs", str(runs), "--warmup", "3", "--json"]
        theirs, ours = [], []
        for _ in range(args.rounds):
            theirs.append(min(run() for _ in range(runs)))
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            ours.append(json.loads(done.stdout)[0]["min_ms"])
        ours, theirs = min(ours), min(theirs)
        print(f"{model}: rinfer {ours:.2f} ms, ONNX Runtime {theirs:.2f} ms, {theirs / ours:.2f}")


main()
