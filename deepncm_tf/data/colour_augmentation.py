# SPDX-License-Identifier: Apache-2.0
"""The augmentation of SNCA: random crops of any size, colours, gray, mirrored.

All of it works on whole batches, and is a function of numbers drawn beforehand.
"""

import math

import tensorflow as tf

AREA = (0.2, 1.0)  # share of the image that a crop has
RATIO = (3 / 4, 4 / 3)  # width to height
JITTER = 0.4  # of brightness, contrast, saturation and hue
GRAY = 0.2  # probability
GRAY_WEIGHTS = (0.299, 0.587, 0.114)
DRAWS = 10  # numbers per image


def draw(num_samples, seed, epoch, flip, image_size=None):
    """Numbers in [0, 1) for the augmentation of an epoch.

    Args:
        num_samples: Int.
        seed: Int.
        epoch: Int or scalar int tensor, counted from 0.
        flip: Bool, whether images may be mirrored.
        image_size: Of no use here: crops are shares of an image.

    Returns:
        A tuple of one tensor, float32 `(n, 10)`.
    """
    seeds = tf.random.split([seed, tf.cast(epoch, tf.int32)], num=4)
    draws = tf.random.stateless_uniform((num_samples, DRAWS), seeds[3])
    if not flip:
        draws = tf.concat([draws[:, :-1], tf.ones((num_samples, 1))], axis=1)
    return (draws,)


def augment(images, draws, on_device=False):
    """Crops, colours and mirrors images.

    Args:
        images: `(batch, height, width, 3)`, values 0..255, of any numeric dtype.
        draws: float32 `(batch, 10)` in [0, 1): area, ratio, row and column of the crop,
            brightness, contrast, saturation, hue, gray, mirroring.
        on_device: Bool, whether to take operations that XLA can compile.

    Returns:
        float32 images of the same shape, values 0..255.

    Deviations:
        The original draws a crop again where it does not fit, and takes the colour
        operations in random order; here a crop is cut to what fits, and their order is
        brightness, contrast, saturation, hue.

    Reference:
        - Wu, Efros, Yu, "Improving Generalization via Scalable Neighborhood Component
          Analysis", ECCV 2018, section 4.1 and the code released with it.
    """
    area, ratio, row, column, *colours, gray, mirror = tf.unstack(draws, axis=1)
    crop_images = crop_by_gathers if on_device else crop
    images = crop_images(tf.cast(images, tf.float32), area, ratio, row, column)
    return _recolour(images, colours, gray, mirror)


@tf.function(jit_compile=True)  # few passes over the pixels, not one for each operation
def _recolour(images, colours, gray, mirror):
    images = jitter(images, *colours)
    images = tf.where(_wide(gray < GRAY), to_gray(images), images)
    return tf.where(_wide(mirror < 0.5), images[:, :, ::-1], images)


def crop(images, area, ratio, row, column):
    """Parts of images in the size of the whole, with bilinear interpolation.

    Args:
        images: float32 `(batch, height, width, channels)`.
        area, ratio, row, column: `(batch,)` in [0, 1), draws.
    """
    boxes = tf.stack(_boxes(area, ratio, row, column), axis=1)
    return tf.image.crop_and_resize(
        images, boxes, tf.range(tf.shape(images)[0]), images.shape[1:3]
    )


def crop_by_gathers(images, area, ratio, row, column):
    """`crop` in operations that XLA has, too; on a host they take longer."""
    top, left, bottom, right = _boxes(area, ratio, row, column)
    return _part(_part(images, left, right, axis=2), top, bottom, axis=1)


def _boxes(area, ratio, row, column):
    """Top, left, bottom and right of crops, in shares of the image."""
    area = AREA[0] + (AREA[1] - AREA[0]) * area
    low, high = (math.log(value) for value in RATIO)
    ratio = tf.exp(low + (high - low) * ratio)
    height = tf.minimum(tf.sqrt(area / ratio), 1.0)
    width = tf.minimum(tf.sqrt(area * ratio), 1.0)
    top, left = row * (1.0 - height), column * (1.0 - width)
    return top, left, top + height, left + width


def _part(images, start, end, axis):
    """A part of an axis, stretched to all of it."""
    size = images.shape[axis]
    step = (end - start) * (size - 1) / (size - 1)  # rounded as `crop_and_resize` does
    places = start[:, None] * (size - 1) + step[:, None] * tf.range(size, dtype="float32")
    before = tf.clip_by_value(tf.floor(places), 0, size - 1)
    after = tf.clip_by_value(before + 1, 0, size - 1)
    share = places - before
    share = share[:, :, None, None] if axis == 1 else share[:, None, :, None]
    one, other = (
        tf.gather(images, tf.cast(rows, "int32"), axis=axis, batch_dims=1)
        for rows in (before, after)
    )
    return one + (other - one) * share


def jitter(images, brightness, contrast, saturation, hue):
    """Changes colours; the four draws `(batch,)` in [0, 1) are centred on no change."""
    images = _clip(images * _factor(brightness))
    mean = tf.reduce_mean(to_gray(images), axis=[1, 2, 3], keepdims=True)
    images = _clip(mean + (images - mean) * _factor(contrast))
    gray = to_gray(images)
    images = _clip(gray + (images - gray) * _factor(saturation))
    hsv = tf.image.rgb_to_hsv(images / 255.0)
    turned = tf.math.floormod(hsv[..., :1] + _wide(JITTER * (2.0 * hue - 1.0)), 1.0)
    return 255.0 * tf.image.hsv_to_rgb(tf.concat([turned, hsv[..., 1:]], axis=-1))


def to_gray(images):
    """Luma in all three channels."""
    gray = tf.reduce_sum(images * tf.constant(GRAY_WEIGHTS), axis=-1, keepdims=True)
    return tf.broadcast_to(gray, tf.shape(images))


def _factor(draw):
    return _wide(1.0 + JITTER * (2.0 * draw - 1.0))


def _wide(values):
    return values[:, None, None, None]


def _clip(images):
    return tf.clip_by_value(images, 0.0, 255.0)
