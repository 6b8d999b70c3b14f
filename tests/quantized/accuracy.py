#!/usr/bin/env python3
"""Quantizes the trained models in every way and says what accuracy is left.

    python3 -m pip install -r tests/requirements.txt -r tests/quantized/requirements.txt
    cargo build --release -p rinfer-cli
    python3 tests/quantized/accuracy.py [--rinfer target/release/rinfer] [--only resnet,…] [--in static,…]

Prints a table: accuracy on 4,000 examples that neither training nor calibration saw, in points of
a hundred less than the float model.  ONNX Runtime runs what was written too; answers that differ
are counted.  Exit code 1 if a bar is missed.
"""
import argparse
import os
import sys
import tempfile
import time

import numpy as np

from data import HERE, Rinfer, accuracy, calibration, examples, onnxruntime_logits
from zoo import KINDS

INT4 = ["--mode", "weight-only", "--weights", "int4-g32"]
SEARCH = ["--metric", "top1", "--max-drop", "0.5pp", "--samples", "1024", "--accept-measured"]
# Settings, and the drops allowed in points: of the mean of all models, and of each.
SETTINGS = {
    "dynamic": (["--mode", "dynamic"], 0.3, None),
    "static": (["--mode", "static", "--granularity", "channel", "--calib-method", "mse"], 0.3, 1.0),
    "static, tensor": (["--mode", "static", "--granularity", "tensor", "--calib-method", "minmax"], None, None),
    "static, ≤ 0.5pp": (["--mode", "static", *SEARCH], 0.3, 1.0),
    "int8 weights": (["--mode", "weight-only", "--weights", "int8"], 0.3, 1.0),
    "int4 nearest": (INT4, None, None),
    "int4 hqq": ([*INT4, "--round", "hqq"], 1.5, None),
    "int4 gptq": ([*INT4, "--round", "gptq"], 1.0, None),
    "int4 awq": ([*INT4, "--round", "awq"], 1.0, None),
    "fp16": (["--mode", "fp16"], 0.1, 0.3),
}
# Of what both engines answer so many may differ: where two classes are as likely, rounding decides.
DIFFERENT = 0.5


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rinfer", default="target/release/rinfer")
    parser.add_argument("--only", default="", help="models")
    parser.add_argument("--in", dest="settings", default="", help="settings")
    parser.add_argument("--cases", type=int, default=4000)
    parser.add_argument("--models", default=f"{HERE}/trained")
    parser.add_argument("--keep", help="leave the quantized models in this folder")
    parser.add_argument("--without-onnxruntime", action="store_true")
    args = parser.parse_args()
    names = [n for n in KINDS if not args.only or n in args.only.split(",")]
    settings = {s: v for s, v in SETTINGS.items() if not args.settings or s in args.settings.split(",")}
    drops, wrong = {s: {} for s in settings}, []
    with tempfile.TemporaryDirectory() as tmp:
        folder = args.keep or tmp
        os.makedirs(folder, exist_ok=True)
        rinfer = Rinfer(args.rinfer, tmp)
        print(f"| model | float | {' | '.join(settings)} |\n|---|--:|{'--:|' * len(settings)}", flush=True)
        for name in names:
            started, model, port = time.time(), f"{args.models}/{name}.onnx", KINDS[name].name
            x, labels = examples(name, "held_out", args.cases)
            calib = calibration(name, tmp)
            before = accuracy(rinfer.logits(model, port, x), labels)
            line = [f"{before:.2f} %"]
            for setting, (options, _, _) in settings.items():
                path = f"{folder}/{name}-{setting.replace(' ', '-').replace(',', '').replace('≤', 'within')}.onnx"
                rinfer.quantize(model, path, "--calib", calib, *options)
                logits = rinfer.logits(path, port, x)
                drops[setting][name] = before - accuracy(logits, labels)
                line.append(f"{-drops[setting][name]:+.2f}")
                if not args.without_onnxruntime:
                    other = onnxruntime_logits(path, port, x)
                    apart = 100 * float((other.argmax(-1) != logits.argmax(-1)).mean())
                    if apart > DIFFERENT:
                        wrong.append(f"{name}, {setting}: {apart:.2f} % of answers are not ONNX Runtime's")
            print(f"| {name} | {' | '.join(line)} |", flush=True)
            print(f"{name}: {time.time() - started:.1f} s", file=sys.stderr)
    for title, of in ("mean", np.mean), ("worst", np.max):
        print(f"| {title} | | {' | '.join(f'{-of(list(d.values())):+.2f}' for d in drops.values())} |")
    for setting, (_, mean, most) in settings.items():
        found = drops[setting]
        if mean is not None and np.mean(list(found.values())) > mean:
            wrong.append(f"{setting}: the mean drop is more than {mean} points")
        if most is not None:
            wrong += [f"{setting}: {n} drops by more than {most} points" for n, d in found.items() if d > most]
    print("\n".join(wrong), file=sys.stderr)
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
