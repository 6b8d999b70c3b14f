"""Several residual streams side by side."""
import numpy as np

from case import floats, maybe, one, operator, pick, sizes


def streams(rng):
    """Leading sizes, streams, their size, how arrays are made, whether streams come flattened."""
    dtype = pick(rng, np.float32, np.float32, np.float16)
    lead = sizes(rng, rng.integers(1, 3), high=4)
    c, h = (int(n) for n in rng.integers(2, 6, 2))
    return lead, c, h, lambda *shape: floats(rng, *shape, dtype=dtype), rng.random() < 0.5


@operator("BranchwiseRMSNorm")
def norm(rng):
    lead, c, h, f, flat = streams(rng)
    scale = pick(rng, None, f(h), f(c, h), f(c * h))
    x = f(*lead, c * h) if flat else f(*lead, c, h)
    return one(rng, "BranchwiseRMSNorm", {"x": x, "scale": scale}, fixed=["scale"],
               num_branches=c if flat else None, epsilon=maybe(rng, 1e-3))


@operator("HyperConnectionPreMix")
def pre_mix(rng):
    lead, c, h, f, flat = streams(rng)
    forms = [f(*lead, c), f(*lead, c, 1), f(*lead, c, h)] + ([f(*lead, c * h)] if flat else [])
    x = f(*lead, c * h) if flat else f(*lead, c, h)
    return one(rng, "HyperConnectionPreMix", {"x": x, "pre": pick(rng, *forms)},
               num_branches=c if flat else None, reduction_scale=maybe(rng, 0.5))


@operator("HyperConnectionPostMix")
def post_mix(rng):
    lead, c, h, f, flat = streams(rng)
    arrays = {"x": f(*lead, c * h) if flat else f(*lead, c, h), "block": f(*lead, h),
              "post": pick(rng, f(*lead, c), f(*lead, c, 1), f(*lead, c, h)),
              "mix": maybe(rng, f(*lead, c, c))}
    return one(rng, "HyperConnectionPostMix", arrays, num_branches=c if flat else None)


@operator("EngramGate")
def engram(rng):
    _, c, h, f, _ = streams(rng)
    b, s = sizes(rng, 2)
    two = rng.random() < 0.5
    arrays = {"key": f(b, s, c, h), "query": f(b, s, c, h), "value": f(b, s, h),
              "of_key": f(c, h), "of_query": f(c, h), "of_conv": f(c, h) if two else None}
    return one(rng, "EngramGate", arrays, 2 if two else 1, epsilon=maybe(rng, 1e-3))
