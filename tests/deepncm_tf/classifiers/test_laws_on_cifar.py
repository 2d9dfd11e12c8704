# SPDX-License-Identifier: Apache-2.0
"""The laws of class statistics on 50,000 x 64 features of real images, to the bit."""

import numpy as np
import pytest
import tensorflow_datasets as tfds
from helpers import to_numpy

from deepncm_tf.classifiers import LinearDiscriminant, OnlineMean, RandomFeatures
from deepncm_tf.classifiers.class_changes import forget, merge_statistics, regroup
from deepncm_tf.data import datasets
from deepncm_tf.numerics import statistics

pytestmark = [
    pytest.mark.data,
    pytest.mark.thorough,
    pytest.mark.skipif(
        statistics.bits_available() < 53, reason="JAX adds up in float32 by default"
    ),
]
HEADS = [
    pytest.param(OnlineMean, {}, id="means"),
    pytest.param(LinearDiscriminant, {}, id="lda"),
    pytest.param(RandomFeatures, {"num_features": 100, "ridge": 1.0}, id="ranpac"),
]
each_head = pytest.mark.parametrize(("cls", "arguments"), HEADS)


@pytest.fixture(scope="module")
def features():
    """CIFAR-10's training images by fixed random projections and a ReLU; their labels."""
    if not tfds.builder("cifar10").is_prepared():
        pytest.skip("TFDS has no cifar10 here")
    images, labels = datasets.load("cifar10")["train"]
    projections = np.random.default_rng(0).normal(size=(3072, 64)).astype("float32")
    x = np.concatenate(
        [
            (images[start : start + 5000].reshape(-1, 3072) / np.float32(255) - 0.5)
            @ (projections / np.float32(55))
            for start in range(0, len(images), 5000)
        ]
    )
    assert x.shape == (50_000, 64)
    return np.maximum(x, 0), labels


def adapted(cls, arguments, x, y, classes=10, batch_size=4096):
    head = cls(classes, **arguments)
    head.adapt(x, y, batch_size=batch_size)
    assert head.is_exact()
    return head


def assert_equal(one, other, x):
    for a, b in zip(one.read_statistics(), other.read_statistics(), strict=True):
        for name in ("counts", "totals", "moment", "removed"):
            if getattr(a, name) is not None:
                np.testing.assert_array_equal(
                    to_numpy(getattr(a, name)), to_numpy(getattr(b, name)), name
                )
    np.testing.assert_array_equal(to_numpy(one(x)), to_numpy(other(x)))


@each_head
def test_any_order_and_batches(features, cls, arguments):
    x, y = features
    whole = adapted(cls, arguments, x, y)
    order = np.random.default_rng(1).permutation(len(x))
    assert_equal(adapted(cls, arguments, x[order], y[order], batch_size=777), whole, x)
    in_parts = adapted(cls, arguments, x[:7], y[:7])
    for part in (slice(7, 20_000), slice(20_000, None)):
        in_parts.adapt(x[part], y[part], reset=False)
    assert_equal(in_parts, whole, x)


@each_head
def test_forgotten_is_never_seen(features, cls, arguments):
    x, y = features
    whole = adapted(cls, arguments, x, y)
    gone = np.random.default_rng(2).random(len(x)) < 0.3
    part = adapted(cls, arguments, x[gone], y[gone])
    never = adapted(cls, arguments, x[~gone], y[~gone])
    assert_equal(forget(whole, part.read_statistics()), never, x)


@each_head
def test_merged_is_seen_together(features, cls, arguments):
    x, y = features
    whole = adapted(cls, arguments, x, y)
    half = np.random.default_rng(3).random(len(x)) < 0.5
    one, other = (adapted(cls, arguments, x[h], y[h]) for h in (half, ~half))
    assert_equal(merge_statistics(one, other), whole, x)
    vehicles = [(0, 1, 8, 9), (2, 3, 4, 5, 6, 7)]  # and animals
    numbers = np.isin(y, vehicles[1]).astype("int64")
    labelled_so = adapted(cls, arguments, x, numbers, classes=2)
    assert_equal(regroup(whole, vehicles), labelled_so, x)
