# SPDX-License-Identifier: Apache-2.0
"""Replicas of a share of the batch equal one device with the whole of it."""

import contextlib

import keras
import numpy as np
import pytest
import tensorflow as tf
from methods import MOST_STATE, TABLE

from deepncm_tf import DeepNCM
from deepncm_tf.classifiers import NAMES, DecayMean
from deepncm_tf.classifiers.metrics import RelativeMeanDistance
from deepncm_tf.data import pipeline
from deepncm_tf.distribution import replicas, strategies
from deepncm_tf.runs.checkpoints import Checkpoints, Progress
from official_resnet import BatchNormalization, cifar_resnet, recipe

C = 3
BATCH = 8
METHODS = {cls.__name__: (cls, arguments) for cls, arguments in TABLE}
QUICK = [NAMES[name].__name__ for name in MOST_STATE]
OTHERS = [name for name in METHODS if name not in QUICK]


def scope(num_replicas):
    if num_replicas == 1:
        return contextlib.nullcontext()
    return strategies.get_strategy("mirrored", num_replicas).scope()


def make_model(method, num_replicas):
    keras.utils.set_random_seed(3)
    backbone = keras.Sequential(
        [
            keras.Input((8, 8, 3), name="image"),
            keras.layers.Conv2D(4, 3),
            BatchNormalization(momentum=0.9, synchronized=num_replicas > 1),
            keras.layers.ReLU(),
            keras.layers.GlobalAveragePooling2D(),
        ]
    )
    cls, arguments = METHODS[method]
    model = DeepNCM(
        backbone, cls(C, **arguments), embedding_dim=5, gradient_clip=0.02, l2=2e-2
    )
    model.compile(recipe.optimizer(0.5, total_steps=9), metrics=["accuracy"])
    return model


def train(method, num_replicas, n=21, epochs=3, dtype="float64"):
    """Trains on n images; 21 in batches of 8 leave a last batch of 5."""
    keras.config.set_floatx(dtype)
    keras.config.set_dtype_policy(dtype)
    rng = np.random.default_rng(0)
    labels = rng.integers(C, size=n).astype("int32")
    images = rng.integers(60, size=(n, 8, 8, 3)) + 60 * labels[:, None, None, None]
    images = images.astype("uint8")
    steps = pipeline.steps_per_epoch(n, BATCH)
    with scope(num_replicas):
        model = make_model(method, num_replicas)
        history = model.fit(
            pipeline.training_dataset(images, labels, BATCH, epochs),
            epochs=epochs,
            steps_per_epoch=steps,
            validation_data=pipeline.evaluation_dataset(images, labels, BATCH),
            validation_steps=steps,
            shuffle=False,
            verbose=0,
        ).history
    return model, history


def largest_difference(one, other):
    """Largest difference of two lists of arrays, relative to the larger of the largest
    value and 1."""
    return max(
        np.max(np.abs(a - b)) / max(np.max(np.abs(b)), 1.0)
        for a, b in zip(one, other, strict=True)
    )


def assert_copies_are_equal(model):
    for variable in (*model.variables, *model.optimizer.variables):
        copies = [copy.numpy() for copy in getattr(variable.value, "values", ())]
        assert len(copies) > 1, variable.path
        for copy in copies[1:]:
            np.testing.assert_array_equal(copy, copies[0], err_msg=variable.path)


@pytest.mark.parametrize(
    ("method", "num_replicas"),
    [
        *((method, 2) for method in QUICK),
        *(pytest.param(x, 2, marks=pytest.mark.thorough) for x in OTHERS),
        pytest.param("MeanCondensation", 4, marks=pytest.mark.thorough),
    ],
)
def test_three_epochs_in_float64(method, num_replicas):
    one, history = train(method, 1)
    many, replica_history = train(method, num_replicas)
    assert largest_difference(many.get_weights(), one.get_weights()) < 1e-9
    assert set(history) == set(replica_history)
    for name in history:
        np.testing.assert_allclose(replica_history[name], history[name], rtol=1e-9)
    assert_copies_are_equal(many)


@pytest.mark.parametrize(
    ("n", "num_replicas"),
    [
        (17, 2),
        pytest.param(16, 2, marks=pytest.mark.thorough),
        pytest.param(17, 4, marks=pytest.mark.thorough),
    ],
)
def test_whole_batches_and_empty_replicas(n, num_replicas):
    """16 samples are two whole batches; the 17th alone leaves replicas without any."""
    one, history = train("MeanCondensation", 1, n=n)
    many, replica_history = train("MeanCondensation", num_replicas, n=n)
    assert largest_difference(many.get_weights(), one.get_weights()) < 1e-9
    for name in history:
        np.testing.assert_allclose(replica_history[name], history[name], rtol=1e-9)
    assert_copies_are_equal(many)


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("method", "num_replicas"), [*((method, 2) for method in METHODS), ("DecayMean", 4)]
)
def test_one_step_in_float32(method, num_replicas):
    one, _ = train(method, 1, n=7, epochs=1, dtype="float32")
    many, _ = train(method, num_replicas, n=7, epochs=1, dtype="float32")
    assert largest_difference(many.get_weights(), one.get_weights()) < 1e-5
    assert_copies_are_equal(many)


