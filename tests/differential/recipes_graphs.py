"""How graphs of several nodes are drawn: control flow, sequences, optionals.

A recipe here is a function of a `Draw`; it answers with the nodes, the inputs (arrays by name) and
the names of the outputs.  Bodies see outer values, and sizes change from one turn to the next.
"""
import numpy as np
from onnx import TensorProto, ValueInfoProto, helper, numpy_helper

from draw import TYPES, Skip
from engines import elem_type

GRAPHS = {}
# Versions of the opset that a graph is written for: definitions changed at each of these.
OPSETS = (11, 13, 14, 16, 18, 19, 21, 23, 24, 25)
FLOW = ("float", "float", "float", "double", "int64", "int32", "float16", "uint8")


def graph(*names):
    def add(f):
        for name in names:
            GRAPHS[name] = f
        return f
    return add


def info(name, x):
    """A port of a body whose type is said."""
    return helper.make_tensor_value_info(name, elem_type(x.dtype), None)


def port(name):
    """A port whose type follows from what makes it."""
    return ValueInfoProto(name=name)


def constant(name, x):
    return helper.make_node("Constant", [], [name], value=numpy_helper.from_array(np.asarray(x)))


def one(d):
    """A type, and a maker of arrays of it."""
    dtype = TYPES[d.of(FLOW)]
    return dtype, lambda shape, low=-3, high=3: d.values(shape, dtype, max(low, 0) if np.dtype(
        dtype).kind == "u" else low, high)


def step(d, x, y, outer, fresh):
    """Nodes that make y of x and perhaps of outer values, all of one shape."""
    op = d.of(["Add", "Sub", "Mul", "Max", "Identity", "chain"])
    if op == "Identity":
        return [helper.make_node("Identity", [x], [y])]
    other = d.of(outer + [x])
    if op == "chain":
        middle = fresh()
        return [helper.make_node("Max", [x, other], [middle]),
                helper.make_node("Sub", [middle, other], [y])]
    return [helper.make_node(op, [x, other], [y])]


class Names:
    def __init__(self):
        self.count = 0

    def __call__(self):
        self.count += 1
        return f"v{self.count}"


@graph("If")
def if_(d):
    dtype, make = one(d)
    if d.opset < 14 and np.dtype(dtype) in (np.uint8,):
        dtype, make = np.float32, lambda shape: d.values(shape, np.float32, -3, 3)
    fresh = Names()
    shape = d.shape(0, 3)
    inputs = {"c": np.array(d.chance(0.5)), "a": make(shape), "b": make(shape)}
    count = d.int(1, 2)
    other = d.chance(0.3)

    def branch(wide, depth=0):
        nodes, outputs = [], []
        for _ in range(count):
            x, y = d.of(["a", "b"]), fresh()
            if wide and shape:
                # Another shape than the other branch's.
                axis = d.int(0, len(shape) - 1)
                nodes.append(helper.make_node("Concat", [x, "a"], [y], axis=axis))
            elif depth == 0 and d.chance(0.3):
                inner = [branch(False, 1), branch(False, 1)]
                made = [fresh() for _ in range(count)]
                nodes.append(helper.make_node("If", ["c"], made, then_branch=inner[0],
                                              else_branch=inner[1]))
                y = made[0]
            else:
                nodes += step(d, x, y, ["a", "b"], fresh)
            outputs.append(port(y))
        return helper.make_graph(nodes, f"g{fresh()}", [], outputs)

    node = helper.make_node("If", ["c"], [f"y{i}" for i in range(count)],
                            then_branch=branch(False), else_branch=branch(other))
    return [node], inputs, [f"y{i}" for i in range(count)]


def carried(d, make, fresh, n):
    """Shapes of carried values; some of them grow along their first axis."""
    found = []
    for _ in range(n):
        shape = [max(1, s) for s in d.shape(1, 2)]
        found.append((fresh(), make(shape), d.chance(0.25)))
    return found


