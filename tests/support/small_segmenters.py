# SPDX-License-Identifier: Apache-2.0
"""Segmenters with few parameters, and images whose pixels show their class."""

import keras
import numpy as np

C, SHAPE = 3, (12, 16, 3)


def maps(normalize=False):
    """A backbone with two stages, of strides 2 and 4."""
    from official_resnet.normalization import batch_normalization

    image = keras.Input(SHAPE, name="image")
    fine = keras.layers.Conv2D(4, 3, 2, padding="same")(image)
    if normalize:
        fine = keras.layers.ReLU()(batch_normalization(0.9, 1e-3)(fine))
    return keras.Model(image, [fine, keras.layers.Conv2D(6, 3, 2, padding="same")(fine)])


def decoder():
    """A decoder without normalization, so that parts of a batch are as the whole."""
    fine, coarse = keras.Input((6, 8, 4)), keras.Input((3, 4, 6))
    return keras.Model([fine, coarse], keras.layers.Conv2D(5, 1)(coarse))


def segmenter(classifier, compile=True, normalize=False, **kwargs):
    from deepncm_tf.models.pixel_metrics import metrics
    from deepncm_tf.models.segmenter import Segmenter

    kwargs.setdefault("decoder", decoder())
    model = Segmenter(maps(normalize), classifier, **kwargs)
    if compile:
        model.compile(
            keras.optimizers.SGD(0.1, momentum=0.9), metrics=metrics(C, model.ignore_class)
        )
    return model


def images_and_masks(n, seed=0):
    """uint8 images in three stripes and their masks, with some void pixels."""
    rng = np.random.default_rng(seed)
    masks = rng.integers(C, size=(n, 3, 4)).repeat(4, axis=1).repeat(4, axis=2)
    images = rng.integers(60, size=(n, *SHAPE)) + 60 * masks[..., None]
    masks[rng.random(masks.shape) < 0.2] = 255
    return images.astype("uint8"), masks.astype("uint8")
