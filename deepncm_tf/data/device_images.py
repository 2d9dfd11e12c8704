# SPDX-License-Identifier: Apache-2.0
"""Training images that stay on the device, where their batches are made."""

import keras
import tensorflow as tf

from deepncm_tf.data.augmentation import AUGMENTATIONS
from deepncm_tf.data.pipeline import SCALINGS


def check_backend():
    """Raises a `ValueError` where no step of TensorFlow takes images from the device."""
    if keras.backend.backend() != "tensorflow":
        raise ValueError(
            "--device_dataset needs Keras's TensorFlow backend. Received: KERAS_BACKEND="
            f"{keras.backend.backend()!r}"
        )


class DeviceImages:
    """Makes batches of images on the device that has all of them.

    The host then sends what was drawn for an image, some bytes, and not the image. Under a
    strategy, create it within its scope: each replica has a copy.

    Args:
        images: uint8 `(n, height, width, channels)`, an array or an `ImageSource`.
        augmentation, scaling: As in `pipeline.training_dataset`.
    """

    def __init__(self, images, augmentation="standard", scaling="standardized"):
        # A source is no array, and TensorFlow would take it for a list of numbers, int32.
        self.images = tf.Variable(images[:], trainable=False)
        chosen = AUGMENTATIONS[augmentation]
        self.augment = chosen.on_device or chosen.augment
        self.scale = SCALINGS[scaling]

    def __call__(self, x):
        """A batch of `pipeline.training_dataset(..., on_device=True)`, with its images.

        Args:
            x: Dictionary: `"image"`, a tuple of what was drawn; `"index"`, int32
                `(batch,)`, rows of the images.

        Returns:
            Dictionary: `"image"`, float32 `(batch, height, width, channels)`; `"index"`.
        """
        images = tf.gather(self.images, x["index"])
        return {**x, "image": self.scale(self.augment(images, *x["image"]))}
