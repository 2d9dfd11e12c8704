# SPDX-License-Identifier: Apache-2.0
"""DeepNCM as a Keras user meets it, and one step of it in NumPy."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers import class_sums, random_images, small_model

from deepncm_tf import DeepNCM
from deepncm_tf.classifiers import DecayMean, OnlineMean, Softmax

C = 3


def softmax(logits):
    exp = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return exp / exp.sum(axis=-1, keepdims=True)


@pytest.mark.parametrize("weighted", [False, True])
def test_one_step_in_numpy(weighted):
    """Loss, weights, means and rmd of a step, for a linear backbone in float64."""
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
    l2, clip, rate, n, d = 0.3, 0.02, 0.5, 7, 4
    backbone = keras.Sequential(
        [keras.Input((5,), name="image"), keras.layers.Dense(d, use_bias=False)]
    )
    model = DeepNCM(backbone, DecayMean(C, decay=0.75), gradient_clip=clip, l2=l2)
    model.compile(keras.optimizers.SGD(rate))
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(n, 5)), rng.integers(C, size=n)
    w = rng.uniform(0, 2, size=n) if weighted else np.ones(n)
    means = rng.normal(size=(C, d))
    kernel = backbone.get_weights()[0]
    model.classifier.mean.assign(means)

    features = x @ kernel
    differences = features[:, None] - means  # (n, C, d)
    probabilities = softmax(-(differences**2).sum(axis=-1))
    losses = -np.log(probabilities[np.arange(n), y])
    loss = np.mean(w * losses) + l2 / 2 * np.sum(kernel**2)
    errors = (probabilities - np.eye(C)[y]) * w[:, None] / n
    gradient = x.T @ (-2 * np.einsum("nc,ncd->nd", errors, differences)) + l2 * kernel
    assert (np.abs(gradient) > clip).any()  # or clipping would go untested
    sums, counts = class_sums(features, y, C, w)
    batch_means = sums / counts[:, None]
    rmd = np.mean(np.sum((batch_means - means) ** 2, -1) / np.sum(batch_means**2, -1))

    logs = model.train_on_batch(
        x, y, sample_weight=w if weighted else None, return_dict=True
    )
    np.testing.assert_allclose(logs["loss"], loss, rtol=1e-9)
    np.testing.assert_allclose(logs["rmd"], rmd, rtol=1e-9)
    np.testing.assert_allclose(
        backbone.get_weights()[0], kernel - rate * np.clip(gradient, -clip, clip), rtol=1e-9
    )
    np.testing.assert_allclose(
        model.classifier.mean.numpy(), 0.75 * means + 0.25 * batch_means, rtol=1e-9
    )
    np.testing.assert_allclose(model.classifier.counts.numpy(), counts, rtol=1e-9)


def test_inputs_of_every_kind_train_alike():
    images, labels = random_images(20)
    weights = np.linspace(0, 2, 20).astype("float32")
    one_hot = np.eye(C, dtype="float32")[labels]
    index = np.arange(20)
    dataset = tf.data.Dataset.from_tensor_slices((images, labels, weights)).batch(8)
    with_index = tf.data.Dataset.from_tensor_slices(
        ({"image": images, "index": index}, one_hot, weights)
    ).batch(8)
    kinds = [
        ((images, labels), {"sample_weight": weights, "batch_size": 8}),
        ((images, labels[:, None]), {"sample_weight": weights, "batch_size": 8}),
        ((images, one_hot), {"sample_weight": weights, "batch_size": 8}),
        ((tf.constant(images), labels), {"sample_weight": weights, "batch_size": 8}),
        ((dataset,), {}),
        ((with_index,), {}),
    ]
    outcomes = []
    for data, arguments in kinds:
        keras.utils.set_random_seed(1)
        model = small_model(compile=False)
        model.compile(keras.optimizers.SGD(0.1), metrics=["accuracy"], run_eagerly=True)
        history = model.fit(*data, **arguments, epochs=2, shuffle=False, verbose=0).history
        assert set(history) == {"loss", "accuracy", "rmd"}
        outcomes.append([history["loss"], *model.get_weights()])
    for outcome in outcomes[1:]:
        for expected, actual in zip(outcomes[0], outcome, strict=True):
            np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-5)


def test_learns():
    images, labels = random_images(90)
    for classifier, rate in (
        (Softmax(C), 0.1),
        (OnlineMean(C), 0.01),
        (DecayMean(C), 0.01),
    ):
        model = small_model(classifier, compile=False)
        model.compile(keras.optimizers.SGD(rate), metrics=["accuracy"])
        model.fit(images, labels, epochs=20, verbose=0)
        assert model.evaluate(images, labels, verbose=0, return_dict=True)["accuracy"] > 0.9


def test_predict_gives_logits_and_embed_gives_features():
    images, labels = random_images(10)
    model = small_model(DecayMean(C), embedding_dim=2)
    model.fit(images, labels, verbose=0)
    features = model.embed(images, batch_size=4, verbose=0)
    assert features.shape == (10, 2)
    means = model.classifier.means.numpy()
    np.testing.assert_allclose(
        model.predict(images, verbose=0),
        -((features[:, None] - means) ** 2).sum(axis=-1),
        rtol=1e-4,
        atol=1e-4,
    )
    inputs = {"image": images, "index": np.arange(10)}
    again = model.embed(inputs, batch_size=4, verbose=0)  # the same kernels and rounding
    np.testing.assert_array_equal(again, features)
    logits, again = model(images, return_features=True)
    assert logits.shape == (10, C)
    np.testing.assert_allclose(again, features, rtol=1e-5, atol=1e-6)


def test_evaluation_counts_samples_of_unseen_classes():
    images, labels = random_images(12)
    known = labels < C - 1
    model = small_model()
    history = model.fit(images[known], labels[known], verbose=0)
    assert "unseen" not in history.history
    figures = model.evaluate(images, labels, verbose=0, return_dict=True)
    assert figures["unseen"] == (~known).sum()
    assert (model.predict(images, verbose=0).argmax(axis=-1) < C - 1).all()
    softmax_model = small_model(Softmax(C))
    assert "unseen" not in softmax_model.evaluate(
        images, labels, verbose=0, return_dict=True
    )


def test_a_keras_loss_of_logits():
    images, labels = random_images(10)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    outcomes = []
    for choice in (None, loss):
        keras.utils.set_random_seed(0)
        model = small_model(compile=False)
        model.compile("sgd", loss=choice)
        outcomes.append(model.fit(images, labels, verbose=0, shuffle=False).history["loss"])
    np.testing.assert_allclose(outcomes[0], outcomes[1], rtol=1e-6)


def test_mixed_precision():
    keras.config.set_dtype_policy("mixed_bfloat16")
    images, labels = random_images(20)
    model = small_model()
    model.fit(images, labels, verbose=0)
    assert model.predict(images, verbose=0).dtype == "float32"
    assert model.classifier.means.dtype == "float32"
    assert model.classifier.total.dtype == "float64"


def test_fewer_classes_than_there_could_be():
    """A class without samples is nobody's prediction, and no obstacle."""
    images, labels = random_images(12)
    model = small_model(DecayMean(C + 4))
    model.fit(images, labels, epochs=2, verbose=0)
    assert (model.predict(images, verbose=0).argmax(axis=-1) < C).all()
    assert model.evaluate(images, labels, verbose=0, return_dict=True)["unseen"] == 0


