# SPDX-License-Identifier: Apache-2.0
"""`fit` and its siblings take what those of `keras.Model` take, in each of its forms."""

import keras
import numpy as np
import pytest
from helpers import random_images, small_model

from deepncm_tf.classifiers import LinearDiscriminant
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
        np.testing.assert_allclose(b, a, rtol=1e-5, atol=1e-6)  # what `refresh` computes
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
