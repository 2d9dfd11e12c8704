# SPDX-License-Identifier: Apache-2.0
"""The table of `make bench`: its rows, and its place in benchmarks/README.md."""

import dataclasses
import json
import os
import pathlib
import platform
from importlib import metadata

from deepncm_tf.utils import files

README = pathlib.Path(__file__).with_name("README.md")
RESULTS = README.with_name("results.json")
BEGIN, END = "<!-- make bench: begin -->", "<!-- make bench: end -->"
HEAD = "| item | ours | theirs | ratio (95 %) | goal | |\n|---|---|---|---|---|---|\n"
PACKAGES = ("tensorflow", "keras", "numpy", "torch", "faiss-cpu", "scikit-learn")


@dataclasses.dataclass
class Row:
    """One measurement.

    Attributes:
        item: String, what is measured.
        ours, theirs: Strings, the two figures with their units, or "".
        ratio: `timing.Ratio` or float, what has a goal.
        goal: String, `"<= 1.05"` or `">= 8000"`; or "" for none.
    """

    item: str
    ours: str
    theirs: str
    ratio: object
    goal: str

    @property
    def is_met(self):
        """Whether the ratio is where the goal wants it."""
        sign, limit = self.goal.split()
        value = getattr(self.ratio, "median", self.ratio)
        return value <= float(limit) if sign == "<=" else value >= float(limit)

    def cells(self):
        """The columns of the table, a list of strings."""
        ratio = str(self.ratio)
        if isinstance(self.ratio, float):
            ratio = f"{self.ratio:,.0f}" if self.ratio >= 100 else f"{self.ratio:.2g}"
        if not self.goal:
            return [self.item, self.ours, self.theirs, ratio, "", ""]
        sign, limit = self.goal.split()
        goal = f"{'≤' if sign == '<=' else '≥'} {float(limit):,g}"
        met = "met" if self.is_met else "**not met**"
        return [self.item, self.ours, self.theirs, ratio, goal, met]


def write(rows_by_case):
    """Puts rows into results.json, in place of the same cases' earlier ones, and README.md.

    Args:
        rows_by_case: Dictionary from names of cases to lists of `Row`.
    """
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    where = machine()
    for case, rows in rows_by_case.items():
        results[case] = {"machine": where, "rows": [row.cells() for row in rows]}
    files.write_json(RESULTS, results)
    before, rest = README.read_text().split(BEGIN)
    _, after = rest.split(END)
    files.write_text(README, f"{before}{BEGIN}\n{render(results)}{END}{after}")


def render(results):
    """The contents of results.json as tables, one for each machine."""
    text = ""
    for where in dict.fromkeys(case["machine"] for case in results.values()):
        rows = [
            row
            for case in results.values()
            for row in case["rows"]
            if case["machine"] == where
        ]
        lines = "".join(f"| {' | '.join(row)} |\n" for row in rows)
        text += f"{where}\n\n{HEAD}{lines}\n"
    return text


def machine():
    """One line: processor, cores and versions."""
    versions = []
    for package in PACKAGES:
        try:
            versions.append(f"{package} {metadata.version(package)}")
        except metadata.PackageNotFoundError:
            continue
    return (
        f"{os.cpu_count()} cores, {processor()}; Python {platform.python_version()}, "
        f"{', '.join(versions)}:"
    )


def processor():
    """The processor's name, with the instruction sets that matter here."""
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    fields = dict(line.split(":", 1) for line in lines if ":" in line)
    fields = {name.strip(): value.strip() for name, value in fields.items()}
    sets = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16")
    flags = [name for name in sets if name in fields.get("flags", "").split()]
    return f"{fields.get('model name', platform.machine())} ({', '.join(flags)})"
