# SPDX-License-Identifier: Apache-2.0
"""Steps of every method are the same on Keras's backends, as docs/backends.md says.

One process for each backend: `tests/support/backend_steps.py`.

    python tests/deepncm_tf/test_backends.py

writes the table anew, of the backends that are installed.
"""

import importlib.util
import os
import pathlib
import subprocess
import sys

import keras
import numpy as np
import pytest
from helpers import ON_JAX

ROOT = pathlib.Path(__file__).parents[2]
SUPPORT = ROOT / "tests" / "support"
TABLE = ROOT / "docs" / "backends.md"
BACKENDS = ("tensorflow", "jax", "torch")
TITLES = {"tensorflow": "TensorFlow", "jax": "JAX", "torch": "PyTorch"}
IN_FLOAT32 = ("anchor, explain", "calibrate, classify", "segment pixels")
BEGIN, END = "<!-- table: begin -->\n", "<!-- table: end -->\n"


def run_backend(backend, folder):
    """What steps give on a backend, in a process of its own: arrays by name."""
    environment = {
        **os.environ,
        **ON_JAX,
        "KERAS_BACKEND": backend,
        "JAX_ENABLE_X64": "1",
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
    }
    files = [folder / "start.npz", folder / f"{backend}.npz"]
    outcome = subprocess.run(
        [sys.executable, SUPPORT / "backend_steps.py", *files],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert outcome.returncode == 0, outcome.stderr[-3000:]
    with np.load(files[1]) as found:
        return dict(found)


def differences(expected, found):
    """The largest relative difference of each row of the table.

    A thousandth of it where float32 comes in, whatever the model's dtype: in clustering
    until nothing changes, in p-values and in the resizing of maps.
    """
    assert expected.keys() == found.keys()
    largest = {}
    for name, array in expected.items():
        variant = name.partition("/")[0]
        difference = np.abs(found[name] - array) / max(1.0, np.abs(array).max(initial=0))
        scale = 1e-3 if "/adapted" in name or variant in IN_FLOAT32 else 1.0
        difference = scale * difference.max(initial=0)
        largest[variant] = max(largest.get(variant, 0.0), float(difference))
    return largest


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """Where the weights to start with are, and TensorFlow's arrays."""
    folder = tmp_path_factory.mktemp("backends")
    return folder, run_backend("tensorflow", folder)


def rows_of_table(text):
    """Dictionary from the first cell of each row to the others."""
    lines = [line for line in text.splitlines() if line.startswith("| ")][1:]
    cells = ([cell.strip() for cell in line.strip("|").split(" | ")] for line in lines)
    return {first: dict(zip(BACKENDS, others, strict=True)) for first, *others in cells}


@pytest.mark.slow
@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="of the reference")
@pytest.mark.parametrize("backend", BACKENDS[1:])
def test_steps_are_equal_and_the_table_is_true(backend, reference):
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed")
    folder, expected = reference
    largest = differences(expected, run_backend(backend, folder))
    assert max(largest.values()) < 1e-9, largest
    stored = rows_of_table(TABLE.read_text())
    cells = [stored[f"`{variant}`"][backend] for variant in largest]
    assert cells == ["equal"] * len(largest)


def write_table(folder):
    """Runs all backends and writes what came out into docs/backends.md."""
    expected = run_backend("tensorflow", folder)
    found = {backend: run_backend(backend, folder) for backend in BACKENDS[1:]}
    write(expected, {"tensorflow": expected, **found})


def write(expected, found):
    """Writes the table of what backends gave, where TensorFlow's is expected."""
    columns = {backend: differences(expected, found[backend]) for backend in BACKENDS}
    print(columns)
    titles = " | ".join(TITLES.values())
    lines = [f"| | {titles} |\n", f"|---|{'---|' * len(BACKENDS)}\n"]
    for variant in _variants(expected):
        cells = ["equal" if columns[b][variant] < 1e-9 else "differs" for b in BACKENDS]
        lines.append(f"| `{variant}` | {' | '.join(cells)} |\n")
    before, _, rest = TABLE.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    TABLE.write_text(f"{before}{BEGIN}\n{''.join(lines)}\n{END}{after}")


def _variants(arrays):
    return list(dict.fromkeys(name.partition("/")[0] for name in arrays))


if __name__ == "__main__":
    import tempfile

    with tempfile.TemporaryDirectory() as temporary:
        write_table(pathlib.Path(temporary))
