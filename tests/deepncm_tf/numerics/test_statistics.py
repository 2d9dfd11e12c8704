# SPDX-License-Identifier: Apache-2.0
"""Class statistics: plain sums, and exact to the bit however they were added up."""

import fractions
import functools

import keras
import numpy as np
import pytest
from helpers import to_numpy
from hypothesis import given, settings
from hypothesis import strategies as st

from deepncm_tf.distribution import strategies
from deepncm_tf.numerics import statistics

C, D, GRID = 3, 4, 10
needs_float64 = pytest.mark.skipif(
    statistics.bits_available() < 53, reason="JAX adds up in float32 by default"
)


def arrays(seed, n=40, scale=3.0):
    rng = np.random.default_rng(seed)
    x = (scale * rng.normal(size=(n, D)) + 5).astype("float32")
    return x, rng.integers(C, size=n), rng.integers(4, size=n).astype("float32")


def sums_of(x, y, w=None):
    weights = np.eye(C, dtype="float32")[y]
    if w is not None:
        weights = weights * w[:, None]
    return statistics.sums_of(x, weights, GRID, second_moment=True)


def assert_equal(one, other, names=("counts", "totals", "moment", "removed", "extent")):
    for name in names:
        np.testing.assert_array_equal(
            to_numpy(getattr(one, name)), to_numpy(getattr(other, name)), name
        )


@needs_float64
def test_sums_are_those_of_rational_arithmetic():
    x, y, w = arrays(0)
    sums = sums_of(x, y, w)
    on_grid = [[fractions.Fraction(round(float(v) * 2**GRID), 2**GRID) for v in row]
               for row in x]  # fmt: skip
    counts, totals = np.zeros(C), [[fractions.Fraction(0)] * D for _ in range(C)]
    moment = [[fractions.Fraction(0)] * D for _ in range(D)]
    for row, label, weight in zip(on_grid, y, w, strict=True):
        counts[label] += weight
        for i in range(D):
            totals[label][i] += int(weight) * row[i]
            for j in range(D):
                moment[i][j] += int(weight) * row[i] * row[j]
    np.testing.assert_array_equal(to_numpy(sums.counts), counts)
    np.testing.assert_array_equal(to_numpy(sums.totals), np.array(totals, "float64"))
    np.testing.assert_array_equal(to_numpy(sums.moment), np.array(moment, "float64"))
    largest = max(abs(v) for row, weight in zip(on_grid, w, strict=True) if weight
                  for v in row)  # fmt: skip
    np.testing.assert_array_equal(to_numpy(sums.extent), [float(largest), w.sum(), 0])
    assert statistics.is_exact(sums, GRID)


@needs_float64
@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), size=st.integers(1, 40), data=st.data())
def test_any_order_and_split_is_the_same_to_the_bit(seed, size, data):
    x, y, w = arrays(seed)
    order = np.random.default_rng(seed).permutation(len(x))
    parts = [
        sums_of(x[rows], y[rows], w[rows])
        for rows in np.split(order, range(size, len(x), size))
    ]
    whole = sums_of(x, y, w)
    assert_equal(functools.reduce(statistics.add, parts), whole)
    start = statistics.zeros(C, D, second_moment=True)
    assert_equal(statistics.add(start, whole), whole)
    gone = data.draw(st.integers(0, len(x)))
    left = statistics.subtract(whole, sums_of(x[:gone], y[:gone], w[:gone]))
    never = sums_of(x[gone:], y[gone:], w[gone:])
    assert_equal(left, never, ("counts", "totals", "moment", "removed"))


@needs_float64
def test_features_that_are_not_finite_and_samples_without_weight_take_no_part():
    x, y, w = arrays(0)
    x[3, 1], x[7] = np.nan, np.inf
    w[3] = 1.0
    keep = np.isfinite(x).all(axis=1) & (w > 0)
    assert_equal(sums_of(x, y, w), sums_of(x[keep], y[keep], w[keep]))
    assert to_numpy(sums_of(x[:0], y[:0]).extent).tolist() == [0, 0, 0]


@needs_float64
@pytest.mark.parametrize(
    ("scale", "weight", "expected"),
    [(1.0, 1.0, True), (1.0, 0.25, True), (1.0, 0.1, False), (2.0**30, 1.0, False)],
)
def test_the_bound_is_tracked(scale, weight, expected):
    x = np.float32([[1.0, 0.5, 0.0, 0.25]]) * np.float32(scale)
    one = sums_of(x, np.array([1]), np.float32([weight]))
    assert statistics.is_exact(one, GRID) is expected
    both = statistics.add(one, sums_of(x / np.float32(scale), np.array([0])))
    assert statistics.is_exact(both, GRID) is expected
    assert not expected or statistics.bits_needed(both, GRID) == pytest.approx(
        2 * GRID + np.log2(1 + weight) + (8 if weight == 0.25 else 0)
    )


@needs_float64
def test_the_bound_holds_where_float64_begins_to_round():
    """With one bit more than there is, the first odd sum is rounded."""
    x = np.full((1, 1), 2.0**11 - 2.0**-15)
    one = statistics.sums_of(x, np.ones((1, 1)), 15, second_moment=True)
    assert statistics.is_exact(one, 15)
    assert float(one.moment[0, 0]) == x[0, 0] ** 2
    two = statistics.add(one, statistics.add(one, one))
    assert not statistics.is_exact(two, 15)
    # Taking samples out does not bring back what was rounded away.
    assert not statistics.is_exact(statistics.subtract(two, one), 15)


@needs_float64
def test_first_moments_need_fewer_bits():
    x, y, _ = arrays(0)
    weights = np.eye(C, dtype="float32")[y]
    first = statistics.sums_of(x, weights, GRID)
    assert first.moment is None
    both = statistics.sums_of(x, weights, GRID, second_moment=True)
    np.testing.assert_array_equal(to_numpy(first.totals), to_numpy(both.totals))
    needed = statistics.bits_needed(first, GRID)
    assert needed == pytest.approx(
        GRID + np.log2(to_numpy(first.extent)[0]) + np.log2(len(x))
    )
    assert statistics.bits_needed(both, GRID) == pytest.approx(2 * needed - np.log2(len(x)))


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="has no replicas")
def test_replicas_in_a_graph_give_the_same_to_the_bit():
    import tensorflow as tf

    x, y, w = arrays(1, n=5)
    strategy = strategies.get_strategy("mirrored", 2)
    with strategy.scope():
        layer = keras.layers.Layer()

        def add_state(name, shape, dtype):
            return layer.add_weight(
                name=name,
                shape=shape,
                dtype=dtype,
                initializer="zeros",
                trainable=False,
                aggregation="only_first_replica",
            )

        state = statistics.ClassStatistics(add_state, C, D, second_moment=True)

    @tf.function
    def step(batch):
        state.assign(statistics.add(state.read(), sums_of_graph(*batch)))

    def sums_of_graph(x, y, w):
        weights = tf.one_hot(y, C) * w[:, None]
        return statistics.sums_of(x, weights, GRID, second_moment=True)

    data = tf.data.Dataset.from_tensor_slices((x, y, w)).batch(4)
    for batch in strategy.experimental_distribute_dataset(data):
        strategy.run(step, (batch,))
    for variable in state.variables:
        copies = [copy.numpy() for copy in variable.value.values]
        np.testing.assert_array_equal(copies[0], copies[1], variable.path)
    assert_equal(state.read(), sums_of(x, y, w))
