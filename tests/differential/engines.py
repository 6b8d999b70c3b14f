"""The three engines: rinfer behind its server, ONNX Runtime, ONNX's reference evaluator.

Each runs in a process of its own: ONNX Runtime aborts on some models, too.
"""
import multiprocessing
import os
import select
import struct
import subprocess
import warnings

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from draw import NAMES, TYPES

os.environ["ALLOW_RELEASED_ONNX_OPSET_ONLY"] = "0"
warnings.simplefilter("ignore")
ort.set_default_logger_severity(4)


class Refused(Exception):
    """An engine gives no answer; the text says why."""


def elem_type(dtype):
    dtype = np.dtype(dtype)
    if dtype == np.object_:
        return TensorProto.STRING
    return helper.np_dtype_to_tensor_dtype(dtype)


class Case:
    """One node with its inputs, in the order of the operator's inputs; None is omitted."""

    def __init__(self, schema, opset, inputs, attrs, outputs, constant, symbolic):
        self.schema, self.opset = schema, opset
        self.inputs, self.attrs, self.outputs = inputs, attrs, outputs
        self.constant = constant      # which inputs are initializers, by position
        self.symbolic = symbolic      # whether the graph's inputs have sizes without numbers

    def replace(self, **changes):
        case = Case(self.schema, self.opset, list(self.inputs), dict(self.attrs), self.outputs,
                    set(self.constant), self.symbolic)
        for name, value in changes.items():
            setattr(case, name, value)
        return case

    def model(self):
        names = [f"x{i}" if x is not None else "" for i, x in enumerate(self.inputs)]
        while names and not names[-1]:
            names.pop()
        outputs = [f"y{i}" for i in range(self.outputs)]
        attrs = {}
        for name, value in self.attrs.items():
            if isinstance(value, type):
                value = elem_type(value)
            elif isinstance(value, np.ndarray):
                value = numpy_helper.from_array(value)
            attrs[name] = value
        node = helper.make_node(self.schema.name, names, outputs, domain=self.schema.domain)
        for name, value in attrs.items():
            kind = int(self.schema.attributes[name].type.value)
            if kind == onnx.AttributeProto.FLOAT:
                value = float(value)
            elif kind == onnx.AttributeProto.STRING and isinstance(value, int):
                value = TensorProto.DataType.Name(value)
            node.attribute.append(helper.make_attribute(name, value, attr_type=kind))
        infos, constants = [], []
        for i, x in enumerate(self.inputs):
            if x is None:
                continue
            if i in self.constant:
                constants.append(numpy_helper.from_array(x, names[i]))
                continue
            shape = [f"d{i}_{j}" for j in range(x.ndim)] if self.symbolic else x.shape
            infos.append(helper.make_tensor_value_info(names[i], elem_type(x.dtype), shape))
        made = [onnx.ValueInfoProto(name=name) for name in outputs]
        graph = helper.make_graph([node], "g", infos, made, constants)
        opsets = [helper.make_opsetid("", self.opset)]
        if self.schema.domain:
            opsets.append(helper.make_opsetid(self.schema.domain, self.schema.since_version))
        return helper.make_model(graph, opset_imports=opsets, ir_version=10)

    def feeds(self):
        return {f"x{i}": x for i, x in enumerate(self.inputs)
                if x is not None and i not in self.constant}

    def text(self):
        def show(x):
            return "-" if x is None else f"{NAMES[np.dtype(x.dtype)]}{list(x.shape)}"
        attrs = {k: (NAMES[np.dtype(v)] if isinstance(v, type) else
                     v.tolist() if isinstance(v, np.ndarray) else v) for k, v in self.attrs.items()}
        return (f"{self.schema.name}-{self.opset} ({', '.join(map(show, self.inputs))}) {attrs}"
                f"{' constants ' + str(sorted(self.constant)) if self.constant else ''}"
                f"{' symbolic' if self.symbolic else ''}")


