# SPDX-License-Identifier: Apache-2.0
"""The augmentations: of each, what is drawn for an epoch, and what becomes of images."""

import dataclasses
import functools
from collections.abc import Callable

import tensorflow as tf

from deepncm_tf.data import colour_augmentation

PADDING = 8  # the part of an image's height that it is padded by on each side: 4 of 32


def draw_crops(num_samples, seed, epoch, flip, image_size=32):
    """Crops of an epoch, for `crop_and_mirror`.

    Args:
        num_samples: Int.
        seed: Int.
        epoch: Int or scalar int tensor, counted from 0.
        flip: Bool, whether images may be mirrored.
        image_size: Int, their height.

    Returns:
        `(offsets, flips)`: for each position in the epoch int32 `(n, 2)` and bool `(n,)`.
    """
    seeds = tf.random.split([seed, tf.cast(epoch, tf.int32)], num=3)
    offsets = tf.random.stateless_uniform(
        (num_samples, 2), seeds[1], maxval=2 * padding(image_size) + 1, dtype=tf.int32
    )
    flips = tf.random.stateless_uniform((num_samples,), seeds[2]) < 0.5
    return offsets, flips if flip else tf.zeros_like(flips)


def crop_and_mirror(images, offsets, flips, mode="CONSTANT"):
    """Pads each image by an eighth, crops it at a given place and mirrors it where asked.

    Args:
        images: `(batch, height, width, channels)`.
        offsets: int32 `(batch, 2)`, row and column of the crop, 0..8 for a height of 32.
        flips: bool `(batch,)`.
        mode: String, that of `tf.pad`: `"CONSTANT"` for black, or `"REFLECT"`.

    Returns:
        Images of the same shape and dtype.
    """
    height, width = images.shape[1:3]
    both = [padding(height)] * 2
    padded = tf.pad(images, [[0, 0], both, both, [0, 0]], mode)
    rows = offsets[:, :1] + tf.range(height)  # (batch, height)
    columns = tf.range(width)
    columns = tf.where(flips[:, None], width - 1 - columns, columns)
    columns = offsets[:, 1:] + columns  # (batch, width)
    # Two gathers of whole images: no per-image operation, and no float until the end.
    cropped = tf.gather(padded, rows, axis=1, batch_dims=1)
    return tf.gather(cropped, columns, axis=2, batch_dims=1)


def padding(image_size):
    """Pixels on each side of an image of a height."""
    return max(image_size // PADDING, 1)


def draw_keys(num_samples, seed, epoch, flip, image_size=None):
    """What crops of whole pictures are a function of, and whether images are mirrored.

    Args:
        num_samples, seed, epoch, flip: As for `draw_crops`.
        image_size: Of no use here: crops are parts of the pictures as they are.

    Returns:
        `(keys, flips)`: int32 `(n,)` and bool `(n,)`.
    """
    seeds = tf.random.split([seed, tf.cast(epoch, tf.int32)], num=3)
    keys = tf.random.stateless_uniform(
        (num_samples,), seeds[1], maxval=2**31 - 1, dtype=tf.int32
    )
    flips = tf.random.stateless_uniform((num_samples,), seeds[2]) < 0.5
    return keys, flips if flip else tf.zeros_like(flips)


def mirror(images, flips):
    """Mirrors images `(batch, height, width, channels)` where flips `(batch,)` say so."""
    # A strided slice and a condition that is spread over pixels take much longer.
    return tf.compat.v1.where(flips, tf.reverse(images, axis=[2]), images)


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """An augmentation.

    Args:
        draw: Function that draws tensors with a row for each position of an epoch.
        augment: Function of images and such rows.
        crops_files: Bool, whether the first of the tensors holds keys of crops that are
            taken of a picture before it gets its size, see `ImageSource.crops`.
        on_device: Function in place of `augment` in a training step, where XLA cannot
            compile that one.
    """

    draw: Callable
    augment: Callable
    crops_files: bool = False
    on_device: Callable | None = None


AUGMENTATIONS = {
    "standard": Augmentation(draw_crops, crop_and_mirror),
    "reflect": Augmentation(draw_crops, functools.partial(crop_and_mirror, mode="REFLECT")),
    "snca": Augmentation(
        colour_augmentation.draw,
        colour_augmentation.augment,
        on_device=functools.partial(colour_augmentation.augment, on_device=True),
    ),
    "imagenet": Augmentation(draw_keys, mirror, crops_files=True),
}
