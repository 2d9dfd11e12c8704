# SPDX-License-Identifier: Apache-2.0
"""Counts of samples stay exact: beyond float32, in large batches, and once loaded."""

import numpy as np
import pytest
from helpers import to_numpy

from deepncm_tf.classifiers import DecayMean, MeanCondensation, OnlineMean, SubCentroids
from deepncm_tf.numerics.samples import Samples

counting = pytest.mark.parametrize(
    "make",
    [
        lambda: OnlineMean(2),
        lambda: MeanCondensation(2, condensation_steps=100),
        lambda: DecayMean(2),
        lambda: SubCentroids(2, initializer="samples"),
    ],
    ids=["online", "condensation", "decay", "dnc"],
)


@counting
def test_a_count_goes_on_beyond_float32(make):
    classifier, many = make(), 3 * 10**9
    classifier.build((None, 2))
    classifier.count.assign(np.full(2, many, "float64"))
    for _ in range(3):
        classifier.update(np.ones((3, 2), "float32"), [0, 0, 1])
    np.testing.assert_array_equal(to_numpy(classifier.count), [many + 6, many + 3])


def test_the_online_mean_follows_after_a_billion_samples():
    classifier, many = OnlineMean(1), 10.0**9
    classifier.build((None, 2))
    classifier.count.assign([many])
    classifier.total.assign(many * np.array([[1.0, -2.0]]))
    x = np.array([[3.0, 0.1]], "float32")
    for _ in range(50):
        classifier.update(x, [0], sample_weight=[20.0])
    expected = many * np.array([1.0, -2.0]) + 1000 * x[0].astype("float64")
    np.testing.assert_allclose(to_numpy(classifier.total)[0], expected, rtol=1e-13)
    np.testing.assert_allclose(
        to_numpy(classifier.means)[0], expected / (many + 1000), rtol=1e-6
    )


def test_weights_of_a_large_batch_add_up():
    n = 2**20 + 5
    weights = np.full(n, 0.1, "float32")
    samples = Samples(np.ones((n, 1), "float32"), np.ones(n, "int32"), 2, weights)
    _, counts = OnlineMean(2).class_sums(samples)
    np.testing.assert_allclose(
        to_numpy(counts), [0, n * weights.astype("float64")[0]], 1e-5
    )


@counting
def test_state_that_was_saved_in_float32_is_loaded(make):
    classifier = make()
    classifier.build((None, 2))
    variables = classifier.trainable_variables + classifier._non_trainable_variables
    store = {
        str(i): np.full(v.shape, i + 1, "float32" if v.dtype == "float64" else v.dtype)
        for i, v in enumerate(variables)
    }
    classifier.load_own_variables(store)
    for i, variable in enumerate(variables):
        assert (to_numpy(variable) == i + 1).all(), variable.path
