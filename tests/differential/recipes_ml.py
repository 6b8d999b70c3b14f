"""How nodes of ai.onnx.ml are drawn: small models as scikit-learn and its exporters make them."""
import numpy as np

from draw import NAMES
from recipes import recipe

POST = ["NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO", "PROBIT"]
MODES = ["BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT", "BRANCH_EQ", "BRANCH_NEQ"]


def floats(d, shape, low=-2, high=2):
    return [float(v) for v in d.floats(shape, low, high).reshape(-1)]


def rows(d, ty="T", features=None, high=5):
    """Rows of features: integers are common, halves tell strict from loose comparisons."""
    n = d.size()
    features = features or d.int(1, 5)
    dtype = d.ty(ty)
    if "int" in NAMES[np.dtype(dtype)]:
        return d.values([n, features], dtype, -high, high)
    x = np.round(d.floats([n, features], -high, high) * 2) / 2
    return x.astype(dtype)


def labels(d, count):
    if d.chance(0.5):
        return {"classlabels_strings": [f"c{i}" for i in range(count)]}
    return {"classlabels_ints": [3 * i + d.int(0, 2) for i in range(count)]}


def forest(d, features, modes):
    nodes = {k: [] for k in ("treeids", "nodeids", "featureids", "values", "modes", "truenodeids",
                             "falsenodeids", "missing_value_tracks_true")}
    leaves = []
    for tree in range(d.int(1, 5)):
        todo, made = [(0, 0)], 1
        while todo:
            node, level = todo.pop(0)
            leaf = level == 3 or d.chance(0.3)
            nodes["treeids"].append(tree)
            nodes["nodeids"].append(node)
            nodes["featureids"].append(0 if leaf else d.int(0, features - 1))
            nodes["values"].append(0.0 if leaf else float(d.int(-6, 6)) / 2)
            nodes["modes"].append("LEAF" if leaf else d.of(modes))
            nodes["truenodeids"].append(0 if leaf else made)
            nodes["falsenodeids"].append(0 if leaf else made + 1)
            nodes["missing_value_tracks_true"].append(d.int(0, 1))
            if leaf:
                leaves.append((tree, node))
            else:
                todo += [(made, level + 1), (made + 1, level + 1)]
                made += 2
    if d.chance(0.6):
        del nodes["missing_value_tracks_true"]
    return {f"nodes_{k}": v for k, v in nodes.items()}, leaves


@recipe("TreeEnsembleRegressor", "TreeEnsembleClassifier")
def tree(d):
    classifier = d.schema.name.endswith("Classifier")
    x = rows(d, "T1" if classifier else "T")
    modes = MODES if d.chance(0.3) else [d.of(MODES)]
    attrs, leaves = forest(d, x.shape[1], modes)
    targets = d.int(1, 3)
    classes = targets
    only = d.chance(0.3) and classifier
    if only:
        classes, targets = 2, 1
    low = -1 if d.chance(0.4) else 0
    at = d.int(0, 1) if only else 0
    votes = [(t, n, c + at, float(np.float32(d.rng.uniform(low, 1))))
             for t, n in leaves for c in range(targets) if targets == 1 or d.chance(0.8)]
    votes = votes or [(*leaves[0], at, 1.0)]
    prefix = "class" if classifier else "target"
    for key, column in zip(("treeids", "nodeids", "ids", "weights"), zip(*votes)):
        attrs[f"{prefix}_{key}"] = list(column)
    attrs["post_transform"] = d.of(POST[:4])
    if d.chance(0.3):
        # Two base values for votes of one class: ONNX Runtime and the reference go separate ways.
        attrs["base_values"] = floats(d, [1 if only else classes], -0.5, 0.5)
    if classifier:
        key, value = labels(d, classes).popitem()
        attrs["classlabels_int64s" if key.endswith("ints") else key] = value
        return {"X": x}, attrs, 2
    attrs["n_targets"] = targets
    if d.chance(0.6):
        attrs["aggregate_function"] = d.of(["SUM", "AVERAGE", "MIN", "MAX"])
    if d.rare and x.dtype.kind == "f" and x.size:
        x.reshape(-1)[0] = np.nan
    return {"X": x}, attrs


