# SPDX-License-Identifier: Apache-2.0
"""Masks as colours over images."""

import colorsys

import numpy as np
from PIL import Image

GOLDEN = 0.618034  # steps of hue by which neighbours in the list differ most
OPACITY = 0.6
VOID = 255


def palette(number):
    """Colours of classes: uint8 `(number, 3)`, the same for every number."""
    colours = [
        colorsys.hsv_to_rgb(
            (i * GOLDEN) % 1.0, 0.9 - 0.3 * (i % 2), 0.95 - 0.35 * (i % 3 > 1)
        )
        for i in range(number)
    ]
    return np.round(255 * np.array(colours)).astype("uint8")


def overlay(image, mask, colours):
    """A mask's colours over its image; void pixels are as they are.

    Args:
        image: uint8 `(h, w, 3)`.
        mask: Integers `(h, w)`, classes, 255 for void.
        colours: uint8 `(number, 3)`.

    Returns:
        uint8 `(h, w, 3)`.
    """
    mask = np.asarray(mask)
    known = mask != VOID
    mixed = image.astype("float64")
    over = OPACITY * colours[np.where(known, mask, 0)] + (1.0 - OPACITY) * mixed
    mixed[known] = over[known]
    return np.round(mixed).astype("uint8")


def rows(images, masks, predictions, colours):
    """For each image a list of three pictures: itself, the truth and the prediction.

    Args:
        images, masks, predictions: `(n, h, w, 3)`, `(n, h, w)` and `(n, h, w)` arrays.
        colours: As in `overlay`.
    """
    return [
        [image, overlay(image, mask, colours), overlay(image, predicted, colours)]
        for image, mask, predicted in zip(images, masks, predictions, strict=True)
    ]


def marked(image, pixel):
    """An image with a cross around a pixel, white with a dark edge.

    Args:
        image: uint8 `(h, w, 3)`.
        pixel: `(row, column)`.
    """
    image = image.copy()
    rows, columns = np.indices(image.shape[:2])
    down, right = abs(rows - pixel[0]), abs(columns - pixel[1])
    length = max(4, max(image.shape[:2]) // 20)
    for width, value in ((2, 0), (1, 255)):
        near, far = np.minimum(down, right), np.maximum(down, right)
        arm = (near < width) & (far > 1) & (far < length + width)
        image[arm] = value
    return image


def enlarged(gray, size):
    """A gray map in the size of images, each of its pixels a block: uint8 `(h, w, 3)`."""
    picture = Image.fromarray(gray).resize(size[::-1], Image.Resampling.NEAREST)
    return np.asarray(picture.convert("RGB"))