@pytest.mark.parametrize("as_dataset", [False, True])
def test_a_step_is_traced_once(as_dataset, monkeypatch):
    """Variables that were made in a step would have TensorFlow trace all of it again."""
    traced = []
    for step in ("exact_train_step", "exact_test_step"):
        original = getattr(DeepNCM, step)

        def counted(model, data, step=step, original=original):
            traced.append(step)
            return original(model, data)

        monkeypatch.setattr(DeepNCM, step, counted)
    images, labels = random_images(8)
    backbone = keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(4)])
    model = DeepNCM(backbone, DecayMean(C))
    model.compile(keras.optimizers.SGD(0.1, momentum=0.9), metrics=["accuracy"])
    if as_dataset:
        data = tf.data.Dataset.from_tensor_slices((images, labels)).batch(4)
        model.fit(data, epochs=2, validation_data=data, shuffle=False, verbose=0)
    else:
        model.fit(images, labels, batch_size=4, epochs=2, verbose=0)
        model.evaluate(images, labels, batch_size=4, verbose=0)
    assert traced == ["exact_train_step", "exact_test_step"]


@pytest.mark.parametrize("ignore_class", [None, 9])
@pytest.mark.parametrize("column", [False, True])
def test_accuracy_of_one_class_has_no_threshold(ignore_class, column):
    """Of two classes Keras would ask whether the logit is above 0.5."""
    images, labels = random_images(8)
    labels = labels[:, None] * 0 if column else labels * 0
    model = small_model(Softmax(1), compile=False, ignore_class=ignore_class)
    model.compile(metrics=["accuracy"], weighted_metrics=["acc"])
    figures = model.evaluate(images, labels, verbose=0, return_dict=True)
    assert (figures["accuracy"], figures["acc"]) == (1, 1)
    history = model.fit(images, labels, verbose=0).history
    assert (history["accuracy"], history["acc"]) == ([1], [1])
