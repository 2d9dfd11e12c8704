# SPDX-License-Identifier: Apache-2.0
"""A class for each pixel: training, and weights of whole images."""

import keras
import numpy as np

from deepncm_tf import DeepNCM
from deepncm_tf.classifiers import OnlineMean, Softmax

C = 3


def test_dense_prediction():
    backbone = keras.Sequential(
        [keras.Input((6, 6, 3), name="image"), keras.layers.Conv2D(4, 3, padding="same")]
    )
    model = DeepNCM(backbone, OnlineMean(C))
    model.compile("sgd", metrics=["accuracy"])
    rng = np.random.default_rng(0)
    images = rng.normal(size=(5, 6, 6, 3)).astype("float32")
    labels = rng.integers(C, size=(5, 6, 6))
    history = model.fit(images, labels, verbose=0)
    assert np.isfinite(history.history["loss"][0])
    assert model.predict(images, verbose=0).shape == (5, 6, 6, C)
    assert model.classifier.counts.numpy().sum() == labels.size


def test_weights_of_images_in_dense_prediction():
    backbone = keras.Sequential(
        [keras.Input((4, 4, 3), name="image"), keras.layers.Conv2D(4, 3, padding="same")]
    )
    model = DeepNCM(backbone, Softmax(C))
    model.compile("sgd")
    rng = np.random.default_rng(0)
    images = rng.normal(size=(4, 4, 4, 3)).astype("float32")
    labels = rng.integers(C, size=(4, 4, 4))
    weights = np.array([0, 0, 0, 4.0], "float32")
    figures = [
        model.evaluate(images, labels, sample_weight=weights, verbose=0),
        model.evaluate(images[3:], labels[3:], verbose=0),
    ]
    np.testing.assert_allclose(figures[0], figures[1], rtol=1e-5)
