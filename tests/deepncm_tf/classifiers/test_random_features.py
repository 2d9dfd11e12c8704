# SPDX-License-Identifier: Apache-2.0
"""Ridge regression on random features against its equations, and at the edges."""

import math

import numpy as np
import pytest
from helpers import to_numpy

from deepncm_tf.classifiers import RandomFeatures
from deepncm_tf.classifiers.random_features import HELD_OUT, RIDGES
from deepncm_tf.numerics import statistics

C, D, M = 3, 4, 25
GRID = 12
needs_float64 = pytest.mark.skipif(
    statistics.bits_available() < 53, reason="JAX adds up in float32 by default"
)


def data(n=80, seed=0):
    rng = np.random.default_rng(seed)
    y = rng.integers(C, size=n)
    return (rng.normal(size=(n, D)) + y[:, None]).astype("float32"), y


def fitted(x, y, batch=80, **arguments):
    classifier = RandomFeatures(C, num_features=M, **arguments)
    classifier.build((None, D))
    for start in range(0, len(x), batch):
        classifier.update(x[start : start + batch], y[start : start + batch])
    classifier.refresh()
    return classifier


def lifted(classifier, x):
    """h of samples, as the statistics have them."""
    projection = to_numpy(classifier.projection).astype("float64")
    x = np.round(x.astype("float64") * 2**GRID) / 2**GRID
    bits = GRID - 1  # log2 of the root of D = 4
    return np.round(np.maximum(x @ projection, 0) * 2**bits) / 2**bits


def weights_of(h, y, ridge):
    return np.linalg.solve(h.T @ h + ridge * np.eye(M), h.T @ np.eye(C)[y])


@needs_float64
@pytest.mark.parametrize("ridge", [1e-3, 1.0, 100.0])
def test_logits_are_those_of_the_equations(ridge):
    x, y = data()
    queries, _ = data(seed=1)
    classifier = fitted(x, y, ridge=ridge)
    assert classifier.is_exact()
    projected = np.maximum(queries @ to_numpy(classifier.projection), 0)
    expected = projected @ weights_of(lifted(classifier, x), y, ridge)
    np.testing.assert_allclose(
        to_numpy(classifier(queries)), expected, rtol=1e-3, atol=1e-3
    )


@needs_float64
def test_ridge_is_the_best_of_the_held_out_samples():
    x, y = data(200)
    classifier = fitted(x, y)
    h = lifted(classifier, x)
    numbers = np.round(x.astype("float64") * 2**GRID).sum(axis=1)
    held_out = numbers % HELD_OUT == 0
    assert 20 < held_out.sum() < 60
    counts = [to_numpy(sums.counts).sum() for sums in classifier.read_statistics()]
    assert counts == [(~held_out).sum(), held_out.sum()]
    errors = [
        np.square(
            h[held_out] @ weights_of(h[~held_out], y[~held_out], ridge)
            - np.eye(C)[y[held_out]]
        ).sum()
        for ridge in RIDGES
    ]
    best = RIDGES[int(np.argmin(errors))]
    assert RIDGES[0] < best < RIDGES[-1]
    np.testing.assert_allclose(
        to_numpy(classifier.kernel), weights_of(h, y, best), rtol=1e-4, atol=1e-5
    )


@needs_float64
def test_batches_and_order_change_nothing():
    x, y = data()
    order = np.random.default_rng(0).permutation(len(x))
    one, other = fitted(x, y, batch=1), fitted(x[order], y[order], batch=33)
    np.testing.assert_array_equal(to_numpy(one(x)), to_numpy(other(x)))


def test_the_projection_follows_from_the_seed():
    one, same, other = (RandomFeatures(C, M, seed=seed) for seed in (1, 1, 2))
    for classifier in (one, same, other):
        classifier.build((None, 300))
    projection = to_numpy(one.projection)
    np.testing.assert_array_equal(projection, to_numpy(same.projection))
    assert (projection != to_numpy(other.projection)).any()
    assert abs(projection.mean()) < 0.05
    assert projection.std() == pytest.approx(1, abs=0.05)


def test_few_samples():
    x, y = data(4)
    for n in range(5):
        logits = to_numpy(fitted(x[:n], y[:n])(x))
        assert np.isfinite(logits).all()
        seen = np.unique(y[:n])
        assert n == 0 or set(logits.argmax(axis=1)) <= set(seen)


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_features": 0}, "Received: num_features=0"),
        ({"ridge": 0}, '"auto" or a positive number. Received: ridge=0'),
        ({"ridge": "best"}, "Received: ridge='best'"),
        ({"seed": 0.5}, "an integer of 64 bits. Received: seed=0.5"),
        ({"seed": math.inf}, "an integer of 64 bits. Received: seed=inf"),
        ({"seed": 2**63}, "an integer of 64 bits. Received: seed=9"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        RandomFeatures(C, **arguments)