class Graph(Case):
    """Several nodes; inputs are in the order of `names`."""

    def __init__(self, schema, opset, nodes, named, results, constant, symbolic):
        super().__init__(schema, opset, list(named.values()), {}, len(results), constant, symbolic)
        self.nodes, self.names, self.results = nodes, list(named), results

    def replace(self, **changes):
        named = dict(zip(self.names, self.inputs))
        graph = Graph(self.schema, self.opset, self.nodes, named, self.results,
                      set(self.constant), self.symbolic)
        for name, value in changes.items():
            setattr(graph, name, value)
        return graph

    def model(self):
        infos, constants = [], []
        for i, (name, x) in enumerate(zip(self.names, self.inputs)):
            if i in self.constant:
                constants.append(numpy_helper.from_array(x, name))
                continue
            shape = [f"d{i}_{j}" for j in range(x.ndim)] if self.symbolic else x.shape
            infos.append(helper.make_tensor_value_info(name, elem_type(x.dtype), shape))
        made = [onnx.ValueInfoProto(name=name) for name in self.results]
        graph = helper.make_graph(self.nodes, "g", infos, made, constants)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)],
                                 ir_version=10)

    def feeds(self):
        return {name: x for i, (name, x) in enumerate(zip(self.names, self.inputs))
                if i not in self.constant}

    def text(self):
        ops = " ".join(node.op_type for node in self.nodes)
        return f"{super().text()} of {ops}"


class Rinfer:
    def __init__(self, binary, timeout=20):
        self.binary, self.timeout, self.process = binary, timeout, None

    def start(self):
        self.process = subprocess.Popen([self.binary, "--serve"], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)

    def ask(self, frames):
        """The answer's frames; Refused if the process dies or takes too long."""
        if self.process is None:
            self.start()
        data = struct.pack("<I", len(frames))
        data += b"".join(struct.pack("<I", len(f)) + f for f in frames)
        try:
            self.process.stdin.write(data)
            self.process.stdin.flush()
            number = lambda: struct.unpack("<I", self.read(4))[0]
            return [self.read(number()) for _ in range(number())]
        except (OSError, EOFError) as e:
            self.process.kill()
            self.process.wait()
            self.process = None
            raise Refused(f"crash {e!r}") from None

    def read(self, n):
        parts = []
        while n:
            ready, _, _ = select.select([self.process.stdout], [], [], self.timeout)
            part = os.read(self.process.stdout.fileno(), min(n, 1 << 20)) if ready else b""
            if not part:
                raise EOFError("no answer")
            parts.append(part)
            n -= len(part)
        return b"".join(parts)

    def run(self, model, feeds, plain=False):
        frames = [b"plain" if plain else b"optimized", model.SerializeToString()]
        frames += [numpy_helper.from_array(x).SerializeToString() for x in feeds.values()]
        answer = self.ask(frames)
        if answer[0] != b"ok":
            raise Refused(answer[0].decode())
        return [numpy_helper.to_array(onnx.TensorProto.FromString(f)) for f in answer[1:]]


# What ONNX Runtime's Python takes and gives as numpy arrays.
NATIVE = {np.dtype(t) for t in (np.float32, np.float64, np.float16, np.int8, np.int16, np.int32,
                                np.int64, np.uint8, np.uint16, np.uint32, np.uint64, np.bool_,
                                np.object_)}


class Oracles:
    """Runs the functions below in a process that may die."""

    def __init__(self, timeout=30):
        self.timeout, self.process = timeout, None

    def start(self):
        self.pipe, theirs = multiprocessing.Pipe()
        self.process = multiprocessing.Process(target=answer, args=(theirs,), daemon=True)
        self.process.start()
        theirs.close()

    def run(self, which, model, feeds):
        if self.process is None:
            self.start()
        try:
            self.pipe.send((which, model.SerializeToString(), feeds))
            if not self.pipe.poll(self.timeout):
                raise EOFError("no answer")
            found, why = self.pipe.recv()
        except (OSError, EOFError) as e:
            self.process.kill()
            self.process.join()
            self.process = None
            raise Refused(f"crash {e!r}") from None
        if why is not None:
            raise Refused(why)
        return found


