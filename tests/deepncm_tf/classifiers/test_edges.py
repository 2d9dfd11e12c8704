# SPDX-License-Identifier: Apache-2.0
"""Numbers at the ends of their range: zeros, denormals, 1e38, and what has no weight."""

import keras
import numpy as np
import pytest
from helpers import to_numpy
from hypothesis import given, settings
from hypothesis import strategies as st
from methods import TABLE

from deepncm_tf.classifiers import (
    DecayMean,
    MeanCondensation,
    NeighborhoodComponents,
    OnlineMean,
    Softmax,
    SubCentroids,
)
from deepncm_tf.numerics import centroids
from deepncm_tf.numerics.clustering import Flat
from deepncm_tf.numerics.samples import Samples

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


@pytest.mark.slow
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

    @tf.function(input_signature=[tf.TensorSpec((None, 2)), whole, whole])
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


@pytest.mark.parametrize("past", [5, 2**31 - 1, 2**32 + 1])
def test_an_index_past_the_bank_takes_no_part_in_a_graph(past):
    if keras.backend.backend() != "tensorflow":
        pytest.skip("of tf.function")
    import tensorflow as tf

    nca = NeighborhoodComponents(2, 5, margin=0.1, bank_labels=[0, 0, 1, 1, 0])
    nca.build((None, 2))
    x = tf.constant([[0.6, 0.8], [1.0, 0.0]])

    @tf.function
    def step(index):
        nca.update(x, [1, 1], index)
        return nca(x, index=index), nca.loss_weights([1, 1], 2, index)

    before = to_numpy(nca.bank).copy()
    logits, weights = step(tf.constant([past, -1], "int64"))
    np.testing.assert_array_equal(to_numpy(nca.bank), before)
    np.testing.assert_array_equal(to_numpy(nca.bank_labels), [0, 0, 1, 1, 0])
    np.testing.assert_array_equal(logits, nca(x))
    np.testing.assert_array_equal(weights, [1, 1])


@pytest.mark.bad_input
@pytest.mark.parametrize("past", [5, 2**32 + 1])
@pytest.mark.parametrize("make", [list, np.array, keras.ops.convert_to_tensor])
def test_an_index_past_the_bank_is_refused(make, past):
    nca = NeighborhoodComponents(2, 5)
    nca.build((None, 2))
    x, index = np.eye(2, dtype="float32"), make(np.array([0, past]))
    for function in (
        lambda: nca(x, index=index),
        lambda: nca.update(x, [0, 1], index),
        lambda: nca.loss_weights([0, 1], 2, index),
    ):
        with pytest.raises(ValueError, match=f"below `bank_size`=5, .* {past}"):
            function()


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
