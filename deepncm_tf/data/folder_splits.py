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
        FolderError: If folders are called as splits are elsewhere, such as `Train` and
            `val`: one for training and one that is held out, or all that there are.
    """
    if splits := find_pair(root):
        return splits
    found = _called_as_splits(root)
    has_both = {path.name.casefold() in TRAINING for path in found} == {True, False}
    number = sum(path.is_dir() for path in image_files.entries(root))
    if has_both or (found and len(found) == number):
        names = " and ".join(f"{path.name}/" for path in found)
        raise FolderError(
            "Pictures for training and those that are held out must be in train/ and "
            f"test/, spelt so. Received: {names} in {root}"
        )
    return {"train": root}


def find_pair(root):
    """`train` and `test` as from `find` where there are both, otherwise none."""
    splits = {split: root / split for split in SPLITS}
    return splits if all(folder.is_dir() for folder in splits.values()) else {}


def doubts(root):
    """What looks like a split and is not used as one, a list of sentences.

    Args:
        root: `pathlib.Path` of a folder, as for `find`.
    """
    if splits := find_pair(root):
        found = others(root, splits.values())
        return [f"{path} is left out; only train/ and test/ are used." for path in found]
    found = filter(_has_folders_alone, _called_as_splits(root))
    return [f"{path} is taken for a class; splits are train/ and test/." for path in found]


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
