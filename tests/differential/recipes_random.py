"""How nodes that draw random numbers are drawn, and what their results are held to."""
import numpy as np

from recipes import recipe

RANDOM = {"Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform",
          "RandomUniformLike"}


def seeded(d, attrs):
    if d.chance(0.5):
        attrs["seed"] = 7.0
    return attrs


@recipe("RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike")
def random(d):
    inputs, attrs = {}, {}
    shape = d.shape(0, 4)
    if d.schema.name.endswith("Like"):
        inputs["input"] = d.values(shape, d.ty("T1"))
        if d.chance(0.5) or np.dtype(d.ty("T1")).kind != "f":
            attrs["dtype"] = d.ty("T2")
    else:
        attrs["shape"] = shape
        if d.chance(0.7):
            attrs["dtype"] = d.ty("T")
    names = (("mean", 3.0), ("scale", 0.5)) if "Normal" in d.schema.name else (("low", -2.0),
                                                                               ("high", 5.0))
    attrs |= {a: v for a, v in names if d.chance(0.5)}
    return inputs, seeded(d, attrs)


@recipe("Bernoulli")
def bernoulli(d):
    attrs = {"dtype": d.ty("T2")} if d.chance(0.5) else {}
    return {"input": d.values(d.shape(0, 4), d.ty("T1"), 0, 1)}, seeded(d, attrs)


@recipe("Multinomial")
def multinomial(d):
    attrs = {"sample_size": d.int(1, 9)}
    if d.chance(0.5):
        attrs["dtype"] = d.ty("T2")
    return {"input": d.values([d.int(1, 4), d.int(1, 5)], d.ty("T1"), -2, 2)}, seeded(d, attrs)


def leveled(case, outputs):
    """The outputs with zeros for all numbers that may be drawn: what is left is type and shape."""
    def bounds():
        name, attrs = case.schema.name, case.attrs
        if name == "Bernoulli":
            return 0, 1
        if name == "Multinomial":
            return 0, case.inputs[0].shape[1] - 1
        if "Uniform" in name:
            return attrs.get("low", 0.0), attrs.get("high", 1.0)
        reach = 8 * attrs.get("scale", 1.0)
        return attrs.get("mean", 0.0) - reach, attrs.get("mean", 0.0) + reach

    low, high = bounds()
    found = []
    for y in outputs:
        wide = np.asarray(y).astype(np.float64)
        found.append(np.where((wide >= low) & (wide <= high), 0, wide + 1e6).astype(y.dtype))
    return found
