#!/usr/bin/env python3
"""What becomes of models that were trained with rounding: NAME-qat.onnx, as train.py writes them.

    python3 tests/quantized/qat.py [--rinfer target/release/rinfer]

They pass through `rinfer quantize` as they are; says how many of the multiply–accumulate steps of a
run are done by kernels for integers, and what the accuracy is, beside the float model's and that of
ONNX Runtime.  Exit code 1 if less than 95 % of what layers with weights do is in integers, or answers
are others than ONNX Runtime's.  (`vit` leaves its products of two activations floats: they count in
the share that is printed.)
"""
import argparse
import glob
import math
import os
import re
import sys
import tempfile

from data import HERE, Rinfer, accuracy, examples, onnxruntime_logits
from zoo import KINDS

# Share of answers that may differ from ONNX Runtime's, which rounds float sums in another order.
DIFFERENT = 0.5


def steps(line):
    """Of a row of `bench --profile`: the operator, and the steps of all its nodes."""
    shapes = [[int(n) for n in dims.split(",") if n.strip()] for dims in re.findall(r"\[([^\]]*)\]", line)]
    op, nodes = line.split()[:2]
    if op in ("MatMul", "QuantizedMatMul"):
        each = math.prod(shapes[-1]) * shapes[0][-1]
    elif op in ("Conv", "QLinearConv"):
        each = math.prod(shapes[-1]) * math.prod(shapes[3 if op == "QLinearConv" else 1][1:])
    elif op == "Attention":
        each = 2 * math.prod(shapes[0]) * shapes[1][1]
    else:
        return op, 0
    return op, int(nodes) * each


def integers(rinfer, model):
    """The share of the steps that kernels for integers do, in percent: of all, and of layers'."""
    told = rinfer.call("bench", model, "--dim", "batch=1", "--threads", "1", "--runs", "3", "--profile")
    rows = [steps(line) for line in told.splitlines() if re.match(r"[A-Z]\w+ +\d+ ", line)]
    done = 100 * sum(n for op, n in rows if op.startswith("Q"))
    return done / sum(n for _, n in rows), done / sum(n for op, n in rows if op != "Attention")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rinfer", default="target/release/rinfer")
    parser.add_argument("--cases", type=int, default=4000)
    args = parser.parse_args()
    wrong = []
    print("| model | float | trained with rounding | ONNX Runtime | other answers | steps in integers |\n"
          "|---|--:|--:|--:|--:|--:|", flush=True)
    with tempfile.TemporaryDirectory() as tmp:
        rinfer = Rinfer(args.rinfer, tmp)
        for path in sorted(glob.glob(f"{HERE}/trained/*-qat.onnx")):
            name = os.path.basename(path)[:-len("-qat.onnx")]
            port, (x, labels) = KINDS[name].name, examples(name, "held_out", args.cases)
            rinfer.quantize(path, f"{tmp}/q.onnx", "--mode", "static", "--calib", "rand", "--dim", "batch=1",
                            "--embeddings", "keep")
            ours, theirs = rinfer.logits(f"{tmp}/q.onnx", port, x), onnxruntime_logits(path, port, x)
            before = rinfer.logits(f"{HERE}/trained/{name}.onnx", port, x)
            (share, layers), other = integers(rinfer, f"{tmp}/q.onnx"), 100 * float((ours.argmax(-1) != theirs.argmax(-1)).mean())
            scores = [f"{accuracy(logits, labels):.2f} %" for logits in (before, ours, theirs)]
            print(f"| {name} | {' | '.join(scores)} | {other:.2f} % | {share:.1f} % |", flush=True)
            if (rinfer.logits(path, port, x) != ours).any():
                wrong.append(f"{name}: quantize changed it")
            if other > DIFFERENT:
                wrong.append(f"{name}: {other:.2f} % of answers are not ONNX Runtime's")
            if layers < 95:
                wrong.append(f"{name}: {layers:.1f} % of layers in integers")
    print("\n".join(wrong), file=sys.stderr)
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
