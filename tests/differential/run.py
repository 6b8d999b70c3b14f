#!/usr/bin/env python3
"""Compares rinfer with ONNX Runtime and ONNX's reference evaluator on nodes drawn at random.

    python3 tests/differential/run.py --rinfer target/debug/conformance [--cases N] [--seed S]
        [--op NAME,NAME or DOMAIN] [--found FOLDER] [--passed FILE.json]

A case is one node, or for control flow, sequences and optionals a graph of a few: operator,
version, types, shapes and attributes follow from its seed, so the same arguments give the same
cases.  Classes:

    agree         rinfer gives what an oracle gives
    unsupported   rinfer says that it does not support it, an oracle does
    refused       rinfer calls it invalid, an oracle does not
    wrong         rinfer gives something else than every oracle that answers
    disagree      the oracles differ, and rinfer is with one of them
    no oracle     neither oracle answers

A wrong case is made smaller and, with --found, written as a test folder.
"""
import argparse
import collections
import json
import os
import sys

import numpy as np
import onnx
from onnx import defs, numpy_helper

import recipes_attention  # noqa: F401  (their recipes join the table)
import recipes_ml  # noqa: F401
import recipes_nn  # noqa: F401
import recipes_quant  # noqa: F401
import recipes_signal  # noqa: F401
import recipes_vision  # noqa: F401
from draw import NAMES, Draw, Skip
from engines import Case, Graph, Oracles, Refused, Rinfer, differ
from recipes import RECIPES
from recipes_graphs import GRAPHS, OPSETS
from recipes_random import RANDOM, leveled

ORACLES = Oracles()
# Content that decides shapes is a constant more often than not, as in exported models.
SHAPE_INPUTS = {"axes", "shape", "pads", "starts", "ends", "steps", "split", "repeats", "K", "axis",
                "scales", "sizes", "roi", "depth", "k", "dft_length", "frame_step", "frame_length",
                "image_shape", "block_shape", "size", "start", "limit", "delta"}
# Where a step of one is what rounding a product in another order gives.
ROUNDED = {"QLinearConv", "QLinearMatMul", "QuantizeLinear", "DynamicQuantizeLinear"}


def schemas(names):
    """Every version of every operator that has a recipe."""
    table = collections.defaultdict(dict)
    for s in defs.get_all_schemas_with_history():
        known = s.domain in ("", "ai.onnx.ml") and s.name in (RECIPES | GRAPHS)
        if known and (not names or s.name in names or s.domain in names):
            table[s.name][s.since_version] = s
    return table


def draw_case(seed, table, names):
    """The case of a seed; Skip if it cannot be drawn."""
    rng = np.random.default_rng([seed, 1])
    name = names[int(rng.integers(len(names)))]
    versions = sorted(table[name])
    version = versions[-1] if rng.random() < 0.5 else versions[int(rng.integers(len(versions)))]
    later = [v for v in versions if v > version]
    schema = table[name][version]
    # ONNX Runtime knows opsets up to 26, and those of ai.onnx.ml up to 3 best.
    last = later[0] - 1 if later else max(version, 26)
    opset = last if rng.random() < 0.3 else version
    if opset == 1 and last > 1:
        opset = min(last, 6)
    if schema.domain:
        opset = 21
    if schema.deprecated:
        raise Skip("deprecated")
    if name in GRAPHS:
        return draw_graph(seed, table[name], name, rng)
    d = Draw([seed, 2], schema, opset)
    given, attrs, *rest = RECIPES[name](d)
    inputs, formal = [], []
    for i in schema.inputs:
        value = given.pop(i.name, None)
        values = value if isinstance(value, list) else [value]
        inputs += [None if x is None else np.asarray(x) for x in values]
        formal += [i.name] * len(values)
    if given:
        raise Skip(f"this version has no {list(given)}")
    if any(a not in schema.attributes for a in attrs):
        raise Skip("this version lacks an attribute")
    while inputs and inputs[-1] is None:
        inputs.pop()
    chance = {i: 0.7 if formal[i] in SHAPE_INPUTS else 0.12 for i in range(len(inputs))}
    constant = {i for i, x in enumerate(inputs) if x is not None and rng.random() < chance[i]}
    return Case(schema, opset, inputs, attrs, rest[0] if rest else 1, constant, rng.random() < 0.3)


