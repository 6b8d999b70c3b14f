"""Data that is made, not downloaded: each task draws examples from a generator of random numbers.

A task is a function of (rng, n): inputs [n, …] and labels [n] or [n, positions]; a label of -1 is
not counted.  How much noise there is was chosen so that no model is always right.
"""
import numpy as np

# Sixteen signs of 5 columns and 7 rows, a number for each row.
FONT = {
    "0": (14, 17, 19, 21, 25, 17, 14), "1": (4, 12, 4, 4, 4, 4, 14), "2": (14, 17, 1, 2, 4, 8, 31),
    "3": (31, 2, 4, 2, 1, 17, 14), "4": (2, 6, 10, 18, 31, 2, 2), "5": (31, 16, 30, 1, 1, 17, 14),
    "6": (6, 8, 16, 30, 17, 17, 14), "7": (31, 1, 2, 4, 8, 8, 8), "8": (14, 17, 17, 14, 17, 17, 14),
    "9": (14, 17, 17, 15, 1, 2, 12), "A": (14, 17, 17, 31, 17, 17, 17), "B": (30, 17, 17, 30, 17, 17, 30),
    "C": (14, 17, 16, 16, 16, 17, 14), "D": (28, 18, 17, 17, 17, 18, 28), "E": (31, 16, 16, 30, 16, 16, 31),
    "F": (31, 16, 16, 30, 16, 16, 16),
}


def grid(size):
    line = (np.arange(size) + 0.5) / size * 2 - 1
    return np.meshgrid(line, line, indexing="xy")


def glyphs(rng, n, size=16, kinds=16, noise=0.35):
    """Signs, turned, stretched, moved, of any contrast, with noise: [n, 1, size, size]."""
    pages = np.zeros((len(FONT), 11, 9), np.float32)
    for page, rows in zip(pages, FONT.values()):
        for y, row in enumerate(rows):
            for x in range(5):
                page[2 + y, 2 + x] = row >> (4 - x) & 1
    label = rng.integers(0, kinds, n)
    x, y = (a[None] for a in grid(size))
    turn, width, height = rng.normal(0, 0.2, n), rng.uniform(0.5, 0.85, n), rng.uniform(0.65, 1.0, n)
    lean, dx, dy = rng.normal(0, 0.2, n), rng.uniform(-0.2, 0.2, n), rng.uniform(-0.15, 0.15, n)
    c, s, width, height, lean, dx, dy = (
        a[:, None, None] for a in (np.cos(turn), np.sin(turn), width, height, lean, dx, dy))
    u, v = c * (x - dx) + s * (y - dy), -s * (x - dx) + c * (y - dy)
    column = np.clip((u + lean * v) / width * 2.5 + 4, 0, 7.999)
    row = np.clip(v / height * 3.5 + 5, 0, 9.999)
    i, j = row.astype(int), column.astype(int)
    p, q = row - i, column - j
    at = label[:, None, None]
    ink = ((1 - p) * ((1 - q) * pages[at, i, j] + q * pages[at, i, j + 1])
           + p * ((1 - q) * pages[at, i + 1, j] + q * pages[at, i + 1, j + 1]))
    image = ink * rng.uniform(0.5, 1.2, (n, 1, 1)) + rng.normal(0, noise, (n, size, size)) \
        + rng.uniform(-0.3, 0.3, (n, 1, 1)) + x * rng.normal(0, 0.3, (n, 1, 1))
    return image[:, None].astype(np.float32), label


def inside(kind, x, y):
    """How far inside of the shape a point is (negative outside)."""
    r = np.hypot(x, y)
    box = np.maximum(abs(x), abs(y))
    angle = np.arctan2(y, x)
    shapes = [
        1 - r,
        0.3 - abs(r - 0.75),
        0.85 - box,
        0.22 - abs(box - 0.7),
        np.minimum(np.minimum(0.7 - y, 0.9 + 1.7 * x * 0.6 + y * 0.5), 0.9 - 1.7 * x * 0.6 + y * 0.5),
        np.maximum(np.minimum(0.3 - abs(x), 1 - abs(y)), np.minimum(0.3 - abs(y), 1 - abs(x))),
        0.65 + 0.35 * np.cos(5 * angle) - r,
        np.minimum(1 - r, y),
    ]
    return np.select([kind == i for i in range(8)], shapes)


