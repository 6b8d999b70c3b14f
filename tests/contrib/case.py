"""A model of one or a few nodes with its inputs: what the generators draw and the runner compares.

A generator is a function of a numpy Generator that returns a Case; `@operator("Name")` lists it.
Each file cases_*.py of this folder holds generators of one family.
"""
import dataclasses

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

MICROSOFT = "com.microsoft"
GENERATORS = {}


def operator(name):
    """Lists a generator under an operator's name; several may share one."""
    def add(generator):
        GENERATORS.setdefault(name, []).append(generator)
        return generator
    return add


@dataclasses.dataclass
class Case:
    """`inputs` and `constants` are arrays by name; omitted inputs of a node are None."""
    nodes: list
    inputs: dict
    constants: dict
    outputs: list
    # How far a number may be off, in parts of the largest one of its output.
    tolerance: float = 2e-5
    # Another case that computes the same in ONNX Runtime, where this one cannot run there.
    oracle: "Case" = None
    opset: int = 17
    # Sparse initializers by name: (dense array).
    sparse: dict = dataclasses.field(default_factory=dict)
    # Outputs that ONNX Runtime writes over inputs, by name: {output: input}.
    shared: dict = dataclasses.field(default_factory=dict)


def node(name, inputs, outputs, domain=MICROSOFT, **attributes):
    """A node; attributes that are None are left out, and so are trailing omitted inputs."""
    inputs = [i or "" for i in inputs]
    while inputs and not inputs[-1]:
        inputs.pop()
    given = {k: v for k, v in attributes.items() if v is not None}
    return helper.make_node(name, inputs, outputs, domain=domain, **given)


def one(rng, name, arrays, outputs=1, fixed=(), domain=MICROSOFT, opset=17, tolerance=None,
        **attributes):
    """A case of one node. `arrays` are its inputs by name, None where omitted; those whose names
    stand in `fixed` are constants, the others sometimes. `outputs` is a number or a list of names,
    empty where omitted."""
    if isinstance(outputs, int):
        outputs = [f"y{i}" for i in range(outputs)]
    inputs, constants = {}, {}
    parameters = rng.random() < 0.5
    for i, (key, array) in enumerate(arrays.items()):
        if array is not None:
            constant = key in fixed or (i > 0 and parameters and rng.random() < 0.7)
            (constants if constant else inputs)[key] = np.asarray(array)
    if not inputs:
        key = next(iter(constants))
        inputs[key] = constants.pop(key)
    names = [None if array is None else key for key, array in arrays.items()]
    floats = [a.dtype for a in arrays.values() if a is not None and a.dtype.kind == "f"]
    half = any(dtype == np.float16 for dtype in floats)
    return Case(
        nodes=[node(name, names, outputs, domain=domain, **attributes)],
        inputs=inputs,
        constants=constants,
        outputs=[o for o in outputs if o],
        tolerance=tolerance or (4e-3 if half else 2e-5),
        opset=opset,
    )


def floats(rng, *shape, dtype=np.float32, low=-2.0, high=2.0):
    """Random numbers, evenly spread."""
    return rng.uniform(low, high, shape).astype(dtype)


def maybe(rng, value, chance=0.5):
    """The value or None."""
    return value if rng.random() < chance else None


def pick(rng, *choices):
    """One of the choices."""
    return choices[rng.integers(len(choices))]


def sizes(rng, rank, low=1, high=7):
    """A random shape."""
    return [int(n) for n in rng.integers(low, high + 1, rank)]


def model_of(case, symbolic=False):
    """The ONNX model. `symbolic` gives names to sizes of inputs instead of numbers."""
    batch = next(iter(case.inputs.values())).shape[:1]
    mask = {**case.inputs, **case.constants}.get("mask")
    if mask is not None and mask.ndim == 1:
        # Only the batch's size tells what such a mask is.
        batch = batch if mask.shape == batch and "mask" in case.inputs else None
        symbolic = symbolic and batch is not None

    def info(name, array):
        shape = list(array.shape)
        if symbolic:
            # The last size of a rank above 1 is what weights agree with: exporters know it.
            keep = len(shape) - 1 if len(shape) > 1 else -1
            # One name for the batch, also of a mask that is a vector.
            shared = batch and shape and (shape[0],) == batch and (keep > 0 or name == "mask")
            shape = [n if i == keep else f"{name}_{i}" for i, n in enumerate(shape)]
            if shared:
                shape[0] = "batch"
        dtype = helper.np_dtype_to_tensor_dtype(array.dtype)
        return helper.make_tensor_value_info(name, dtype, shape)

    graph = helper.make_graph(
        case.nodes,
        "case",
        [info(name, array) for name, array in case.inputs.items()],
        [helper.make_value_info(name, onnx.TypeProto()) for name in case.outputs],
        [numpy_helper.from_array(array, name) for name, array in case.constants.items()],
        sparse_initializer=[sparse(name, array) for name, array in case.sparse.items()],
    )
    for output in graph.output:
        output.ClearField("type")
    opsets = [helper.make_opsetid("", case.opset), helper.make_opsetid(MICROSOFT, 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def sparse(name, array):
    """A sparse initializer."""
    at = np.flatnonzero(array).astype(np.int64)
    values = numpy_helper.from_array(array.reshape(-1)[at], name)
    indices = numpy_helper.from_array(at, f"{name}_indices")
    return helper.make_sparse_tensor(values, indices, array.shape)


def typed(model, arrays):
    """Gives the outputs of a model the types and ranks of what came out of it."""
    for output, array in zip(model.graph.output, arrays):
        if array.dtype.kind in "OU":
            dtype = TensorProto.STRING
        else:
            dtype = helper.np_dtype_to_tensor_dtype(array.dtype)
        shape = [f"{output.name}_{i}" for i in range(array.ndim)]
        output.CopyFrom(helper.make_tensor_value_info(output.name, dtype, shape))
    return model
