# SPDX-License-Identifier: Apache-2.0
"""Fashion-MNIST from its four original files, which Debian's dataset-fashion-mnist has."""

import gzip
import math
import pathlib

import numpy as np

FOLDER = pathlib.Path("/usr/share/datasets/fashion-mnist")
PREFIXES = {"train": "train", "test": "t10k"}
BORDER = 2  # black pixels around 28 x 28, as in LeNet
CLASS_NAMES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)


def is_in(folder):
    """Whether a folder has the files."""
    return all(path.is_file() for paths in _paths(folder).values() for path in paths)


def load(folder):
    """The dataset as arrays.

    Args:
        folder: Path of the folder of the files.

    Returns:
        Dictionary from `"train"` and `"test"` to `(images, labels)`: uint8
        `(n, 32, 32, 3)`, int32 `(n,)`.

    Raises:
        OSError: If a file cannot be read.
        ValueError: If it is damaged.
    """
    splits = {}
    for split, (images_path, labels_path) in _paths(folder).items():
        images, labels = read_idx(images_path, 3), read_idx(labels_path, 1)
        if len(images) != len(labels):
            raise ValueError(
                f"{images_path} must have an image for each label. Received: {len(images)} "
                f"images and {len(labels)} labels"
            )
        splits[split] = as_colours(images[..., None]), labels.astype("int32")
    return splits


def as_colours(images):
    """Gray images `(n, 28, 28, 1)` in the middle of black ones, `(n, 32, 32, 3)`."""
    both = (BORDER, BORDER)
    return np.repeat(np.pad(images, ((0, 0), both, both, (0, 0))), 3, axis=-1)


def read_idx(path, rank):
    """The uint8 array of a compressed file in the IDX format.

    Raises:
        ValueError: If it is none, or has another rank.
    """
    try:
        with gzip.open(path) as file:
            header = file.read(4 + 4 * rank)
            shape = np.frombuffer(header[4:], ">u4").tolist()
            if header[:4] != bytes([0, 0, 8, rank]) or len(shape) != rank:
                raise ValueError("another header")
            size = math.prod(shape)
            data = file.read(min(size, 2**30) + 1)  # memory is taken for what is there
    except (EOFError, ValueError, gzip.BadGzipFile) as error:
        raise ValueError(f"{path} must be an IDX file of rank {rank} ({error})") from error
    if len(data) != size:
        raise ValueError(f"{path} must have {size} values. Received: another number")
    return np.frombuffer(data, "uint8").reshape(shape)


def _paths(folder):
    folder = pathlib.Path(folder)
    return {
        split: (
            folder / f"{prefix}-images-idx3-ubyte.gz",
            folder / f"{prefix}-labels-idx1-ubyte.gz",
        )
        for split, prefix in PREFIXES.items()
    }
