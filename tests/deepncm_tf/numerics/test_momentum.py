# SPDX-License-Identifier: Apache-2.0
"""Momentum that changes over the run."""

import keras
import numpy as np
import pytest
from helpers import to_numpy

from deepncm_tf.classifiers import NeighborhoodComponents, SubCentroids
from deepncm_tf.numerics import momentum

STEPS = keras.optimizers.schedules.PiecewiseConstantDecay([0, 2], [0.0, 0.5, 0.9])
WANTED = [0.0, 0.5, 0.5, 0.9]  # of the first four updates


def unit(rows):
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def test_rows_of_a_bank():
    nca = NeighborhoodComponents(2, 3, momentum=STEPS)
    rng = np.random.default_rng(0)
    nca.build((None, 4))
    row = to_numpy(nca.bank)[1]
    for weight in WANTED:
        x = unit(rng.normal(size=(1, 4))).astype("float32")
        nca.update(x, [0], index=[1])
        row = unit(weight * row + (1 - weight) * x[0])
        np.testing.assert_allclose(to_numpy(nca.bank)[1], row, rtol=1e-5, atol=1e-6)


def test_sub_centroids():
    layer = SubCentroids(1, 1, momentum=STEPS, feature_norm=None, logit_norm=1.0)
    rng = np.random.default_rng(0)
    layer.build((None, 4))
    centroid = unit(to_numpy(layer.sub_centroids)[0, 0])
    for weight in WANTED:
        x = unit(rng.normal(size=(1, 4))).astype("float32")
        layer.update(x, [0])  # the only class: every sample is classified correctly
        centroid = unit(weight * centroid + (1 - weight) * x[0])
        actual = to_numpy(layer.sub_centroids)[0, 0]
        np.testing.assert_allclose(actual, centroid, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "layer", [NeighborhoodComponents(2, 3, momentum=STEPS), SubCentroids(2, momentum=STEPS)]
)
def test_a_config_holds_the_schedule(layer):
    again = type(layer).from_config(layer.get_config())
    assert again.momentum.get_config() == STEPS.get_config()


def test_with_the_learning_rate():
    rate = keras.optimizers.schedules.PiecewiseConstantDecay([10, 20], [0.2, 0.02, 0.002])
    schedule = momentum.with_learning_rate(0.9, rate)
    values = [float(schedule(step)) for step in (0, 10, 11, 20, 21)]
    assert values == pytest.approx([0.9, 0.9, 0.99, 0.99, 0.999])


def test_by_steps():
    schedule = momentum.by_steps(0.5, total_steps=260)
    values = [float(schedule(step)) for step in (0, 160, 161, 240, 241)]
    assert values == pytest.approx([0.5, 0.5, 0.8, 0.8, 0.9])
    schedule = momentum.by_steps(0.85, total_steps=260)
    values = [float(schedule(step)) for step in (0, 161, 241)]
    assert values == pytest.approx([0.85, 0.85, 0.9])
