# SPDX-License-Identifier: Apache-2.0
"""Feature banks as files."""

import pathlib

import numpy as np

from deepncm_tf.data import array_files
from deepncm_tf.utils import files

PARTS = ("features", "labels", "ids")
ROWS = 4096  # that are looked at together


def write_bank(path, features, labels, ids):
    """Writes a bank.

    Args:
        path: Path that ends in `.npz`, for one compressed file; or in `.npy`, for an array
            of features that can be memory-mapped, with `.labels.npy` and `.ids.npy`.
        features: `(n, d)` array, as from `DeepNCM.embed`.
        labels: `(n,)` integers.
        ids: `(n,)` integers, the images' places in their split.

    Returns:
        List of the paths written.

    Raises:
        ValueError: If the path has another ending, or the arrays are no bank.
    """
    path = check_path(path)
    features, labels, ids = (np.asarray(part) for part in (features, labels, ids))
    _check_bank(path, features, labels, ids)
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".npz":
        arrays = dict(zip(PARTS, (features, labels, ids), strict=True))
        files.write_atomically(path, lambda where: np.savez_compressed(where, **arrays))
        return [path]
    arrays = dict(zip(_parts(path), (features, labels, ids), strict=True))
    for part, array in arrays.items():
        files.write_atomically(part, lambda where, array=array: np.save(where, array))
    return list(arrays)


def read_bank(path):
    """Reads what `write_bank` wrote; an `.npy` bank stays on disk until it is used.

    Returns:
        `(features, labels, ids)`.

    Raises:
        ValueError: If it is not such a file: damaged, or with features that are not
            finite, labels or ids that are no integers >= 0, or an id twice.
    """
    path = check_path(path)
    try:
        if path.suffix == ".npz":
            arrays = list(array_files.read_npz(path, PARTS).values())
        else:
            features, *others = _parts(path)
            arrays = [array_files.read_npy(features, mmap_mode="r")]
            arrays += [array_files.read_npy(part) for part in others]
    except ValueError as error:
        raise ValueError(f"{path} is no bank that can be read ({error})") from error
    _check_bank(path, *arrays)
    return tuple(arrays)


def _check_bank(path, features, labels, ids):
    """Raises a ValueError unless the arrays are a bank."""
    shapes = [features.shape, labels.shape, ids.shape]
    if len(shapes[0]) != 2 or 0 in shapes[0] or shapes[1:] != [shapes[0][:1]] * 2:
        raise ValueError(
            f"{path} must have features (n, d), labels (n,) and ids (n,), n and d >= 1. "
            f"Received: {shapes}"
        )
    if features.dtype.kind != "f" or not _all_finite(features):
        raise ValueError(
            f"{path} must have features that are finite floating point numbers. Received: "
            f"features of {features.dtype}"
        )
    for name, part in (("labels", labels), ("ids", ids)):
        if part.dtype.kind not in "iu" or part.min() < 0:
            raise ValueError(
                f"{path} must have {name} that are integers >= 0. Received: {name} of "
                f"{part.dtype}, such as {part.flat[part.argmin()]}"
            )
    if len(np.unique(ids)) < len(ids):
        raise ValueError(
            f"{path} must have ids that are distinct. Received: {len(np.unique(ids))} ids "
            f"in {len(ids)} rows"
        )


def _all_finite(features):
    """Reads some rows at a time: a bank on disk may be larger than memory."""
    starts = range(0, len(features), ROWS)
    return all(np.isfinite(features[start : start + ROWS]).all() for start in starts)


def check_path(path):
    """The path of a bank; raises a ValueError for another ending."""
    path = pathlib.Path(path)
    if path.suffix not in (".npz", ".npy"):
        raise ValueError(f"A bank file's name must end in .npz or .npy. Received: {path}")
    return path


def _parts(path):
    return [path, path.with_suffix(".labels.npy"), path.with_suffix(".ids.npy")]
