# SPDX-License-Identifier: Apache-2.0
"""The crops of the official ResNet on ImageNet: any part of a picture, distorted."""

import math

import numpy as np

AREA = (0.1, 1.0)  # share of the picture that a crop has
RATIO = (0.75, 1.33)  # width to height
ATTEMPTS = 100


def draw_box(width, height, key):
    """A random part of a picture.

    Args:
        width, height: Ints, of the picture.
        key: Int >= 0, of which and of the picture's size the part is a function.

    Returns:
        `(left, top, right, bottom)`, four ints.

    Deviations:
        The official code draws a crop of 0.05 of the picture or more again where it has
        less than a tenth of the box around an object; here the object is the picture, and
        no such crop is drawn at all.

    Reference:
        - `tf.image.sample_distorted_bounding_box`, as the official ResNet calls it: the
          proportions are uniform, and the height of those that fit.
    """
    random = np.random.default_rng(key)
    for _ in range(ATTEMPTS):
        ratio = random.uniform(*RATIO)
        low, high = (round(math.sqrt(area * width * height / ratio)) for area in AREA)
        high = min(high, height, int((width + 0.5) / ratio))
        rows = int(random.integers(min(low, high), high + 1))
        columns = round(rows * ratio)
        share = rows * columns / (width * height)
        if not (AREA[0] <= share <= AREA[1] and 0 < columns <= width):
            continue
        left = int(random.integers(width - columns + 1))
        top = int(random.integers(height - rows + 1))
        return left, top, left + columns, top + rows
    return 0, 0, width, height
