#!/usr/bin/env python3
"""rinfer as an `onnx.backend.base.Backend`, behind the conformance binary's server.

    cargo build -p rinfer-tests --bin conformance
    RINFER_CONFORMANCE_BIN=target/debug/conformance python3 tests/conformance/backend.py [-k NAME]

runs ONNX's own runner (`onnx.backend.test.BackendTest`) on it.  Without the variable the binary is
looked for in target/debug and target/release.
"""
import os
import struct
import subprocess
import sys
import unittest

import onnx
import onnx.backend.base
import onnx.backend.test
from onnx import numpy_helper

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../..")


def binary():
    places = [os.environ.get("RINFER_CONFORMANCE_BIN", "")]
    places += [os.path.join(ROOT, "target", kind, "conformance") for kind in ("release", "debug")]
    for place in filter(os.path.isfile, places):
        return place
    raise FileNotFoundError("cargo build -p rinfer-tests --bin conformance")


class Server:
    """The engine in a process of its own, which is started again if it dies."""

    process = None

    def ask(self, frames):
        if self.process is None or self.process.poll() is not None:
            self.process = subprocess.Popen([binary(), "--serve"], stdin=subprocess.PIPE,
                                            stdout=subprocess.PIPE)
        pipe = self.process.stdin
        pipe.write(struct.pack("<I", len(frames)))
        for frame in frames:
            pipe.write(struct.pack("<I", len(frame)) + frame)
        pipe.flush()
        return [self.read(self.number()) for _ in range(self.number())]

    def number(self):
        return struct.unpack("<I", self.read(4))[0]

    def read(self, n):
        data = self.process.stdout.read(n)
        if len(data) != n:
            raise RuntimeError("the engine died")
        return data

    def close(self):
        if self.process is not None:
            self.process.communicate()


SERVER = Server()


def encode(value, info):
    """The value as the message that an input of this type is read from."""
    kind = info.type.WhichOneof("value")
    if isinstance(value, onnx.TensorProto):
        return value.SerializeToString()
    make = {"sequence_type": numpy_helper.from_list, "optional_type": numpy_helper.from_optional,
            "map_type": numpy_helper.from_dict}.get(kind, numpy_helper.from_array)
    return make(value, info.name).SerializeToString()


def decode(data, info):
    kind = info.type.WhichOneof("value")
    if kind == "sequence_type":
        return numpy_helper.to_list(onnx.SequenceProto.FromString(data))
    if kind == "optional_type":
        return numpy_helper.to_optional(onnx.OptionalProto.FromString(data))
    if kind == "map_type":
        return numpy_helper.to_dict(onnx.MapProto.FromString(data))
    return numpy_helper.to_array(onnx.TensorProto.FromString(data))


class Rep(onnx.backend.base.BackendRep):
    def __init__(self, model):
        self.model, self.bytes = model, model.SerializeToString()

    def run(self, inputs, **kwargs):
        graph = self.model.graph
        constants = {t.name for t in graph.initializer}
        infos = list(graph.input)
        if len(inputs) != len(infos):
            infos = [i for i in infos if i.name not in constants]
        frames = [encode(value, info) for value, info in zip(inputs, infos)]
        answer = SERVER.ask([b"optimized", self.bytes, *frames])
        if answer[0] != b"ok":
            raise RuntimeError(answer[0].decode())
        return tuple(decode(data, info) for data, info in zip(answer[1:], graph.output))


class Backend(onnx.backend.base.Backend):
    @classmethod
    def prepare(cls, model, device="CPU", **kwargs):
        return Rep(model)

    @classmethod
    def supports_device(cls, device):
        return device == "CPU"


def tests():
    runner = onnx.backend.test.BackendTest(Backend, __name__)
    # Their expected values come from NumPy's generator, which nothing in the model determines.
    runner.exclude("test_bernoulli")
    return runner.test_cases


if __name__ == "__main__":
    globals().update(tests())
    program = unittest.main(argv=sys.argv, exit=False)
    SERVER.close()
    sys.exit(not program.result.wasSuccessful())
