#!/usr/bin/env python3
"""Collects what was seen to be right into tools/cli/src/tested.json, for docs/operators.md.

    target/debug/conformance --rows target/conformance > official.jsonl
    target/debug/conformance --here --way gpu --rows target/conformance > gpu.jsonl
    python3 tests/contrib/run.py --rinfer target/debug/rinfer --keep target/contrib/run
    python3 tests/contrib/quantized.py --rinfer target/debug/rinfer --keep target/contrib/quantized
    target/debug/conformance --rows target/contrib > contrib.jsonl
    python3 tests/differential/run.py --rinfer target/debug/conformance --passed drawn.json …
    python3 tests/differential/matrix.py official.jsonl gpu.jsonl contrib.jsonl drawn.json
    target/debug/rinfer ops --markdown > docs/operators.md

Rows that are in the file stay: to begin anew, remove it first.
"""
import json
import os
import sys

FILE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../tools/cli/src/tested.json")


def read(path):
    """Rows of domain, operator, version, type, backend, however the file has them."""
    with open(path) as f:
        text = f.read()
    rows = json.loads(text) if text.startswith("[\n") else map(json.loads, text.splitlines())
    return [(*row[:4], row[4] if len(row) == 5 else "cpu") for row in rows]


def main():
    found = {}
    if os.path.exists(FILE):
        for domain, name, version, backend, types in json.load(open(FILE)):
            found[domain, name, version, backend] = set(types)
    for path in sys.argv[1:]:
        for domain, name, version, dtype, backend in read(path):
            found.setdefault((domain, name, version, backend), set()).add(dtype)
    rows = [json.dumps([*key, sorted(types)]) for key, types in sorted(found.items())]
    with open(FILE, "w") as f:
        f.write("[\n" + ",\n".join(rows) + "\n]\n")
    print(f"{len(rows)} rows")


if __name__ == "__main__":
    main()
