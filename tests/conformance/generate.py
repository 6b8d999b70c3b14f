#!/usr/bin/env python3
"""Writes the official ONNX backend tests of the installed onnx package as folders.

    python3 -m pip install -r tests/requirements.txt
    python3 tests/conformance/generate.py [OUT]         (default: target/conformance)

OUT/KIND/TEST/model.onnx
OUT/KIND/TEST/test_data_set_0/{input,output}_I.pb       TensorProto, SequenceProto or OptionalProto
OUT/KIND/TEST/data.json                                 {"rtol", "atol"}, only if not 1e-3 and 1e-7

KIND: node                  made in memory by onnx's Python code; no package carries their files
      simple                carried by the wheel, and a few made in memory
      pytorch-operator, pytorch-converted       carried by the wheel
      real                  model and outputs carried by the wheel, inputs are a ramp from 0 to 1

The same package versions write the same bytes.  Nothing is downloaded.  A second run finds the
stamp that the first one left and does nothing.
"""
import hashlib
import json
import os
import shutil
import sys
import warnings

# With Pillow at hand the ImageDecoder cases encode their pictures anew, with whatever codecs that
# Pillow has; without it they take the bytes frozen in the onnx package.  Hidden, they always do.
sys.modules["PIL"] = None

import numpy as np
import onnx
from onnx import numpy_helper

ONNX_VERSION = "1.23.2"
EXPECTED = {
    "node": 1884,
    "simple": 26,
    "pytorch-operator": 35,
    "pytorch-converted": 82,
    "real": 9,
}
RTOL, ATOL = 1e-3, 1e-7
HERE = os.path.dirname(os.path.abspath(__file__))


def write(path, data):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as f:
        f.write(data)


def write_tolerance(folder, rtol, atol):
    if (rtol, atol) != (RTOL, ATOL):
        write(f"{folder}/data.json", json.dumps({"rtol": rtol, "atol": atol}).encode())


def proto(value, info):
    """The value as the message that a graph input or output of this type is read from."""
    kind = info.type.WhichOneof("value")
    if kind == "sequence_type":
        return numpy_helper.from_list(value, info.name)
    if kind == "optional_type":
        return numpy_helper.from_optional(value, info.name)
    if kind == "map_type":
        return numpy_helper.from_dict(value, info.name)
    assert kind == "tensor_type", f"{info.name} is a {kind}"
    if isinstance(value, onnx.TensorProto):
        return value
    return numpy_helper.from_array(np.asarray(value), info.name)


def write_in_memory(folder, case):
    """A case that has its model and its values as Python objects."""
    write(f"{folder}/model.onnx", case.model.SerializeToString(deterministic=True))
    inputs, outputs = case.model.graph.input, case.model.graph.output
    for n, data_set in enumerate(case.data_sets):
        for kind, values, infos in zip(("input", "output"), data_set, (inputs, outputs)):
            assert len(values) <= len(infos), f"{case.name} has {len(values)} {kind}s"
            for i, (value, info) in enumerate(zip(values, infos)):
                data = proto(value, info).SerializeToString(deterministic=True)
                write(f"{folder}/test_data_set_{n}/{kind}_{i}.pb", data)
    write_tolerance(folder, case.rtol, case.atol)


def write_shipped(folder, case):
    """A case that lies in the wheel as a folder."""
    for base, _, files in os.walk(case.model_dir):
        to = os.path.join(folder, os.path.relpath(base, case.model_dir))
        for name in files:
            if name == "model.onnx" or name.endswith(".pb"):
                os.makedirs(to, exist_ok=True)
                shutil.copyfile(f"{base}/{name}", f"{to}/{name}")
    write_tolerance(folder, case.rtol, case.atol)


def write_real(folder, case):
    """A case of which the wheel has the model and the outputs."""
    source = os.path.join(os.path.dirname(os.path.dirname(onnx.__file__)), case.url)
    model = onnx.load(source)
    os.makedirs(f"{folder}/test_data_set_0")
    shutil.copyfile(source, f"{folder}/model.onnx")
    constants = {t.name for t in model.graph.initializer}
    inputs = [i for i in model.graph.input if i.name not in constants]
    for n, info in enumerate(inputs):
        tensor = info.type.tensor_type
        assert tensor.elem_type == onnx.TensorProto.FLOAT, info
        # As onnx's own runner: what has no length is 1, values are k/size.
        shape = [d.dim_value if d.HasField("dim_value") else 1 for d in tensor.shape.dim]
        size = int(np.prod(shape))
        ramp = (np.arange(size).reshape(shape) / size).astype(np.float32)
        data = numpy_helper.from_array(ramp, info.name).SerializeToString(deterministic=True)
        write(f"{folder}/test_data_set_0/input_{n}.pb", data)
    for n in range(len(model.graph.output)):
        shipped = f"{source.removesuffix('.onnx')}_output_{n}.pb"
        shutil.copyfile(shipped, f"{folder}/test_data_set_0/output_{n}.pb")
    write_tolerance(folder, case.rtol, case.atol)


def cases_in_memory():
    """Node cases, and those simple cases that the wheel does not carry."""
    from onnx.backend.test.case import model as model_cases
    from onnx.backend.test.loader import load_model_tests

    # The cases seed numpy one by one; this is for those that would forget.
    np.random.seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        node = load_model_tests(kind="node")
        simple = [c for c in model_cases.collect_testcases() if c.kind == "simple"]
    shipped = {c.name for c in load_model_tests(kind="simple")}
    return node + [c for c in simple if c.name not in shipped]


def generate(out):
    from onnx.backend.test.loader import load_model_tests

    for kind in EXPECTED:
        shutil.rmtree(f"{out}/{kind}", ignore_errors=True)
    for case in cases_in_memory():
        write_in_memory(f"{out}/{case.kind}/{case.name}", case)
    for kind in EXPECTED:
        if kind == "node":
            continue
        for case in load_model_tests(kind=kind):
            folder = f"{out}/{kind}/{case.name}"
            (write_real if kind == "real" else write_shipped)(folder, case)


def counts(out):
    return {kind: len(os.listdir(f"{out}/{kind}")) for kind in EXPECTED}


def stamp():
    """What the folders are made of: the script and the packages."""
    import ml_dtypes

    with open(os.path.abspath(__file__), "rb") as f:
        script = hashlib.sha256(f.read()).hexdigest()
    versions = f"onnx {onnx.__version__}, numpy {np.__version__}, ml_dtypes {ml_dtypes.__version__}"
    return f"{versions}, generate.py {script}\n"


def main():
    if len(sys.argv) > 2 or sys.argv[1:2] in (["-h"], ["--help"]):
        sys.exit(__doc__)
    if onnx.__version__ != ONNX_VERSION:
        sys.exit(f"this needs onnx {ONNX_VERSION}, but onnx {onnx.__version__} is installed")
    out = sys.argv[1] if len(sys.argv) > 1 else os.path.join(HERE, "../../target/conformance")
    out = os.path.normpath(out)
    stamp_file = f"{out}/stamp.txt"
    if os.path.exists(stamp_file) and open(stamp_file).read() == stamp():
        print(f"{out} is up to date")
    else:
        if os.path.exists(stamp_file):
            os.remove(stamp_file)
        generate(out)
    found = counts(out)
    print(", ".join(f"{kind} {n}" for kind, n in found.items()), f"= {sum(found.values())}")
    if found != EXPECTED:
        sys.exit(f"expected {EXPECTED}")
    write(stamp_file, stamp().encode())


main()
