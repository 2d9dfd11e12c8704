# SPDX-License-Identifier: Apache-2.0
"""Clustering within classes: official results, plain loops, and properties."""

import keras
import numpy as np
import pytest
from helpers import GOLDEN, to_numpy, value_and_gradient

from deepncm_tf.numerics import clustering
from deepncm_tf.numerics.clustering import ByClass, Flat

GOLDEN_SINKHORN = dict(np.load(GOLDEN / "dnc_sinkhorn.npz", allow_pickle=False))
CASES = [str(name) for name in GOLDEN_SINKHORN["case_names"]]


def plan(samples, similarities, epsilon=0.05, iterations=3, sizes=None):
    similarities = keras.ops.convert_to_tensor(similarities)
    shares = clustering.sinkhorn_plan(samples, similarities, epsilon, iterations, sizes)
    return np.exp(to_numpy(shares))


def one_class(similarities):
    return Flat(np.zeros(len(similarities), "int32"), 1)


def loop_plan(similarities, epsilon, iterations):
    """Sinkhorn-Knopp of one class in a plain loop, float64."""
    n, k = similarities.shape
    shifted = similarities.astype("float64") - similarities.max()
    q = np.exp(shifted / epsilon)
    for _ in range(iterations):
        q = q / q.sum(axis=0) / k
        q = q / q.sum(axis=1, keepdims=True) / n
    return q * n


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


@pytest.mark.parametrize("name", CASES)
def test_golden(name):
    similarities = GOLDEN_SINKHORN[f"in_{name}"]
    iterations = int(name.rpartition("_it")[2]) if "_it" in name else 3
    samples = one_class(similarities)
    soft = plan(samples, similarities, iterations=iterations)
    np.testing.assert_allclose(soft, GOLDEN_SINKHORN[f"soft_{name}"], rtol=1e-5, atol=2e-5)
    index = clustering.sinkhorn(
        keras.ops.convert_to_tensor(similarities), samples.labels, 1, iterations=iterations
    )
    if len(similarities) == 1:
        np.testing.assert_array_equal(to_numpy(index), similarities.argmax(axis=-1))
    else:
        np.testing.assert_array_equal(to_numpy(index), GOLDEN_SINKHORN[f"index_{name}"])


@pytest.fixture
def mixed():
    """Samples of four classes in any order: one class has one sample, one has none."""
    rng = np.random.default_rng(0)
    labels = rng.permutation([0] * 17 + [1] + [3] * 30).astype("int32")
    return rng.uniform(-1, 1, (len(labels), 3)).astype("float32"), labels


def test_all_classes_at_once_are_each_by_itself(mixed):
    similarities, labels = mixed
    soft = plan(Flat(labels, 4), similarities)
    for c in (0, 3):
        rows = labels == c
        expected = loop_plan(similarities[rows], 0.05, 3)
        np.testing.assert_allclose(soft[rows], expected, rtol=1e-4, atol=1e-6)
    index = to_numpy(
        clustering.sinkhorn(keras.ops.convert_to_tensor(similarities), labels, 4)
    )
    lone = labels == 1
    np.testing.assert_array_equal(index[lone], similarities[lone].argmax(axis=-1))


def test_layouts_agree(mixed):
    similarities, labels = mixed
    m = 32
    by_class = np.full((4, m, 3), 7.0, "float32")  # rubbish where there is no sample
    there = np.zeros((4, m), "float32")
    for c in range(4):
        rows = np.flatnonzero(labels == c)
        places = np.random.default_rng(c).permutation(m)[: len(rows)]
        places.sort()
        by_class[c, places] = similarities[rows]
        there[c, places] = 1
    flat = plan(Flat(labels, 4), similarities)
    ring = plan(ByClass(keras.ops.convert_to_tensor(there)), by_class)
    for c in range(4):
        np.testing.assert_allclose(ring[c][there[c] > 0], flat[labels == c], rtol=1e-5)


def test_samples_without_weight_take_no_part(mixed):
    similarities, labels = mixed
    extra = np.full((5, 3), 0.9, "float32")
    extra[2:, 0] = 60.0  # far above the others
    longer = np.concatenate([extra, similarities])
    weights = np.concatenate([np.zeros(5), np.ones(len(labels))]).astype("float32")
    with_them = Flat(np.concatenate([[0, 1, 2, 3, 0], labels]), 4, weights)
    np.testing.assert_allclose(
        plan(with_them, longer)[5:], plan(Flat(labels, 4), similarities), rtol=1e-5
    )


def test_rows_add_up_to_one_and_columns_approach_equal_shares():
    rng = np.random.default_rng(1)
    similarities = rng.uniform(-1, 1, (40, 4)).astype("float32")
    off = []
    for iterations in (1, 3, 30, 300):
        soft = plan(one_class(similarities), similarities, iterations=iterations)
        np.testing.assert_allclose(soft.sum(axis=1), 1, rtol=1e-5)
        off.append(np.abs(soft.sum(axis=0) - 10).max())
    assert off[0] > off[1] > off[2]
    assert off[3] < 1e-3


def loop_of_logarithms(similarities, epsilon, iterations):
    """The same in logarithms, which no epsilon takes to zero or infinity."""

    def log_sum(values, axis):
        highest = values.max(axis=axis, keepdims=True)
        return highest + np.log(np.exp(values - highest).sum(axis=axis, keepdims=True))

    q = similarities.astype("float64") / epsilon
    for _ in range(iterations):
        q = q - log_sum(q, 0) - np.log(q.shape[1])
        q = q - log_sum(q, 1)
    return q


