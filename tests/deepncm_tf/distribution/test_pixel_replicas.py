# SPDX-License-Identifier: Apache-2.0
"""Segmentation on two replicas, or in parts of a batch, is that on one device."""

import contextlib

import keras
import numpy as np
import pytest
import tensorflow as tf
from small_segmenters import C, images_and_masks, segmenter

from deepncm_tf.classifiers import DecayMean, SubCentroids
from deepncm_tf.data import mask_pipeline
from deepncm_tf.distribution import strategies

BATCH, EPOCHS = 4, 3
THOROUGH = pytest.mark.thorough
DNC = {"num_sub_centroids": 3, "momentum": 0.9, "max_samples": 6}
FCN = {"decoder": "fcn", "decoder_width": 5}
LOSSES = {"auxiliary_weight": 0.4, "contrast_weight": 0.1, "distance_weight": 0.1}
METHODS = {
    "DNC": (SubCentroids, DNC, {}),
    "DNC, all losses": (SubCentroids, DNC, {**FCN, **LOSSES}),
    "DecayMean": (DecayMean, {}, FCN),
}


def scope(num_replicas):
    if num_replicas == 1:
        return contextlib.nullcontext()
    return strategies.get_strategy("mirrored", num_replicas).scope()


def train(method, num_replicas):
    """Of five images the last batch has one: a replica gets none."""
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
    data = images_and_masks(5)
    cls, arguments, options = METHODS[method]
    with scope(num_replicas):
        keras.utils.set_random_seed(3)
        model = segmenter(
            cls(C, **arguments),
            normalize=True,
            dropout=0.0,
            gradient_clip=0.02,
            l2=2e-2,
            **options,
        )
        history = model.fit(
            mask_pipeline.training_dataset(*data, BATCH, EPOCHS),
            epochs=EPOCHS,
            steps_per_epoch=2,
            validation_data=mask_pipeline.evaluation_dataset(*data, BATCH),
            validation_steps=2,
            shuffle=False,
            verbose=0,
        ).history
    return model, history


@pytest.mark.parametrize(
    "method", ["DNC", *(pytest.param(x, marks=THOROUGH) for x in list(METHODS)[1:])]
)
def test_two_replicas_are_as_one(method):
    one, history = train(method, 1)
    two, replica_history = train(method, 2)
    for a, b in zip(two.get_weights(), one.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9)
    assert set(history) == set(replica_history)
    assert {"loss", "mean_iou", "accuracy", "val_mean_iou"} <= set(history)
    for name in history:
        np.testing.assert_allclose(replica_history[name], history[name], rtol=1e-6)
    for variable in two.variables:
        first, second = (copy.numpy() for copy in variable.value.values)
        np.testing.assert_array_equal(first, second, err_msg=variable.path)


@pytest.mark.parametrize(
    ("parts", "num_replicas"),
    [
        (2, 1),
        (7, 1),  # of which two have no image
        pytest.param(3, 2, marks=THOROUGH),  # one replica has no image in its first part
    ],
)
def test_losses_of_sub_centroids_in_parts_are_those_of_the_whole(parts, num_replicas):
    images, masks = images_and_masks(5)
    masks[:2, 2:] = 255  # almost all of the first part
    data = tf.data.Dataset.from_tensor_slices((images.astype("float32"), masks)).batch(5)
    weights = {"contrast_weight": 1.0, "distance_weight": 1.0}
    results = []
    for steps, number in ((1, 1), (parts, num_replicas)):
        with scope(number):
            keras.utils.set_random_seed(3)
            model = segmenter(SubCentroids(C, 1), accumulate_steps=steps, **weights)
            history = model.fit(data, epochs=2, shuffle=False, verbose=0).history
        results.append([*model.get_weights(), history["loss"]])
    for a, b in zip(*results, strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-4, atol=1e-5)
