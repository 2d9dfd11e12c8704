# SPDX-License-Identifier: Apache-2.0
"""Folders of small pictures, whose class shows in their colour."""

import numpy as np
from PIL import Image

SUFFIXES = (".png", ".jpg", ".webp", ".bmp", ".gif")


def picture(label, number, shape=(12, 10)):
    """uint8 `(height, width, 3)`: red for class 0, green for 1, blue for 2, with noise."""
    rng = np.random.default_rng([label, number])
    image = rng.integers(60, size=(*shape, 3)).astype("uint8")
    image[..., label % 3] += 150
    return image


def write_class(folder, label, count, suffixes=SUFFIXES):
    folder.mkdir(parents=True)
    for number in range(count):
        suffix = suffixes[number % len(suffixes)]
        image = Image.fromarray(picture(label, number))
        image.save(folder / f"{number:03}{suffix}")


def write(root, counts, **kwargs):
    """A folder of classes by name, with their numbers of pictures."""
    for label, (name, count) in enumerate(counts.items()):
        write_class(root / name, label, count, **kwargs)
    return root
