#!/usr/bin/env python3
"""Quantizes a sentence encoder and compares its embeddings with those of the float model.

    python3 -m pip install numpy tokenizers
    cargo build --release -p rinfer-cli
    python3 tests/quantized/sentences.py minilm-real.onnx tokenizer.json

Embeddings are the mean of the last hidden states of a sentence's tokens, of length one.  Compared
are the 200 of sentences.txt (50 subjects: a sentence, the same in other words, and two more); what is
calibrated with is the prose of docs/*.md.  Printed for each setting: the cosine of an embedding to
that of the float model (mean and least), the rank correlation of the similarities of all pairs, for
how many sentences the nearest other one is the same, and the share of the five nearest that both
have.  Exit code 1 if the mean cosine of `dynamic` or `static` is below 0.995.
"""
import argparse
import os
import re
import subprocess
import sys
import tempfile

import numpy as np
from tokenizers import Tokenizer

HERE = os.path.dirname(os.path.abspath(__file__))
SETTINGS = [
    ("dynamic", ["--mode", "dynamic"]),
    ("static", ["--mode", "static"]),
    ("static --smooth off", ["--mode", "static", "--smooth", "off"]),
    ("weight-only --weights int8", ["--mode", "weight-only", "--weights", "int8"]),
    ("weight-only --weights int4-g32", ["--mode", "weight-only", "--weights", "int4-g32"]),
    ("… --round hqq", ["--mode", "weight-only", "--weights", "int4-g32", "--round", "hqq"]),
    ("… --round awq", ["--mode", "weight-only", "--weights", "int4-g32", "--round", "awq"]),
    ("… --round gptq", ["--mode", "weight-only", "--weights", "int4-g32", "--round", "gptq"]),
    ("fp16", ["--mode", "fp16"]),
]
BARS = {"dynamic": 0.995, "static": 0.995}


def prose(count):
    """Sentences of the documentation."""
    text = ""
    docs = os.path.join(HERE, "..", "..", "docs")
    for name in sorted(os.listdir(docs)):
        if name.endswith(".md"):
            parts = re.sub(r"```.*?```", "", open(os.path.join(docs, name)).read(), flags=re.S)
            text += "\n".join(p for p in parts.split("\n") if not p.startswith(("|", "#"))) + "\n\n"
    sentences = re.split(r"(?<=[.:;])\s+|\n\n", re.sub(r"(?<!\n)\n(?!\n)", " ", text))
    sentences = [s.strip() for s in sentences if 30 < len(s) < 250]
    return sentences[:: max(1, len(sentences) // count)][:count]


def embeddings(rinfer, model, feeds, folder):
    command = [rinfer, "run", model, "-q", "--output-dir", f"{folder}/out", "--overwrite"]
    for name, array in feeds.items():
        np.save(f"{folder}/{name}.npy", array)
        command += ["-i", f"{name}={folder}/{name}.npy"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    [output] = os.listdir(f"{folder}/out")
    states = np.load(f"{folder}/out/{output}").astype(np.float64)
    mask = feeds["attention_mask"][..., None]
    mean = (states * mask).sum(1) / mask.sum(1)
    return mean / np.linalg.norm(mean, axis=1, keepdims=True)


def ranks(x):
    order = np.empty(len(x))
    order[np.argsort(x, kind="stable")] = np.arange(len(x))
    return order


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("tokenizer")
    parser.add_argument("--rinfer", default="target/release/rinfer")
    parser.add_argument("--samples", type=int, default=64)
    args = parser.parse_args()
    tokenizer = Tokenizer.from_file(args.tokenizer)
    tokenizer.no_padding()
    tokenizer.enable_padding()
    lines = open(os.path.join(HERE, "sentences.txt")).read().splitlines()
    tokens = tokenizer.encode_batch(lines)
    column = lambda f: np.array([f(t) for t in tokens], np.int64)
    feeds = {
        "input_ids": column(lambda t: t.ids),
        "attention_mask": column(lambda t: t.attention_mask),
        "token_type_ids": column(lambda t: t.type_ids),
    }
    missed = []
    with tempfile.TemporaryDirectory() as folder:
        calib = os.path.join(folder, "prose.txt")
        open(calib, "w").write("\n".join(prose(args.samples)) + "\n")
        plain = embeddings(args.rinfer, args.model, feeds, folder)
        near = plain @ plain.T
        pairs = np.triu_indices(len(lines), 1)
        nearest = lambda s, k: np.argsort(-(s - 2 * np.eye(len(s))), 1)[:, :k]
        print(f"{len(lines)} sentences, calibrated with {args.samples} others\n")
        print("| | cosine, mean | least | rank correlation | same nearest | of five nearest | MiB |")
        print("|---|--:|--:|--:|--:|--:|--:|")
        for name, settings in SETTINGS:
            path = os.path.join(folder, "q.onnx")
            command = [args.rinfer, "quantize", args.model, "-o", path, "--overwrite", "--no-check", "-q",
                       *settings]
            if "static" in settings or "awq" in settings or "gptq" in settings:
                command += ["--calib", calib, "--tokenizer", args.tokenizer]
                command += ["--samples", str(args.samples)]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            made = embeddings(args.rinfer, path, feeds, folder)
            cosine = (plain * made).sum(1)
            close = made @ made.T
            rho = np.corrcoef(ranks(near[pairs]), ranks(close[pairs]))[0, 1]
            same = int((nearest(near, 1) == nearest(close, 1)).sum())
            both = [len(set(a) & set(b)) / 5 for a, b in zip(nearest(near, 5), nearest(close, 5))]
            size = os.path.getsize(path) / 2**20
            print(f"| `{name}` | {cosine.mean():.4f} | {cosine.min():.4f} | {rho:.4f} | "
                  f"{same} of {len(lines)} | {np.mean(both):.1%} | {size:.1f} |", flush=True)
            if cosine.mean() < BARS.get(name, 0):
                missed.append(f"{name}: mean cosine {cosine.mean():.4f}, wanted {BARS[name]}")
    sys.exit("\n".join(missed) or 0)


main()