def answer(pipe):
    while True:
        which, model, feeds = pipe.recv()
        run = {"ort": run_ort, "reference": run_reference}[which]
        try:
            pipe.send((run(onnx.load_from_string(model), feeds), None))
        except Refused as e:
            pipe.send((None, str(e)))
        except Exception as e:  # what cannot be pickled, for one
            pipe.send((None, f"{type(e).__name__}: {e}"))


def run_ort(model, feeds):
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    if any(np.dtype(x.dtype) not in NATIVE for x in feeds.values()):
        raise Refused("a type that Python cannot hand over")
    try:
        session = ort.InferenceSession(model.SerializeToString(), options,
                                       providers=["CPUExecutionProvider"])
        found = session.run(None, feeds)
        types = [o.type[7:-1] for o in session.get_outputs()]
    except Exception as e:  # every class of its errors derives from Exception alone
        raise Refused(str(e).split("\n")[0]) from None
    if any(not isinstance(y, np.ndarray) for y in found):
        raise Refused("no tensor")
    for i, (y, name) in enumerate(zip(found, types)):
        dtype = np.dtype(TYPES[name])
        if y.dtype != dtype and dtype.itemsize == y.dtype.itemsize:
            found[i] = y.view(dtype)
    return found


def run_reference(model, feeds):
    try:
        with np.errstate(all="ignore"):
            found = ReferenceEvaluator(model).run(None, feeds)
    except Exception as e:  # NumPy's errors of all kinds
        raise Refused(f"{type(e).__name__}: {e}".split("\n")[0]) from None
    return [np.asarray(y) if np.isscalar(y) or isinstance(y, np.generic) else y for y in found]


# rtol and atol by type; atol grows with the largest number beside.
CLOSE = {"float": (2e-4, 2e-5), "double": (1e-5, 1e-6), "float16": (1e-2, 4e-3),
         "bfloat16": (4e-2, 2e-2)}


def differ(found, expected):
    """How two lists of outputs differ, in words; None if they do not."""
    if len(found) != len(expected):
        return f"{len(found)} outputs, expected {len(expected)}"
    for i, (a, b) in enumerate(zip(found, expected)):
        b = np.asarray(b)
        if b.dtype.kind in "US":
            b = b.astype(object)
        if a.dtype != b.dtype:
            return f"output {i}: dtype {a.dtype}, expected {b.dtype}"
        if a.shape != b.shape:
            return f"output {i}: shape {a.shape}, expected {b.shape}"
        name = NAMES.get(a.dtype)
        if name in CLOSE or a.dtype.kind == "c":
            rtol, atol = CLOSE.get(name, (1e-4, 1e-5))
            kind = np.complex128 if a.dtype.kind == "c" else np.float64
            x, y = a.astype(kind), b.astype(kind)
            with np.errstate(all="ignore"):
                finite = np.abs(y[np.isfinite(y)])
                scale = max(1.0, float(finite.max())) if finite.size else 1.0
                same = (x == y) | (np.isnan(x) & np.isnan(y)) | (
                    np.isfinite(x) & np.isfinite(y)
                    & (np.abs(x - y) <= atol * scale + rtol * np.abs(y)))
        elif name is not None and "float" in name:
            same = (a.view(np.uint8) == b.view(np.uint8)) | (np.isnan(a) & np.isnan(b)) | (
                a.astype(np.float32) == b.astype(np.float32))
        else:
            same = a == b
        if not np.all(same):
            at = np.argwhere(~np.atleast_1d(same))[0]
            at = tuple(at) if a.ndim else ()
            return (f"output {i}: {int((~same).sum())} of {a.size} differ, {list(map(int, at))} is "
                    f"{a[at]!r}, expected {b[at]!r}")
    return None