def shapes(rng, n, size=16, noise=0.45):
    """One of eight coloured shapes on another colour: [n, 3, size, size]."""
    label = rng.integers(0, 8, n)
    x, y = (a[None] for a in grid(size))
    turn, scale = rng.uniform(0, 2 * np.pi, n)[:, None, None], rng.uniform(0.5, 0.85, n)[:, None, None]
    dx, dy = rng.uniform(-0.2, 0.2, (2, n, 1, 1))
    u = (np.cos(turn) * (x - dx) + np.sin(turn) * (y - dy)) / scale
    v = (-np.sin(turn) * (x - dx) + np.cos(turn) * (y - dy)) / scale
    mask = np.clip(inside(label[:, None, None], u, v) * 6 + 0.5, 0, 1)[:, None]
    back, front = rng.uniform(-1, 1, (2, n, 3, 1, 1))
    front = np.where(abs(front - back).mean(1, keepdims=True) < 0.7, -np.sign(back), front)
    image = back + mask * (front - back) + rng.normal(0, noise, (n, 3, size, size))
    return image.astype(np.float32), label


def scenes(rng, n, size=24):
    """Two discs, frames or stars over stripes: which of them each pixel is, 0 where none."""
    x, y = (a[None] for a in grid(size))
    phase, fx, fy = (rng.uniform(a, b, (n, 1, 1)) for a, b in ((0, 6.3), (-9, 9), (-9, 9)))
    image = 0.35 * np.sin(fx * x + fy * y + phase) + rng.normal(0, 0.3, (n, size, size))
    label = np.zeros((n, size, size), np.int64)
    for _ in range(2):
        kind, bright = rng.integers(0, 3, (n, 1, 1)), rng.uniform(0.6, 1.2, (n, 1, 1))
        dx, dy = rng.uniform(-0.6, 0.6, (2, n, 1, 1))
        scale, turn = rng.uniform(0.3, 0.55, (n, 1, 1)), rng.uniform(0, 6.3, (n, 1, 1))
        u = (np.cos(turn) * (x - dx) + np.sin(turn) * (y - dy)) / scale
        v = (-np.sin(turn) * (x - dx) + np.cos(turn) * (y - dy)) / scale
        mask = inside(np.array([0, 3, 6])[kind], u, v) > 0
        image = np.where(mask, image * 0.6 + bright, image)
        label = np.where(mask, kind + 1, label)
    return image[:, None].astype(np.float32), label


def tones(rng, n, length=512):
    """One of eight sounds, as a microphone has it: [n, 1, length]."""
    label = rng.integers(0, 8, n)
    t = np.arange(length)[None] / length
    f, phase = rng.uniform(12, 50, (n, 1)), rng.uniform(0, 2 * np.pi, (n, 1))
    slide, rate = rng.uniform(0.4, 0.9, (n, 1)), rng.uniform(4, 9, (n, 1))
    angle = 2 * np.pi * f * t + phase
    kinds = [
        np.sin(angle),
        np.sign(np.sin(angle)) * 0.8,
        (angle / np.pi) % 2 - 1,
        np.sin(angle * (1 + slide * t / 2)),
        np.sin(angle * (1 - slide * t / 2)),
        np.sin(angle) * (1 + np.sin(2 * np.pi * rate * t)) / 2 * 1.4,
        np.sin(angle + 2.5 * np.sin(2 * np.pi * rate * t)),
        (np.sin(angle) + np.sin(angle * 1.5)) * 0.7,
    ]
    sound = np.select([label[:, None] == i for i in range(8)], kinds)
    loud = np.exp(rng.uniform(-1.8, 0.3, (n, 1)))
    sound = loud * (sound + rng.normal(0, rng.uniform(0.2, 0.9, (n, 1)), (n, length)))
    return sound[:, None].astype(np.float32), label


