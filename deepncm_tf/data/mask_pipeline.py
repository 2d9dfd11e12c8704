# SPDX-License-Identifier: Apache-2.0
"""Batches of images and masks; order and augmentation as `pipeline` has them."""

import tensorflow as tf

from deepncm_tf.data import mask_augmentation
from deepncm_tf.data.pipeline import (
    SCALINGS,
    epochs_dataset,
    gatherer,
    ordered_dataset,
)


def training_dataset(
    images,
    masks,
    batch_size,
    epochs,
    seed=0,
    initial_epoch=0,
    initial_batch=0,
    max_scale=2.0,
    mirrored=True,
    scaling="standardized",
):
    """Shuffled and augmented batches of all epochs, one after the other.

    Args:
        images, masks: uint8 `(n, height, width, 3)` and `(n, height, width)`, arrays or
            `ImageSource`s.
        batch_size, epochs, seed, initial_epoch, initial_batch: As in
            `pipeline.training_dataset`.
        max_scale, mirrored: As in `mask_augmentation.augment`.
        scaling: As in `pipeline.training_dataset`.

    Returns:
        Dataset of `(image, mask)`, float32 and int32.
    """
    gather_images, gather_masks = gatherer(images), gatherer(masks)
    num_samples, scale = len(masks), SCALINGS[scaling]

    def batches(epoch):
        draws = mask_augmentation.draw(num_samples, seed, epoch)

        def batch(rows, index):
            image, mask = mask_augmentation.augment(
                gather_images(index),
                gather_masks(index),
                tf.gather(draws, rows),
                max_scale,
                mirrored,
            )
            return scale(image), mask

        return batch

    place = (initial_epoch, initial_batch)
    return epochs_dataset(batches, num_samples, batch_size, epochs, seed, *place)


def evaluation_dataset(images, masks, batch_size, scaling="standardized"):
    """Batches of whole images in order, once.

    Args:
        images, masks, batch_size, scaling: As in `training_dataset`.
    """
    gather_images, gather_masks = gatherer(images), gatherer(masks)
    scale = SCALINGS[scaling]

    def batch(rows):
        return scale(gather_images(rows)), tf.cast(gather_masks(rows), tf.int32)

    return ordered_dataset(batch, len(masks), batch_size)
