# SPDX-License-Identifier: Apache-2.0
"""Damaged bank files and run folders: what becomes of each, counted.

`python tests/support/damage.py` prints the table of benchmarks/reliability.md. What is
damaged must be refused by the one error that command lines print, or be whole all the same:
bytes that nothing reads, or values that are as good as the ones that were written.
"""

import hashlib
import io
import json
import pathlib
import tempfile
import zipfile

import finished
import numpy as np
from helpers import small_backbone

from deepncm_tf import DeepNCM, classifiers, flags, runs
from deepncm_tf.data import bank_files
from deepncm_tf.runs import finished_run

VALUES = [None, True, -1, 10**9, 1e400, float("nan"), "", "x", [], {}, [[1]], "9" * 99]
VALUES += ["\x00", "../..", -0.5]


def bytes_changed(data, rng):
    """Data that is cut, has bytes changed, zeroed or put in, or is something else."""
    data, kind = bytearray(data), rng.integers(6)
    start = int(rng.integers(len(data)))
    if kind == 0:
        return bytes(data[:start])
    if kind == 1:
        data[start] ^= 1 << int(rng.integers(8))
    elif kind == 2:
        for place in rng.integers(len(data), size=8):
            data[place] = rng.integers(256)
    elif kind == 3:  # where headers are
        near = int(rng.integers(min(200, len(data))))
        place = near if rng.integers(2) else len(data) - 1 - near
        data[place] = rng.integers(256)
    elif kind == 4:
        data[start : start + 64] = bytes(len(data[start : start + 64]))
    else:
        data[start:start] = rng.bytes(8)
    return bytes(data)


def config_changed(text, rng):
    """A config.json with a flag changed or missing, or that is something else."""
    content = json.loads(text)
    kind = rng.integers(6)
    names = list(content["flags"])
    name = names[rng.integers(len(names))]
    value = VALUES[rng.integers(len(VALUES))]
    if kind == 0:
        return bytes_changed(text, rng)
    if kind == 1:
        return json.dumps({"flags": value}).encode()
    if kind == 2:
        del content["flags"][name]
    elif kind == 3:
        depth = int(rng.integers(1, 10**5))
        return b"[" * depth + b"]" * depth
    else:
        content["flags"][name] = value
    return json.dumps(content).encode()


def model_changed(data, rng):
    """A model.keras of changed bytes, or whole as a zip file with changed members."""
    if rng.integers(2):
        return bytes_changed(data, rng)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    name = list(parts)[rng.integers(len(parts))]
    if rng.integers(4) == 0:
        del parts[name]
    elif name == "config.json" and rng.integers(4):
        parts[name] = _json_changed(parts[name], rng)
    else:
        parts[name] = bytes_changed(parts[name], rng)
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w") as archive:
        for part, content in parts.items():
            archive.writestr(part, content)
    return written.getvalue()


def _json_changed(text, rng):
    """A model's config.json with one value changed, wherever it is."""
    content = json.loads(text)
    places = []

    def walk(node):
        for key, value in node.items() if isinstance(node, dict) else enumerate(node):
            places.append((node, key))
            if isinstance(value, (dict, list)):
                walk(value)

    walk(content)
    node, key = places[rng.integers(len(places))]
    node[key] = VALUES[rng.integers(len(VALUES))]
    return json.dumps(content).encode()


def damage_banks(folder, suffix, number, rng):
    """Damages a bank `number` times; returns how many were refused, and how many read."""
    path = folder / f"bank{suffix}"
    bank = rng.normal(size=(40, 3)).astype("float32"), rng.integers(4, size=40)
    paths = bank_files.write_bank(path, *bank, np.arange(40))
    whole, refused = {part: part.read_bytes() for part in paths}, 0
    for _ in range(number):
        part = paths[rng.integers(len(paths))]
        part.write_bytes(bytes_changed(whole[part], rng))
        try:
            features, labels, ids = bank_files.read_bank(path)
        except ValueError as error:
            _check_line(error, path)
            refused += 1
        else:
            _check_bank(features, labels, ids)
        part.write_bytes(whole[part])
    return refused, number - refused


def _check_bank(features, labels, ids):
    shapes = {len(features), len(labels), len(ids)}
    good = len(shapes) == 1 and np.isfinite(features).all() and len(set(ids)) == len(ids)
    if not good or labels.min() < 0 or ids.min() < 0:
        raise AssertionError("What is no bank was accepted")


def damage_runs(folder, name, change, number, rng):
    """Damages a file of a finished run `number` times; counts as `damage_banks`."""
    path, refused = folder / name, 0
    whole = path.read_bytes()
    for _ in range(number):
        path.write_bytes(change(whole, rng))
        try:
            run = finished_run.FinishedRun(folder)
            images, _ = run.splits["test"]
            features = run.embed(images[:2])
            run.model.classifier(features)
        except (runs.RunError, ValueError) as error:
            _check_line(error, folder)
            refused += 1
        path.write_bytes(whole)
    return refused, number - refused


def _check_line(error, path):
    if "\n" in str(error):
        raise AssertionError(f"More than a line about {path}: {error}")


def write_run(folder):
    """A finished run of digits with a small network that was not trained."""
    values = {"ncm": "decay", "dataset": "digits", "train_epochs": 1}
    finished.write_run(folder, flags.resolve(values))
    backbone = small_backbone((32, 32, 3), normalize=True)
    DeepNCM(backbone, classifiers.DecayMean(10)).save(folder / "model.keras")
    digest = hashlib.sha256((folder / "model.keras").read_bytes()).hexdigest()
    (folder / runs.SUMS).write_text(f"{digest}  model.keras\n")
    return folder


def damage(share=1.0, seed=0):
    """Rows of the table, dictionaries; `share` of the full number of damaged files."""
    rng = np.random.default_rng(seed)
    rows = []

    def add(what, number, count, *arguments):
        refused, whole = count(*arguments, int(number * share), rng)
        rows.append({"file": what, "damaged": refused + whole, "refused": refused})

    with tempfile.TemporaryDirectory() as place:
        place = pathlib.Path(place)
        add("bank, `.npz`", 400, damage_banks, place, ".npz")
        add("bank, `.npy`", 300, damage_banks, place, ".npy")
        folder = write_run(place / "run")
        add("`config.json`", 200, damage_runs, folder, "config.json", config_changed)
        model = damage_runs, folder, "model.keras", model_changed
        add("`model.keras`", 60, *model)
        (folder / runs.SUMS).unlink()
        add("`model.keras` without `SHA256SUMS`", 60, *model)
    return rows


def table(rows):
    """The rows in Markdown."""
    lines = ["| file | damaged | refused in one line | read |"]
    lines.append("|---|---|---|---|")
    total = {"file": "all"} | {n: sum(r[n] for r in rows) for n in ("damaged", "refused")}
    for row in [*rows, total]:
        kept = row["damaged"] - row["refused"]
        lines.append(f"| {row['file']} | {row['damaged']} | {row['refused']} | {kept} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table(damage()))