def rules(rng, n, length=16, vocab=32):
    """Tokens in an order that one of eight rules has; some are replaced.  Token 0 goes before."""
    label = rng.integers(0, 8, n)
    half, t = length // 2, np.arange(length)
    base = rng.integers(2, vocab, (n, length))
    first = base[:, :half]
    kinds = [
        base,
        np.concatenate([first, first], 1),
        np.concatenate([first, first[:, ::-1]], 1),
        base[:, :3][:, t % 3],
        np.concatenate([first, (first - 2 + 7) % (vocab - 2) + 2], 1),
        np.sort(base, 1),
        np.repeat(first, 2, 1),
        np.where(t % 2 == 0, base[:, :1], base),
    ]
    tokens = np.select([label[:, None] == i for i in range(8)], kinds)
    tokens = np.where(rng.random((n, length)) < 0.15, rng.integers(2, vocab, (n, length)), tokens)
    return np.concatenate([np.zeros((n, 1), np.int64), tokens], 1), label


def topics(rng, n, length=24, vocab=48):
    """What follows a token depends on it and on the topic, which the tokens before tell; a word in
    five is any word.  The label is the word after, where it follows and two words were seen."""
    follows = np.random.default_rng(5).permuted(np.tile(np.arange(vocab), (8, 1)), axis=1)
    topic = rng.integers(0, len(follows), n)
    tokens = np.zeros((n, length + 1), np.int64)
    tokens[:, 0] = rng.integers(0, vocab, n)
    free = rng.random((n, length + 1)) < 0.2
    for i in range(1, length + 1):
        tokens[:, i] = np.where(free[:, i], rng.integers(0, vocab, n), follows[topic, tokens[:, i - 1]])
    label = np.where(free[:, 1:] | (np.arange(length) < 2), -1, tokens[:, 1:])
    return tokens[:, :-1], label


def verses(rng, n, length=24, vocab=32):
    """Verses of 3 to 7 words said over and over, a word in twenty misheard.  The label is the word
    after, where it was said before."""
    period = rng.integers(3, 8, n)
    verse = rng.integers(0, vocab, (n, 7))
    at = np.arange(length + 1)[None]
    tokens = np.take_along_axis(verse, at % period[:, None], 1)
    free = rng.random(tokens.shape) < 0.05
    tokens = np.where(free, rng.integers(0, vocab, tokens.shape), tokens)
    known = (at[:, 1:] > period[:, None] + 1) & ~free[:, 1:]
    return tokens[:, :-1], np.where(known, tokens[:, 1:], -1)


def chains(rng, n, length=20, vocab=24):
    """Which of eight random processes said these letters."""
    steps = np.random.default_rng(6).dirichlet(np.full(vocab, 0.5), (8, vocab)).cumsum(-1)
    label = rng.integers(0, 8, n)
    letters = np.zeros((n, length), np.int64)
    letters[:, 0] = rng.integers(0, vocab, n)
    for i in range(1, length):
        reach = steps[label, letters[:, i - 1]]
        letters[:, i] = np.minimum((rng.random((n, 1)) > reach).sum(1), vocab - 1)
    return letters, label


SPREAD = np.exp(np.random.default_rng(7).uniform(np.log(1e-3), np.log(1e4), 16)).astype(np.float32)


def table(rng, n):
    """Sixteen measures in units from thousandths to ten thousands, with long tails."""
    z = rng.standard_normal((n, 16))
    z[:, 8:] = np.exp(0.8 * z[:, 8:])
    w = np.random.default_rng(8).standard_normal((6, 16, 2))
    score = np.stack([np.tanh(z @ a[:, 0]) * (z @ a[:, 1]) for a in w], 1)
    label = (score / score.std(0) + 0.1 * rng.standard_normal(score.shape)).argmax(1)
    return (z * SPREAD).astype(np.float32), label
