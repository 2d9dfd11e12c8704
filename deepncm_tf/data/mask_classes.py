# SPDX-License-Identifier: Apache-2.0
"""The classes of masks: how they are called, and whether they have pixels."""

import sys

import numpy as np

from deepncm_tf.data.folders import FolderError
from deepncm_tf.data.mask_files import VOID, WRONG

NAMES = "classes.txt"
SHOWN = 5  # classes that a message names


def read_names(path):
    """The names of classes in a text file, a line each.

    Args:
        path: `pathlib.Path` of a file in UTF-8, which may end with blank lines.

    Returns:
        List of strings.

    Raises:
        FolderError: If it is in another encoding, or a line has no name or none that can
            be printed: to leave it out would give the names below to other classes.
    """
    try:
        text = path.read_text("utf-8-sig")  # Windows begins UTF-8 with a mark
    except UnicodeDecodeError as error:
        raise FolderError(
            f"{NAMES} must be in UTF-8 ({error}). Received: {path}"
        ) from error
    names = [" ".join(line.split()) for line in text.rstrip().splitlines()]
    for number, name in enumerate(names, 1):
        if not name or not name.isprintable():
            raise FolderError(
                f"{NAMES} must have a name that can be printed in each line. "
                f"Received: {name!r} in line {number} of {path}"
            )
    return names


def find_values(mask):
    """Which values a mask has, uint8 `(256,)` of 0 and 1."""
    return (np.bincount(mask.ravel(), minlength=256) > 0).astype("uint8")


def numbers(values):
    """Names of the classes from 0 to the largest value but 255.

    Args:
        values: `(256,)`, which values masks have.

    Returns:
        List of strings.
    """
    count = np.flatnonzero(values[:VOID]).max(initial=-1) + 1
    return [str(label) for label in range(count)]


def check_names(names, place, values=None):
    """Raises a `FolderError` unless names are of as many classes as masks can have.

    Args:
        names: List of strings.
        place: String, where they are from.
        values: `(256,)`, which values the masks have that they are from; or None.
    """
    if len(names) < 2 or len(names) >= WRONG:
        raise FolderError(
            f"A set for segmentation must have 2 to {WRONG - 1} classes, by its masks or "
            f"by the lines of {NAMES}. Received: {len(names)} in {place}{_advice(values)}"
        )
    repeated = [name for name in dict.fromkeys(names) if names.count(name) > 1]
    if repeated:
        raise FolderError(
            f"{NAMES} must have a different name for each class. Received: "
            f"{repeated[0]!r} {names.count(repeated[0])} times in {place}"
        )


def check_pixels(found, names, place):
    """Warns of classes without a pixel to learn from.

    Args:
        found: Dictionary from splits, `"train"` among them, to `(256,)`: which classes
            their masks have, and 255.
        names: List of strings, the classes in order.
        place: String, where the masks are from.

    Raises:
        FolderError: If a split has void pixels alone, or `"train"` pixels of one class.
    """
    for split, values in found.items():
        if not values[: len(names)].any():
            raise FolderError(
                "The masks of each split must have a pixel that is not void (255). "
                f"Received: masks for {split} that are void all over, in {place}"
            )
    values = found["train"]
    missing = [name for label, name in enumerate(names) if not values[label]]
    if len(missing) > len(names) - 2:
        (seen,) = set(names) - set(missing)
        raise FolderError(
            "The masks for training must have pixels of two classes or more. Received: "
            f"those of {seen!r} alone, in {place}{_advice(values)}"
        )
    if missing:
        shown = ", ".join(map(repr, missing[:SHOWN]))
        more = f" and {len(missing) - SHOWN} more" if len(missing) > SHOWN else ""
        void = "; 255 means void" if values[VOID] else ""
        print(
            f"Warning: no pixel of the masks for training is of {shown}{more}, in "
            f"{place}{void}.",
            file=sys.stderr,
        )


def _advice(values):
    """What to do with masks of black and white."""
    if values is None or np.flatnonzero(values).tolist() != [0, VOID]:
        return ""
    return ", whose masks have the values 0 and 255: 255 means void, save the class as 1"
