# SPDX-License-Identifier: Apache-2.0
"""Folders of small pictures and masks."""

import numpy as np
from PIL import Image

SHAPE = (12, 16)


def write(root, count=3, num_classes=3, suffix=".png", seed=0):
    """`root/images` and `root/masks`; returns the arrays, by name."""
    rng = np.random.default_rng(seed)
    written = {}
    for kind in ("images", "masks"):
        (root / kind).mkdir(parents=True, exist_ok=True)
    for number in range(count):
        image = rng.integers(256, size=(*SHAPE, 3)).astype("uint8")
        mask = rng.integers(num_classes, size=SHAPE).astype("uint8")
        mask[0, 0] = 255
        Image.fromarray(image).save(root / "images" / f"{number:02}{suffix}")
        Image.fromarray(mask).save(root / "masks" / f"{number:02}.png")
        written[f"{number:02}"] = image, mask
    return written
