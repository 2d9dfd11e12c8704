# SPDX-License-Identifier: Apache-2.0
"""Labels of no class, `ignore_class`: they take no part in anything."""

import contextlib
import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf

from deepncm_tf import DeepNCM
from deepncm_tf.classifiers import (
    NeighborhoodComponents,
    OnlineMean,
    Softmax,
    SubCentroids,
)
from deepncm_tf.distribution import strategies
from deepncm_tf.models.pixel_metrics import PixelAccuracy

C, N = 3, 12
RNG = np.random.default_rng(0)
LABELS = (np.arange(N) % C).astype("int32")
NUMBERS = (RNG.normal(size=(N, 2)) + LABELS[:, None]).astype("float32")


def compiled(model):
    model.compile("sgd", metrics=["accuracy"])
    return model


def scope(num_replicas):
    if num_replicas == 1:
        return contextlib.nullcontext()
    return strategies.get_strategy("mirrored", num_replicas).scope()


def pixels_model(**kwargs):
    backbone = keras.Sequential([keras.Input((2, 2, 3)), keras.layers.Dense(4)])
    return DeepNCM(backbone, OnlineMean(C), **kwargs)


def test_void_labels_take_no_part():
    x = RNG.normal(size=(8, 2, 2, 3)).astype("float32")
    y = RNG.integers(C, size=(8, 2, 2)).astype("int32")
    y[:, 0] = 255  # half of the pixels
    model = pixels_model(ignore_class=255)
    model.compile(keras.optimizers.SGD(0.0), metrics=["accuracy"])
    logs = model.train_on_batch(x, y, return_dict=True)
    seen = y != 255
    assert model.classifier.counts.numpy().sum() == seen.sum()
    figures = model.evaluate(x, y, verbose=0, return_dict=True)
    logits = model.predict(x, verbose=0)[seen]
    shifted = logits - logits.max(axis=-1, keepdims=True)
    logs_of_all = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    expected = -np.take_along_axis(logs_of_all, y[seen][:, None], axis=-1).mean()
    assert figures["loss"] == pytest.approx(expected, rel=1e-5)
    assert figures["accuracy"] == pytest.approx((logits.argmax(-1) == y[seen]).mean())
    assert np.isfinite(logs["loss"])
    clone = DeepNCM.from_config(model.get_config())
    assert clone.ignore_class == 255


def of_keras(**kwargs):
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True, **kwargs)


