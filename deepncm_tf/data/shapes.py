# SPDX-License-Identifier: Apache-2.0
"""A set for segmentation that the program makes itself: textured shapes on a background."""

import numpy as np

SIZE = 64
CLASS_NAMES = ("background", "disc", "square", "triangle", "cross")
COLOURS = ((220, 90, 60), (70, 190, 80), (80, 110, 220), (210, 190, 60))  # of the shapes
NUMBERS = {"train": 320, "test": 80}
VOID = 255
BORDER = 1.12  # of a shape with the void around it, relative to the shape
NOISE = 8.0  # standard deviation of each value


def load():
    """The splits, the same each time.

    Returns:
        Dictionary from `"train"` and `"test"` to `(images, masks)`: uint8
        `(n, 64, 64, 3)`, and uint8 `(n, 64, 64)` of the classes, 255 at shapes' borders.
    """
    return {
        split: make(number, seed) for seed, (split, number) in enumerate(NUMBERS.items())
    }


def make(number, seed):
    """Images with one to four shapes, later ones in front of earlier ones.

    Args:
        number: Int, of images.
        seed: Int.

    Returns:
        `(images, masks)`, as from `load`.
    """
    rng = np.random.default_rng(seed)
    images = np.empty((number, SIZE, SIZE, 3), "float64")
    masks = np.zeros((number, SIZE, SIZE), "uint8")
    for image, mask in zip(images, masks, strict=True):
        image[:] = rng.uniform(40, 215, 3)
        for _ in range(rng.integers(1, 5)):
            _draw(image, mask, rng)
    images += NOISE * rng.standard_normal(images.shape)
    return np.round(images).clip(0, 255).astype("uint8"), masks


def _draw(image, mask, rng):
    label = rng.integers(1, len(CLASS_NAMES))
    centre, radius = rng.uniform(8, SIZE - 8, 2), rng.uniform(9, 17)
    angle = rng.uniform(0, 2 * np.pi)
    y, x = (np.indices((SIZE, SIZE)) - centre[:, None, None]) / radius
    u = np.cos(angle) * x + np.sin(angle) * y
    v = np.cos(angle) * y - np.sin(angle) * x
    size, wave = _shape_and_texture(label, u, v)
    dark, light = rng.uniform(0, 110, 3), COLOURS[label - 1] + rng.uniform(-45, 45, 3)
    image[size < 1] = np.where(wave[..., None] > 0, light, dark)[size < 1]
    mask[size < BORDER] = VOID
    mask[size < 1] = label


def _shape_and_texture(label, u, v):
    """How far a point is out, below 1 within the shape; and its texture, by the sign."""
    name = CLASS_NAMES[label]
    if name == "disc":
        distance = np.hypot(u, v)
        return distance, np.sin(12 * distance)
    if name == "square":
        return np.maximum(abs(u), abs(v)) / 0.85, np.sin(9 * u)
    if name == "triangle":
        down = np.maximum(-v, 0.866 * abs(u) + 0.5 * v)
        return down / 0.55, np.sin(9 * u) * np.sin(9 * v)
    arms = np.minimum(np.maximum(abs(u), abs(v) * 2.8), np.maximum(abs(v), abs(u) * 2.8))
    return arms, np.sin(7 * (u + v))
