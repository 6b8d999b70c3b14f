#!/usr/bin/env python3
"""Times rinfer beside ONNX Runtime, OpenVINO, rten and tract: same models, inputs and threads.

    python3 -m pip install onnxruntime openvino numpy
    cargo build --release --manifest-path benches/peers/rust/Cargo.toml
    python3 benches/peers/compare.py FOLDER [--only bert-base ...] [--threads 1 2] [--json FILE]

FOLDER holds models as `benches/models/materialize.py` makes them.  Every engine is a process of its
own that loads the model, answers once (load time, time to the first result) and then waits; rounds
go over all engines in turn, so that a machine that slows down slows all of them.  A cell is the
median of a model's quietest round.  Then answers are compared with the first engine's, and memory
at its highest is asked for, less what the engine's process took before it loaded the model.

`ratio` is the other engine's time over rinfer's: above 1 rinfer is faster.  `%` is of the peak that
`--peak` names (GFLOP/s of one core), from the multiply-adds in models.json.
"""
import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
MODELS = f"{HERE}/../models/models.json"
RUST = f"{HERE}/rust/target/release/peers"
ENGINES = ["rinfer", "onnxruntime", "openvino", "rten", "tract"]
TOLERANCE = 1e-3


def high_water():
    """The most memory this process has had, in bytes."""
    with open("/proc/self/status") as f:
        return next(int(x.split()[1]) << 10 for x in f if x.startswith("VmHWM"))


# ---- the worker: a process that holds one engine and one model

def load_onnxruntime(model, threads):
    import onnxruntime
    before, start = high_water(), time.perf_counter()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = threads, 3
    session = onnxruntime.InferenceSession(model, options, ["CPUExecutionProvider"])
    names = [o.name for o in session.get_outputs()]
    return before, start, lambda inputs: dict(zip(names, session.run(None, inputs)))


def load_openvino(model, threads):
    import openvino
    before, start = high_water(), time.perf_counter()
    core = openvino.Core()
    hints = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY",
             "INFERENCE_PRECISION_HINT": "f32"}
    compiled = core.compile_model(model, "CPU", hints)
    names = [o.get_any_name() for o in compiled.outputs]
    request = compiled.create_infer_request()

    def run(inputs):
        found = request.infer(inputs)
        return {name: found[i] for i, name in enumerate(names)}
    return before, start, run


def worker(engine, model, case, threads, out):
    import numpy
    inputs = {f[:-4]: numpy.load(f"{case}/{f}") for f in os.listdir(case) if f.endswith(".npy")}
    load = {"onnxruntime": load_onnxruntime, "openvino": load_openvino}[engine]
    before, start, run = load(model, threads)
    loaded = time.perf_counter()
    answers = run(inputs)
    first = time.perf_counter()
    for name, array in answers.items():
        numpy.save(f"{out}/{safe(name)}.npy", array)
    print(json.dumps({"load_ms": 1e3 * (loaded - start), "first_ms": 1e3 * (first - start)}),
          flush=True)
    for line in sys.stdin:
        if line.strip() == "memory":
            print(json.dumps(high_water() - before), flush=True)
            continue
        times = []
        for _ in range(int(line)):
            start = time.perf_counter()
            run(inputs)
            times.append(1e3 * (time.perf_counter() - start))
        print(json.dumps(times), flush=True)


def safe(name):
    """As the Rust worker names its files."""
    return "".join(c if c.isascii() and (c.isalnum() or c in "._-") else "_" for c in name)


# ---- the other side of the pipe

class Engine:
    """A worker that is running."""

    def __init__(self, name, model, case, threads, peers):
        self.name, self.out = name, tempfile.TemporaryDirectory()
        args = [name, model, case, str(threads), self.out.name]
        if name in ("onnxruntime", "openvino"):
            args = [sys.executable, os.path.abspath(__file__), "--worker", *args]
        else:
            args = [peers, *args]
        self.process = subprocess.Popen(args, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE, text=True)
        self.start = self.answer()
        self.rounds = []

    def answer(self):
        line = self.process.stdout.readline()
        if not line:
            said = self.process.stderr.read().strip().splitlines() or ["it said nothing"]
            raise RuntimeError(said[-1][:120])
        return json.loads(line)

    def ask(self, what):
        self.process.stdin.write(f"{what}\n")
        self.process.stdin.flush()
        return self.answer()

    def time(self):
        return min(statistics.median(times) for times in self.rounds)

    def close(self):
        self.process.stdin.close()
        self.process.wait()
        self.out.cleanup()


