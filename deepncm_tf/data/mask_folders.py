# SPDX-License-Identifier: Apache-2.0
"""Folders of images and masks: which mask is of which image."""

import pathlib

from deepncm_tf.data import image_files
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
    if not (root / "train").is_dir():
        pairs = _pairs(root)
        if len(pairs) < 2:
            raise FolderError(
                "A folder without train/ and test/ must have two images or more, to test "
                f"on one of them. Received: {len(pairs)} in {root / 'images'}"
            )
        return {"train": pairs}
    names = {"train": "train", "test": "test"}
    names |= {folder: "val" for folder in VALIDATION if (root / folder).is_dir()}
    return {split: _pairs(root / folder) for folder, split in names.items()}


def _pairs(folder):
    found = {}
    for kind, suffixes in (("images", image_files.SUFFIXES), ("masks", (".png",))):
        if not (folder / kind).is_dir():
            raise FolderError(
                f"A folder for segmentation must have images/ and masks/. Received: "
                f"{folder}, without {kind}/"
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
