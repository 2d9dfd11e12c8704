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


def check_file(flag, path):
    """As `check_folder`, for the path of a file."""
    path = pathlib.Path(path)
    if path.is_dir():
        raise ValueError(f"--{flag} must be a file, no folder. Received: --{flag}={path}")
    check_folder(flag, path.parent, path)


def keep_figures(path, figures):
    """Writes figures as a JSON file, and prints them also where that fails.

    Curves, dictionaries of lists, are in the file alone.
    """
    try:
        files.write_json(path, figures)
    finally:
        for name, value in figures.items():
            if not _is_curve(value):
                print(f"{name}: {_in_words(value)}")


def _is_curve(value):
    return isinstance(value, dict) and any(isinstance(v, list) for v in value.values())


def _in_words(value):
    if isinstance(value, dict):
        return ", ".join(f"{name} {_in_words(part)}" for name, part in value.items())
    return f"{value:.4f}" if isinstance(value, float) else f"{value}"
