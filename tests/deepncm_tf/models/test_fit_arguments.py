# SPDX-License-Identifier: Apache-2.0
"""`fit` and its siblings take what those of `keras.Model` take, in each of its forms."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers import random_images, small_model

from deepncm_tf import DeepNCM
from deepncm_tf.classifiers import LinearDiscriminant, OnlineMean
from deepncm_tf.models.finite import NotFiniteError

C, N = 3, 12


class Epochs(keras.callbacks.Callback):
    def __init__(self):
        super().__init__()
        self.number = 0

    def on_epoch_end(self, epoch, logs=None):
        self.number += 1


def in_list(callback, model):
    return keras.callbacks.CallbackList([callback], add_history=True, model=model)


def fit_with_list(model, images, labels, callback):
    return model.fit(images, labels, verbose=0, callbacks=in_list(callback, model))


def fit_by_place(model, images, labels, callback):
    return model.fit(images, labels, None, 1, 0, [callback])


def fit_with_list_by_place(model, images, labels, callback):
    return model.fit(images, labels, None, 1, 0, in_list(callback, model))


@pytest.mark.parametrize("fit", [fit_with_list, fit_by_place, fit_with_list_by_place])
def test_callbacks_in_any_form_leave_the_model_its_own(fit):
    images, labels = random_images(N, C)
    models = [small_model(LinearDiscriminant(C)) for _ in range(2)]
    models[1].set_weights(models[0].get_weights())
    models[0].fit(images, labels, verbose=0)
    callback = Epochs()
    history = fit(models[1], images, labels, callback)
    assert callback.number == 1
    assert len(history.history["loss"]) == 1
    for a, b in zip(*(m.classifier.get_weights() for m in models), strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-3, atol=1e-5)  # what `refresh` computes
    images[3] = np.nan
    with pytest.raises(NotFiniteError, match="step 2: inputs"):
        fit(models[1], images, labels, callback)


def test_validation_data_by_place_and_in_a_list_may_have_names():
    images, labels = random_images(N, C)
    names = np.array(["a", "b", "c"])[labels]
    model = small_model(class_names=["a", "b", "c"])
    history = model.fit(images, names, None, 1, 0, None, 0.0, [images, names])
    assert "val_loss" in history.history


@pytest.mark.bad_input
def test_arguments_that_fit_does_not_have():
    images, labels = random_images(N, C)
    model = small_model()
    message = r"DeepNCM\.fit\(\) got an unexpected keyword argument 'epoch'"
    with pytest.raises(TypeError, match=message):
        model.fit(images, labels, epoch=2)


def as_arrays(images, labels):
    return images, labels


def as_dataset(images, labels):
    return (tf.data.Dataset.from_tensor_slices((images, labels)).batch(N),)


def train_on_batch(model, images, labels, class_weight):
    logs = model.train_on_batch(images, labels, class_weight=class_weight, return_dict=True)
    return logs["loss"]


def fit(pack, model, images, labels, class_weight):
    options = {"shuffle": False, "verbose": 0, "class_weight": class_weight}
    return model.fit(*pack(images, labels), **options).history["loss"][0]


WAYS = {
    "arrays": functools.partial(fit, as_arrays),
    "dataset": functools.partial(fit, as_dataset),
    "batch": train_on_batch,
}


@pytest.mark.parametrize("way", WAYS)
def test_class_weights_by_name_and_by_number(way):
    images, labels = random_images(N, C)
    model = small_model(class_names=["a", "b", "c"])
    start = model.get_weights()
    losses = []
    for weights in ({0: 9.0, 1: 1.0, 2: 1.0}, {"a": 9.0}, {np.int64(0): 9}, {0.0: 9.0}):
        model.set_weights(start)
        losses.append(WAYS[way](model, images, labels, weights))
    mean = np.mean(np.where(labels == 0, 9.0, 1.0)) * np.log(C)
    np.testing.assert_allclose(losses, mean, rtol=1e-5)  # no class has a sample yet


@pytest.mark.bad_input
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("weights", "received"),
    [
        ({"z": 1.0}, "'z'"),
        ({C: 1.0}, "3"),
        ({"a": 1.0, 0: 2.0}, "class_weight={'a': 1.0, 0: 2.0}"),
        ({0: -1.0}, "class_weight={0: -1.0}"),
        ({0: float("nan")}, "class_weight={0: nan}"),
        ({0: "1"}, "class_weight={0: '1'}"),
        ("balanced", "class_weight='balanced'"),
    ],
)
def test_class_weights_that_are_none(way, weights, received):
    model = small_model(class_names=["a", "b", "c"])
    message = f"`class_weight` must be .*Received: {received}"
    with pytest.raises(ValueError, match=message):
        WAYS[way](model, *random_images(N, C), weights)


@pytest.mark.bad_input
@pytest.mark.parametrize("pack", [as_arrays, as_dataset])
def test_class_weights_of_pixels(pack):
    """Keras would take rows of a mask for class weights, and their largest for classes."""
    backbone = keras.Sequential([keras.Input((2, 2, 3)), keras.layers.Dense(4)])
    model = DeepNCM(backbone, OnlineMean(C))
    model.compile("sgd")
    x, y = np.zeros((N, 2, 2, 3), "float32"), np.zeros((N, 2, 2), "int32")
    with pytest.raises(ValueError, match="`class_weight` must be None where a sample has"):
        fit(pack, model, x, y, {0: 9.0})


def test_class_weights_beside_a_label_of_no_class():
    images, labels = random_images(N, C)
    labels[:3] = 255
    for weights in ({0: 9.0}, {0: 9.0, 255: 0.0}):
        model = small_model(ignore_class=255)
        loss = fit(as_dataset, model, images, labels, weights)
        mean = np.mean(np.where(labels[3:] == 0, 9.0, 1.0)) * np.log(C)
        assert loss == pytest.approx(mean, rel=1e-5)


@pytest.mark.bad_input
def test_class_weights_beside_a_negative_label_of_no_class():
    images, labels = random_images(N, C)
    labels[:3] = -1
    losses = [
        fit(as_arrays, small_model(ignore_class=-1), images, labels, {0: 9.0}),
        fit(as_arrays, small_model(ignore_class=255), images, labels % 256, {0: 9.0}),
    ]
    assert losses[0] == pytest.approx(losses[1])
    with pytest.raises(ValueError, match=r"`class_weight` must be .*ignore_class=-1"):
        fit(as_dataset, small_model(ignore_class=-1), images, labels, {0: 9.0})


@pytest.mark.parametrize("first", [(N,), (N, 1)])
def test_labels_of_one_shape_and_then_of_another(first):
    images, labels = random_images(N, C)
    model = small_model()
    model.fit(images, labels.reshape(first), verbose=0)
    for shape in ((N,), (N, 1)):
        other = labels.reshape(shape)
        model.fit(images, other, validation_data=(images, other), verbose=0)
        loss = model.evaluate(images, other, verbose=0, return_dict=True)["loss"]
        assert loss == model.test_on_batch(images, other, return_dict=True)["loss"]
    model = DeepNCM(
        keras.Sequential([keras.Input((1, 2)), keras.layers.Dense(4)]), OnlineMean(C)
    )
    model.compile("sgd")
    steps = np.zeros((N, 1, 2), "float32")  # each with a label for its one step
    model.fit(steps, labels.reshape(N, 1), verbose=0)
    assert model.classifier.counts.numpy().sum() == N
