# SPDX-License-Identifier: Apache-2.0
"""Maps in another size, against TensorFlow's and Keras's own."""

import keras
import numpy as np
import pytest

from deepncm_tf.numerics import resizing


@pytest.fixture
def maps():
    return np.random.default_rng(0).normal(size=(2, 5, 7, 3)).astype("float32")


@pytest.mark.parametrize("size", [(5, 7), (20, 28), (13, 9), (1, 1), (2, 3)])
def test_resize(maps, size):
    expected = keras.ops.image.resize(maps, size, interpolation="bilinear", antialias=False)
    np.testing.assert_allclose(resizing.resize(maps, size), expected, atol=1e-5)


@pytest.mark.parametrize("size", [(1, 1), (2, 2), (3, 3), (5, 7)])
def test_pool(maps, size):
    expected = keras.layers.AdaptiveAveragePooling2D(size)(maps)
    np.testing.assert_allclose(resizing.pool(maps, size), expected, atol=1e-5)


@pytest.mark.parametrize(("old", "new"), [((8, 12), (4, 3)), ((180, 240), (23, 30))])
def test_labels_are_those_at_the_centres(old, new):
    labels = np.arange(np.prod(old)).reshape(1, *old)
    found = np.asarray(resizing.at_size(labels, new))
    assert found.shape == (1, *new)
    for i in range(new[0]):
        for j in range(new[1]):
            row = int((i + 0.5) * old[0] / new[0])
            column = int((j + 0.5) * old[1] / new[1])
            assert found[0, i, j] == labels[0, row, column]


def test_wide_floats_stay_wide(maps):
    assert resizing.resize(keras.ops.cast(maps, "float64"), (9, 9)).dtype == "float64"
