"""Draws types, shapes and values for one node.

A recipe is a function of a `Draw` and an operator's schema; it answers with the node's inputs and
attributes by their ONNX names.  Everything comes from the draw's generator, so a seed names a case.
"""
import ml_dtypes
import numpy as np

TYPES = {
    "float": np.float32, "double": np.float64, "float16": np.float16,
    "bfloat16": ml_dtypes.bfloat16,
    "int8": np.int8, "int16": np.int16, "int32": np.int32, "int64": np.int64,
    "uint8": np.uint8, "uint16": np.uint16, "uint32": np.uint32, "uint64": np.uint64,
    "bool": np.bool_, "string": np.object_, "complex64": np.complex64, "complex128": np.complex128,
    "float8e4m3fn": ml_dtypes.float8_e4m3fn, "float8e4m3fnuz": ml_dtypes.float8_e4m3fnuz,
    "float8e5m2": ml_dtypes.float8_e5m2, "float8e5m2fnuz": ml_dtypes.float8_e5m2fnuz,
    "float8e8m0": ml_dtypes.float8_e8m0fnu, "float4e2m1": ml_dtypes.float4_e2m1fn,
    "int4": ml_dtypes.int4, "uint4": ml_dtypes.uint4,
    "int2": ml_dtypes.int2, "uint2": ml_dtypes.uint2,
}
NAMES = {np.dtype(t): name for name, t in TYPES.items()}
# What a model is likely to use, the other types share the rest.
COMMON = {"float": 12, "int64": 4, "double": 3, "float16": 3, "int32": 3, "uint8": 2, "int8": 2,
          "bool": 2, "string": 3}
WORDS = ["", "a", "b", "Ab", "déjà", "vu", "the end", "x1", "日本", "aa", " b ", "a@b.c"]


class Skip(Exception):
    """This operator cannot be drawn with these types."""


def bounded(shape):
    """The shape with its largest sizes halved until the elements are few."""
    while np.prod(shape, dtype=np.int64) > 4096:
        shape[int(np.argmax(shape))] //= 2
    return shape


class Draw:
    def __init__(self, seed, schema, opset):
        self.rng = np.random.default_rng(seed)
        self.schema, self.opset = schema, opset
        self.bound = {}
        self.rare = self.chance(0.15)

    def chance(self, p):
        return bool(self.rng.random() < p)

    def int(self, low, high):
        """An integer of [low, high]."""
        return int(self.rng.integers(low, high + 1))

    def of(self, items):
        return items[int(self.rng.integers(len(items)))]

    def has(self, name):
        """Whether this version of the operator has an input or attribute of this name."""
        return name in self.schema.attributes or any(i.name == name for i in self.schema.inputs)

    # Types

    def ty(self, parameter, only=None):
        """The numpy type of a type parameter; drawn at the first call."""
        if parameter not in self.bound:
            allowed = []
            for c in self.schema.type_constraints:
                if c.type_param_str == parameter:
                    allowed = list(c.allowed_type_strs)
            names = [a[7:-1] for a in allowed if a.startswith("tensor(")]
            names = [n for n in names if n in TYPES and (only is None or n in only)]
            if not names:
                raise Skip(f"{parameter} has no type")
            weights = np.array([COMMON.get(n, 1) for n in names], float)
            name = names[int(self.rng.choice(len(names), p=weights / weights.sum()))]
            self.bound[parameter] = TYPES[name]
        return self.bound[parameter]

    # Shapes

    def size(self):
        if self.chance(0.03):
            return 0
        return self.of([1, 1, 2, 2, 3, 3, 4, 5, 7, 8, 9, 17] if self.chance(0.9) else [33, 64, 65])

    def shape(self, low=0, high=4):
        rank = self.int(low, high) if self.chance(0.95) else self.int(low, max(high, 8))
        return bounded([self.size() for _ in range(rank)])

    def positive(self, low=0, high=4):
        return bounded([max(1, n) for n in self.shape(low, high)])

    def broadcast(self, n, high=4):
        """Shapes that broadcast together."""
        full = self.shape(0, high)
        shapes = []
        for _ in range(n):
            cut = self.int(0, len(full)) if self.chance(0.4) else 0
            shapes.append([1 if self.chance(0.25) else d for d in full[cut:]])
        return shapes

    def axis(self, rank):
        """An axis, negative or not."""
        if rank == 0:
            raise Skip("no axis")
        return self.int(-rank, rank - 1)

    def axes(self, rank, least=0):
        """Different axes, negative or not."""
        if rank < least:
            raise Skip("not enough axes")
        n = self.int(least, rank)
        picked = self.rng.permutation(rank)[:n]
        return [int(a) - (rank if self.chance(0.3) else 0) for a in picked]

    # Values

    def ints(self, shape, low, high, dtype=np.int64):
        return self.rng.integers(low, high + 1, size=shape).astype(dtype)

    def floats(self, shape, low, high, dtype=np.float32):
        return np.asarray(self.rng.uniform(low, high, size=shape)).astype(dtype)

    def values(self, shape, dtype, low=-4.0, high=4.0):
        """Values of a type within bounds; now and then special ones, where bounds are default."""
        dtype = np.dtype(dtype)
        if dtype == np.object_:
            picked = [self.of(WORDS) for _ in range(int(np.prod(shape, dtype=np.int64)))]
            return np.array(picked, dtype=object).reshape(shape)
        if dtype == np.bool_:
            return np.asarray(self.rng.random(size=shape) < 0.5)
        name = NAMES[dtype]
        if "int" in name:
            least = 0 if name[0] == "u" else -(1 << (int(name.lstrip("uint")) - 1))
            most = (1 << int(name.lstrip("uint"))) - 1 + least
            low, high = max(low, least), min(high, most)
            wide = self.rng.integers(int(np.ceil(low)), int(high) + 1, size=shape)
            return np.asarray(wide).astype(dtype)
        if "complex" in name:
            parts = self.rng.normal(size=shape), self.rng.normal(size=shape)
            return np.asarray(parts[0] + 1j * parts[1]).astype(dtype)
        x = np.asarray(self.rng.uniform(low, high, size=shape))
        if self.rare and (low, high) == (-4.0, 4.0) and x.size:
            x = x.copy()
            special = [0.0, -0.0, np.inf, -np.inf, np.nan, 1.0, -1.0, 0.5, 2.5, 1e-6]
            for _ in range(1 + x.size // 8):
                x.reshape(-1)[int(self.rng.integers(x.size))] = self.of(special)
        with np.errstate(all="ignore"):
            return x.astype(dtype)
