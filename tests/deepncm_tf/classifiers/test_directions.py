# SPDX-License-Identifier: Apache-2.0
"""Features as large as float32 goes, and rows that cancel, keep a direction."""

import keras
import numpy as np
import pytest
from helpers import to_numpy
from methods import IDS, TABLE

from deepncm_tf.classifiers import NeighborhoodComponents, Softmax, SubCentroids
from deepncm_tf.numerics import centroids
from deepncm_tf.numerics.clustering import Flat

every_method = pytest.mark.parametrize(("cls", "arguments"), TABLE, ids=IDS)


@pytest.mark.parametrize("scale", [1e10, 1e30, 3e38])
@pytest.mark.parametrize("dimensions", [1, 3])
def test_large_features_have_a_direction(scale, dimensions):
    classifier = SubCentroids(2)
    x = np.array([[1, -0.5, 0.25], [-1, 0.2, 1]], "float32")[:, :dimensions]
    classifier.build((None, dimensions))
    expected = to_numpy(classifier.unit_features(1000 * x))
    np.testing.assert_allclose(
        to_numpy(classifier.unit_features(np.float32(scale) * x)), expected, atol=1e-5
    )


@pytest.mark.parametrize("dimensions", [1, 2, 300])
def test_momentum_that_cancels_keeps_the_direction(dimensions):
    rng = np.random.default_rng(0)
    p = rng.normal(size=(1, 1, dimensions)).astype("float32")
    p /= np.linalg.norm(p)
    for off in (0.0, 1e-4, 1e-3, 1e-2, 0.1):
        x = -p[0] + off * rng.normal(size=(1, dimensions)).astype("float32")
        x /= np.linalg.norm(x, axis=-1, keepdims=True)
        moved, _ = centroids.move(
            keras.ops.convert_to_tensor(p),
            keras.ops.ones((1, 1)),
            Flat(np.zeros(1, "int32"), 1),
            keras.ops.convert_to_tensor(x),
            np.zeros(1, "int32"),
            keras.ops.ones((1,)),
            0.5,
        )
        moved = to_numpy(moved)
        assert np.linalg.norm(moved) == pytest.approx(1, abs=1e-3)
        if off == 0:
            np.testing.assert_allclose(moved, p, atol=1e-6)


def test_no_row_of_a_bank_vanishes():
    nca = NeighborhoodComponents(2, 2, momentum=0.5)
    nca.build((None, 2))
    nca.bank.assign([[1.0, 0.0], [0.0, 1.0]])
    nca.update(np.array([[-1.0, 0.0], [0.0, 1e38]], "float32"), [0, 1], index=[0, 1])
    np.testing.assert_allclose(to_numpy(nca.bank), [[1.0, 0.0], [0.0, 1.0]])


@every_method
@pytest.mark.parametrize("scale", [1e30, 3e38])
def test_logits_of_the_largest_features_are_finite(cls, arguments, scale):
    if cls is Softmax:
        pytest.skip("a product with a matrix, as in Keras")
    classifier = cls(3, **arguments)
    classifier.build((None, 4))
    x = np.float32(scale) * np.float32([[1, -1, 0.5, 1], [1, 1, 1, 1], [-1, 0, 0, 0]])
    for step in range(2):
        for training in (True, False):
            rows = {"index": [0, 1, -1]} if cls.needs_index else {}
            logits = to_numpy(classifier(x, training=training, **rows))
            assert np.isfinite(logits).all(), step
        classifier.update(x, [0, 1, 2], index=[0, 1, 2])
