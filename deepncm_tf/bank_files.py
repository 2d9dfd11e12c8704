# SPDX-License-Identifier: Apache-2.0
"""Feature banks as files, and as what TensorBoard's projector reads."""

import pathlib

import numpy as np

from deepncm_tf import array_files, pictures, runs

PARTS = ("features", "labels", "ids")
ROWS = 4096  # that are looked at together
SPRITE_WIDTH = 8192  # pixels, the largest that the projector takes


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
        runs.write_atomically(path, lambda where: np.savez_compressed(where, **arrays))
        return [path]
    arrays = dict(zip(_parts(path), (features, labels, ids), strict=True))
    for part, array in arrays.items():
        runs.write_atomically(part, lambda where, array=array: np.save(where, array))
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
            found = list(array_files.read_npz(path, PARTS).values())
        else:
            features, *others = _parts(path)
            found = [array_files.read_npy(features, mmap_mode="r")]
            found += [array_files.read_npy(part) for part in others]
    except ValueError as error:
        raise ValueError(f"{path} is no bank that can be read ({error})") from error
    _check_bank(path, *found)
    return tuple(found)


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


def write_projector(folder, features, labels, images, class_names):
    """Writes files for TensorBoard's projector: `tensorboard --logdir FOLDER`.

    Args:
        folder: Path of a folder.
        features: `(n, d)` array.
        labels: `(n,)` integers.
        images: `(n, h, w, c)` uint8, thumbnails; as many as fit a sprite are used.
        class_names: List of strings.

    Returns:
        Int, how many of the n are in the files.
    """
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    height, width = images.shape[1:3]
    columns = min(int(np.ceil(len(images) ** 0.5)), SPRITE_WIDTH // width)
    number = min(len(images), columns * (SPRITE_WIDTH // height))
    sprite = np.zeros((columns * columns, *images.shape[1:]), "uint8")
    sprite[:number] = images[:number]
    sprite = sprite.reshape(columns, columns, *images.shape[1:])
    sprite = sprite.transpose(0, 2, 1, 3, 4).reshape(columns * height, columns * width, -1)
    names = [" ".join(name.split()) for name in class_names]
    rows = (f"{i}\t{names[labels[i]]}\n" for i in range(number))
    tensors = ("\t".join(f"{x:.6g}" for x in row) + "\n" for row in features[:number])
    texts = {
        "tensors.tsv": "".join(tensors),
        "metadata.tsv": "index\tclass\n" + "".join(rows),
        "projector_config.pbtxt": (
            'embeddings {\n  tensor_name: "features"\n  tensor_path: "tensors.tsv"\n'
            '  metadata_path: "metadata.tsv"\n  sprite {\n    image_path: "sprite.png"\n'
            f"    single_image_dim: {width}\n    single_image_dim: {height}\n  }}\n}}\n"
        ),
    }
    runs.write_atomically(
        folder / "sprite.png", lambda path: path.write_bytes(pictures.png(sprite))
    )
    for name, text in texts.items():
        runs.write_atomically(folder / name, lambda path, text=text: path.write_text(text))
    return number


def _parts(path):
    return [path, path.with_suffix(".labels.npy"), path.with_suffix(".ids.npy")]
