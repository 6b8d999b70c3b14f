"""The networks that are trained, each a function of (net, x), and what trains them."""
import numpy as np

import tasks


def resnet(net, x):
    """Residual blocks with batch normalization."""
    def conv(x, name, m, stride=1, k=3):
        return net.bn(net.conv(x, name, m, k, stride, bias=False), f"{name}_bn")

    x = net.relu(conv(x, "stem", 16))
    for i, (m, stride) in enumerate([(16, 1), (32, 2), (48, 2)]):
        y = net.relu(conv(x, f"layer{i}.conv1", m, stride))
        y = conv(y, f"layer{i}.conv2", m)
        skip = conv(x, f"layer{i}.down", m, stride, 1) if stride > 1 else x
        x = net.relu(net.add(y, skip))
    return net.linear(net.average(x), "fc", 16, gemm=True)


def mobilenet(net, x):
    """Inverted residuals with depthwise convolutions and ReLU6."""
    def conv(x, name, m, k, stride=1, group=1):
        return net.bn(net.conv(x, name, m, k, stride, group, bias=False), f"{name}_bn")

    x = net.relu6(conv(x, "features.0", 16, 3, 2))
    for i, (m, stride) in enumerate([(16, 1), (24, 1), (24, 1), (32, 2), (32, 1)], 1):
        wide = x.shape[1] * 3
        y = net.relu6(conv(x, f"features.{i}.expand", wide, 1))
        y = net.relu6(conv(y, f"features.{i}.depthwise", wide, 3, stride, wide))
        y = conv(y, f"features.{i}.project", m, 1)
        x = net.add(x, y) if x.shape[1:] == y.shape[1:] else y
    x = net.relu6(conv(x, "features.6", 96, 1))
    return net.linear(net.average(x), "classifier", 16, gemm=True)


def cnn(net, x):
    """Convolutions, pools, and layers."""
    x = net.maxpool(net.relu(net.conv(x, "conv1", 16)))
    x = net.maxpool(net.relu(net.conv(x, "conv2", 32)))
    x = net.relu(net.linear(net.flatten(x), "fc1", 64, gemm=True))
    return net.linear(x, "fc2", 16, gemm=True)


def unet(net, x):
    """Down, up, and across: which of four each pixel is."""
    def two(x, name, m):
        x = net.relu(net.conv(x, f"{name}.conv1", m))
        return net.relu(net.conv(x, f"{name}.conv2", m))

    a = two(x, "enc1", 8)
    b = two(net.maxpool(a), "enc2", 16)
    c = two(net.maxpool(b), "mid", 32)
    b = two(net.concat([net.up(c, "up2", 16), b], 1), "dec2", 16)
    a = two(net.concat([net.up(b, "up1", 8), a], 1), "dec1", 8)
    return net.transpose(net.conv(a, "head", 4, 1), [0, 2, 3, 1])


def attention(net, x, name, d, heads, mask=None, rotate=None, bias=True, codes=False):
    """With `codes` products of two activations are rounded too, where layers are."""
    t, each = x.shape[1], d // heads
    q, k, v = (net.linear(x, f"{name}.{p}", d, bias) for p in ("q_proj", "k_proj", "v_proj"))
    q, k, v = (net.transpose(net.reshape(a, [0, t, heads, each]), [0, 2, 1, 3]) for a in (q, k, v))
    if rotate:
        q, k = rotate(q), rotate(k)
    scores = net.matmul(q, net.transpose(k, [0, 1, 3, 2]), f"{name}.scores" if codes else None)
    scores = net.div(scores, net.const(np.float32(np.sqrt(each))))
    scores = net.add(scores, mask) if mask else scores
    mixed = net.matmul(net.softmax(scores), v, f"{name}.mixed" if codes else None)
    mixed = net.reshape(net.transpose(mixed, [0, 2, 1, 3]), [0, t, d])
    return net.linear(mixed, f"{name}.out_proj", d, bias)