@graph("Loop")
def loop(d):
    dtype, make = one(d)
    if d.opset < 14 and np.dtype(dtype) in (np.uint8,):
        raise Skip("arithmetic on bytes came later")
    fresh = Names()
    state = carried(d, make, fresh, d.int(1, 3))
    inputs = {name: x for name, x, _ in state}
    inputs["outer"] = make([1])
    scans = d.int(0, 2)
    turns, stop = d.int(0, 5), d.int(0, 6)
    form = d.of(["for", "while", "both"])
    nodes, body = [], []
    ins = [helper.make_tensor_value_info("i", TensorProto.INT64, []),
           helper.make_tensor_value_info("go", TensorProto.BOOL, [])]
    outs = []
    if form == "for":
        body.append(helper.make_node("Identity", ["go"], ["on"]))
    else:
        body += [constant("last", np.array(stop)), helper.make_node("Less", ["i", "last"], ["on"])]
    for name, x, grows in state:
        inner, y = fresh(), fresh()
        ins.append(info(inner, x))
        if grows:
            body.append(helper.make_node("Concat", [inner, name], [y], axis=0))
        else:
            body += step(d, inner, y, ["outer"], fresh)
        outs.append((y, inner, grows))
    finals = [port(y) for y, _, _ in outs]
    fixed = [inner for _, inner, grows in outs if not grows]
    if not fixed:
        scans = 0
    extra = []
    for _ in range(scans):
        y = fresh()
        if d.chance(0.3):
            body.append(helper.make_node("Cast", ["i"], [y], to=elem_type(dtype)))
        else:
            body.append(helper.make_node("Identity", [d.of(fixed)], [y]))
        extra.append(port(y))
    graph_ = helper.make_graph(body, "body", ins, [port("on")] + finals + extra)
    trip, go = "", ""
    if form != "while":
        inputs["m"] = np.array(turns)
        trip = "m"
    if form != "for" or d.chance(0.3):
        inputs["k"] = np.array(d.chance(0.85))
        go = "k"
    made = [f"y{i}" for i in range(len(state) + scans)]
    nodes.append(helper.make_node("Loop", [trip, go] + [s[0] for s in state], made, body=graph_))
    return nodes, inputs, made


@graph("Scan")
def scan(d):
    dtype, make = one(d)
    if d.opset < 14 and np.dtype(dtype) in (np.uint8,):
        raise Skip("arithmetic on bytes came later")
    fresh = Names()
    n, turns = d.int(0, 2), d.int(1, 5)
    shape = d.positive(0, 2)
    inputs, ins, body, attrs = {}, [], [], {}
    for _ in range(n):
        name = fresh()
        inputs[name] = make(shape)
        ins.append((name, fresh()))
    m = d.int(1, 2)
    axes = [d.int(0, len(shape)) for _ in range(m)]
    elements = []
    for axis in axes:
        name, inner = fresh(), fresh()
        full = list(shape)
        full.insert(axis, turns)
        inputs[name] = make(full)
        elements.append((name, inner))
    outer = [inner for _, inner in elements]
    if d.chance(0.5):
        inputs["outer"] = make([1] * len(shape))
        outer.append("outer")
    outs = []
    for _, inner in ins:
        y = fresh()
        body += step(d, inner, y, outer, fresh)
        outs.append(y)
    k = d.int(0 if n else 1, 2)
    for _ in range(k):
        y = fresh()
        body += step(d, d.of([i for _, i in ins + elements]), y, outer, fresh)
        outs.append(y)
    if d.chance(0.6):
        attrs["scan_input_axes"] = [a - (len(shape) + 1 if d.chance(0.3) else 0) for a in axes]
    else:
        for (name, _), axis in zip(elements, axes):
            inputs[name] = np.moveaxis(inputs[name], axis, 0).copy()
    if d.chance(0.4):
        attrs["scan_input_directions"] = [d.int(0, 1) for _ in range(m)]
    if d.chance(0.4) and k:
        attrs["scan_output_directions"] = [d.int(0, 1) for _ in range(k)]
    if d.chance(0.4) and k:
        attrs["scan_output_axes"] = [d.int(0, len(shape)) for _ in range(k)]
    of = lambda name: inputs[name] if name in inputs else inputs[elements[0][0]]
    ports = [info(inner, of(name)) for name, inner in ins + elements]
    graph_ = helper.make_graph(body, "body", ports, [port(y) for y in outs])
    made = [f"y{i}" for i in range(n + k)]
    node = helper.make_node("Scan", [name for name, _ in ins + elements], made, body=graph_,
                            num_scan_inputs=m, **attrs)
    return [node], inputs, made