def draw_graph(seed, versions, name, rng):
    """A case of several nodes, `name` among them."""
    opset = OPSETS[int(rng.integers(len(OPSETS)))]
    since = max((v for v in versions if v <= opset), default=None)
    if since is None:
        raise Skip("came later")
    d = Draw([seed, 2], versions[since], opset)
    nodes, named, results = GRAPHS[name](d)
    named = {key: np.asarray(x) for key, x in named.items()}
    constant = {i for i in range(len(named)) if rng.random() < 0.2}
    return Graph(versions[since], opset, nodes, named, results, constant, rng.random() < 0.4)


def run_ort(model, feeds):
    return ORACLES.run("ort", model, feeds)


def run_reference(model, feeds):
    return ORACLES.run("reference", model, feeds)


def attempt(run, *args):
    try:
        return run(*args), None
    except Refused as e:
        return None, str(e)


def has_reference(case):
    """Whether the reference evaluator is written for this case at all."""
    op, version = case.schema.name, case.schema.since_version
    x = next((x for x in case.inputs if x is not None), None)
    if op in ("RNN", "GRU", "LSTM"):
        attrs = {"clip", "activations", "layout"} & set(case.attrs)
        lens = len(case.inputs) > 4 and case.inputs[4] is not None
        return not attrs and not lens and case.attrs["direction"] == "forward"
    if op in ("Softmax", "LogSoftmax", "Hardmax"):
        return version >= 13
    if op == "Unique":
        return case.attrs.get("sorted", 1) == 1
    if op in ("GlobalMaxPool", "QLinearConv"):
        return x.ndim == 4
    if op == "TreeEnsemble":
        added = case.attrs.get("aggregate_function", 1) < 2
        sets = "membership_values" in case.attrs
        return added and not sets and case.attrs.get("post_transform", 0) == 0
    if op in ("StringNormalizer", "LinearRegressor", "SVMRegressor"):
        return False
    return True


def near(found, expected, op):
    """`differ`, with a step of one allowed where rounding may go either way."""
    why = differ(found, expected)
    if why and op in ROUNDED and len(found) == len(expected):
        steps = [np.abs(a.astype(np.float64) - np.asarray(b).astype(np.float64)).max(initial=0)
                 for a, b in zip(found, expected) if a.shape == np.shape(b)]
        if len(steps) == len(found) and max(steps) <= 1:
            return None
    return why


def judge(case, rinfer, plain=False):
    """The class of a case, and what to say about it."""
    model, feeds = case.model(), case.feeds()
    op = case.schema.name
    level = (lambda ys: leveled(case, ys)) if op in RANDOM else lambda ys: ys
    found, why = attempt(lambda *of: level(rinfer.run(*of)), model, feeds, plain)
    if found is None and why.split(" ")[0] in ("panic", "crash"):
        return "wrong", why
    # Types that ONNX Runtime's Python cannot take are constants for it.
    exact = case.replace(constant=set(range(len(case.inputs))))
    ours, ort_why = attempt(lambda *of: level(run_ort(*of)), model, feeds)
    if ours is None:
        ours, ort_why = attempt(run_ort, exact.model(), {}) if ort_why.startswith("a type") else (
            None, ort_why)
    if found is not None and ours is not None and not near(found, ours, op):
        return "agree", "ort"
    reference, ref_why = None, "not written for this"
    if has_reference(case):
        reference, ref_why = attempt(lambda *of: level(run_reference(*of)), model, feeds)
    if reference is not None and found is not None and len(reference) == len(found):
        # It forgets narrow types here and there.
        with np.errstate(all="ignore"):
            reference = [y if np.asarray(y).dtype.kind in "USO" else np.asarray(y).astype(x.dtype)
                         for x, y in zip(found, reference)]
    if ours is None and reference is None:
        return "no oracle", f"{ort_why} | {ref_why} | {why}"
    if found is None:
        kind = "unsupported" if why.startswith("unsupported") else "refused"
        return kind, why
    if reference is not None and not near(found, reference, op):
        return ("agree", "reference") if ours is None else ("disagree", near(found, ours, op))
    against = ours if ours is not None else reference
    who = "ort" if ours is not None else "reference"
    if ours is not None and reference is not None and near(ours, reference, op):
        who = "ort, and the reference gives a third answer"
    return "wrong", f"{near(found, against, op)} ({who})"


