# SPDX-License-Identifier: Apache-2.0
"""Recipes of runs: rates, Nesterov's momentum, smoothed labels."""

import keras
import numpy as np
import pytest
from same_run import metrics
from small_runs import config

from deepncm_tf import classifiers, flags
from deepncm_tf.classifiers import NeighborhoodComponents, Softmax
from deepncm_tf.models.losses import LogitCrossEntropy
from deepncm_tf.numerics.momentum import with_learning_rate
from deepncm_tf.numerics.piecewise_linear import PiecewiseLinear
from deepncm_tf.runs import training
from deepncm_tf.runs.plan import TrainingPlan


def plan(**values):
    resolved = flags.resolve({"recipe": "fast", "batch_size": 10, **values})
    return TrainingPlan.make(resolved, np.arange(100) % 10)


def test_the_fast_rate_rises_for_a_fifth_and_falls_to_nothing():
    made = plan(train_epochs=5, learning_rate=0.2)  # 50 steps
    for step in range(50):
        expected = 0.02 + 0.18 * step / 10 if step < 10 else 0.2 * (50 - step) / 40
        assert float(made.learning_rate(step)) == pytest.approx(expected, rel=1e-5), step
    assert made.optimizer().nesterov
    assert not plan(recipe="official").optimizer().nesterov
    short = plan(train_epochs=1, batch_size=100)  # one step alone
    assert float(short.learning_rate(0)) > 0


def test_sub_centroids_slow_down_as_the_rate_falls():
    made = plan(train_epochs=5, learning_rate=0.2)
    momentum = with_learning_rate(0.9, made.learning_rate)
    for step in (0, 5, 10, 30, 49):
        rate = float(made.learning_rate(step))
        assert float(momentum(step)) == pytest.approx(1 - 0.1 * rate / 0.2, rel=1e-5)
    config = keras.saving.serialize_keras_object(momentum)
    again = keras.saving.deserialize_keras_object(config)
    assert float(again(30)) == float(momentum(30))


def test_labels_are_smoothed_where_the_method_allows_it():
    made = plan()
    assert made.loss(Softmax(10)).label_smoothing == 0.1
    assert made.loss(NeighborhoodComponents(10, 100)) is None
    assert plan(recipe="official").loss(Softmax(10)) is None
    allowed = {name for name, c in classifiers.NAMES.items() if c.allows_label_smoothing}
    assert allowed == set(classifiers.NAMES) - {"nca"}


@pytest.mark.parametrize("smoothing", [0.1, 0.5])
def test_the_smoothed_loss(smoothing):
    """That of Keras for one-hot labels; of others the same share of their weight."""
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(6, 4)).astype("float32") * 3
    labels = np.array([0, 1, 2, 3, 1, 1])
    loss = LogitCrossEntropy(reduction=None, label_smoothing=smoothing)
    one_hot = np.eye(4, dtype="float32")[labels]
    expected = keras.losses.CategoricalCrossentropy(
        from_logits=True, label_smoothing=smoothing, reduction=None
    )(one_hot, logits)
    for y in (labels, one_hot):
        np.testing.assert_allclose(loss(y, logits), expected, rtol=1e-5)
    np.testing.assert_allclose(
        loss(2 * one_hot, logits), 2 * np.asarray(expected), rtol=1e-5
    )
    assert np.isnan(loss(np.array([4]), logits[:1])).all()
    again = LogitCrossEntropy.from_config(loss.get_config())
    np.testing.assert_array_equal(again(labels, logits), loss(labels, logits))


@pytest.mark.usefixtures("few_digits")
@pytest.mark.parametrize("method", ["softmax", "dnc"])
def test_a_run(tmp_path, small_network, method):
    training.run(config(tmp_path / "run", ncm=method, recipe="fast", train_epochs=4))
    rates = [entry["learning_rate"] for entry in metrics(tmp_path / "run")]
    steps, peak = 12, 2  # of 3 in each epoch
    expected = [0.1 * (steps - step) / (steps - peak) for step in (2, 5, 8, 11)]
    np.testing.assert_allclose(rates, expected, rtol=1e-5)
    loaded = keras.models.load_model(tmp_path / "run" / "model.keras")
    assert loaded.loss.label_smoothing == 0.1
    assert isinstance(loaded.optimizer._learning_rate, PiecewiseLinear)


@pytest.mark.bad_input
def test_bad_schedules_and_smoothing():
    for boundaries, values in [([], []), ([0, 0], [1, 2]), ([0, 1], [1]), (["a"], [1])]:
        with pytest.raises(ValueError, match="`boundaries` must be rising numbers"):
            PiecewiseLinear(boundaries, values)
    for smoothing in (-0.1, 1.0, "some"):
        with pytest.raises(ValueError, match=r"`label_smoothing` must be a number in"):
            LogitCrossEntropy(label_smoothing=smoothing)
