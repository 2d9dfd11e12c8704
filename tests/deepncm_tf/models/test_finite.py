# SPDX-License-Identifier: Apache-2.0
"""A step that is not finite changes nothing, and `fit` says where it was."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers import random_images, small_backbone
from methods import ARGUMENTS, TABLE

from deepncm_tf import DeepNCM
from deepncm_tf.classifiers import NAMES
from deepncm_tf.distribution import strategies
from deepncm_tf.models.finite import NotFiniteError

C, BATCH = 3, 8


def make(cls, arguments):
    model = DeepNCM(
        small_backbone(normalize=True), cls(C, **arguments), embedding_dim=4, l2=1e-3
    )
    model.compile(keras.optimizers.SGD(0.01, momentum=0.9))
    return model


def state(model):
    return [v.numpy() for v in (*model.variables, *model.optimizer.variables)]


@pytest.mark.bad_input
@pytest.mark.parametrize(  # one of each kind of state
    ("name", "value"),
    [("condensation", np.nan), pytest.param("nca", np.inf, marks=pytest.mark.thorough)],
)
def test_a_bad_image_stops_training_where_it_is(name, value):
    cls, arguments = NAMES[name], ARGUMENTS[name]
    images, labels = random_images(40)
    good, bad = make(cls, arguments), make(cls, arguments)
    bad.set_weights(good.get_weights())
    good.fit(images[:24], labels[:24], batch_size=BATCH, shuffle=False, verbose=0)
    images[27, 1, 2, 0] = value  # in the fourth batch of five
    with pytest.raises(NotFiniteError, match="Not finite in step 4: inputs") as error:
        bad.fit(images, labels, batch_size=BATCH, shuffle=False, verbose=0)
    assert error.value.step == 4
    for expected, actual in zip(state(good), state(bad), strict=True):
        np.testing.assert_array_equal(actual, expected)
    # Training goes on from there with images that are finite.
    bad.fit(images[:24], labels[:24], verbose=0)


@pytest.mark.bad_input
def test_replicas_stop_together():
    images, labels = random_images(16)
    images[15] = np.nan  # which only the second replica sees
    with strategies.get_strategy("mirrored", 2).scope():
        model = make(*TABLE[-1])
        before = model.get_weights()
        with pytest.raises(NotFiniteError, match="step 1: inputs"):
            model.fit(images, labels, batch_size=16, shuffle=False, verbose=0)
    for expected, actual in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(actual, expected)


@pytest.mark.bad_input
def test_features_loss_and_gradients():
    """A backbone whose weights overflow: the images are not at fault."""
    images, labels = random_images(8)
    model = make(*TABLE[0])
    model.embedding.kernel.assign(model.embedding.kernel * 1e38)
    model.embedding.bias.assign(model.embedding.bias + 3e38)
    model.embedding.kernel.assign(model.embedding.kernel + 3e38)
    with pytest.raises(NotFiniteError, match="step 1: features") as error:
        model.train_on_batch(images, labels)
    assert "inputs" not in error.value.kinds


def test_a_finite_run_is_not_disturbed():
    images, labels = random_images(40)
    model = make(*TABLE[1])
    model.fit(images, labels, batch_size=BATCH, verbose=0, epochs=2)
    model.guard.look()
    assert (model.guard.record.numpy() == 0).all()


@pytest.mark.bad_input
def test_labels_out_of_range():
    images, labels = random_images(8)
    labels[3] = C
    model = make(*TABLE[1])
    with pytest.raises(ValueError, match=f"Received: a label of {C}"):
        model.fit(images, labels, verbose=0)
    with pytest.raises(ValueError, match=f"Received: a label of {C}"):
        model.evaluate(images, labels, verbose=0)
    dataset = tf.data.Dataset.from_tensors((images, labels))
    with pytest.raises(ValueError, match=f"Received: a label of {C}"):
        model.fit(dataset, verbose=0, shuffle=False)


def test_images_of_bytes():
    """Integers are finite: they are trained and evaluated as floats are."""
    images, labels = random_images(10, C)
    images = (images * 10).astype("int8")
    weights = []
    for dtype in ("int8", "float32"):
        keras.utils.set_random_seed(0)
        model = DeepNCM(small_backbone(), NAMES["online"](C))
        model.compile("sgd")
        model.fit(images.astype(dtype), labels, batch_size=4, shuffle=False, verbose=0)
        assert np.isfinite(model.evaluate(images.astype(dtype), labels, verbose=0)).all()
        weights.append(model.get_weights())
    for a, b in zip(*weights, strict=True):
        np.testing.assert_array_equal(a, b)
