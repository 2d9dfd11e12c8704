# SPDX-License-Identifier: Apache-2.0
"""Linear discriminants against their equations, scikit-learn, and at the edges."""

import keras
import numpy as np
import pytest
from helpers import random_images, small_backbone, to_numpy

from deepncm_tf import DeepNCM
from deepncm_tf.classifiers import LinearDiscriminant
from deepncm_tf.classifiers.classifier import UNSEEN_LOGIT
from deepncm_tf.numerics import statistics

C, D = 4, 6
needs_float64 = pytest.mark.skipif(
    statistics.bits_available() < 53, reason="JAX adds up in float32 by default"
)


def data(n=60, seed=0, dimensions=D, shift=3.0):
    """Samples on the grid, so that rounding to it changes none of them."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % C
    mix = rng.normal(size=(dimensions, dimensions))
    x = rng.normal(size=(n, dimensions)) @ mix + rng.normal(size=(C, dimensions))[y] + shift
    return (np.round(x * 2**10) / 2**10).astype("float32"), rng.permutation(y)


def fitted(x, y, batch=7, classes=C, **arguments):
    classifier = LinearDiscriminant(classes, **arguments)
    classifier.build((None, x.shape[1]))
    for start in range(0, len(x), batch):
        classifier.update(x[start : start + batch], y[start : start + batch])
    classifier.refresh()
    return classifier


def expected_logits(x, y, queries, shrinkage, weights=None):
    """The equations of `LinearDiscriminant`, in a plain loop."""
    x, queries = x.astype("float64"), queries.astype("float64")
    weights = np.ones(len(x)) if weights is None else weights
    sigma, means, priors = np.zeros((x.shape[1],) * 2), [], []
    for c in range(C):
        own = y == c
        mean = (weights[own, None] * x[own]).sum(axis=0) / weights[own].sum()
        for row, weight in zip(x[own], weights[own], strict=True):
            sigma += weight * np.outer(row - mean, row - mean)
        means.append(mean)
        priors.append(weights[own].sum() / weights.sum())
    sigma /= weights.sum()
    ridge = np.trace(sigma) / len(sigma)
    precision = np.linalg.inv(
        (1 - shrinkage) * sigma + shrinkage * ridge * np.eye(len(sigma))
    )
    means = np.array(means)
    halves = 0.5 * np.einsum("cd,de,ce->c", means, precision, means)
    return queries @ precision @ means.T - halves + np.log(priors)


def assert_same_up_to_a_constant(logits, expected, tolerance=1e-4):
    logits = to_numpy(logits)
    np.testing.assert_allclose(
        logits - logits.mean(axis=1, keepdims=True),
        expected - expected.mean(axis=1, keepdims=True),
        rtol=tolerance,
        atol=tolerance,
    )


@pytest.mark.parametrize("shrinkage", [1e-3, 0.1, 1.0])
def test_logits_are_those_of_the_equations(shrinkage):
    x, y = data()
    queries, _ = data(seed=1)
    tolerance = 1e-4 if statistics.bits_available() == 53 else 1e-2
    assert_same_up_to_a_constant(
        fitted(x, y, shrinkage=shrinkage)(queries),
        expected_logits(x, y, queries, shrinkage),
        tolerance,
    )


@needs_float64
@pytest.mark.parametrize("shrinkage", [1e-3, 0.1, 0.9])
@pytest.mark.parametrize("solver", ["lsqr", "eigen"])
def test_probabilities_are_those_of_scikit_learn(shrinkage, solver):
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    x, y = data(61)
    queries, _ = data(seed=1)
    reference = LinearDiscriminantAnalysis(solver=solver, shrinkage=shrinkage).fit(x, y)
    logits = fitted(x, y, shrinkage=shrinkage)(queries)
    np.testing.assert_allclose(
        to_numpy(keras.ops.softmax(logits)), reference.predict_proba(queries), atol=1e-5
    )


@needs_float64
def test_uniform_priors_and_sample_weights():
    x, y = data()
    weights = np.random.default_rng(2).integers(1, 4, size=len(x)).astype("float32")
    classifier, uniform = (LinearDiscriminant(C, priors=p) for p in ("samples", "uniform"))
    for head in (classifier, uniform):
        head.update(x, y, sample_weight=weights)
        head.refresh()
    expected = expected_logits(x, y, x, 0.1, weights)
    assert_same_up_to_a_constant(classifier(x), expected)
    shares = np.bincount(y, weights) / weights.sum()
    assert_same_up_to_a_constant(uniform(x), expected - np.log(shares))
    assert statistics.bits_available() == 53
    assert classifier.is_exact()


@needs_float64
def test_means_far_from_the_origin_lose_nothing():
    x, y = data()
    far = x + np.float32(1000.0)  # whole numbers of the grid
    near, moved = fitted(x, y)(x), fitted(far, y)(far)
    assert_same_up_to_a_constant(moved, to_numpy(near), 1e-3)


def test_order_and_batches_change_nothing():
    x, y = data()
    order = np.random.default_rng(0).permutation(len(x))
    classifiers = [
        fitted(x, y, batch=1),
        fitted(x[order], y[order], batch=7),
        fitted(x, y, batch=len(x)),
    ]
    expected = to_numpy(classifiers[0](x))
    for classifier in classifiers[1:]:
        if statistics.bits_available() == 53:
            np.testing.assert_array_equal(to_numpy(classifier(x)), expected)
        np.testing.assert_allclose(to_numpy(classifier(x)), expected, rtol=1e-2, atol=1e-2)


def test_until_the_first_refresh_it_is_the_nearest_mean():
    x, y = data()
    classifier = LinearDiscriminant(C, priors="uniform")
    classifier.update(x, y)
    means = np.stack([x[y == c].mean(axis=0) for c in range(C)])
    squares = np.square(x[:, None] - means).sum(axis=-1)
    assert_same_up_to_a_constant(classifier(x), -0.5 * squares, 1e-3)
    kernel = to_numpy(classifier.kernel)
    classifier.refresh()
    assert not np.allclose(to_numpy(classifier.kernel), kernel)
    refreshed = to_numpy(classifier.kernel)
    classifier.update(x + 1, y)  # the statistics move alone
    np.testing.assert_array_equal(to_numpy(classifier.kernel), refreshed)
    classifier.refresh()
    assert (to_numpy(classifier.kernel) != refreshed).any()


@pytest.mark.parametrize("refresh_steps", [1, 2])
def test_refreshed_every_few_steps(refresh_steps):
    x, y = data()
    often = LinearDiscriminant(C, refresh_steps=refresh_steps)
    for step in range(1, 5):
        often.update(x * step, y)
        if step % refresh_steps == 0:
            own = LinearDiscriminant(C)
            for earlier in range(1, step + 1):
                own.update(x * earlier, y)
            own.refresh()
            np.testing.assert_allclose(
                to_numpy(often(x)), to_numpy(own(x)), rtol=1e-5, atol=1e-5
            )


def test_fewer_samples_than_dimensions_and_one_of_each_class():
    x, y = data(n=8, dimensions=50)
    logits = to_numpy(fitted(x, y)(x))
    assert np.isfinite(logits).all()
    assert (logits.argmax(axis=1) == y).all()
    # Nothing varies within classes: the nearest mean.
    lone = fitted(x[:4], np.arange(4), priors="uniform")
    squares = np.square(x[:, None] - x[None, :4]).sum(axis=-1)
    assert_same_up_to_a_constant(lone(x), -0.5 * squares, 1e-3)


def test_a_class_without_a_sample():
    x, y = data()
    classifier = fitted(x, y, classes=C + 1)
    logits = to_numpy(classifier(x))
    assert (logits[:, C] == UNSEEN_LOGIT).all()
    assert to_numpy(classifier.seen()).tolist() == [True] * C + [False]
    np.testing.assert_allclose(logits[:, :C], to_numpy(fitted(x, y)(x)), rtol=1e-5)
    empty = LinearDiscriminant(C)
    empty.build((None, D))
    empty.refresh()
    assert np.isfinite(to_numpy(empty(x))).all()


@needs_float64
@pytest.mark.bad_input
def test_sums_that_may_have_been_rounded_are_said_once():
    x, y = data()
    classifier = LinearDiscriminant(C, grid_bits=22)
    classifier.update(x, y)
    assert not classifier.is_exact()
    with pytest.warns(UserWarning, match=r"bits, with 53 available$"):
        classifier.refresh()
    classifier.update(x, y)
    classifier.refresh()  # not said again


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="trains on TensorFlow")
def test_fit_refreshes_before_validation_and_at_the_end_of_epochs():
    images, labels = random_images(24, C)
    model = DeepNCM(small_backbone(), LinearDiscriminant(C))
    model.compile(keras.optimizers.SGD(0.0), metrics=["accuracy"])
    history = model.fit(
        images, labels, batch_size=8, epochs=2, verbose=0, validation_data=(images, labels)
    ).history
    assert int(model.classifier.solved) == int(model.classifier.updates) == 6
    accuracy = model.evaluate(images, labels, verbose=0, return_dict=True)["accuracy"]
    assert history["val_accuracy"] == [accuracy] * 2  # nothing else has moved
    features = model.embed(images, verbose=0)
    own = fitted(features, labels)
    np.testing.assert_allclose(
        to_numpy(own(features)).argmax(axis=1),
        model.predict(images, verbose=0).argmax(axis=1),
    )


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"shrinkage": 0}, r"a number in \(0, 1\]. Received: shrinkage=0"),
        ({"shrinkage": 1.5}, "Received: shrinkage=1.5"),
        ({"priors": "equal"}, "Received: priors='equal'"),
        ({"grid_bits": -1}, "from 0 to 52. Received: grid_bits=-1"),
        ({"grid_bits": 2000}, "from 0 to 52. Received: grid_bits=2000"),
        ({"grid_bits": True}, "Received: grid_bits=True"),
        ({"refresh_steps": 0}, "or None. Received: refresh_steps=0"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        LinearDiscriminant(C, **arguments)
