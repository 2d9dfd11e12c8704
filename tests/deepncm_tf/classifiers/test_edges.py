# SPDX-License-Identifier: Apache-2.0
"""Numbers at the ends of their range: zeros, denormals, 1e38, and what has no weight."""

import keras
import numpy as np
import pytest
from helpers import to_numpy
from hypothesis import given, settings
from hypothesis import strategies as st
from methods import TABLE

from deepncm_tf.classifiers import NeighborhoodComponents, SubCentroids

POLICIES = ("float32", "mixed_bfloat16", "mixed_float16", "float64")
SIZES = (1, 3)  # of C and K
FINITE = (0.0, -0.0, 1e-45, 1e-38, 1e-30, -1e-30, 1e-7, 0.5, -0.5, 1.0, 1e19, 1e38, -1e38)
NOT_FINITE = (np.nan, np.inf, -np.inf)
MAX_D = 5

finite = st.lists(st.sampled_from(FINITE), min_size=MAX_D, max_size=MAX_D)
any_numbers = st.lists(st.sampled_from(FINITE + NOT_FINITE), min_size=MAX_D, max_size=MAX_D)
weighted = st.sampled_from((1e-3, 0.5, 1.0, 2.0))
label = st.integers(-1, max(SIZES))  # those outside 0..C-1 take no part
sample = st.one_of(
    st.tuples(finite, label, weighted),
    st.tuples(any_numbers, label, st.just(0.0)),
    st.tuples(any_numbers, st.just(-1), weighted),
)
batches = st.lists(st.lists(sample, max_size=4), min_size=1, max_size=3)
examples = given(
    method=st.sampled_from(TABLE),
    policy=st.sampled_from(POLICIES),
    num_classes=st.sampled_from(SIZES),
    size=st.sampled_from(SIZES),
    dimensions=st.sampled_from((1, 2, MAX_D)),
    batches=batches,
)


def check(method, policy, num_classes, size, dimensions, batches):
    cls, arguments = method
    if cls is SubCentroids:
        arguments = {**arguments, "num_sub_centroids": size}
        arguments |= {"momentum": 0.5, "feature_norm": None}
    classifier = cls(num_classes, dtype=policy, **arguments)
    classifier.build((None, dimensions))
    counts = np.zeros(num_classes)
    for batch in batches:
        x = np.array([x[:dimensions] for x, _, _ in batch], "float32")
        x = x.reshape(-1, dimensions)
        y = np.array([y for _, y, _ in batch], "int32")
        w = np.array([w for _, _, w in batch], "float32")
        index = np.arange(len(x), dtype="int32")
        classifier.update(x, y, index, w)
        classifier.update_metrics(x, y, w)
        takes_part = (y >= 0) & (y < num_classes) & (w > 0)
        counted = takes_part if cls is SubCentroids else w * takes_part
        np.add.at(counts, y[takes_part], counted[takes_part])
        if cls is NeighborhoodComponents:
            rows = to_numpy(classifier.bank)[index[takes_part]]
            np.testing.assert_allclose(np.linalg.norm(rows, axis=-1), 1, atol=1e-5)
    for variable in classifier.variables:
        assert np.isfinite(to_numpy(variable)).all(), variable.path
    if cls is SubCentroids:
        lengths = np.linalg.norm(to_numpy(classifier.sub_centroids), axis=-1)
        np.testing.assert_allclose(lengths, 1, atol=1e-3)
        np.testing.assert_array_equal(to_numpy(classifier.count), counts)
    elif hasattr(classifier, "counts") and "condensation_steps" not in arguments:
        np.testing.assert_allclose(to_numpy(classifier.counts), counts, rtol=1e-6)


@settings(max_examples=40, deadline=None)
@examples
def test_any_update_leaves_a_sound_state(**case):
    check(**case)


@pytest.mark.thorough
@settings(max_examples=1000, deadline=None)
@examples
def test_many_updates_leave_a_sound_state(**case):
    check(**case)


every_method = pytest.mark.parametrize(
    ("cls", "arguments"), TABLE, ids=[cls.__name__ for cls, _ in TABLE]
)


@every_method
@pytest.mark.parametrize("value", NOT_FINITE)
@pytest.mark.parametrize("why", ["weight", "label", "features"])
def test_a_sample_that_takes_no_part_may_be_anything(cls, arguments, value, why):
    one, other = cls(3, **arguments), cls(3, **arguments)
    x = np.random.default_rng(0).normal(size=(4, 2)).astype("float32")
    index, weights = np.arange(4, dtype="int32"), np.ones(4, "float32")
    labels = np.array([0, 1, 2, 1])
    if why == "label":
        labels[1] = 255
    for classifier in (one, other):
        classifier.build((None, 2))
    for variable, start in zip(other.variables, one.variables, strict=True):
        variable.assign(start)
    for classifier, filling in ((one, 0.0), (other, value)):
        x[1] = filling
        weights[1] = why == "label" or (why == "features" and classifier is other)
        classifier.update(x, labels, index, weights)
        classifier.update_metrics(x, labels, weights)
    for a, b in zip(one.variables, other.variables, strict=True):
        assert np.isfinite(to_numpy(b)).all(), b.path
        np.testing.assert_array_equal(to_numpy(a), to_numpy(b), b.path)


@every_method
def test_empty_batches_in_a_graph(cls, arguments):
    if keras.backend.backend() != "tensorflow":
        pytest.skip("other backends know the size of a batch")
    import tensorflow as tf

    classifier = cls(3, **arguments)
    classifier.build((None, 2))

    whole = tf.TensorSpec((None,), tf.int32)

    @tf.function(input_signature=[tf.TensorSpec((None, 2)), whole, whole], autograph=False)
    def step(x, y, index):
        rows = {"index": index} if cls.needs_index else {}
        logits = classifier(x, training=True, **rows)
        classifier.update(x, y, index)
        classifier.update_metrics(x, y)
        classifier.loss_weights(y, 2, index)
        return logits

    before = [to_numpy(v) for v in classifier.variables if v.dtype != "int32"]
    empty = np.zeros(0, "int32")
    logits = step(np.zeros((0, 2), "float32"), empty, empty)
    assert tuple(logits.shape) == (0, 3)
    after = [to_numpy(v) for v in classifier.variables if v.dtype != "int32"]
    if cls is not SubCentroids:  # whose sub-centroids get unit length
        for a, b in zip(before, after, strict=True):
            np.testing.assert_array_equal(a, b)