def encoder(net, x, d=64):
    """As BERT: normalization after, GELU, a token before that sums up."""
    t = x.shape[1]
    x = net.add(net.embed(x, "embeddings.word", 32, d), net.param("embeddings.position", (t, d), 0.05))
    x = net.ln(x, "embeddings.norm")
    for i in range(2):
        at = f"encoder.layer.{i}"
        x = net.ln(net.add(x, attention(net, x, f"{at}.attention", d, 4, codes=True)), f"{at}.norm1")
        y = net.gelu(net.linear(x, f"{at}.intermediate", 3 * d))
        x = net.ln(net.add(x, net.linear(y, f"{at}.output", d)), f"{at}.norm2")
    x = net.tanh(net.linear(net.pick(x, 1, 0), "pooler", d, gemm=True))
    return net.linear(x, "classifier", 8, gemm=True)


def causal(net, t):
    return net.const(np.triu(np.full((t, t), -1e9, np.float32), 1), "mask")


def decoder(net, x, d=64, vocab=48):
    """As GPT-2: normalization before, the table of tokens once more at the end."""
    t = x.shape[1]
    x = net.add(net.embed(x, "wte", vocab, d, 0.1), net.param("wpe", (t, d), 0.02))
    for i in range(2):
        x = net.add(x, attention(net, net.ln(x, f"h.{i}.ln_1"), f"h.{i}.attn", d, 4, causal(net, t)))
        y = net.gelu(net.linear(net.ln(x, f"h.{i}.ln_2"), f"h.{i}.mlp.c_fc", 2 * d))
        x = net.add(x, net.linear(y, f"h.{i}.mlp.c_proj", d))
    table = net.transpose(net.param("wte.weight", (vocab, d)), [1, 0])
    return net.matmul(net.ln(x, "ln_f"), table)


