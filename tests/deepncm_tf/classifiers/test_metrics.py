# SPDX-License-Identifier: Apache-2.0
import keras
import numpy as np
import pytest
from helpers import to_numpy

from deepncm_tf.classifiers.metrics import DeadSubCentroids, Occupancy, RelativeMeanDistance

C, D = 4, 3


def loop(sums, counts, means):
    """Mean over the classes present of ||S/n - m||^2 / ||S/n||^2."""
    values = []
    for s, n, m in zip(sums, counts, means, strict=True):
        if n > 0:
            values.append(np.sum((s / n - m) ** 2) / np.sum((s / n) ** 2))
    return np.mean(values)


def batch(seed):
    rng = np.random.default_rng(seed)
    counts = rng.integers(3, size=C).astype("float32")
    counts[seed % C] = 1
    sums = rng.normal(size=(C, D)).astype("float32") * (counts > 0)[:, None]
    return sums, counts, rng.normal(size=(C, D)).astype("float32")


def test_average_over_batches():
    metric = RelativeMeanDistance()
    values = []
    for seed in range(5):
        metric.update_state(*batch(seed))
        values.append(loop(*batch(seed)))
        np.testing.assert_allclose(to_numpy(metric.result()), np.mean(values), rtol=1e-5)
    metric.reset_state()
    assert to_numpy(metric.result()) == 0


def test_edges():
    metric = RelativeMeanDistance()
    metric.update_state(np.zeros((C, D)), np.zeros(C), np.ones((C, D)))
    assert to_numpy(metric.count) == 0  # a batch without samples is no batch
    metric.update_state(np.ones((C, D)), np.ones(C), np.zeros((C, D)))
    assert to_numpy(metric.result()) == 1  # means at the origin
    metric.reset_state()
    metric.update_state(np.zeros((C, D)), np.ones(C), np.ones((C, D)))
    assert to_numpy(metric.count) == 0  # a batch mean of zero has no relative distance
    sums = np.zeros((C, D))
    sums[0] = 2
    metric.update_state(sums, np.ones(C), np.ones((C, D)))
    assert to_numpy(metric.result()) == 0.25  # of the one class that has


@pytest.mark.parametrize("length", [1e-30, 1e-18, 1e30, 1e38])
@pytest.mark.parametrize("mean", [0.0, 1.0, 1e38])
def test_any_length_is_finite(length, mean):
    metric = RelativeMeanDistance()
    sums = np.full((1, 2), length, "float32")
    metric.update_state(sums, np.ones(1), np.full((1, 2), mean, "float32"))
    expected = (1 - np.float32(mean) / sums[0, 0].astype("float64")) ** 2
    assert float(metric.result()) == pytest.approx(min(expected, 1e38), rel=1e-5)


def test_counts_go_on_beyond_float32():
    metric = RelativeMeanDistance()
    metric.count.assign(2.0**24)
    metric.total.assign(2.0**24)
    for _ in range(4):
        metric.update_state(np.ones((1, 1)), np.ones(1), np.full((1, 1), 3.0))
    assert float(metric.count) == 2**24 + 4
    assert float(metric.total) == 2**24 + 16
    for cls in (Occupancy, DeadSubCentroids):
        metric = cls([2, 2])
        metric.counts.assign(np.full((2, 2), 2.0**30))
        for _ in range(3):
            metric.update_state(np.ones((2, 2), "float32"))
        assert (to_numpy(metric.counts) == 2**30 + 3).all()
        assert keras.backend.standardize_dtype(metric.result().dtype) == "float32"


def test_serialization():
    metric = RelativeMeanDistance(name="distance", dtype="float64")
    again = keras.metrics.deserialize(keras.metrics.serialize(metric))
    assert (again.name, again.dtype) == ("distance", "float64")
    assert again.variables[0].dtype == "float64"


@pytest.mark.parametrize("dtype", ["float16", "int32"])
def test_inputs_are_cast(dtype):
    metric = RelativeMeanDistance()
    metric.update_state(
        np.full((1, 1), 2, dtype), np.ones(1, dtype), np.ones((1, 1), dtype)
    )
    assert to_numpy(metric.result()) == 0.25