def branch(d, nodes, leaves, features, sets, depth):
    """Adds a node with what is below it; the node's number."""
    at = len(nodes)
    mode = 6 if sets is not None and d.chance(0.3) else d.int(0, 5)
    nodes.append({"featureids": d.int(0, features - 1), "modes": mode,
                  "splits": float(d.int(-6, 6)) / 2})
    if mode == 6:
        # Others than whole numbers are more than ONNX Runtime takes.
        sets.append(sorted({float(d.int(1, 5)) for _ in range(d.int(1, 4))}))
        nodes[at]["splits"] = 0.0
    for side in ("true", "false"):
        leaf = depth == 2 or d.chance(0.4)
        nodes[at][f"{side}leafs"] = int(leaf)
        if leaf:
            nodes[at][f"{side}nodeids"] = len(leaves)
            leaves.append(float(np.float32(d.rng.uniform(-1, 1))))
        else:
            nodes[at][f"{side}nodeids"] = branch(d, nodes, leaves, features, sets, depth + 1)
    return at


@recipe("TreeEnsemble")
def new_tree(d):
    x = rows(d)
    nodes, leaves, sets = [], [], [] if d.chance(0.4) else None
    roots = [branch(d, nodes, leaves, x.shape[1], sets, 0) for _ in range(d.int(1, 4))]
    column = lambda key: [node[key] for node in nodes]
    targets = d.int(1, 3)
    attrs = {f"nodes_{key}": column(key) for key in
             ("featureids", "truenodeids", "falsenodeids", "trueleafs", "falseleafs")}
    attrs |= {"nodes_modes": np.array(column("modes"), np.uint8),
              "nodes_splits": np.array(column("splits"), x.dtype),
              "leaf_weights": np.array(leaves, x.dtype), "tree_roots": roots,
              "leaf_targetids": [d.int(0, targets - 1) for _ in leaves], "n_targets": targets,
              "aggregate_function": d.int(0, 3)}
    # ONNX Runtime takes 1 for LOGISTIC and 2 for SOFTMAX, the other way round.
    attrs["post_transform"] = d.of([0, 0, 3])
    if sets:
        # Sets in the order of their nodes; each but the last ends in NaN.
        joined = [value for members in sets for value in [*members, np.nan]]
        attrs["membership_values"] = np.array(joined, x.dtype)
    if d.chance(0.4):
        attrs["nodes_missing_value_tracks_true"] = [d.int(0, 1) for _ in nodes]
        if x.size:
            x.reshape(-1)[0] = np.nan
    return {"X": x}, attrs


@recipe("LinearRegressor", "LinearClassifier")
def linear(d):
    classifier = d.schema.name == "LinearClassifier"
    x = rows(d, "T1" if classifier else "T")
    n = d.int(1, 4)
    attrs = {"coefficients": floats(d, [n * x.shape[1]]), "post_transform": d.of(POST[:4])}
    if not classifier:
        if d.chance(0.7):
            attrs["intercepts"] = floats(d, [n])
        return {"X": x}, {**attrs, "targets": n}
    attrs["intercepts"] = floats(d, [n])
    classes = 2 if n == 1 else n
    return {"X": x}, {**attrs, **labels(d, classes), "multi_class": d.int(0, 1)}, 2


KERNELS = ["LINEAR", "POLY", "RBF", "SIGMOID"]


@recipe("SVMRegressor")
def svm_regressor(d):
    x = rows(d)
    n = d.int(1, 5)
    kernel = d.of(KERNELS)
    attrs = {"kernel_type": kernel, "kernel_params": [0.3, 0.5, 2.0], "n_supports": n,
             "support_vectors": floats(d, [n * x.shape[1]]), "coefficients": floats(d, [n]),
             "rho": floats(d, [1])}
    if d.chance(0.3):
        attrs["one_class"] = 1
    if d.chance(0.2):
        attrs |= {"n_supports": 0, "support_vectors": [], "kernel_type": "LINEAR",
                  "coefficients": floats(d, [x.shape[1]])}
    return {"X": x}, attrs