def llama(net, x, d=64, vocab=32):
    """RMSNorm, rotary positions, a gated layer, no biases."""
    t, each = x.shape[1], 16
    angle = np.arange(t)[:, None] * 1000.0 ** (-np.arange(each // 2) / (each // 2))[None]
    cos, sin = (np.concatenate([f(angle)] * 2, 1).astype(np.float32) for f in (np.cos, np.sin))
    cos, sin = net.const(cos, "rotary.cos"), net.const(sin, "rotary.sin")

    def rotate(a):
        low, high = net.part(a, 3, 0, each // 2), net.part(a, 3, each // 2, each)
        turned = net.concat([net.sub(net.mul(high, net.const(np.float32(0))), high), low], 3)
        return net.add(net.mul(a, cos), net.mul(turned, sin))

    x = net.embed(x, "model.embed_tokens", vocab, d, 0.5)
    for i in range(2):
        at = f"model.layers.{i}"
        y = net.rms(x, f"{at}.input_layernorm")
        x = net.add(x, attention(net, y, f"{at}.self_attn", d, 4, causal(net, t), rotate, False))
        y = net.rms(x, f"{at}.post_attention_layernorm")
        gate = net.silu(net.linear(y, f"{at}.mlp.gate_proj", 80, False))
        y = net.mul(gate, net.linear(y, f"{at}.mlp.up_proj", 80, False))
        x = net.add(x, net.linear(y, f"{at}.mlp.down_proj", d, False))
    return net.linear(net.rms(x, "model.norm"), "lm_head", vocab, False)


def vit(net, x, d=64):
    """Patches of 4×4 pixels, normalization before, a mean over patches."""
    x = net.conv(x, "patch_embed", d, 4, 4)
    x = net.transpose(net.reshape(x, [0, d, 16]), [0, 2, 1])
    x = net.add(x, net.param("pos_embed", (16, d), 0.3))
    for i in range(2):
        x = net.add(x, attention(net, net.ln(x, f"blocks.{i}.norm1"), f"blocks.{i}.attn", d, 4))
        y = net.gelu(net.linear(net.ln(x, f"blocks.{i}.norm2"), f"blocks.{i}.mlp.fc1", 2 * d))
        x = net.add(x, net.linear(y, f"blocks.{i}.mlp.fc2", d))
    return net.linear(net.mean(net.ln(x, "norm"), 1), "head", 16, gemm=True)


def lstm(net, x):
    """Letters, an LSTM, layers."""
    x = net.transpose(net.embed(x, "embedding", 24, 32, 0.5), [1, 0, 2])
    x = net.lstm(x, "lstm", 48)
    x = net.relu(net.linear(x, "fc1", 64, gemm=True))
    return net.linear(x, "fc2", 8, gemm=True)


def tabular(net, x):
    """Measures are scaled in the graph, and go through layers."""
    far = tasks.SPREAD
    x = net.div(net.sub(x, net.const(0.5 * far, "scaler.mean")), net.const(far, "scaler.scale"))
    for i in range(2):
        x = net.relu(net.linear(x, f"layers.{i}", 96, gemm=True))
    return net.linear(x, "output", 6, gemm=True)


def audio(net, x):
    """Convolutions over a waveform."""
    for i, (m, k, stride) in enumerate([(16, 15, 4), (32, 7, 2), (48, 5, 2), (48, 3, 2)]):
        x = net.relu(net.bn(net.conv(x, f"conv{i}", m, k, stride, bias=False), f"conv{i}_bn"))
    return net.linear(net.average(x), "fc", 8, gemm=True)


def mixer(net, x, d=48):
    """Layers over patches and layers over channels, in turn."""
    x = net.conv(x, "stem", d, 4, 4)
    x = net.transpose(net.reshape(x, [0, d, 16]), [0, 2, 1])
    for i in range(3):
        y = net.transpose(net.ln(x, f"blocks.{i}.norm1"), [0, 2, 1])
        y = net.gelu(net.linear(y, f"blocks.{i}.tokens.fc1", 32))
        x = net.add(x, net.transpose(net.linear(y, f"blocks.{i}.tokens.fc2", 16), [0, 2, 1]))
        y = net.gelu(net.linear(net.ln(x, f"blocks.{i}.norm2"), f"blocks.{i}.channels.fc1", 2 * d))
        x = net.add(x, net.linear(y, f"blocks.{i}.channels.fc2", d))
    return net.linear(net.mean(net.ln(x, "norm"), 1), "head", 8, gemm=True)


class Kind:
    """A network, its task, and how long it is trained: steps of so many examples."""

    def __init__(self, net, task, title, name="input", steps=1500, batch=128, rate=2e-3, examples=24000,
                 opset=17, **options):
        self.net, self.task, self.title, self.name = net, lambda rng, n: task(rng, n, **options), title, name
        self.steps, self.batch, self.rate, self.examples, self.opset = steps, batch, rate, examples, opset


KINDS = {
    "resnet": Kind(resnet, tasks.glyphs, "residual convolutions, signs", steps=1000, noise=0.3),
    "mobilenet": Kind(mobilenet, tasks.glyphs, "depthwise convolutions, signs", steps=1200, batch=64, rate=3e-3,
                      noise=0.2),
    "cnn": Kind(cnn, tasks.glyphs, "convolutions and layers, signs", noise=0.25),
    "unet": Kind(unet, tasks.scenes, "segmentation, pixels", batch=32, steps=800),
    "encoder": Kind(encoder, tasks.rules, "BERT-like, which rule", "input_ids", steps=1500),
    "decoder": Kind(decoder, tasks.topics, "GPT-like, next token", "input_ids", steps=1000, opset=18),
    "llama": Kind(llama, tasks.verses, "Llama-like, next token", "input_ids", steps=1000, opset=20),
    "vit": Kind(vit, tasks.glyphs, "vision transformer, signs", steps=1200, opset=18, noise=0.2),
    "lstm": Kind(lstm, tasks.chains, "LSTM, which process", "letters"),
    "tabular": Kind(tabular, tasks.table, "perceptron, measures", "features", steps=3000),
    "audio": Kind(audio, tasks.tones, "one-dimensional convolutions, sounds", "waveform", opset=21),
    "mixer": Kind(mixer, tasks.shapes, "MLP-Mixer, shapes", steps=1500, rate=3e-3, opset=19, noise=0.1),
}