def pieces(d, make, nodes, inputs, name):
    """Nodes that make a sequence `name`; how many elements, and the shape of one."""
    form = d.of(["construct", "split", "empty"])
    shape = d.positive(1, 3)
    n = d.int(1, 4)
    if form == "split":
        axis = d.int(0, len(shape) - 1)
        shape[axis] = n * d.int(1, 3)
        inputs["x"] = make(shape)
        each = shape[axis] // n
        nodes.append(constant("each", np.array(each)))
        nodes.append(helper.make_node("SplitToSequence", ["x", "each"], [name], axis=axis))
        shape[axis] = each
        return n, shape
    made = []
    for i in range(n):
        inputs[f"x{i}"] = make(shape)
        made.append(f"x{i}")
    if form == "construct":
        nodes.append(helper.make_node("SequenceConstruct", made, [name]))
        return n, shape
    dtype = inputs["x0"].dtype
    nodes.append(helper.make_node("SequenceEmpty", [], ["s_0"], dtype=elem_type(dtype)))
    for i, x in enumerate(made):
        last = name if i + 1 == n else f"s_{i + 1}"
        nodes.append(helper.make_node("SequenceInsert", [f"s_{i}", x], [last]))
    return n, shape


@graph("SequenceConstruct", "SequenceInsert", "SequenceErase", "SequenceAt", "SequenceLength",
       "SequenceEmpty", "ConcatFromSequence", "SplitToSequence")
def sequence(d):
    dtype, make = one(d)
    nodes, inputs, outputs = [], {}, []
    n, shape = pieces(d, make, nodes, inputs, "s")
    now = "s"
    for i in range(d.int(0, 3)):
        next_ = f"t{i}"
        if d.chance(0.5) and n > 1:
            inputs[f"e{i}"] = np.array(d.int(-n, n - 1))
            at = [f"e{i}"] if d.chance(0.8) else []
            nodes.append(helper.make_node("SequenceErase", [now] + at, [next_]))
            n -= 1
        else:
            inputs[f"n{i}"] = make(shape)
            inputs[f"e{i}"] = np.array(d.int(-n, n))
            at = [f"e{i}"] if d.chance(0.8) else []
            nodes.append(helper.make_node("SequenceInsert", [now, f"n{i}"] + at, [next_]))
            n += 1
        if not at:
            del inputs[f"e{i}"]
        now = next_
    nodes.append(helper.make_node("SequenceLength", [now], ["count"]))
    inputs["at"] = np.array(d.int(-n, n - 1), d.of([np.int64, np.int32]))
    nodes.append(helper.make_node("SequenceAt", [now, "at"], ["one"]))
    attrs = {"axis": d.int(0, len(shape) - 1)}
    if d.chance(0.4):
        attrs = {"axis": d.int(0, len(shape)), "new_axis": 1}
    nodes.append(helper.make_node("ConcatFromSequence", [now], ["all"], **attrs))
    return nodes, inputs, ["count", "one", "all"]


@graph("SequenceMap")
def sequence_map(d):
    if d.opset < 17:
        raise Skip("came later")
    dtype, make = one(d)
    nodes, inputs = [], {}
    n, shape = pieces(d, make, nodes, inputs, "s")
    inputs["b"] = make([1])
    body = helper.make_graph([helper.make_node("Add", ["e", "o"], ["r"]),
                              helper.make_node("Identity", ["e"], ["q"])], "body",
                             [info("e", inputs["b"]), info("o", inputs["b"])],
                             [info("r", inputs["b"]), info("q", inputs["b"])])
    nodes.append(helper.make_node("SequenceMap", ["s", "b"], ["t", "u"], body=body))
    nodes.append(helper.make_node("ConcatFromSequence", ["t"], ["y0"], axis=0))
    nodes.append(helper.make_node("ConcatFromSequence", ["u"], ["y1"], axis=0, new_axis=1))
    return nodes, inputs, ["y0", "y1"]


@graph("Optional", "OptionalHasElement", "OptionalGetElement")
def optional(d):
    if d.opset < 16:
        raise Skip("came later")
    dtype, make = one(d)
    inputs, outputs = {"x": make(d.shape(0, 3))}, ["has"]
    nodes = []
    empty = d.chance(0.3)
    if empty:
        of = helper.make_tensor_type_proto(elem_type(dtype), None)
        nodes.append(helper.make_node("Optional", [], ["o"], type=of))
    else:
        nodes.append(helper.make_node("Optional", ["x"], ["o"]))
    nodes.append(helper.make_node("OptionalHasElement", ["o"], ["has"]))
    if empty:
        nodes.append(helper.make_node("Identity", ["x"], ["y"]))
    elif d.chance(0.5):
        body = lambda node: helper.make_graph([node], "g", [], [port(node.output[0])])
        nodes.append(helper.make_node(
            "If", ["has"], ["y"],
            then_branch=body(helper.make_node("OptionalGetElement", ["o"], ["got"])),
            else_branch=body(helper.make_node("Identity", ["x"], ["same"]))))
    else:
        nodes.append(helper.make_node("OptionalGetElement", ["o"], ["y"]))
    return nodes, inputs, outputs + ["y"]
