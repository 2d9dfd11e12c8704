# SPDX-License-Identifier: Apache-2.0
"""Rejection: p-values against a plain loop, coverage on real digits, saved and exported."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers import random_images, small_model
from methods import each_method, others_are_thorough
from sklearn.datasets import load_digits

from deepncm_tf import DeepNCM
from deepncm_tf.classifiers import OnlineMean, SubCentroids
from deepncm_tf.models import calibration, rejection

C = 3


def trained(classifier=None):
    keras.utils.set_random_seed(1)
    model = small_model(classifier)
    images, labels = random_images(40, C)
    model.fit(images, labels, batch_size=10, verbose=0)
    return model


@pytest.mark.parametrize(
    "score", others_are_thorough(rejection.SCORES, ["energy", "distance"])
)
def test_p_values_in_a_loop(score):
    model = trained(SubCentroids(C, 2))
    held_out, labels = random_images(50, C, seed=1)
    images, _ = random_images(30, C, seed=2)
    images[-5:] += 7.0
    model.calibrate(held_out, labels, score=score, alpha=0.1, verbose=0)
    model.class_names = ["a", "b", "c"]
    found = model.classify(images, verbose=0)

    def scores(x):
        features = model.embed(x, verbose=0)
        logits = np.asarray(model.classifier(features), "float64")
        by_class = {
            "max_probability": np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True),
            "max_logit": logits,
            "energy": logits,
            "distance": np.asarray(model.classifier.prototype_scores(features)).max(axis=2),
        }[score]
        best = by_class.max(axis=1)
        return by_class, np.log(np.exp(logits).sum(axis=1)) if score == "energy" else best

    known_by_class, known = scores(held_out)
    by_class, total = scores(images)
    predicted = model.predict(images, verbose=0).argmax(axis=1)
    for i in range(len(images)):
        p_value = (1 + sum(known <= total[i] + 1e-6)) / 51
        assert found.p_values[i] == pytest.approx(p_value, abs=1.01 / 51)
        assert found.classes[i] == (-1 if found.p_values[i] <= 0.1 else predicted[i])
        assert found.names[i] == (*"abc", "unknown")[found.classes[i]]
        for c in range(C):
            own = known_by_class[labels == c, c]
            p_value = (1 + sum(own <= by_class[i, c] + 1e-6)) / (1 + len(own))
            if abs(p_value - 0.1) > 0.06:  # a rounding apart
                assert found.prediction_sets[i, c] == (p_value > 0.1)


def test_p_values_of_equal_scores_and_empty_classes():
    ordered = np.array([1.0, 2.0, 2.0, 5.0, 7.0], "float32")  # 3 of class 0, 2 of class 2
    counts = np.array([3, 0, 2])
    values = np.array([[0.0] * 3, [2.0] * 3, [9.0] * 3, [np.nan] * 3], "float32")
    found = calibration.p_values_of(ordered, counts, values)
    expected = [[1 / 4, 1, 1 / 3], [1, 1, 1 / 3], [1, 1, 1], [1 / 4, 1, 1 / 3]]
    np.testing.assert_allclose(found, expected)


@pytest.mark.parametrize("alpha", [0.05, 0.1, 0.34, 0.8])
def test_the_threshold_is_where_p_values_reach_alpha(alpha):
    ordered = np.sort(np.random.default_rng(0).normal(size=39).astype("float32").round(1))
    number = np.array([39])
    found = rejection.Calibration("distance", alpha, ordered, ordered, number)
    values = np.append(ordered, [-9.0, 9.0]).astype("float32")
    p_values = np.asarray(calibration.p_values_of(ordered, number, values[:, None]))[:, 0]
    np.testing.assert_array_equal(values < found.threshold, p_values <= alpha)
    few = rejection.Calibration("distance", 0.001, ordered, ordered, number)
    assert few.threshold == -np.inf


def test_coverage_on_digits():
    """Of known digits about alpha is rejected; of others, which training lacked, more.

    Features are pixels: of the others a third.
    """
    digits = load_digits()
    images, labels = digits.images[..., None].astype("float32"), digits.target
    order = np.random.default_rng(0).permutation(len(labels))
    images, labels = images[order], labels[order]
    known = labels < 7
    backbone = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Flatten()])
    model = DeepNCM(backbone, OnlineMean(7))
    model.compile(keras.optimizers.SGD(0.0))
    x, y = images[known], labels[known]
    model.fit(x[:400], y[:400], batch_size=400, verbose=0)
    model.calibrate(x[400:900], y[400:900], alpha=0.05, verbose=0)
    rejected = np.mean(model.classify(x[900:], verbose=0).classes < 0)
    assert rejected <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / len(x[900:]))
    assert np.mean(model.classify(images[~known], verbose=0).classes < 0) > 0.3
    sets = model.classify(x[900:], verbose=0).prediction_sets
    covered = sets[np.arange(len(sets)), y[900:]].mean()
    assert covered >= 0.95 - 2 * np.sqrt(0.05 * 0.95 / len(sets))


@pytest.mark.parametrize("classifier", each_method((), ["dnc"]))
def test_every_method_saves_and_exports(classifier, tmp_path):
    cls, arguments = classifier
    model = trained(cls(C, **arguments))
    held_out, labels = random_images(60, C, seed=1)
    model.calibrate(held_out, labels, alpha=0.1, verbose=0)
    images, _ = random_images(9, C, seed=2)
    expected = model.classify(images, verbose=0)

    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    found = loaded.classify(images, verbose=0)
    for name in ("classes", "p_values", "prediction_sets"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))

    model.export(str(tmp_path / "exported"), verbose=False)
    archive = tf.saved_model.load(str(tmp_path / "exported"))
    served = archive.classify(images)
    np.testing.assert_array_equal(served["class"], expected.classes)
    np.testing.assert_allclose(served["p_value"], expected.p_values, atol=1.01 / 61)


def test_training_and_anchoring_forget_the_calibration():
    model = trained(SubCentroids(C, 2))
    held_out, labels = random_images(60, C, seed=1)
    fit = functools.partial(model.fit, verbose=0)
    for change in (fit, model.anchor, model.adapt):
        model.calibrate(held_out, labels, alpha=0.1, verbose=0)
        change(held_out, labels)
        assert model.calibration is None


@pytest.mark.bad_input
def test_bad_arguments():
    model = trained()
    held_out, labels = random_images(60, C, seed=1)
    with pytest.raises(ValueError, match="Call `calibrate` with held-out images before"):
        model.classify(held_out)
    with pytest.raises(ValueError, match=r"`score` must be one of .*Received: score='knn'"):
        model.calibrate(held_out, labels, score="knn")
    for alpha in (0, 1, "0.1"):
        with pytest.raises(ValueError, match="`alpha` must be a number between 0 and 1"):
            model.calibrate(held_out, labels, alpha=alpha)
    with pytest.raises(ValueError, match=r"`x` must hold 19 images or more.*Received: 18"):
        model.calibrate(held_out[:18], labels[:18], alpha=0.05)
    few = np.flatnonzero((labels != 1) | (np.cumsum(labels == 1) <= 2))
    with pytest.warns(
        UserWarning, match="less than 9 held-out images.*1 for example with 2"
    ):
        model.calibrate(held_out[few], labels[few], alpha=0.1, verbose=0)
    untrained = small_model(OnlineMean(C))
    with pytest.raises(ValueError, match="No class can be predicted before training"):
        untrained.calibrate(held_out, labels, verbose=0)


@pytest.mark.bad_input
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_images_that_are_not_finite_do_not_calibrate(value):
    model = trained()
    held_out, labels = random_images(60, C, seed=1)
    before = model.calibrate(held_out, labels, alpha=0.1, verbose=0)
    held_out[:7, 0, 0] = value
    message = "`x` must hold .* Received: 7 of 60 images with features that are not finite"
    with pytest.raises(ValueError, match=message):
        model.calibrate(held_out, labels, alpha=0.1, verbose=0)
    assert model.calibration is before
