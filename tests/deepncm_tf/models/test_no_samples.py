# SPDX-License-Identifier: Apache-2.0
"""What is without a sample is refused in words, and the model stays as it was."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers import random_images, small_model

from deepncm_tf import DeepNCM
from deepncm_tf.classifiers import (
    LinearDiscriminant,
    NeighborhoodComponents,
    OnlineMean,
    SubCentroids,
)
from deepncm_tf.distribution import strategies

C, N = 3, 12
NONE = r"`x` must hold at least one sample\. Received: none"
NO_PART = r"at least one sample that takes part: .*Received: none"
METHODS = ["fit", "evaluate", "predict", "embed", "adapt"]
pytestmark = [
    pytest.mark.bad_input,
    pytest.mark.filterwarnings("ignore:Your input ran out of data"),
    pytest.mark.filterwarnings("ignore:`shuffle=True` was passed"),
]


def filtered_out():
    """A dataset of which Keras does not know that it is empty."""
    dataset = tf.data.Dataset.from_tensor_slices(random_images(4, C)).batch(2)
    return dataset.filter(lambda x, y: tf.reduce_sum(y) > 1000)


class NoBatches(keras.utils.PyDataset):
    def __len__(self):
        return 0

    def __getitem__(self, number):
        raise IndexError


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("empty", [filtered_out, NoBatches, list, dict])
def test_data_that_turn_out_to_be_empty(method, empty):
    with pytest.raises(ValueError, match=NONE):
        getattr(small_model(), method)(empty(), verbose=0)


@pytest.mark.parametrize("method", ["fit", "evaluate"])
def test_data_that_turn_out_to_be_empty_on_replicas(method):
    with strategies.get_strategy("mirrored", 2).scope():
        model = small_model()
        with pytest.raises(ValueError, match=NONE):
            getattr(model, method)(filtered_out(), verbose=0)


@pytest.mark.parametrize("method", ["embed", "adapt", "anchor"])
def test_an_empty_generator_for_a_model_that_is_not_built(method):
    model = DeepNCM(keras.Sequential([keras.layers.Dense(4)]), SubCentroids(C, 2))
    with pytest.raises(ValueError, match=NONE):
        getattr(model, method)(iter(()))


def test_an_empty_batch():
    model, (images, labels) = small_model(), random_images(4, C)
    for method in (model.train_on_batch, model.test_on_batch):
        with pytest.raises(ValueError, match=NONE):
            method(images[:0], labels[:0])


@pytest.mark.parametrize(
    "empty", [filtered_out, NoBatches, lambda: [part[:0] for part in random_images(4, C)]]
)
def test_validation_data_that_are_empty(empty):
    message = "`validation_data` must hold at least one sample"
    with pytest.raises(ValueError, match=message):
        small_model().fit(*random_images(4, C), validation_data=empty(), verbose=0)


def test_a_generator_that_ends_before_the_epochs_do():
    """Keras warns of it; there were samples."""
    generator = (random_images(4, C) for _ in range(1))
    with pytest.warns(UserWarning, match="Your input ran out of data"):
        small_model().fit(generator, epochs=2, verbose=0)


@pytest.mark.parametrize("alone", [False, True], ids=["model", "classifier"])
@pytest.mark.parametrize(
    "classifier",
    [
        lambda: OnlineMean(C),
        lambda: LinearDiscriminant(C),
        lambda: SubCentroids(C, 2),
        lambda: NeighborhoodComponents(C, N),
    ],
)
def test_adapt_keeps_the_state_where_no_sample_takes_part(classifier, alone):
    images, labels = random_images(N, C)
    model = small_model(classifier())
    model.adapt(images, labels, verbose=0)
    before = model.classifier.get_weights()
    x, adapt = images, model.adapt
    if alone:
        x, adapt = model.embed(images, verbose=0), model.classifier.adapt
    for data in ((x, labels, np.zeros(N)), (x * np.nan, labels)):
        with pytest.raises(ValueError, match=NO_PART):
            adapt(*data)
    for a, b in zip(before, model.classifier.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
