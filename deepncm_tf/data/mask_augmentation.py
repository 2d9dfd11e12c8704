# SPDX-License-Identifier: Apache-2.0
"""The augmentation of segmentation: scale, crop, mirroring and colours of images and masks.

All of it works on whole batches, and is a function of numbers drawn beforehand.
"""

import math

import tensorflow as tf

from deepncm_tf.data.colour_augmentation import jitter
from deepncm_tf.data.mask_files import VOID

DRAWS = 8  # numbers per image
HUE = 0.125  # of the range that `jitter` has: 0.05 of the circle to either side
PADDING = 127.0  # value around an image that is smaller than the crop


def draw(num_samples, seed, epoch):
    """Numbers in [0, 1) for the augmentation of an epoch: float32 `(n, 8)`.

    Args:
        num_samples: Int.
        seed: Int.
        epoch: Int or scalar int tensor, counted from 0.
    """
    seeds = tf.random.split([seed, tf.cast(epoch, tf.int32)], num=5)
    return tf.random.stateless_uniform((num_samples, DRAWS), seeds[4])


def augment(images, masks, draws, max_scale=2.0, mirrored=True):
    """Scales, crops, mirrors and recolours images, and their masks alike.

    Args:
        images: `(batch, height, width, 3)`, values 0..255, of any numeric dtype.
        masks: `(batch, height, width)` integers.
        draws: float32 `(batch, 8)` in [0, 1): scale, row and column of the crop, mirroring,
            brightness, contrast, saturation, hue.
        max_scale: Float >= 1; images are scaled by 1 / max_scale to max_scale, evenly
            in the logarithm.
        mirrored: Bool, whether images may be mirrored.

    Returns:
        float32 images and int32 masks of the same shapes; 255 where the crop is wider than
        the image.
    """
    scale, row, column, mirror, *colours, hue = tf.unstack(draws, axis=1)
    boxes = _boxes(scale, row, column, mirror, max_scale, mirrored)
    places, size = tf.range(tf.shape(images)[0]), images.shape[1:3]
    images = tf.image.crop_and_resize(
        tf.cast(images, tf.float32), boxes, places, size, extrapolation_value=PADDING
    )
    masks = tf.image.crop_and_resize(
        tf.cast(masks, tf.float32)[..., None],
        boxes,
        places,
        size,
        method="nearest",
        extrapolation_value=VOID,
    )
    images = jitter(images, *colours, 0.5 + HUE * (hue - 0.5))
    return images, tf.cast(masks[..., 0], tf.int32)


def _boxes(scale, row, column, mirror, max_scale, mirrored):
    """Corners of the crops, in shares of the image; the left one right where mirrored."""
    length = tf.exp(math.log(max_scale) * (1.0 - 2.0 * scale))  # of the crop
    top, left = row * (1.0 - length), column * (1.0 - length)
    bottom, right = top + length, left + length
    swap = tf.logical_and(mirrored, mirror < 0.5)
    left, right = tf.where(swap, right, left), tf.where(swap, left, right)
    return tf.stack([top, left, bottom, right], axis=1)