def disagreement(a, b):
    """The largest difference of any output, in parts of that output's scale."""
    import numpy
    worst = 0.0
    for file in os.listdir(a.out.name):
        if not os.path.exists(f"{b.out.name}/{file}"):
            return math.inf
        x, y = (numpy.load(f"{e.out.name}/{file}").astype("f8") for e in (a, b))
        if x.shape != y.shape:
            return math.inf
        if x.size:
            worst = max(worst, abs(x - y).max() / max(abs(x).max(), 1e-30))
    return worst


def measure(args, name, case, macs, threads):
    """The row of one model and case: {engine: numbers}"""
    model, folder = f"{args.folder}/{name}.onnx", f"{args.folder}/{name}/{case}"
    engines, row = [], {}
    for engine in args.engines:
        try:
            engines.append(Engine(engine, model, folder, threads, args.peers))
        except (RuntimeError, OSError) as why:
            row[engine] = {"error": str(why)}
    for engine in engines:
        engine.ask(1)
    for _ in range(args.rounds):
        for engine in engines:
            once = engine.ask(1)[0]
            count = max(3, min(200, int(1e3 * args.seconds / max(once, 1e-3))))
            engine.rounds.append(engine.ask(count))
    for engine in engines:
        ms = engine.time()
        row[engine.name] = {
            "ms": ms, "percent": 100 * 2e-6 * macs / ms / (args.peak * threads),
            "load_ms": engine.start["load_ms"], "first_ms": engine.start["first_ms"],
            "memory": engine.ask("memory"), "error_of_scale": disagreement(engines[0], engine),
        }
    for engine in engines:
        engine.close()
    return row


def show(label, row):
    ours = row.get("rinfer", {}).get("ms")
    for engine, x in row.items():
        if "error" in x:
            print(f"{label:28} {engine:12} cannot: {x['error']}")
            continue
        ratio = f"{x['ms'] / ours:6.2f}" if ours else "     –"
        wrong = "" if x["error_of_scale"] <= TOLERANCE else f"  DIFFERS {x['error_of_scale']:.1e}"
        print(f"{label:28} {engine:12} {x['ms']:9.2f} ms {x['percent']:4.0f} %  ratio {ratio}"
              f"  load {x['load_ms']:6.0f}  first {x['first_ms']:6.0f} ms"
              f"  {x['memory'] / 2**20:6.0f} MiB{wrong}", flush=True)


def summary(rows):
    """Geometric means of the others' times, and of what they take to begin, over rinfer's."""
    means = {}
    for row in rows.values():
        ours = row.get("rinfer", {})
        for engine, x in row.items():
            if engine == "rinfer" or "error" in x or "error" in ours or not ours:
                continue
            for what in ("ms", "first_ms", "memory"):
                means.setdefault((engine, what), []).append(x[what] / max(ours[what], 1e-9))
    for (engine, what), ratios in sorted(means.items()):
        mean = math.exp(statistics.mean(math.log(max(r, 1e-9)) for r in ratios))
        print(f"{engine:12} {what:9} geometric mean of ratios {mean:5.2f}, least {min(ratios):5.2f}"
              f" of {len(ratios)}")


def main():
    p = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("folder", help="of materialized models")
    p.add_argument("--only", nargs="+", metavar="NAME")
    p.add_argument("--engines", nargs="+", default=ENGINES, choices=ENGINES)
    p.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    p.add_argument("--rounds", type=int, default=5)
    p.add_argument("--seconds", type=float, default=0.5, help="of each engine in each round")
    p.add_argument("--peak", type=float, default=118.0, help="GFLOP/s of one core")
    p.add_argument("--peers", default=RUST, help="the Rust engines' worker")
    p.add_argument("--json", metavar="FILE")
    args = p.parse_args()
    with open(MODELS) as f:
        models = json.load(f)
    rows = {}
    for name in args.only or models:
        for case, spec in models[name]["cases"].items():
            for threads in args.threads:
                label = f"{name} {case} {threads}t"
                rows[label] = measure(args, name, case, spec.get("macs", 0), threads)
                show(label, rows[label])
    summary(rows)
    if args.json:
        with open(args.json, "w") as f:
            json.dump(rows, f, indent=1)


if sys.argv[1:2] == ["--worker"]:
    _, _, engine, model, case, threads, out = sys.argv
    worker(engine, model, case, int(threads), out)
else:
    main()
