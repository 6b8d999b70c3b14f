#!/usr/bin/env python3
"""Runs random one-node models of quantized operators with ONNX Runtime and with rinfer.

    python3 -m pip install -r tests/requirements.txt
    cargo build --release
    python3 tests/contrib/quantized.py [--rinfer PATH] [--count N] [--seed S] [--only OP ...] [--keep FOLDER]

N models (default 20) of every operator.  Codes may differ by one step, where ONNX Runtime multiplies
by a rounded factor or looks a function up in a table; integers and what is computed from them alone
by nothing; floats by 1e-4 of the largest magnitude (2e-3 of 16-bit ones).  Models that ONNX Runtime
itself refuses are counted and passed over.  --keep leaves each model as a test folder
(FOLDER/OP_i/model.onnx, test_data_set_0/*.pb).  Exit code 1 if any answer is wrong or missing.
"""
import argparse
import os
import re
import subprocess
import sys
import tempfile

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

onnxruntime.set_default_logger_severity(4)
MS = "com.microsoft"
FLOAT, HALF, U8, I8 = TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.UINT8, TensorProto.INT8
I32, I64 = TensorProto.INT32, TensorProto.INT64


class Case:
    """A model being written: `node` last; constants and inputs by their arrays."""

    def __init__(self, rng):
        self.rng, self.nodes, self.inputs, self.constants, self.outputs = rng, [], {}, [], []
        self.step, self.tolerance = 0, 1e-4

    def put(self, array, constant=None, name=None):
        """The name of a value with this content: a constant, or an input (drawn if not said)."""
        name = name or f"v{len(self.inputs) + len(self.constants)}"
        if constant is None:
            constant = self.rng.random() < 0.5
        array = array if isinstance(array, TensorProto) else np.asarray(array)
        if isinstance(array, TensorProto):
            array.name = name
            self.constants.append(array)
        elif constant:
            self.constants.append(numpy_helper.from_array(array, name))
        else:
            self.inputs[name] = array
        return name

    def node(self, op, inputs, dtypes, domain=MS, outputs=None, **attrs):
        names = outputs or [f"y{i}" for i in range(len(dtypes))]
        self.nodes.append(helper.make_node(op, inputs, names, domain=domain, **attrs))
        self.outputs = [helper.make_tensor_value_info(n, t, None)
                        for n, t in zip(names, dtypes) if t is not None and n]
        return names

    def model(self):
        ports = [helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(a.dtype), a.shape)
                 for n, a in self.inputs.items()]
        graph = helper.make_graph(self.nodes, "g", ports, self.outputs, self.constants)
        opsets = [helper.make_opsetid("", 21), helper.make_opsetid(MS, 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=10)

    # Draws.
    def size(self, low=1, high=9):
        return int(self.rng.integers(low, high + 1))

    def one_of(self, *choices):
        return choices[self.rng.integers(len(choices))]

    def codes(self, shape, signed):
        low, high = (-128, 128) if signed else (0, 256)
        return self.rng.integers(low, high, shape).astype(np.int8 if signed else np.uint8)

    def floats(self, shape, scale=1.0):
        return (self.rng.standard_normal(shape) * scale).astype(np.float32)

    def scale(self, shape=(), low=0.002, high=0.05):
        return self.rng.uniform(low, high, shape).astype(np.float32)

    def operand(self, shape, signed, scale=None):
        """codes, scale, zero point"""
        scale = self.scale() if scale is None else np.float32(scale)
        return [self.put(self.codes(shape, signed)), self.put(scale, True),
                self.put(self.codes((), signed), True)]

    def params(self, signed, scale=None):
        scale = self.scale() if scale is None else np.float32(scale)
        return [self.put(scale, True), self.put(self.codes((), signed), True)]

    def shape(self, low=1, high=4):
        return tuple(self.size(1, 5) for _ in range(self.size(low, high)))


def byte(signed):
    return I8 if signed else U8


def q_linear_binary(c, op):
    signed, shape = c.one_of(True, False), c.shape()
    other = tuple(1 if c.rng.random() < 0.3 else n for n in shape)[c.size(0, len(shape) - 1):]
    a, b = c.operand(shape, signed), c.operand(other, signed)
    scale = None if op == "QLinearAdd" else 0.02
    c.step = 1
    c.node(op, a + b + c.params(signed, scale), [byte(signed)])


def q_linear_sigmoid(c):
    signed = c.one_of(True, False)
    c.step = 1
    c.node("QLinearSigmoid", c.operand(c.shape(), signed) + c.params(signed, 1 / 256), [byte(signed)])


def q_linear_leaky_relu(c):
    signed = c.one_of(True, False)
    c.step = 1
    x = c.operand(c.shape(), signed)
    c.node("QLinearLeakyRelu", x + c.params(signed), [byte(signed)], alpha=c.one_of(0.01, 0.3))


def q_linear_softmax(c):
    # Where a result rounds to 256 / 256 ONNX Runtime gives code 0: none is so large here.
    signed, shape = c.one_of(True, False), tuple(n + 1 for n in c.shape())
    zero = np.int8(-128) if signed else np.uint8(0)
    attrs = {"opset": c.one_of(12, 13), "axis": c.size(0, len(shape) - 1)}
    c.step = 1
    x = c.operand(shape, signed, 0.01)
    y = [c.put(np.float32(1 / 256), True), c.put(zero, True)]
    c.node("QLinearSoftmax", x + y, [byte(signed)], **attrs)


def q_linear_concat(c):
    signed, shape = c.one_of(True, False), list(c.shape())
    axis = c.size(0, len(shape) - 1)
    inputs = c.params(signed)
    for _ in range(c.size(1, 3)):
        shape[axis] = c.size()
        inputs += c.operand(shape, signed)
    c.step = 1
    c.node("QLinearConcat", inputs, [byte(signed)], axis=axis)


def q_linear_where(c):
    signed, shape = c.one_of(True, False), c.shape()
    condition = c.put(c.rng.random(shape) < 0.5, False)
    inputs = [condition] + c.operand(shape, signed) + c.operand(shape, signed) + c.params(signed)
    c.step = 1
    c.node("QLinearWhere", inputs, [byte(signed)])


def image(c, last, channels=None):
    n, ch, h, w = c.size(1, 2), channels or c.size(1, 6), c.size(5, 9), c.size(5, 9)
    return (n, h, w, ch) if last else (n, ch, h, w)


def q_linear_average_pool(c):
    signed, last = c.one_of(True, False), c.one_of(0, 1)
    attrs = {"kernel_shape": [c.size(1, 3), c.size(1, 3)], "strides": [c.size(1, 2), c.size(1, 2)],
             "count_include_pad": c.one_of(0, 1), "channels_last": last, "ceil_mode": 0}
    if all(k > 1 for k in attrs["kernel_shape"]):
        attrs["pads"] = [c.one_of(0, 1) for _ in range(4)]
    c.step = 1
    x = c.operand(image(c, last), signed)
    c.node("QLinearAveragePool", x + c.params(signed), [byte(signed)], **attrs)


def q_linear_global_average_pool(c):
    signed, last = c.one_of(True, False), c.one_of(0, 1)
    c.step = 1
    x = c.operand(image(c, last), signed)
    c.node("QLinearGlobalAveragePool", x + c.params(signed), [byte(signed)], channels_last=last)


def nhwc_max_pool(c):
    signed = c.one_of(True, False)
    attrs = {"kernel_shape": [c.size(2, 3), c.size(2, 3)], "strides": [c.size(1, 2), c.size(1, 2)],
             "pads": [c.one_of(0, 1) for _ in range(4)], "dilations": [1, c.size(1, 2)]}
    x = c.put(c.codes(image(c, True), signed), False)
    c.node("NhwcMaxPool", [x], [byte(signed)], **attrs)


def window(c):
    kernel = [c.size(1, 3), c.size(1, 3)]
    return kernel, {"kernel_shape": kernel, "strides": [c.size(1, 2), c.size(1, 2)],
                    "pads": [c.one_of(0, 1) for _ in range(4)], "dilations": [1, c.one_of(1, 2)]}


def q_linear_conv(c):
    signed, last = c.one_of(True, False), c.one_of(0, 1)
    w_signed = signed or c.one_of(True, False)
    group, (kernel, attrs) = c.size(1, 3), window(c)
    per, m = c.size(1, 4), c.size(1, 4) * group
    if c.rng.random() < 0.3:
        per, m = 1, group
    w = c.codes([m, per] + kernel, w_signed)
    each = c.one_of((), (m,))
    zero = c.codes((), w_signed) if each == () else np.zeros(each, w.dtype)
    x = c.operand(image(c, last, per * group), signed)
    x += [c.put(w, True), c.put(c.scale(each), True), c.put(zero, True)]
    x += c.params(signed, 0.05)
    if c.rng.random() < 0.6:
        x.append(c.put(c.rng.integers(-5000, 5000, m).astype(np.int32), True))
    c.step = 1
    if last:
        attrs["channels_last"] = 1
    c.node("QLinearConv", x, [byte(signed)], domain=MS if last else "", group=group, **attrs)


def nhwc_conv(c):
    group, (kernel, attrs) = c.size(1, 3), window(c)
    per, m = c.size(1, 4), c.size(1, 4) * group
    inputs = [c.put(c.floats(image(c, True, per * group)), False),
              c.put(c.floats([m, per] + kernel), True)]
    if c.rng.random() < 0.5:
        inputs.append(c.put(c.floats([m]), True))
    c.node("NhwcConv", inputs, [FLOAT], group=group, **attrs)


def q_gemm(c):
    a_signed = c.one_of(True, False)
    b_signed = a_signed or c.one_of(True, False)
    m, n, k = c.size(1, 20), c.size(1, 40), c.size(1, 70)
    ta, tb, each = c.one_of(0, 1), c.one_of(0, 1), c.one_of((), (n,))
    inputs = c.operand((k, m) if ta else (m, k), a_signed)
    inputs += [c.put(c.codes((n, k) if tb else (k, n), b_signed)), c.put(c.scale(each), True),
               c.put(c.codes(each, b_signed), True)]
    bias = c.one_of(None, (n,), (1, n), (m, n))
    inputs.append(c.put(c.rng.integers(-9999, 9999, bias).astype(np.int32)) if bias else "")
    dtype = FLOAT
    if c.rng.random() < 0.7:
        inputs += c.params(a_signed, 0.2)
        dtype, c.step = byte(a_signed), 0
    c.node("QGemm", inputs, [dtype], transA=ta, transB=tb, alpha=c.one_of(1.0, 0.5))


def batch(c, m, k, n):
    lead = c.shape(0, 2)
    return (*lead, m, k), c.one_of((k, n), (*lead, k, n))


def dynamic_quantize_matmul(c):
    signed = c.one_of(True, False)
    n = c.size(1, 40)
    a, b = batch(c, c.size(1, 9), c.size(1, 70), n)
    each = c.one_of((), (n,)) if len(b) == 2 else ()
    inputs = [c.put(c.floats(a), False), c.put(c.codes(b, signed)), c.put(c.scale(each), True)]
    inputs.append(c.put(c.codes(each, signed), True) if c.rng.random() < 0.6 else "")
    if c.rng.random() < 0.5:
        inputs.append(c.put(c.floats([n])))
    c.node("DynamicQuantizeMatMul", inputs, [FLOAT])


def matmul_integer_to_float(c):
    a_signed = c.one_of(True, False)
    b_signed = a_signed or c.one_of(True, False)
    n = c.size(1, 40)
    a, b = batch(c, c.size(1, 9), c.size(1, 70), n)
    each = c.one_of((), (n,)) if len(b) == 2 else ()
    inputs = [c.put(c.codes(a, a_signed)), c.put(c.codes(b, b_signed)), c.put(c.scale(), True),
              c.put(c.scale(each), True)]
    inputs.append(c.put(c.codes((), a_signed), True) if c.rng.random() < 0.6 else "")
    inputs.append(c.put(c.codes(each, b_signed), True) if c.rng.random() < 0.6 else "")
    if c.rng.random() < 0.5:
        inputs.append(c.put(c.floats([n])))
    c.node("MatMulIntegerToFloat", inputs, [FLOAT])


def matmul_integer16(c):
    a, b = batch(c, c.size(), c.size(), c.size())
    draw = lambda shape: c.rng.integers(-20000, 20000, shape).astype(np.int16)
    c.node("MatMulInteger16", [c.put(draw(a), False), c.put(draw(b), False)], [I32])


def matmul_integer(c):
    a_signed, b_signed = c.one_of(True, False), c.one_of(True, False)
    n, m = c.size(1, 70), c.size(1, 40)
    a, b = batch(c, m, c.size(1, 200), n)
    each = c.one_of((), (n,)) if len(b) == 2 else ()
    inputs = [c.put(c.codes(a, a_signed)), c.put(c.codes(b, b_signed)),
              c.put(c.codes((), a_signed)), c.put(c.codes(each, b_signed), True)]
    c.node("MatMulInteger", inputs, [I32], domain="")


def q_linear_matmul(c):
    a_signed = c.one_of(True, False)
    b_signed = a_signed or c.one_of(True, False)
    n = c.size(1, 70)
    a, b = batch(c, c.size(1, 40), c.size(1, 200), n)
    each = c.one_of((), (n,)) if len(b) == 2 else ()
    inputs = c.operand(a, a_signed)
    inputs += [c.put(c.codes(b, b_signed)), c.put(c.scale(each), True),
               c.put(c.codes(each, b_signed), True)]
    c.step = 1
    c.node("QLinearMatMul", inputs + c.params(a_signed, 0.3), [byte(a_signed)], domain="")


def matmul_n_bits(c):
    bits, block = c.one_of(2, 4, 4, 4, 8), c.one_of(16, 32, 64, 128)
    n, k = c.size(1, 70), c.size(1, 300)
    dtype = c.one_of(np.float32, np.float32, np.float16)
    if c.rng.random() < 0.4:
        k = block * c.size(1, 4)
    blocks = -(-k // block)
    a = c.floats((*c.shape(0, 1), c.one_of(1, 1, c.size(2, 20)), k)).astype(dtype)
    codes = c.rng.integers(0, 256, (n, blocks, block * bits // 8)).astype(np.uint8)
    inputs = [c.put(a, False), c.put(codes, True),
              c.put(c.scale((n, blocks)).astype(dtype), True)]
    zero = c.one_of(None, "packed", "float")
    if zero == "packed":
        shape = (n, -(-blocks * bits // 8))
        inputs.append(c.put(c.rng.integers(0, 256, shape).astype(np.uint8), True))
    elif zero == "float":
        zeros = c.rng.uniform(0, 2 ** bits, (n, blocks)).astype(dtype)
        inputs.append(c.put(zeros, True))
    else:
        inputs.append("")
    inputs.append("")
    if c.rng.random() < 0.4:
        inputs.append(c.put(c.floats([n]).astype(dtype), True))
    while inputs[-1] == "":
        inputs.pop()
    c.node("MatMulNBits", inputs, [FLOAT if dtype == np.float32 else HALF], N=n, K=k, bits=bits,
           block_size=block)


def matmul_bnb4(c):
    block, n, k = c.one_of(16, 32, 64), c.size(1, 40), c.size(1, 100)
    a = c.floats((c.size(1, 9), k))
    codes = c.rng.integers(0, 256, (n * k + 1) // 2).astype(np.uint8)
    inputs = [c.put(a, False), c.put(codes, True), c.put(c.scale(-(-n * k // block)), True)]
    c.node("MatMulBnb4", inputs, [FLOAT], N=n, K=k, block_size=block, quant_type=c.one_of(0, 1))


def packed_tensor(array, dtype):
    return helper.make_tensor("", dtype, array.shape, array.flatten().tolist())


def gather_block_quantized(c):
    kind, block = c.one_of("u4", "i4", "b2", "b4", "b8"), c.one_of(16, 32)
    shape = [c.size(2, 6), c.size(2, 5), 32 * c.size(1, 3)][-c.size(2, 3):]
    attrs = {"block_size": block, "quantize_axis": len(shape) - 1, "gather_axis": 0}
    if kind[0] != "b" and c.rng.random() < 0.5:
        attrs["gather_axis"] = c.size(0, len(shape) - 2)
    blocks = [*shape[:-1], -(-shape[-1] // block)]
    low, high = (-8, 8) if kind == "i4" else (0, 16)
    inputs = []
    if kind[0] == "b":
        attrs["bits"] = bits = int(kind[1])
        stored = [*shape[:-1], shape[-1] * bits // 8]
        inputs.append(c.put(c.rng.integers(0, 256, stored).astype(np.uint8), True))
        zero = [*blocks[:-1], -(-blocks[-1] * bits // 8)]
        zero = c.rng.integers(0, 256, zero).astype(np.uint8)
    else:
        dtype = TensorProto.INT4 if kind == "i4" else TensorProto.UINT4
        inputs.append(c.put(packed_tensor(c.rng.integers(low, high, shape), dtype), True))
        zero = packed_tensor(c.rng.integers(low, high, blocks), dtype)
    n = shape[attrs["gather_axis"]]
    span = (-n, n) if c.rng.random() < 0.8 else (-n - 2, n + 2)
    indices = c.rng.integers(*span, c.shape(0, 2)).astype(c.one_of(np.int32, np.int64))
    inputs += [c.put(indices, False), c.put(c.scale(blocks), True)]
    if c.rng.random() < 0.6:
        inputs.append(c.put(zero, True))
    c.node("GatherBlockQuantized", inputs, [FLOAT], **attrs)


def dynamic_quantize_lstm(c):
    signed, dirs = c.one_of(True, False), c.one_of(1, 2)
    seq, batch, size, hidden = c.size(1, 5), c.size(1, 3), c.size(1, 12), c.size(1, 12)
    each = c.one_of((dirs,), (dirs, 4 * hidden))
    zero = lambda: np.zeros(each, np.int8 if signed else np.uint8)
    inputs = [c.put(c.floats((seq, batch, size)), False),
              c.put(c.codes((dirs, size, 4 * hidden), signed), True),
              c.put(c.codes((dirs, hidden, 4 * hidden), signed), True)]
    draw = lambda shape: c.put(c.floats(shape)) if c.rng.random() < 0.5 else ""
    inputs += [draw((dirs, 8 * hidden)), "", draw((dirs, batch, hidden)),
               draw((dirs, batch, hidden)), ""]
    inputs += [c.put(c.scale(each, 0.001, 0.005), True), c.put(zero(), True),
               c.put(c.scale(each, 0.001, 0.005), True), c.put(zero(), True)]
    # Each engine rounds the states, in other groups.
    c.tolerance = 6e-2
    c.node("DynamicQuantizeLSTM", inputs, [FLOAT, FLOAT, FLOAT], hidden_size=hidden,
           direction="bidirectional" if dirs == 2 else c.one_of("forward", "reverse"))


CODES = {U8: (0, 256), I8: (-128, 128), TensorProto.UINT16: (0, 65536),
         TensorProto.INT16: (-32768, 32768), TensorProto.UINT4: (0, 16), TensorProto.INT4: (-8, 8)}


def scales_of(c, shape, dtype):
    """scale, zero point, attributes"""
    low, high = CODES[dtype]
    axis = c.size(0, len(shape) - 1)
    each = c.one_of((), (shape[axis],))
    zero = packed_tensor(c.rng.integers(low, high, each), dtype)
    return [c.put(c.scale(each), True), c.put(zero, True)], {"axis": axis}


def quantize_linear(c):
    dtype, shape = c.one_of(*CODES), c.shape()
    params, attrs = scales_of(c, shape, dtype)
    y = c.node("QuantizeLinear", [c.put(c.floats(shape, 2.0), False)] + params, [dtype],
               outputs=["q"], **attrs)
    # numpy has no 4-bit types.
    c.node("Cast", y, [I32], domain="", to=I32)


def dequantize_linear(c):
    dtype, shape = c.one_of(*CODES), c.shape()
    low, high = CODES[dtype]
    params, attrs = scales_of(c, shape, dtype)
    x = c.put(packed_tensor(c.rng.integers(low, high, shape), dtype), True)
    c.node("DequantizeLinear", [x] + params, [FLOAT], **attrs)


CASES = {
    "DequantizeLinear": dequantize_linear,
    "DynamicQuantizeLSTM": dynamic_quantize_lstm,
    "DynamicQuantizeMatMul": dynamic_quantize_matmul,
    "GatherBlockQuantized": gather_block_quantized,
    "MatMulBnb4": matmul_bnb4,
    "MatMulInteger": matmul_integer,
    "MatMulInteger16": matmul_integer16,
    "MatMulIntegerToFloat": matmul_integer_to_float,
    "MatMulNBits": matmul_n_bits,
    "NhwcConv": nhwc_conv,
    "NhwcMaxPool": nhwc_max_pool,
    "QGemm": q_gemm,
    "QLinearAdd": lambda c: q_linear_binary(c, "QLinearAdd"),
    "QLinearAveragePool": q_linear_average_pool,
    "QLinearConcat": q_linear_concat,
    "QLinearConv": q_linear_conv,
    "QLinearGlobalAveragePool": q_linear_global_average_pool,
    "QLinearLeakyRelu": q_linear_leaky_relu,
    "QLinearMatMul": q_linear_matmul,
    "QLinearMul": lambda c: q_linear_binary(c, "QLinearMul"),
    "QLinearSigmoid": q_linear_sigmoid,
    "QLinearSoftmax": q_linear_softmax,
    "QLinearWhere": q_linear_where,
    "QuantizeLinear": quantize_linear,
}


def keep(folder, case, model, expected):
    data = f"{folder}/test_data_set_0"
    os.makedirs(data, exist_ok=True)
    onnx.save(model, f"{folder}/model.onnx")
    for kind, arrays in [("input", case.inputs.values()), ("output", expected)]:
        for i, array in enumerate(arrays):
            with open(f"{data}/{kind}_{i}.pb", "wb") as f:
                f.write(numpy_helper.from_array(np.asarray(array)).SerializeToString())


def run_rinfer(binary, folder, case, names):
    command = [binary, "run", f"{folder}/model.onnx", "--output-dir", folder,
               "--output-format", "npy"]
    for name, array in case.inputs.items():
        np.save(f"{folder}/{name}.in.npy", array)
        command += ["-i", f"{name}={folder}/{name}.in.npy"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    if done.returncode != 0:
        return None, (done.stderr.strip().splitlines() or ["said nothing"])[-1]
    return [np.load(f"{folder}/{re.sub(r'[^A-Za-z0-9_.-]', '_', n)}.npy") for n in names], None


def difference(case, expected, got):
    """What is wrong with an output, or None."""
    expected = np.asarray(expected)
    if (expected.shape, expected.dtype) != (got.shape, got.dtype):
        return f"is {got.dtype} {got.shape}, expected {expected.dtype} {expected.shape}"
    if expected.size == 0:
        return None
    if expected.dtype.kind != "f":
        steps = np.abs(expected.astype(np.int64) - got.astype(np.int64))
        wrong = int((steps > case.step).sum())
        return f"differs in {wrong} of {got.size}, by up to {steps.max()}" if wrong else None
    tolerance = 2e-3 if expected.dtype == np.float16 else case.tolerance
    expected, got = expected.astype(np.float64), got.astype(np.float64)
    error, scale = np.abs(expected - got).max(), max(np.abs(expected).max(), 1e-3)
    return None if error <= tolerance * scale else f"differs by {error:.3g} at scale {scale:.3g}"


def check(args, op, i):
    """`ok`, `refused` by ONNX Runtime, or what is wrong."""
    case = Case(np.random.default_rng([args.seed, sorted(CASES).index(op), i]))
    CASES[op](case)
    model = case.model()
    try:
        session = onnxruntime.InferenceSession(model.SerializeToString(), None,
                                               ["CPUExecutionProvider"])
        expected = session.run(None, case.inputs)
    except Exception as why:
        if args.verbose:
            print(f"      {op} {i} refused: {str(why)[-200:]}")
        return "refused"
    with tempfile.TemporaryDirectory() as folder:
        if args.keep:
            keep(f"{args.keep}/{op}_{i}", case, model, expected)
        onnx.save(model, f"{folder}/model.onnx")
        got, why = run_rinfer(args.rinfer, folder, case, [o.name for o in case.outputs])
    if got is None:
        return f"ERROR {why}"
    wrong = [d for e, g in zip(expected, got) if (d := difference(case, e, g))]
    return f"WRONG {'; '.join(wrong)}" if wrong else "ok"


def main():
    root = os.path.normpath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "../.."))
    p = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("--rinfer", default=f"{root}/target/release/rinfer", metavar="PATH")
    p.add_argument("--count", type=int, default=20)
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--only", nargs="+", choices=sorted(CASES), default=sorted(CASES), metavar="OP")
    p.add_argument("--keep", metavar="FOLDER")
    p.add_argument("--verbose", action="store_true", help="say what ONNX Runtime refuses, and why")
    args = p.parse_args()
    bad = 0
    for op in args.only:
        results = [check(args, op, i) for i in range(args.count)]
        count = {word: results.count(word) for word in ("ok", "refused")}
        wrong = [(i, r) for i, r in enumerate(results) if r not in count]
        bad += len(wrong)
        print(f"{op:26} {count['ok']:4} ok {count['refused']:4} refused {len(wrong):4} wrong",
              flush=True)
        for i, result in wrong[:5]:
            print(f"      {i}: {result}")
    print("all agree" if bad == 0 else f"{bad} do not agree")
    sys.exit(bad > 0)


if __name__ == "__main__":
    main()
