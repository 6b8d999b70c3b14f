#!/usr/bin/env python3
"""Trains the networks of zoo.py on the data of tasks.py, and writes them as ONNX.

    python3 -m pip install -r tests/requirements.txt -r tests/quantized/requirements.txt
    python3 tests/quantized/train.py [--only resnet,encoder] [--out tests/quantized/trained]

About fifteen minutes of CPU time; fixed seeds, nothing is downloaded.  NAME.onnx is the float
model, NAME-qat.onnx what training with rounding made of it (QuantizeLinear and DequantizeLinear
inside), NAME.npz examples for tests/it/trained.rs: 256 that calibrate, 1,024 held out.  What is
printed is the accuracy on 4,000 examples that training did not see.
"""
import argparse
import os
import time

import jax
import jax.numpy as jnp
import numpy as np
import onnx
from onnx import TensorProto

from data import HERE, accuracy, examples
from nets import Net, Value, fold
from zoo import KINDS

# How layers trained with rounding are written: with int8 weights and int32 biases, or with floats
# and QuantizeLinear.
QAT = {"resnet": False, "mobilenet": True, "encoder": False, "vit": True}
# Whose examples are written too: they are small.
KEPT = ["encoder", "decoder", "tabular"]


def loss_of(logits, labels):
    logits = logits.reshape(-1, logits.shape[-1])
    labels = labels.reshape(-1)
    counted = labels >= 0
    each = -jnp.take_along_axis(jax.nn.log_softmax(logits), jnp.maximum(labels, 0)[:, None], 1)[:, 0]
    return (each * counted).sum() / counted.sum()


def forward(kind, params, x, folded=False, **options):
    net = Net(params, **options)
    net.folded = folded
    return net, kind.net(net, Value(x))


def train(kind, params, data, steps, rate, seed, **options):
    """Adam with a warm-up and a cosine."""
    x, y = map(jnp.asarray, data)
    moments = {k: (jnp.zeros_like(v), jnp.zeros_like(v)) for k, v in params.items()}

    def loss(params, x, y):
        net, out = forward(kind, params, x, train=True, **options)
        return loss_of(out.a, y), net.updates

    def step(carry, at):
        params, moments = carry
        i, index = at
        (value, updates), grads = jax.value_and_grad(loss, has_aux=True)(params, x[index], y[index])
        norm = jnp.sqrt(sum((g * g).sum() for g in grads.values()))
        now = rate * jnp.minimum(1, (i + 1) / 50) * 0.5 * (1 + jnp.cos(jnp.pi * i / steps))
        made, kept = {}, {}
        for k, p in params.items():
            g = grads[k] * jnp.minimum(1, 1 / (norm + 1e-9))
            m, v = 0.9 * moments[k][0] + 0.1 * g, 0.98 * moments[k][1] + 0.02 * g * g
            kept[k] = m, v
            unbiased = (m / (1 - 0.9 ** (i + 1))) / (jnp.sqrt(v / (1 - 0.98 ** (i + 1))) + 1e-8)
            decay = 0.01 if p.ndim > 1 else 0.0
            made[k] = updates[k] if k in updates else p - now * (unbiased + decay * p)
        return (made, kept), value

    order, step = np.random.default_rng(seed), jax.jit(step, donate_argnums=0)
    carry, losses = ({k: jnp.array(v) for k, v in params.items()}, moments), []
    for i in range(steps):
        carry, value = step(carry, (np.float32(i), order.integers(0, len(x), kind.batch)))
        losses.append(value)
    return carry[0], float(np.mean(losses[-50:]))


def export(kind, params, name, path, example, folded=False, **options):
    net = Net(params, graph=True, **options)
    net.folded = folded
    x = Value(jnp.asarray(example), kind.name)
    y = kind.net(net, x)
    dtype = TensorProto.FLOAT if example.dtype == np.float32 else TensorProto.INT64
    onnx.save(net.model(x, y, dtype, kind.opset, f"{name}: {kind.title}"), path)


def initial(kind, x):
    net = Net({}, rng=np.random.default_rng(1))
    kind.net(net, Value(jnp.asarray(x)))
    return net.params


def keep(name, out):
    """Some examples, for a test that has no Python."""
    parts = [examples(name, "calib", 256), examples(name, "held_out", 1024)]
    x, labels = (np.concatenate(both) for both in zip(*parts))
    np.savez_compressed(f"{out}/{name}.npz", **{KINDS[name].name: x, "labels": labels})


def make(name, out):
    kind, started = KINDS[name], time.process_time()
    data = examples(name, "train", kind.examples)
    held = examples(name, "held_out", 4000)
    params, loss = train(kind, initial(kind, data[0][:2]), data, kind.steps, kind.rate, 2)

    def score(params, **options):
        run = jax.jit(lambda p, x: forward(kind, p, x, **options)[1].a)
        return accuracy(np.concatenate([run(params, part) for part in np.split(held[0], 4)]), held[1])

    export(kind, params, name, f"{out}/{name}.onnx", data[0][:2])
    line = f"{name}: loss {loss:.3f}, {score(params):.2f} %"
    if name in QAT:
        options = {"folded": True, "fake": True}
        params = fold(params)
        net, _ = forward(kind, params, data[0][:256], **options)
        params = {**params, **{k: 50 * v for k, v in net.updates.items()}}
        params, loss = train(kind, params, data, 300, kind.rate / 10, 3, **options)
        options["float_weights"] = QAT[name]
        export(kind, params, name, f"{out}/{name}-qat.onnx", data[0][:2], **options)
        line += f", with rounding {loss:.3f}, {score(params, **options):.2f} %"
    if name in KEPT:
        keep(name, out)
    seconds = time.process_time() - started
    print(f"{line}, {os.path.getsize(f'{out}/{name}.onnx') / 1e3:.0f} kB, {seconds:.0f} s of CPU time", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="")
    parser.add_argument("--out", default=f"{HERE}/trained")
    args = parser.parse_args()
    os.makedirs(args.out, exist_ok=True)
    for name in KINDS:
        if not args.only or name in args.only.split(","):
            make(name, args.out)


if __name__ == "__main__":
    main()
