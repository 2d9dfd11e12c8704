# SPDX-License-Identifier: Apache-2.0
"""Folders of images and masks: which mask is of which image."""

import pathlib

from deepncm_tf.data import folder_splits, image_files
from deepncm_tf.data.folders import FolderError

VALIDATION = ("val", "validation")  # names of a split


def folder_pairs(root):
    """Paths of the images and masks in a folder.

    Args:
        root: Path of the folder, as for `segmentation.load`.

    Returns:
        Dictionary from splits to lists of `(image, mask)`, by name.

    Raises:
        FolderError: If there are no pairs, or one has no partner.
    """
    root = pathlib.Path(root)
    if not root.is_dir():
        raise FolderError(
            f"The images must be in a folder: --dataset=folder:PATH. Received: {root}"
        )
    splits = {split: _pairs(folder) for split, folder in _splits(root).items()}
    if "test" not in splits and len(splits["train"]) < 2:
        raise FolderError(
            "A folder without train/ and test/ must have two images or more, to test "
            f"on one of them. Received: {len(splits['train'])} in {root / 'images'}"
        )
    return splits


def left_out(root):
    """Folders that look as if they were splits, too, and are not used.

    Args:
        root: `pathlib.Path` of a folder, as for `folder_pairs`.

    Returns:
        Pair of lists: their paths, and the names of the folders that are used.
    """
    splits = _splits(root)
    if splits["train"] == root:
        return folder_splits.others(root, []), ["images", "masks"]
    used = splits.values()
    return folder_splits.others(root, used), [folder.name for folder in used]


def _splits(root):
    """Paths of the splits' folders; that of the root itself where it has no train/."""
    if not (root / "train").is_dir():
        return {"train": root}
    splits = {"train": root / "train", "test": root / "test"}
    for name in VALIDATION:
        if (root / name).is_dir():
            splits["val"] = root / name
    return splits


def _pairs(folder):
    found = {}
    for kind, suffixes in (("images", image_files.SUFFIXES), ("masks", (".png",))):
        if not (folder / kind).is_dir():
            others = [f"{path.name}/" for path in folder_splits.others(folder, [])]
            has_others = f", with {' and '.join(others)}" if others else ""
            raise FolderError(
                "A folder for segmentation must have images/ and masks/, or train/ and "
                "test/, spelt so, that have. Received: "
                f"{folder}, without {kind}/{has_others}"
            )
        paths = [p for p in sorted((folder / kind).iterdir()) if p.name[0] != "."]
        found[kind] = {p.stem: p for p in paths if p.suffix.lower() in suffixes}
    images, masks = found["images"], found["masks"]
    alone = sorted(set(images) ^ set(masks))
    if alone or not images:
        received = f"no image in {folder / 'images'}"
        if alone:
            missing = "mask" if alone[0] in images else "image"
            path = (images | masks)[alone[0]]
            received = f"{len(alone)} without a partner, such as {path} without {missing}"
        raise FolderError(
            "Each image must have a mask of its name, images/NAME.jpg and masks/NAME.png, "
            f"and each mask an image. Received: {received}"
        )
    return [(images[stem], masks[stem]) for stem in sorted(images)]
