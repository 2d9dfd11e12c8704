# SPDX-License-Identifier: Apache-2.0
"""What is computed for minutes and then written: checks before, figures whatever comes."""

import pathlib
import tempfile

from deepncm_tf.utils import files


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
        columns = None
        for name, value in figures.items():
            if not isinstance(value, dict):
                print(f"{name}: {_in_words(value)}")
            elif not any(isinstance(part, list) for part in value.values()):
                columns = _print_row(name, value, columns, max(map(len, figures)))


def _print_row(name, figures, columns, width):
    """Prints a row of a table, under a head where its columns are others than before."""
    if list(figures) != columns:
        print(" " * width + "".join(f"  {column:>6}" for column in figures))
    cells = [f"  {_in_words(v):>{max(len(key), 6)}}" for key, v in figures.items()]
    print(f"{name:{width}}{''.join(cells)}")
    return list(figures)


def _in_words(value):
    return f"{value:.4f}" if isinstance(value, float) else f"{value}"
