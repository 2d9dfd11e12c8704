# SPDX-License-Identifier: Apache-2.0
"""Which of the folders in a folder of pictures are splits, and which are classes."""

from deepncm_tf.data import image_files
from deepncm_tf.data.image_files import FolderError

SPLITS = ("train", "test")
TRAINING = ("train", "training")  # what folders of splits are called elsewhere, in any case
HELD_OUT = ("test", "testing", "val", "valid", "validation")


def find(root):
    """The folders of the splits; the root itself where it has none.

    Args:
        root: `pathlib.Path` of a folder.

    Returns:
        Dictionary from `"train"`, and `"test"` where there is one, to paths.

    Raises:
        FolderError: If folders are called as splits are elsewhere, such as `Train` or
            `val`, and are no classes: a class has pictures, and is not beside another
            folder of that kind.
    """
    folders = {split: root / split for split in SPLITS}
    if all(folder.is_dir() for folder in folders.values()):
        return folders
    found = _called_as_splits(root)
    has_both = {path.name.casefold() in TRAINING for path in found} == {True, False}
    if has_both or any(_has_folders_alone(path) for path in found):
        names = " and ".join(f"{path.name}/" for path in found)
        raise FolderError(
            "Pictures for training and those that are held out must be in train/ and "
            f"test/, spelt so. Received: {names} in {root}"
        )
    return {"train": root}


def left_out(root):
    """Folders beside `train` and `test` that look as if they were splits, too.

    Args:
        root: `pathlib.Path` of a folder, as for `find`.

    Returns:
        List of paths.
    """
    used = find(root).values()
    return [] if root in used else others(root, used)


def others(root, used):
    """Folders that are called as splits are, here or elsewhere, and are not used as such.

    Args:
        root: `pathlib.Path` of a folder.
        used: Collection of paths of folders that are used.

    Returns:
        List of paths.
    """
    # Where case does not matter, `train` may be listed as Train.
    return [
        path
        for path in _called_as_splits(root)
        if not any(path.samefile(folder) for folder in used)
    ]


def _called_as_splits(root):
    names, paths = (*TRAINING, *HELD_OUT), image_files.entries(root)
    return [path for path in paths if path.name.casefold() in names and path.is_dir()]


def _has_folders_alone(folder):
    """Whether there are folders in a folder, as of classes, and no pictures beside them."""
    paths = image_files.entries(folder)
    has_pictures = any(path.suffix.lower() in image_files.SUFFIXES for path in paths)
    return not has_pictures and any(path.is_dir() for path in paths)