@recipe("SVMClassifier")
def svm_classifier(d):
    x = rows(d, "T1")
    classes = d.int(2, 4)
    per = [d.int(1, 3) for _ in range(classes)]
    n, pairs = sum(per), classes * (classes - 1) // 2
    attrs = {"kernel_type": d.of(KERNELS), "kernel_params": [0.3, 0.5, 2.0],
             "vectors_per_class": per, "support_vectors": floats(d, [n * x.shape[1]]),
             "coefficients": floats(d, [(classes - 1) * n]), "rho": floats(d, [pairs]),
             "post_transform": d.of(POST[:4]), **labels(d, classes)}
    if d.chance(0.5):
        attrs |= {"prob_a": floats(d, [pairs]), "prob_b": floats(d, [pairs])}
    if d.chance(0.2):
        for key in ("vectors_per_class", "support_vectors", "prob_a", "prob_b"):
            attrs.pop(key, None)
        attrs |= {"coefficients": floats(d, [classes * x.shape[1]]), "rho": floats(d, [1]),
                  "kernel_type": "LINEAR"}
    return {"X": x}, attrs, 2


@recipe("Scaler", "Normalizer", "Binarizer", "Imputer")
def features(d):
    name = d.schema.name
    x = rows(d)
    n = x.shape[1]
    if name == "Scaler":
        each = n if d.chance(0.6) else 1
        return {"X": x}, {"offset": floats(d, [each]), "scale": floats(d, [each])}
    if name == "Normalizer":
        return {"X": x}, {"norm": d.of(["MAX", "L1", "L2"])}
    if name == "Binarizer":
        return {"X": x}, {"threshold": d.of([0.0, 0.5, 1.0])}
    each = n if d.chance(0.5) else 1
    if "int" in NAMES[x.dtype]:
        return {"X": x}, {"imputed_value_int64s": [7] * each, "replaced_value_int64": 1}
    attrs = {"imputed_value_floats": floats(d, [each])}
    if d.chance(0.5) and x.size:
        x.reshape(-1)[0] = np.nan
        attrs["replaced_value_float"] = float("nan")
    else:
        attrs["replaced_value_float"] = 0.5
    return {"X": x}, attrs


@recipe("OneHotEncoder")
def one_hot_encoder(d):
    dtype = d.ty("T")
    attrs = {"zeros": 1}
    if d.chance(0.3):
        attrs["zeros"] = d.int(0, 1)
    if np.dtype(dtype) == np.object_:
        return {"X": d.values(d.positive(1, 2), dtype)}, {"cats_strings": ["a", "b", "vu"], **attrs}
    return {"X": d.values(d.positive(1, 2), dtype, 0, 3)}, {"cats_int64s": [0, 2, 3], **attrs}


@recipe("LabelEncoder")
def label_encoder(d):
    kinds = {np.dtype(np.object_): "strings", np.dtype(np.int64): "int64s",
             np.dtype(np.float32): "floats"}
    x, y = np.dtype(d.ty("T1", ("string", "int64", "float"))), d.of(list(kinds))
    draw = {"strings": ["a", "b", "vu"], "int64s": [0, 1, 3], "floats": [0.5, 1.0, -2.0]}
    attrs = {f"keys_{kinds[x]}": draw[kinds[x]], f"values_{kinds[y]}": draw[kinds[y]]}
    if d.chance(0.5):
        key = {"strings": "default_string", "int64s": "default_int64", "floats": "default_float"}
        attrs[key[kinds[y]]] = {"strings": "?", "int64s": -5, "floats": 9.0}[kinds[y]]
    return {"X": d.values(d.shape(0, 3), x, 0, 3)}, attrs


@recipe("CategoryMapper")
def category_mapper(d):
    attrs = {"cats_strings": ["a", "b", "vu"], "cats_int64s": [1, 2, 3]}
    if d.chance(0.5):
        attrs |= {"default_string": "?", "default_int64": 9}
    return {"X": d.values(d.shape(0, 3), d.ty("T1"), 0, 4)}, attrs


@recipe("ArrayFeatureExtractor")
def array_feature_extractor(d):
    shape = d.positive(1, 3)
    return {"X": d.values(shape, d.ty("T")), "Y": d.ints([d.int(1, 4)], 0, shape[-1] - 1)}, {}


@recipe("FeatureVectorizer")
def feature_vectorizer(d):
    n, sizes = d.int(1, 3), [d.int(1, 3) for _ in range(d.int(1, 3))]
    return {d.schema.inputs[0].name: [d.values([n, s], d.ty("T1")) for s in sizes]}, {
        "inputdimensions": sizes}
