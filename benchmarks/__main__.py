# SPDX-License-Identifier: Apache-2.0
"""Measures what the library promises, beside others' code, in turn.

python -m benchmarks [CASE ...] [--rounds=N] [--write]
"""

import argparse
import importlib

from benchmarks import table

# Cases, and the modules whose `compare` measures them.
CASES = {
    "training": "training",
    "convolutions": "convolutions",
    "steps": "steps",
    "heads": "heads",
    "pixels": "pixels",
    "knn": "neighbours",
    "adapt": "adapt",
    "input": "input",
    "pictures": "pictures",
    "epoch": "epoch",
    "start": "start",
}


def main():
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__.splitlines()[0]
    )
    parser.add_argument(
        "cases", nargs="*", metavar="CASE", help=f"of {', '.join(CASES)}; all by default"
    )
    parser.add_argument("--rounds", type=int, default=15, help="rounds that count")
    parser.add_argument(
        "--write", action="store_true", help="put the figures into benchmarks/README.md"
    )
    arguments = parser.parse_args()
    unknown = sorted(set(arguments.cases) - set(CASES))
    if unknown or arguments.rounds < 1:
        parser.error(
            f"CASE must be of {', '.join(CASES)}, and --rounds an integer >= 1. Received: "
            f"{' '.join(unknown)} --rounds={arguments.rounds}"
        )
    print(f"{table.machine()}\n\n{table.HEAD}", end="", flush=True)
    for case in arguments.cases or CASES:
        module = importlib.import_module(f"benchmarks.{CASES[case]}")
        rows = module.compare(arguments.rounds)
        for row in rows:
            print(f"| {' | '.join(row.cells())} |", flush=True)
        if arguments.write:
            table.write({case: rows})


if __name__ == "__main__":
    main()
