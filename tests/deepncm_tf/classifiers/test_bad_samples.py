# SPDX-License-Identifier: Apache-2.0
"""Samples that are refused before anything changes: by their weights, or never learned."""

import keras
import numpy as np
import pytest
from helpers import to_numpy
from methods import IDS, TABLE

from deepncm_tf.classifiers import LinearDiscriminant, OnlineMean, RandomFeatures
from deepncm_tf.classifiers.class_changes import forget
from deepncm_tf.numerics import statistics

C = 3
X = np.random.default_rng(0).normal(loc=10.0, size=(6, 2)).astype("float32")
Y = np.arange(6) % C
INDEX = np.arange(6, dtype="int32")

pytestmark = pytest.mark.bad_input
every_method = pytest.mark.parametrize(("cls", "arguments"), TABLE, ids=IDS)


def taught(cls, arguments):
    classifier = cls(C, **arguments)
    classifier.build((None, 2))
    classifier.update(X, Y, INDEX)
    return classifier, [to_numpy(variable) for variable in classifier.variables]


def assert_unchanged(classifier, before):
    for variable, value in zip(classifier.variables, before, strict=True):
        np.testing.assert_array_equal(to_numpy(variable), value, variable.path)


@every_method
@pytest.mark.parametrize("value", [np.nan, -1.0, np.inf])
def test_wrong_weights_change_nothing(cls, arguments, value):
    classifier, before = taught(cls, arguments)
    weights = np.array([1, 1, value, 1, 1, 1], "float32")
    one_hot = np.where(np.eye(C)[Y] > 0, weights[:, None], 0).astype("float32")
    received = rf"Received: a weight of {value:g}"
    for given in (weights, weights[:, None], keras.ops.convert_to_tensor(weights)):
        with pytest.raises(ValueError, match=f"`sample_weight` must .*{received}"):
            classifier.update(X, Y, INDEX, given)
        with pytest.raises(ValueError, match=f"`sample_weight` must .*{received}"):
            classifier(X, Y, index=INDEX, sample_weight=given, training=True)
    with pytest.raises(ValueError, match=f"`labels` must .*{received}"):
        classifier.update(X, one_hot, INDEX)
    if cls.adapts_from is not None:
        with pytest.raises(ValueError, match=f"`sample_weight` must .*{received}"):
            classifier.adapt(X, Y, weights)
        with pytest.raises(ValueError, match=f"`labels` must .*{received}"):
            classifier.adapt(X, one_hot)
    assert_unchanged(classifier, before)


@every_method
def test_shapes_that_do_not_fit_change_nothing(cls, arguments):
    classifier, before = taught(cls, arguments)
    longer = np.ones((6, 3), "float32")
    learn = [lambda x, y, w=None: classifier.update(x, y, INDEX, w, logits=np.ones((6, C)))]
    if cls.adapts_from is not None:
        learn.append(classifier.adapt)
    for change in learn:
        with pytest.raises(
            ValueError, match=r"`features` must .* features of shape \(6, 3"
        ):
            change(longer, Y)
        with pytest.raises(ValueError, match=r"`labels` must .* labels of shape \(5,\)"):
            change(X, Y[:5])
        with pytest.raises(ValueError, match=r"`labels` must .* labels of shape \(7,\)"):
            change(X, np.append(Y, 0))
        with pytest.raises(ValueError, match=r"`sample_weight` must .* of shape \(5,\)"):
            change(X, Y, np.ones(5))
    assert_unchanged(classifier, before)


RANDOM_FEATURES = {"num_features": 4, "ridge": 1.0}
WITH_MOMENTS = [(LinearDiscriminant, {}), (RandomFeatures, RANDOM_FEATURES)]


@pytest.mark.skipif(statistics.bits_available() < 53, reason="JAX adds up in float32")
@pytest.mark.parametrize(
    ("cls", "arguments", "x", "weight"),
    [
        (*row, *sample)
        for row in WITH_MOMENTS
        for sample in ((1.5 * X[0], 1.0), (X[0], 0.5), (0 * X[0], 1.0))
    ],
)
def test_samples_that_cannot_have_been_learned(cls, arguments, x, weight):
    """Longer than all that were, of finer weight, and shorter than what is left allows."""
    classifier, before = taught(cls, arguments)
    folds = classifier.batch_statistics(classifier._samples(x[None], [0], [weight]))
    with pytest.raises(ValueError, match="Received: samples that were not"):
        forget(classifier, folds)
    assert_unchanged(classifier, before)


@pytest.mark.skipif(statistics.bits_available() < 53, reason="JAX adds up in float32")
@pytest.mark.parametrize("cls", [OnlineMean, LinearDiscriminant])
def test_more_samples_of_a_class_than_were_learned(cls):
    classifier = cls(C)
    classifier.adapt(X, Y)
    rows = [1, 4, 1]
    folds = classifier.batch_statistics(classifier._samples(X[rows], Y[rows]))
    with pytest.raises(ValueError, match="that were not: of class 1 3, and 2 were learned"):
        forget(classifier, folds)