def shrink(case, rinfer):
    """A smaller case that is wrong, too."""
    def wrong(c):
        try:
            return judge(c, rinfer)[0] == "wrong"
        except Exception:  # a smaller case need not be one
            return False

    for name in list(case.attrs):
        smaller = case.replace(attrs={k: v for k, v in case.attrs.items() if k != name})
        case = smaller if wrong(smaller) else case
    for i in range(len(case.inputs) - 1, 0, -1):
        if not isinstance(case, Graph) and case.inputs[i] is not None and i < len(case.inputs):
            inputs = list(case.inputs)
            inputs[i] = None
            smaller = case.replace(inputs=inputs, constant=case.constant - {i})
            case = smaller if wrong(smaller) else case
    for size in sorted({n for x in case.inputs if x is not None for n in x.shape}, reverse=True):
        for to in (1, 2, size // 2):
            if to >= size:
                continue
            cut = [None if x is None else x[tuple(slice(0, to) if n == size else slice(None)
                                                  for n in x.shape)] for x in case.inputs]
            smaller = case.replace(inputs=cut)
            if wrong(smaller):
                case = smaller
                break
    for change in ({"constant": set()}, {"symbolic": False}):
        smaller = case.replace(**change)
        case = smaller if wrong(smaller) else case
    return case


def write(folder, case):
    """The case as a test folder, with the first oracle's answer."""
    model, feeds = case.model(), case.feeds()
    expected = attempt(run_ort, model, feeds)[0] or attempt(run_reference, model, feeds)[0] or []
    data = os.path.join(folder, "test_data_set_0")
    os.makedirs(data, exist_ok=True)
    onnx.save(model, os.path.join(folder, "model.onnx"))
    for kind, values in (("input", feeds.values()), ("output", expected)):
        for i, x in enumerate(values):
            with open(os.path.join(data, f"{kind}_{i}.pb"), "wb") as f:
                x = np.asarray(x)
                f.write(numpy_helper.from_array(x.astype(str).astype(object) if x.dtype.kind in "UO"
                                                else x).SerializeToString())


def dtype_of(case):
    x = next((x for x in case.inputs if x is not None), None)
    return NAMES[np.dtype(x.dtype)] if x is not None else "-"


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rinfer", required=True)
    parser.add_argument("--cases", type=int, default=10000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--op", default="")
    parser.add_argument("--found")
    parser.add_argument("--passed")
    parser.add_argument("--per-op", type=int, default=4, help="cases told in full, of each class")
    args = parser.parse_args()
    table = schemas(set(filter(None, args.op.split(","))))
    names, rinfer = sorted(table), Rinfer(args.rinfer)
    counts, told = collections.Counter(), collections.Counter()
    passed = collections.defaultdict(int)
    made = 0
    for i in range(args.cases):
        seed = args.seed * 10_000_000 + i
        try:
            case = draw_case(seed, table, names)
            kind, why = judge(case, rinfer)
        except Skip:
            counts["skipped"] += 1
            continue
        except Exception as e:
            counts["not drawn"] += 1
            told[f"not drawn {type(e).__name__}: {e}"[:150]] += 1
            continue
        counts[kind] += 1
        key = (case.schema.domain, case.schema.name, case.schema.since_version, dtype_of(case))
        if kind == "agree":
            passed[key] += 1
        elif kind != "no oracle" or why.split(" | ")[-1] == "None":
            about = (kind, case.schema.name, why.split(":")[-1][:40] if kind != "wrong" else "")
            told[about] += 1
            if told[about] <= args.per_op:
                if kind == "wrong":
                    case = shrink(case, rinfer)
                    _, why = judge(case, rinfer)
                    if args.found and "panic" not in why and "crash" not in why:
                        write(os.path.join(args.found, f"{case.schema.name}_{seed}"), case)
                print(f"{kind} {seed} {case.text()}: {why}", flush=True)
        made += 1
        if made % 2000 == 0:
            print(f"# {made}: {dict(counts)}", flush=True)
    for what, n in told.items():
        if isinstance(what, str):
            print(f"# {n} x {what}")
    print(json.dumps(dict(counts)))
    if args.passed:
        rows = [[*key, n] for key, n in sorted(passed.items())]
        with open(args.passed, "w") as f:
            f.write("[\n" + ",\n".join(map(json.dumps, rows)) + "\n]\n")
    sys.exit(1 if counts["wrong"] else 0)


if __name__ == "__main__":
    main()
