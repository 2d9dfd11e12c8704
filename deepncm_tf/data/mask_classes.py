# SPDX-License-Identifier: Apache-2.0
"""The classes of masks: how they are called, and whether there are enough."""

from deepncm_tf.data import mask_files
from deepncm_tf.data.folders import FolderError

NAMES = "classes.txt"


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
    names = [line.strip() for line in text.rstrip().splitlines()]
    for number, name in enumerate(names, 1):
        if not name or not name.isprintable():
            raise FolderError(
                f"{NAMES} must have a name that can be printed in each line, in UTF-8. "
                f"Received: {name!r} in line {number} of {path}"
            )
    return names


def check_names(names, place):
    """Raises a `FolderError` unless names are of as many classes as masks can have.

    Args:
        names: List of strings.
        place: String, where they are from.
    """
    if len(names) < 2 or len(names) >= mask_files.WRONG:
        raise FolderError(
            f"A set for segmentation must have 2 to {mask_files.WRONG - 1} classes, by its "
            f"masks or by the lines of {NAMES}. Received: {len(names)} in {place}"
        )
    repeated = [name for name in dict.fromkeys(names) if names.count(name) > 1]
    if repeated:
        raise FolderError(
            f"{NAMES} must have a different name for each class. Received: "
            f"{repeated[0]!r} {names.count(repeated[0])} times in {place}"
        )
