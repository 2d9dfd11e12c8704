# SPDX-License-Identifier: Apache-2.0
"""Class sums of arrays: those of the operations of Keras, to the bit."""

import numpy as np
import pytest
from helpers import to_numpy
from hypothesis import given, settings
from hypothesis import strategies as st

from deepncm_tf.classifiers import LinearDiscriminant, OnlineMean
from deepncm_tf.distribution import strategies
from deepncm_tf.numerics import array_sums, statistics

C = 3
pytestmark = pytest.mark.skipif(
    statistics.bits_available() < 53, reason="JAX adds up in float32 by default"
)


def expected(x, y, dtype="float32", second_moment=False):
    is_class = (y >= 0) & (y < C)
    weights = np.eye(C, dtype="float32")[np.clip(y, 0, C - 1)] * is_class[:, None]
    with np.errstate(over="ignore"):
        return statistics.sums_of(x.astype(dtype), weights, second_moment=second_moment)


def assert_equal(found, wanted):
    for name in ("counts", "totals", "removed", "extent"):
        np.testing.assert_array_equal(
            to_numpy(getattr(found, name)), to_numpy(getattr(wanted, name)), name
        )
    assert (found.moment is None) == (wanted.moment is None)
    if wanted.moment is not None:
        np.testing.assert_array_equal(to_numpy(found.moment), to_numpy(wanted.moment))


@settings(max_examples=200, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(0, 60),
    scale=st.sampled_from([1e-6, 1.0, 500.0, 1e9]),
    block=st.sampled_from([1, 64, 2**18]),
    dtype=st.sampled_from(["float32", "float64"]),
    second=st.booleans(),
)
def test_equal_to_the_bit(seed, n, scale, block, dtype, second):
    rng = np.random.default_rng(seed)
    x = (scale * rng.normal(size=(n, 5))).astype(dtype)
    y = rng.integers(-1, C + 1, size=n)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(array_sums, "BLOCK_BYTES", block)
        patch.setattr(array_sums, "MOMENT_ROWS", 1 + block % 7)
        found = array_sums.class_sums(x, y, C, dtype, second_moment=second)
    wanted = expected(x, y, dtype, second)
    if statistics.is_exact(wanted):
        assert_equal(found, wanted)
    np.testing.assert_allclose(to_numpy(found.totals), to_numpy(wanted.totals), rtol=1e-12,
                               atol=scale * 1e-12)  # fmt: skip


def test_features_that_are_not_finite_or_too_large_for_the_grid():
    x = np.arange(40, dtype="float32").reshape(10, 4) + 0.3
    y = np.arange(10) % C
    x[2, 1], x[4, 0], x[5, 3] = np.nan, np.inf, -np.inf
    assert_equal(array_sums.class_sums(x, y, C, "float32"), expected(x, y))
    found = array_sums.class_sums(x, y, C, "float32", second_moment=True)
    assert_equal(found, expected(x, y, second_moment=True))
    x[7, 2] = 3e38  # times 2^12 is no float32
    assert_equal(array_sums.class_sums(x, y, C, "float32"), expected(x, y))
    x[:] = np.nan
    assert_equal(array_sums.class_sums(x, y, C, "float32"), expected(x, y))


def test_any_layout_and_what_arrays_are_left_to_batches():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(30, 4)).astype("float32"), rng.integers(C, size=30)
    kept = x.copy()
    for view in (np.asfortranarray(x), np.repeat(x, 2, axis=0)[::2]):
        found = array_sums.class_sums(view, y.astype("uint8"), C, "float32")
        assert_equal(found, expected(x, y))
    np.testing.assert_array_equal(x, kept)
    for features, labels in [
        (x, np.eye(C)[y]),
        (x, y.astype("float32")),
        (x, y[:-1]),
        (x.tolist(), y),
        (x[:, :, None], y),
    ]:
        assert array_sums.class_sums(features, labels, C, "float32") is None
    with strategies.get_strategy("mirrored", 2).scope():
        assert array_sums.class_sums(x, y, C, "float32") is None


def test_adapt_is_the_same_on_arrays_and_tensors():
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(50, 4)).astype("float32"), rng.integers(C, size=50)
    for cls, arguments in (
        (OnlineMean, {}),
        (OnlineMean, {"metric": "cosine"}),
        (OnlineMean, {"unit_length": True}),
        (LinearDiscriminant, {}),
        (LinearDiscriminant, {"grid_bits": 8}),
    ):
        classifiers = cls(C, **arguments), cls(C, **arguments)
        for part in (slice(0, 20), slice(20, 50)):
            classifiers[0].adapt(x[part], y[part], reset=part.start == 0)
            weights = np.ones(part.stop - part.start, "float32")
            classifiers[1].adapt(x[part], y[part], weights, reset=part.start == 0)
        for one, other in zip(*(c.variables for c in classifiers), strict=True):
            np.testing.assert_array_equal(to_numpy(one), to_numpy(other), one.path)
