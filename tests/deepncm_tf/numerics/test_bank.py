# SPDX-License-Identifier: Apache-2.0
"""A bank spread over replicas is the whole bank on one device."""

import contextlib
import functools

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers import random_images, small_backbone

from deepncm_tf import DeepNCM
from deepncm_tf.classifiers import NeighborhoodComponents
from deepncm_tf.distribution import replicas, sharded, strategies
from deepncm_tf.runs.checkpoints import Checkpoints, Progress

C, BATCH, N = 3, 8, 21  # batches of 8, 8 and 5; shares of 11 and 10 rows


@functools.cache
def strategy(num_replicas):
    return strategies.get_strategy("mirrored", num_replicas)


def scope(num_replicas):
    if num_replicas == 1:
        return contextlib.nullcontext()
    return strategy(num_replicas).scope()


def dataset(n=N):
    images, labels = random_images(n, C)
    x = {"image": images.astype("float64"), "index": np.arange(n)}
    return tf.data.Dataset.from_tensor_slices((x, labels)).batch(BATCH)


def make(num_replicas, temperature=0.5, bank_labels=None):
    use_float64()
    keras.utils.set_random_seed(5)
    with scope(num_replicas):
        nca = NeighborhoodComponents(
            C,
            N,
            temperature=temperature,
            bank_labels=bank_labels,
            bank_sharding=num_replicas > 1,
        )
        model = DeepNCM(small_backbone(), nca, normalize=True, l2=0.01)
        model.compile(keras.optimizers.SGD(0.3, momentum=0.9), metrics=["accuracy"])
    return model


def train_once(num_replicas):
    """A trained model that tests only read, and its history."""
    use_float64()
    return cached_train(num_replicas)


def use_float64():
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")


def train(num_replicas, **kwargs):
    model = make(num_replicas, **kwargs)
    with scope(num_replicas):
        history = model.fit(
            dataset(), epochs=2, verbose=0, shuffle=False, validation_data=dataset()
        ).history
    return model, history


cached_train = functools.cache(train)


def state(model):
    variables = [*model.variables, *model.optimizer.variables]
    return [np.asarray(sharded.whole(variable)) for variable in variables]


def assert_equal(one, other, tolerance=1e-9):
    for a, b in zip(one, other, strict=True):
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(
    "kwargs",
    [
        {},
        # Where plain sums would overflow; a class without a row in one shard.
        pytest.param({"temperature": 1e-3}, marks=pytest.mark.thorough),
        pytest.param({"bank_labels": np.arange(N) // 11}, marks=pytest.mark.thorough),
    ],
)
def test_shards_equal_one_device(kwargs):
    one, history = train(1, **kwargs)
    two, other = train(2, **kwargs)
    assert_equal(state(one), state(two))
    assert_equal(history.values(), other.values())
    assert [c.shape[0] for c in replicas.components(two.classifier.bank)] == [11, 11]
    assert one.classifier.bank.shape[0] == N


@pytest.mark.thorough
def test_saved_models_load_under_another_number_of_replicas(tmp_path):
    trained = {count: train_once(count)[0] for count in (1, 2)}
    images = random_images(9, C, seed=1)[0].astype("float64")
    for count, model in trained.items():
        with scope(count):
            expected = model.predict(images, verbose=0)
        model.save(tmp_path / f"{count}.keras")
        for other in (1, 2):
            with scope(other):
                loaded = keras.models.load_model(tmp_path / f"{count}.keras")
                assert_equal(loaded.predict(images, verbose=0), expected)
            assert len(replicas.components(loaded.classifier.bank)) == other
            assert_equal(state(loaded), state(model))


@pytest.mark.thorough
def test_checkpoints_are_restored_under_another_number_of_replicas(tmp_path):
    for count in (1, 2):
        model, _ = train_once(count)
        Checkpoints(tmp_path / str(count), model.variables).save(Progress())
        for other in (1, 2):
            restored = make(other)
            Checkpoints(tmp_path / str(count), restored.variables).restore()
            expected = [np.asarray(sharded.whole(v)) for v in model.variables]
            assert_equal(
                (np.asarray(sharded.whole(v)) for v in restored.variables), expected
            )


def test_outside_the_replicas_all_rows_count():
    one, two = train_once(1)[0], train_once(2)[0]
    features = np.random.default_rng(0).normal(size=(4, 6))
    assert_equal([one.classifier(features)], [two.classifier(features)])
    image = random_images(4, C)[0].astype("float64")
    assert_equal([one(image)], [two(image)])


@pytest.mark.parametrize("count", [1, 2])
def test_monitor_is_the_nearest_row(count):
    model, history = train_once(count)
    images, labels = random_images(N, C)
    bank = np.asarray(sharded.whole(model.classifier.bank))
    nearest = (model.embed(images.astype("float64"), verbose=0) @ bank.T).argmax(axis=1)
    expected = np.mean(labels[nearest] == labels)
    assert history["val_knn_accuracy"][-1] == pytest.approx(expected)
    assert expected > 0
    assert "knn_accuracy" not in history  # training has no such figure


def test_noise_is_that_of_one_device():
    one, two = make(1).classifier, make(2).classifier
    assert_equal([one.bank], [sharded.whole(two.bank)], 0)
    values = np.asarray(one.bank)
    assert 0.5 < np.abs(values).max() <= (3 / 6) ** 0.5
    assert abs(values.mean()) < 0.2
    assert len(np.unique(values)) == values.size