@pytest.mark.parametrize("iterations", [1, 3, 10])
@pytest.mark.parametrize("epsilon", [1.0, 0.05, 1e-3, 1e-6])
def test_any_epsilon(epsilon, iterations):
    rng = np.random.default_rng(2)
    # Multiples of a power of two: no tie hangs on the rounding of similarity / epsilon.
    similarities = (rng.permutation(80).reshape(20, 4) / 64 - 0.6).astype("float32")
    samples = one_class(similarities)
    soft = plan(samples, similarities, epsilon, iterations)
    expected = loop_of_logarithms(similarities, epsilon, iterations)
    if epsilon >= 1e-3:
        np.testing.assert_allclose(soft, np.exp(expected), rtol=2e-3, atol=1e-6)
    index = clustering.assign(samples, keras.ops.convert_to_tensor(similarities), epsilon)
    expected = loop_of_logarithms(similarities, epsilon, 3)
    np.testing.assert_array_equal(to_numpy(index), expected.argmax(axis=1))


def test_permuted_samples_have_permuted_assignments(mixed):
    similarities, labels = mixed
    order = np.random.default_rng(3).permutation(len(labels))
    index = to_numpy(
        clustering.sinkhorn(keras.ops.convert_to_tensor(similarities), labels, 4)
    )
    other = clustering.sinkhorn(
        keras.ops.convert_to_tensor(similarities[order]), labels[order], 4
    )
    np.testing.assert_array_equal(to_numpy(other), index[order])


def test_classes_may_have_fewer_sub_centroids(mixed):
    similarities, labels = mixed
    sizes = [2, 1, 3, 3]
    soft = plan(Flat(labels, 4), similarities, sizes=sizes)
    for c, size in enumerate(sizes):
        rows = labels == c
        assert (soft[rows][:, size:] == 0).all()
        if rows.sum() > 1:
            expected = loop_plan(similarities[rows][:, :size], 0.05, 3)
            np.testing.assert_allclose(soft[rows][:, :size], expected, rtol=1e-4, atol=1e-6)
    index = clustering.sinkhorn(
        keras.ops.convert_to_tensor(similarities), labels, 4, sizes=sizes
    )
    assert (to_numpy(index) < np.array(sizes)[labels]).all()


def loop_kmeans(features, centroids, iterations):
    for _ in range(iterations):
        assigned = (features @ centroids.T).argmax(axis=-1)
        centroids = np.stack(
            [
                unit(features[assigned == k].sum(axis=0)) if (assigned == k).any() else p
                for k, p in enumerate(centroids)
            ]
        )
    return assigned


def test_kmeans_is_a_plain_loop_over_classes():
    rng = np.random.default_rng(4)
    labels = rng.integers(3, size=60).astype("int32")
    features = unit(rng.normal(size=(60, 5))).astype("float32")
    centroids = unit(rng.normal(size=(4, 3, 5))).astype("float32")
    x, p = (keras.ops.convert_to_tensor(a) for a in (features, centroids))
    assigned = to_numpy(clustering.kmeans(Flat(labels, 4), x, p, iterations=5))
    for c in range(3):
        rows = labels == c
        expected = loop_kmeans(features[rows].astype("float64"), centroids[c], 5)
        np.testing.assert_array_equal(assigned[rows], expected)
    rows = np.stack([np.flatnonzero(labels == c)[:8] for c in range(3)])
    by_class = ByClass(keras.ops.ones((3, 8)))
    ring = clustering.kmeans(by_class, keras.ops.take(x, rows, axis=0), p[:3], 5)
    for c in range(3):
        expected = loop_kmeans(features[rows[c]].astype("float64"), centroids[c], 5)
        np.testing.assert_array_equal(to_numpy(ring)[c], expected)


LENGTHS = (1e-33, 1e-30, 1e-19, 1e-7, 1e-3, 1.0, 1e10, 2e19, 1e30, 1e38)


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("dimensions", [1, 3, 200])
def test_unit_length_of_any_length(dimensions, compiled):
    rng = np.random.default_rng(5)
    directions = unit(rng.normal(size=(len(LENGTHS), dimensions)))
    vectors = (directions * np.array(LENGTHS)[:, None]).astype("float32")
    function = clustering.unit
    if compiled and keras.backend.backend() == "tensorflow":  # by XLA, as JAX always does
        import tensorflow as tf

        function = tf.function(function, jit_compile=True)
    found = to_numpy(function(keras.ops.convert_to_tensor(vectors)))
    np.testing.assert_allclose(np.linalg.norm(found, axis=-1), 1, rtol=1e-6)
    np.testing.assert_allclose(found, unit(vectors.astype("float64")), atol=1e-6)


def test_gradient_of_unit_length():
    """That of x / |x|, and finite also where that has none or one without bound."""
    rng = np.random.default_rng(6)
    lengths = np.array([0.0, 1e-40, *LENGTHS])[:, None]
    vectors = (unit(rng.normal(size=(len(lengths), 4))) * lengths).astype("float32")
    weights = rng.normal(size=(len(lengths), 4)).astype("float32")
    _, gradient = value_and_gradient(
        lambda x: keras.ops.sum(clustering.unit(x) * weights), vectors
    )
    assert np.isfinite(gradient).all()
    assert np.abs(gradient).max() < 1e7
    usual = (lengths[:, 0] > 1e-5) & (lengths[:, 0] < 1e36)
    units = unit(vectors[usual].astype("float64"))
    along = (units * weights[usual]).sum(axis=-1, keepdims=True)
    expected = weights[usual] - along * units
    np.testing.assert_allclose(gradient[usual] * lengths[usual], expected, atol=1e-5)
    assert (to_numpy(clustering.unit(keras.ops.zeros((2, 4)))) == 0).all()
