# SPDX-License-Identifier: Apache-2.0
"""What was judged by a model's weights is forgotten when they change, and not before."""

import keras
import numpy as np
import pytest
from helpers import random_images, small_model

from deepncm_tf.classifiers import OnlineMean, SubCentroids

C, N = 3, 24
IMAGES, LABELS = random_images(N, C)
BROKEN = np.where(np.arange(N)[:, None, None, None] == 20, np.nan, IMAGES)


def judging_model():
    model = small_model(SubCentroids(C, 2))
    model.adapt(IMAGES, LABELS, verbose=0)
    model.anchor(IMAGES, LABELS, verbose=0)
    model.calibrate(IMAGES, LABELS, alpha=0.5, verbose=0)
    model.index(IMAGES, LABELS, verbose=0)
    return model


def judgements(model):
    return [model.exemplars, model.calibration, model.feature_bank]


def load_weights(model, folder):
    path = folder / "other.weights.h5"
    small_model(SubCentroids(C, 2)).save_weights(path)
    model.load_weights(path)


def train_until_broken(model, folder):
    with pytest.raises(RuntimeError, match="Not finite in step 3"):
        model.fit(BROKEN, LABELS, batch_size=8, shuffle=False, verbose=0)


CHANGES = {
    "fit": lambda model, folder: model.fit(IMAGES, LABELS, verbose=0),
    "fit in part": train_until_broken,
    "train_on_batch": lambda model, folder: model.train_on_batch(IMAGES, LABELS),
    "adapt": lambda model, folder: model.adapt(IMAGES, LABELS, verbose=0),
    "set_weights": lambda model, folder: model.set_weights(model.get_weights()),
    "load_weights": load_weights,
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_changes_of_the_weights_forget(change, tmp_path):
    model = judging_model()
    assert None not in judgements(model)
    change(model, tmp_path)
    assert judgements(model) == [None] * 3


def set_wrong_weights(model, folder):
    first, *others = model.get_weights()
    model.set_weights([first + 1, *others[:-1], others[-1][..., None]])


def load_wrong_weights(model, folder):
    path = folder / "other.weights.h5"
    small_model(OnlineMean(C)).save_weights(path)
    model.load_weights(path)


FAILURES = {
    "unknown argument": lambda model, folder: model.fit(IMAGES, LABELS, epoch=1),
    "class_weight": lambda model, folder: model.fit(IMAGES, LABELS, class_weight={9: 1.0}),
    "label": lambda model, folder: model.fit(IMAGES, LABELS + C, verbose=0),
    "labels": lambda model, folder: model.fit(IMAGES, np.zeros((N, 2, 2)), verbose=0),
    "batch_size": lambda model, folder: model.fit(IMAGES, LABELS, batch_size="8"),
    "first step": lambda model, folder: model.fit(BROKEN, LABELS, batch_size=N, verbose=0),
    "train_on_batch": lambda model, folder: model.train_on_batch(IMAGES, LABELS + C),
    "adapt": lambda model, folder: model.adapt(IMAGES, LABELS + C, verbose=0),
    "set_weights": set_wrong_weights,
    "load_weights": load_wrong_weights,
    "no file": lambda model, folder: model.load_weights(folder / "none.weights.h5"),
}


@pytest.mark.bad_input
@pytest.mark.parametrize("fail", FAILURES.values(), ids=FAILURES)
def test_failures_that_change_no_weight_keep(fail, tmp_path):
    model = judging_model()
    before, weights = judgements(model), model.get_weights()
    with pytest.raises((ValueError, TypeError, RuntimeError, OSError)):
        fail(model, tmp_path)
    for a, b in zip(weights, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert all(a is b for a, b in zip(before, judgements(model), strict=True))


def test_a_callback_that_saves_the_model_saves_no_earlier_judgement(tmp_path):
    model = judging_model()
    saver = keras.callbacks.ModelCheckpoint(tmp_path / "model.keras")
    model.fit(IMAGES, LABELS, verbose=0, callbacks=[saver])
    assert keras.models.load_model(tmp_path / "model.keras").calibration is None