def test_float16_under_loss_scaling():
    """Two replicas take and skip the same steps as one device."""
    keras.config.set_dtype_policy("mixed_float16")
    models = []
    for num_replicas in (1, 2):
        with scope(num_replicas):
            model = make_model("DecayMean", num_replicas)
            # Scales so large that the first steps overflow.
            model.optimizer = keras.optimizers.LossScaleOptimizer(
                keras.optimizers.SGD(0.1), initial_scale=2.0**30
            )
            images = np.random.default_rng(0).normal(size=(8, 8, 8, 3)).astype("float32")
            dataset = tf.data.Dataset.from_tensors((images, np.arange(8) % C)).repeat(20)
            model.fit(dataset, epochs=1, verbose=0, shuffle=False)
        models.append(model)
    one, two = models
    steps = int(one.optimizer.iterations.numpy())
    assert 0 < steps < 20
    assert int(two.optimizer.iterations.numpy()) == steps
    # A skipped step leaves the class state alone: every sample counts once a step taken.
    for model in models:
        assert float(keras.ops.sum(model.classifier.counts)) == 8 * steps
    assert_copies_are_equal(two)


def metrics_of(folder, method, num_replicas, first, last):
    """Trains from batch `first` to `last`, eagerly: nothing is traced.

    Goes on from the folder's checkpoint, where there is one, and leaves one.
    """
    strategy = tf.distribute.get_strategy()
    if num_replicas > 1:
        strategy = strategies.get_strategy("mirrored", num_replicas)
    rng = np.random.default_rng(0)
    labels = rng.integers(C, size=21).astype("int32")
    images = rng.integers(256, size=(21, 8, 8, 3)).astype("uint8")
    with strategy.scope():
        model = make_model(method, num_replicas)
        model.build_training(
            keras.KerasTensor((None, 8, 8, 3)), keras.KerasTensor((None,), "int32")
        )
        variables = model.variables + model.optimizer.variables
        checkpoints = Checkpoints(folder, variables, model.metrics_variables)
        checkpoints.restore()
        checkpoints.restore_metrics()
        batches = list(pipeline.evaluation_dataset(images, labels, BATCH))
        for batch in batches[first:last]:
            strategy.run(model.train_step, (batch,))
        checkpoints.save(Progress(batches=last))
        return {name: float(v) for name, v in model.get_metrics_result().items()}


@pytest.mark.parametrize(
    ("before", "after"), [(2, 3), pytest.param(4, 1, marks=pytest.mark.thorough)]
)
@pytest.mark.parametrize(  # one of each kind of metric
    "method",
    [
        "SubCentroids",
        pytest.param("MeanCondensation", marks=pytest.mark.thorough),
        pytest.param("NeighborhoodComponents", marks=pytest.mark.thorough),
    ],
)
def test_metrics_go_on_with_another_number_of_replicas(tmp_path, method, before, after):
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
    expected = metrics_of(tmp_path / "whole", method, 1, 0, 3)
    metrics_of(tmp_path / "parts", method, before, 0, 2)
    found = metrics_of(tmp_path / "parts", method, after, 2, 3)
    assert found == pytest.approx(expected, rel=1e-9)


def test_metrics_of_another_worker_than_the_chief(monkeypatch):
    """All workers read the chief's checkpoint: what is summed must count once."""
    monkeypatch.setattr(replicas, "_in_multi_worker", lambda: True)
    monkeypatch.setattr(replicas, "is_chief", lambda strategy: False)
    summed, alike = keras.metrics.Sum(), RelativeMeanDistance()
    for variable in (*summed.variables, *alike.variables):
        replicas.assign_copies(variable, np.float32([7]))
    assert float(summed.result()) == 0
    assert float(alike.total) == float(alike.count) == 7


@pytest.mark.bad_input
def test_the_optimizers_own_clipping_is_refused():
    with scope(2):
        model = make_model("Softmax", 2)
        model.compile(keras.optimizers.SGD(clipvalue=1.0))
        dataset = tf.data.Dataset.from_tensors((np.zeros((8, 8, 8, 3)), np.arange(8) % C))
        with pytest.raises(ValueError, match=r"DeepNCM\(gradient_clip=...\)"):
            model.fit(dataset, verbose=0, shuffle=False)


@pytest.mark.bad_input
def test_a_loss_that_cannot_be_averaged_is_refused():
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction="sum")
    with scope(2):
        model = make_model("Softmax", 2)
        with pytest.raises(ValueError, match="Received: reduction='sum'"):
            model.compile("sgd", loss=loss)


def test_get_strategy():
    assert strategies.get_strategy() is None
    assert strategies.get_strategy("mirrored").num_replicas_in_sync == 2
    with pytest.raises(ValueError, match="Received: name='tpu'"):
        strategies.get_strategy("tpu")
    with pytest.raises(ValueError, match="Received: num_devices=99"):
        strategies.get_strategy("mirrored", 99)


@pytest.mark.thorough
def test_the_official_resnet_with_an_empty_replica():
    """One image in a batch: the second replica convolves and normalizes nothing."""
    images = np.random.default_rng(0).integers(256, size=(1, 32, 32, 3)).astype("uint8")
    weights = []
    for num_replicas in (1, 2):
        with scope(num_replicas):
            keras.utils.set_random_seed(3)
            model = DeepNCM(cifar_resnet(8), DecayMean(C), l2=2e-4)
            model.compile(recipe.optimizer(0.1))
            dataset = pipeline.training_dataset(images, np.int32([1]), BATCH, 1)
            model.fit(dataset, steps_per_epoch=1, shuffle=False, verbose=0)
        weights.append(model.get_weights())
    assert largest_difference(*weights) < 1e-5
    assert_copies_are_equal(model)
