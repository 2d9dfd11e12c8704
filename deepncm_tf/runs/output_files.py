# SPDX-License-Identifier: Apache-2.0
"""What is computed for minutes and then written: checks before, figures whatever comes."""

import pathlib
import re
import tempfile

from deepncm_tf.utils import files
from deepncm_tf.utils.words import percent

NEIGHBOURS = re.compile(r"knn_(?P<five>top5_)?(?P<k>\d+)_(?P<temperature>.+)")
# Patterns of names with what they are called; those that are floats are shares.
WORDS = (
    ("accuracy", "accuracy"),
    ("adapted_accuracy", "accuracy, adapted to the bank"),
    ("anchored_accuracy", "accuracy, anchored on training images"),
    ("bank", "bank"),
    ("knn", "search"),
    (r"recall_at_(\d+)", "recall at {}"),
    (r"precision_at_(\d+)", "precision at {}"),
    ("map_at_r", "MAP@R"),
    ("r_precision", "R-precision"),
    (r"induction_accuracy_(\d+)", "k = {}, classes within"),
    (r"backbone_induction_accuracy_(\d+)", "k = {}, classes within, by the backbone"),
    ("purity", "purity"),
)


def check_folder(flag, folder, value=None):
    """Checks that files can be written to a folder, which need not be there yet.

    Args:
        flag: String, name of the flag that says where to write.
        folder: Path of the folder.
        value: The flag's value, where it is another path.

    Raises:
        ValueError: If they cannot.
    """
    value = folder if value is None else value
    folder = pathlib.Path(folder).absolute()
    try:
        existing = next(path for path in (folder, *folder.parents) if path.exists())
        tempfile.TemporaryFile(dir=existing).close()
    except OSError as error:
        raise ValueError(
            f"--{flag} must be where files can be written ({error.strerror}). "
            f"Received: --{flag}={value}"
        ) from error


def check_report(path, names):
    """Raises a ValueError unless --output is new, empty or holds an earlier report.

    Args:
        path: Path of the folder.
        names: Names of the files of a report.
    """
    folder = pathlib.Path(path)
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"--output must be a folder. Received: --output={path}")
    others = {p.name for p in folder.iterdir()} if folder.exists() else set()
    others -= set(names)
    if others:
        raise ValueError(
            "--output must be a folder that is new or holds an earlier report; this one "
            f"holds other files, such as {min(others)}. Received: --output={path}"
        )
    check_folder("output", folder)


def check_file(flag, path):
    """As `check_folder`, for the path of a file."""
    path = pathlib.Path(path)
    if path.is_dir():
        raise ValueError(f"--{flag} must be a file, no folder. Received: --{flag}={path}")
    check_folder(flag, path.parent, path)


def keep_figures(path, figures):
    """Writes figures as a JSON file, and prints them also where that fails.

    Dictionaries of figures are printed as a table, a row each; curves, which are
    dictionaries of lists, are in the file alone.
    """
    try:
        files.write_json(path, figures)
    finally:
        votes = filter(None, map(NEIGHBOURS.fullmatch, figures))
        several = len({vote["temperature"] for vote in votes}) > 1
        columns = None
        for name, value in figures.items():
            if not isinstance(value, dict):
                print(in_words(name, value, several))
            elif not any(isinstance(part, list) for part in value.values()):
                columns = _print_row(name, value, columns, max(map(len, figures)))


def _print_row(name, figures, columns, width):
    """Prints a row of a table, under a head where its columns are others than before."""
    if list(figures) != columns:
        print(" " * width + "".join(f"  {column:>6}" for column in figures))
    cells = [f"  {_number(v):>{max(len(key), 6)}}" for key, v in figures.items()]
    print(f"{name:{width}}{''.join(cells)}")
    return list(figures)


def in_words(name, value, several_temperatures=False):
    """What a figure says: `"k = 1: 98.9 %"` of `knn_1_0.05`, for example.

    Args:
        name: String, as in the dictionary of `evaluate.evaluate` or `discover.discover`.
        value: Float, int, string or None.
        several_temperatures: Bool, whether votes are told apart by their temperatures.
    """
    if vote := NEIGHBOURS.fullmatch(name):
        words = f"k = {vote['k']}"
        if several_temperatures:
            words += f", temperature {vote['temperature']}"
        if vote["five"]:
            words += ", among the first five"
        return f"{words}: {percent(value)}"
    for pattern, words in WORDS:
        if found := re.fullmatch(pattern, name):
            is_share = isinstance(value, float)
            words = words.format(*found.groups())
            return f"{words}: {percent(value) if is_share else _number(value)}"
    return f"{name.replace('_', ' ')}: {_number(value)}"


def _number(value):
    return f"{value:.4f}" if isinstance(value, float) else f"{value}"