@pytest.mark.parametrize(("parts", "num_replicas"), [(3, 1), (1, 2)])
@pytest.mark.parametrize(
    ("loss", "ignore_class"),
    [
        (None, 255),
        (of_keras(ignore_class=255), 255),
        (of_keras(ignore_class=255), None),  # void for the loss alone
    ],
)
def test_void_labels_in_parts_of_a_batch_weigh_as_in_the_whole(
    parts, num_replicas, loss, ignore_class
):
    x = RNG.normal(size=(9, 2, 2, 3)).astype("float32")
    y = RNG.integers(C, size=(9, 2, 2)).astype("int32")
    y[:4, 0] = y[:3] = 255  # all of the first part, and some of the next
    data = tf.data.Dataset.from_tensor_slices((x, y)).batch(9)
    results = []
    for steps, replicas in ((1, 1), (parts, num_replicas)):
        keras.utils.set_random_seed(1)
        with scope(replicas):
            model = pixels_model(ignore_class=ignore_class, accumulate_steps=steps)
            model.compile(keras.optimizers.SGD(0.1), loss)
            logs = model.fit(data, verbose=0, shuffle=False).history
            figure = model.evaluate(data, verbose=0)
        results.append([*model.get_weights(), logs["loss"][0], figure])
    for a, b in zip(*results, strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("ignore_class", [255, None])
def test_the_mean_of_a_loss_of_keras_is_what_keras_gives(ignore_class):
    x = RNG.normal(size=(8, 2, 2, 3)).astype("float32")
    y = RNG.integers(C, size=(8, 2, 2)).astype("int32")
    y[:4, 0] = 255
    weights = np.arange(8.0)
    model, loss = pixels_model(ignore_class=ignore_class), of_keras(ignore_class=255)
    model.compile("sgd", loss, run_eagerly=True)
    of_labels = np.ones(y.shape) * weights[:, None, None]
    expected = loss(y, model.predict(x, verbose=0), of_labels)
    figure, *_ = model.evaluate(x, y, sample_weight=weights, verbose=0)
    assert figure == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.parametrize("samples", [4, 6])  # other than places, and as many
def test_weights_of_samples_are_those_of_their_labels_that_count(samples):
    x = RNG.normal(size=(samples, 6, 3)).astype("float32")
    y = RNG.integers(-1, C, size=(samples, 6)).astype("int32")
    weights = np.arange(samples, dtype="float32")
    backbone = keras.Sequential([keras.Input((6, 3)), keras.layers.Dense(5)])
    model = DeepNCM(backbone, Softmax(C), ignore_class=-1)
    model.compile("sgd", weighted_metrics=["accuracy"], run_eagerly=True)
    figures = model.evaluate(x, y, sample_weight=weights, verbose=0, return_dict=True)
    logits = model.predict(x, verbose=0)
    counted = weights[:, None] * (y != -1)
    expected = np.average(logits.argmax(axis=-1) == y, weights=counted)
    assert figures["accuracy"] == pytest.approx(expected, rel=1e-5)
    metric = PixelAccuracy(ignore_class=-1)
    metric.update_state(y, logits, weights)
    assert float(metric.result()) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("cls", [OnlineMean, SubCentroids, NeighborhoodComponents])
def test_a_class_that_is_ignored_is_as_void(cls):
    x = NUMBERS
    results = []
    for ignore_class, y in ((1, LABELS), (255, np.where(LABELS == 1, 255, LABELS))):
        keras.utils.set_random_seed(1)
        bank = {"bank_size": N} if cls is NeighborhoodComponents else {}
        backbone = keras.Sequential([keras.Input((2,)), keras.layers.Dense(4)])
        model = compiled(DeepNCM(backbone, cls(C, **bank), ignore_class=ignore_class))
        model.fit(x, y, batch_size=N, shuffle=False, verbose=0)
        assert np.asarray(model.classifier.seen()).tolist() == [True, False, True]
        figures = model.evaluate(x, y, verbose=0, return_dict=True)
        trained = model.get_weights()
        model.adapt(x, y, verbose=0)
        results.append((figures, trained, model.get_weights()))
    assert figures["unseen"] == 0
    keras.tree.map_structure(np.testing.assert_array_equal, *results)


def test_no_exemplar_is_of_a_class_that_is_ignored():
    x = NUMBERS
    backbone = keras.Sequential([keras.Input((2,)), keras.layers.Dense(4)])
    model = DeepNCM(backbone, SubCentroids(C, 2), ignore_class=1)
    assert model.anchor(x, LABELS, verbose=0).labels.tolist() == [[0, 0], [-1, -1], [2, 2]]


@pytest.mark.bad_input
def test_the_error_of_a_void_label_names_the_argument():
    x, y = np.zeros((2, 2, 2, 3), "float32"), np.full((2, 2, 2), 255)
    model = compiled(pixels_model())
    with pytest.raises(ValueError, match=r"DeepNCM\(ignore_class=.*label of 255"):
        model.fit(x, y, verbose=0)
    with pytest.raises(ValueError, match=r"Received: ignore_class=0\.5"):
        pixels_model(ignore_class=0.5)


class OwnLoss(keras.losses.Loss):
    ignore_class = 255

    def call(self, y_true, y_pred):
        return keras.ops.mean(y_pred, axis=-1)


@pytest.mark.bad_input
def test_a_loss_with_a_mean_of_its_own_has_no_parts():
    pixels_model(ignore_class=255).compile("sgd", OwnLoss())
    model = pixels_model(ignore_class=255, accumulate_steps=2)
    with pytest.raises(ValueError, match=r"`loss` must be None or .*Received: loss=<"):
        model.compile("sgd", OwnLoss())


@pytest.mark.parametrize("ignore_class", [1, 255, -1])
def test_void_labels_where_samples_are_looked_at(ignore_class, tmp_path):
    y = np.where(LABELS == 1, ignore_class, LABELS)
    pictures = np.zeros((N, 4, 4, 3), "uint8")
    backbone = keras.Sequential([keras.Input((2,)), keras.layers.Dense(4)])
    model = DeepNCM(backbone, SubCentroids(C, 2), ignore_class=ignore_class)
    model.adapt(NUMBERS, y, verbose=0)
    exemplars = model.anchor(NUMBERS, y, verbose=0)
    assert exemplars.labels.tolist() == [[0, 0], [-1, -1], [2, 2]]
    with pytest.warns(UserWarning, match="1 of 3 classes, 1 for example with 0"):
        calibration = model.calibrate(NUMBERS, y, alpha=0.5, verbose=0)
    assert calibration.class_counts.tolist() == [4, 0, 4]
    expected = np.where(LABELS == 1, -1, LABELS)
    assert model.index(NUMBERS, y, verbose=0).labels.tolist() == expected.tolist()
    known, page = (NUMBERS, y, pictures), tmp_path / "gallery.html"
    model.gallery(NUMBERS, page, known, y, k=2, images=pictures, verbose=0)
    assert "unknown" in page.read_text()
    explained = model.explain(
        NUMBERS, tmp_path / "report", y, known, images=pictures, verbose=0
    )
    labels = [one["label"] for one in explained]
    assert labels == ["unknown" if c < 0 else str(c) for c in expected]


def test_a_mask_of_features_is_told_of():
    """Keras says that one is destroyed, not that padding then moves class means."""
    tokens = keras.Input((4,), dtype="int32")
    for layer, masked in (
        (keras.layers.Dense(2), True),
        (keras.layers.GlobalAveragePooling1D(), False),
    ):
        features = layer(keras.layers.Embedding(5, 3, mask_zero=True)(tokens))
        for ignore_class in (None, -1):
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                DeepNCM(
                    keras.Model(tokens, features), OnlineMean(3), ignore_class=ignore_class
                )
            told = any("The features have a mask" in str(each.message) for each in caught)
            assert told == (masked and ignore_class is None)
