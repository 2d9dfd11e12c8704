# SPDX-License-Identifier: Apache-2.0
"""The pictures of a folder that a run was begun with: the splits are a function of them."""

import hashlib
import os

from deepncm_tf import flags
from deepncm_tf.data import datasets, mask_folders
from deepncm_tf.data.image_sources import ImageFiles
from deepncm_tf.utils import files
from deepncm_tf.utils.errors import RunError

FILE = "pictures.txt"  # in a run's folder: for each split its name, number and digest


def keep(folder, splits):
    """Records the pictures of a run that begins; checks those of one that goes on.

    Args:
        folder: `RunFolder` that is open.
        splits: As from the task's `load`.

    Raises:
        RunError: As `check`.
    """
    way_out = ", or give --overwrite to start anew"
    found = check(folder.path, folder.config, splits, way_out)
    if found and not (folder.path / FILE).exists():
        text = "".join(f"{split} {' '.join(part)}\n" for split, part in found.items())
        with folder.writing():
            files.write_text(folder.path / FILE, text)


def check(path, config, splits, way_out=""):
    """Checks that the pictures of a run are those that it was begun with.

    Args:
        path: `pathlib.Path` of the run's folder.
        config: Dictionary of the run's flags.
        splits: As from the task's `load`.
        way_out: String, what else can be done than to put the pictures back.

    Returns:
        Dictionary from splits to the number of pictures and the digest of their names and
        labels, both strings; empty where images are not in a folder.

    Raises:
        RunError: If they are others.
    """
    found = _pictures(config, splits)
    stored = _stored(path / FILE) if found else None
    if stored not in (None, found):
        differences = "; ".join(
            f"{split}: {stored.get(split, ['none'])[0]} then, {part[0]} now"
            for split, part in found.items()
            if part != stored.get(split)
        )
        sources = filter(None, (config["dataset"], config.get("test_dataset")))
        raise RunError(
            f"The run in --model_dir={path} was begun with other pictures in "
            f"{' and '.join(sources)} ({differences}). Put those back{way_out}."
        )
    return found


def _stored(path):
    """What a run has recorded; None for one of a version that did not."""
    try:
        lines = path.read_text("utf-8").splitlines()
        return {split: [count, digest] for split, count, digest in map(str.split, lines)}
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise RunError(
            f"{path} is damaged ({error}). Restore it; without it, nothing tells whether "
            "pictures are those that the run was begun with."
        ) from error


def _pictures(config, splits):
    if not config["dataset"].startswith(datasets.FOLDER) and not config.get("test_dataset"):
        return {}
    root = config["dataset"].removeprefix(datasets.FOLDER)
    if flags.task_of(config) == flags.SEGMENTATION:
        pairs = mask_folders.folder_pairs(root).items()  # not split yet
        return {split: _digest(root, [image for image, _ in part]) for split, part in pairs}
    other = (config["test_dataset"] or root).removeprefix(datasets.FOLDER)
    return {
        split: _digest(other if split == "test" else root, images.paths, labels)
        for split, (images, labels) in splits.items()
        if isinstance(images, ImageFiles)
    }


def _digest(root, paths, labels=None):
    digest = hashlib.sha256()
    for row, path in enumerate(paths):
        label = "" if labels is None else labels[row]
        digest.update(os.fsencode(f"{label} {os.path.relpath(path, root)}\0"))
    return [str(len(paths)), digest.hexdigest()]
