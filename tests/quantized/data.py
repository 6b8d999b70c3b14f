"""Examples of each task, the same each time, and what rinfer makes of them."""
import os
import subprocess
import sys
import zlib

import numpy as np

from zoo import KINDS

HERE = os.path.dirname(os.path.abspath(__file__))
SPLITS = ["train", "calib", "held_out"]


def examples(name, split, n):
    """n examples; those of one split are in no other."""
    seed = zlib.crc32(name.encode()) + SPLITS.index(split)
    return KINDS[name].task(np.random.default_rng(seed), n)


def accuracy(logits, labels):
    """In percent, of the labels that count."""
    counted = labels >= 0
    return 100 * float((np.asarray(logits).argmax(-1) == labels)[counted].mean())


def calibration(name, folder, n=1024):
    """Writes FOLDER/NAME.npz: n examples with their labels, as --calib takes them."""
    x, labels = examples(name, "calib", n)
    path = f"{folder}/{name}.npz"
    np.savez(path, **{KINDS[name].name: x, "labels": labels})
    return path


class Rinfer:
    """The command."""

    def __init__(self, path, folder):
        self.path, self.folder = path, folder

    def call(self, *args, may_fail=False):
        """What it prints; with may_fail nothing where the exit code is 1."""
        done = subprocess.run([self.path, *args], capture_output=True, text=True)
        if done.returncode == 1 and may_fail:
            return None
        if done.returncode:
            sys.exit(f"rinfer {' '.join(args)}\n{done.stderr}")
        return done.stdout + done.stderr

    def quantize(self, model, out, *settings, may_fail=False):
        return self.call("quantize", model, "-o", out, "--overwrite", "--no-check", *settings, may_fail=may_fail)

    def logits(self, model, name, x, output="logits"):
        """What the model makes of all of x at once."""
        np.save(f"{self.folder}/x.npy", x)
        self.call("run", str(model), "-q", "-i", f"{name}={self.folder}/x.npy", "--overwrite",
                  "--output-dir", f"{self.folder}/out")
        return np.load(f"{self.folder}/out/{output}.npy")


def onnxruntime_logits(model, name, x):
    import onnxruntime
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model, options, ["CPUExecutionProvider"])
    return session.run(None, {name: x})[0]
