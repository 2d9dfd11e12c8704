# SPDX-License-Identifier: Apache-2.0
"""A replica without a sample: kernels that fail on an empty batch never get one."""

import contextlib

import keras
import numpy as np
import pytest
from helpers import random_images
from keras import layers

from deepncm_tf import DeepNCM
from deepncm_tf.classifiers import OnlineMean
from deepncm_tf.distribution import replicas, strategies
from official_resnet import BatchNormalization, cifar_resnet

C, BATCH = 3, 8
SHAPE = (8, 8, 3)


def backbone():
    """Layers whose kernels fail, and batch normalization of either kind between them."""
    synchronized = replicas.num_replicas() > 1
    return keras.Sequential(
        [
            keras.Input(SHAPE, name="image"),
            layers.Conv2D(4, 3),
            BatchNormalization(momentum=0.9, synchronized=synchronized),
            layers.ReLU(),
            layers.DepthwiseConv2D(3, padding="same"),
            layers.BatchNormalization(momentum=0.9, synchronized=synchronized),
            layers.MaxPooling2D(2),
            layers.Conv2D(4, 1),
            layers.GlobalAveragePooling2D(),
        ]
    )


def train(num_replicas, n, dtype):
    keras.config.set_floatx(dtype)
    keras.config.set_dtype_policy(dtype)
    keras.utils.set_random_seed(3)
    images, labels = random_images(n, C, SHAPE)
    scope = contextlib.nullcontext()
    if num_replicas > 1:
        scope = strategies.get_strategy("mirrored", num_replicas).scope()
    with scope:
        shared = backbone()
        DeepNCM(shared, OnlineMean(C))  # another model of the same backbone
        model = DeepNCM(shared, OnlineMean(C), l2=0.02)
        model.compile(keras.optimizers.SGD(0.3), metrics=["accuracy"])
        fitted = model.fit(images, labels, batch_size=BATCH, verbose=0, shuffle=False)
        evaluated = model.evaluate(images, labels, batch_size=BATCH, verbose=0)
        features = model.embed(images, batch_size=BATCH, verbose=0)
    arrays = [*model.get_weights(), *fitted.history.values(), evaluated, features]
    return [np.asarray(array) for array in arrays]


@pytest.mark.parametrize(
    ("num_replicas", "n", "dtype", "tolerance"),
    [
        (2, 1, "float32", 1e-5),  # oneDNN has no kernels for float64
        *(
            pytest.param(*values, marks=pytest.mark.thorough)
            for values in (
                (2, 17, "float64", 1e-9),
                (4, 10, "float64", 1e-9),
                (4, 1, "float32", 1e-5),
            )
        ),
    ],
)
def test_replicas_without_a_sample(num_replicas, n, dtype, tolerance):
    one, many = (train(number, n, dtype) for number in (1, num_replicas))
    for expected, actual in zip(one, many, strict=True):
        np.testing.assert_allclose(actual, expected, rtol=tolerance, atol=tolerance)


def test_no_image_at_all():
    model = DeepNCM(cifar_resnet(8), OnlineMean(C))
    assert model(np.zeros((0, 32, 32, 3), "float32")).shape == (0, C)


def test_images_of_any_size():
    images, labels = random_images(BATCH + 1, C, SHAPE)
    with strategies.get_strategy("mirrored", 2).scope():
        inputs = [keras.Input((None, None, 3)), layers.Conv2D(4, 3)]
        features = keras.Sequential([*inputs, layers.GlobalAveragePooling2D()])
        model = DeepNCM(features, OnlineMean(C))
    model.compile("sgd")
    model.fit(images, labels, batch_size=BATCH, verbose=0)
    assert model.classifier.counts.numpy().sum() == BATCH + 1
