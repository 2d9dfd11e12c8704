# SPDX-License-Identifier: Apache-2.0
"""What stock Keras and TensorFlow get wrong on replicas: each of our handlings is needed.

Each test takes one handling away and sees two replicas part from one device, by more than
the rounding that the tests of replicas allow, or fail.
"""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers import small_backbone

from deepncm_tf import DeepNCM
from deepncm_tf.classifiers import MeanCondensation
from deepncm_tf.data import pipeline
from deepncm_tf.distribution import replicas, strategies
from deepncm_tf.models import exact_model, padding
from official_resnet import BatchNormalization

C, BATCH, N = 3, 8, 21


def train(num_replicas, clip=0.02, optimizer=None, synchronized=True, dataset=None):
    """Weights after an epoch of three batches, the last of them partial, in float64."""
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
    keras.utils.set_random_seed(3)
    rng = np.random.default_rng(0)
    labels = rng.integers(C, size=N).astype("int32")
    images = rng.integers(60, size=(N, 8, 8, 3)) + 60 * labels[:, None, None, None]
    images = images.astype("uint8")
    strategy = tf.distribute.get_strategy()
    if num_replicas > 1:
        strategy = strategies.get_strategy("mirrored", num_replicas)
    with strategy.scope():
        backbone = keras.Sequential(
            [
                keras.Input((8, 8, 3), name="image"),
                keras.layers.Conv2D(4, 3),
                BatchNormalization(
                    momentum=0.9, synchronized=synchronized and num_replicas > 1
                ),
                keras.layers.GlobalAveragePooling2D(),
            ]
        )
        model = DeepNCM(
            backbone, MeanCondensation(C, condensation_steps=2), gradient_clip=clip, l2=1e-2
        )
        model.compile(optimizer() if optimizer else keras.optimizers.SGD(0.5))
        if dataset is None:
            dataset = pipeline.training_dataset(images, labels, BATCH, 1)
        model.fit(dataset, steps_per_epoch=3, shuffle=False, verbose=0)
    return model


@functools.cache
def one_device():
    return train(1)


def difference(one, other):
    return max(
        np.abs(a - b).max() / max(np.abs(a).max(), 1)
        for a, b in zip(one.get_weights(), other.get_weights(), strict=True)
    )


def test_with_everything_in_place():
    assert difference(one_device(), train(2)) < 1e-12


def test_state_that_is_not_summed_over_replicas(monkeypatch):
    one = one_device()
    monkeypatch.setattr(
        MeanCondensation, "class_sums", without_replicas(MeanCondensation.class_sums)
    )
    assert difference(one, train(2)) > 1e-3


def without_replicas(function):
    def alone(*args, **kwargs):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(replicas, "all_reduce_sum", lambda tensors: tensors)
            return function(*args, **kwargs)

    return alone


def test_a_loss_that_weighs_replicas_alike(monkeypatch):
    one = one_device()
    stock = keras.Model.compute_loss

    def compute_loss(self, *args, **kwargs):
        loss = stock(self, *args, **kwargs)
        squares = sum(keras.ops.sum(v**2) for v in self.trainable_variables)
        return loss + self.l2 * squares / 2 / replicas.num_replicas()

    monkeypatch.setattr(exact_model.ExactModel, "compute_loss", compute_loss)
    assert difference(one, train(2)) > 1e-5  # the last batch of five is split 2 + 3


def test_clipping_before_the_sum(monkeypatch):
    """The optimizer's own clipping, which our model refuses on replicas."""
    one = one_device()
    apply = exact_model.ExactModel.apply_gradients

    def clip_first(self, gradients):
        if replicas.num_replicas() > 1:
            gradients = [keras.ops.clip(g / 2, -0.02, 0.02) * 2 for g in gradients]
            self.gradient_clip = None
        return apply(self, gradients)

    monkeypatch.setattr(exact_model.ExactModel, "apply_gradients", clip_first)
    assert difference(one, train(2)) > 1e-5


def test_batch_statistics_of_one_replica():
    assert difference(one_device(), train(2, synchronized=False)) > 1e-5


def test_shapes_from_the_mean_of_unequal_shares(monkeypatch):
    """Where the first batch is the partial one, Keras cannot even begin."""
    monkeypatch.setattr(
        exact_model.ExactModel,
        "_maybe_symbolic_build",
        keras.Model._maybe_symbolic_build,
    )
    images = np.zeros((3, 4, 4, 3), "uint8")
    with strategies.get_strategy("mirrored", 2).scope():
        model = DeepNCM(small_backbone(), MeanCondensation(C))
        model.compile("sgd")
        dataset = pipeline.training_dataset(images, np.int32([0, 1, 2]), BATCH, 1)
        with pytest.raises(tf.errors.InvalidArgumentError):
            model.fit(dataset, steps_per_epoch=1, shuffle=False, verbose=0)


def test_batch_statistics_that_count_the_padding(monkeypatch):
    """A 17th sample, alone in its batch, leaves a replica with an image of zeros."""

    def dataset():
        rng = np.random.default_rng(0)
        images = rng.integers(256, size=(17, 8, 8, 3)).astype("uint8")
        return pipeline.training_dataset(images, np.arange(17, dtype="int32") % C, BATCH, 1)

    one = train(1, dataset=dataset())
    monkeypatch.setattr(padding, "hide_padding", lambda backbone: None)
    assert difference(one, train(2, dataset=dataset())) > 1e-5
