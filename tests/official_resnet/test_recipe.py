# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from deepncm_tf.runs.plan import RECIPES
from official_resnet import learning_rate_schedule, optimizer


@pytest.mark.parametrize("initial", [0.1, 0.01])
@pytest.mark.parametrize("steps_per_epoch", [391, 45])
def test_rate_at_every_boundary(initial, steps_per_epoch):
    """250 epochs: drops after 100, 150 and 200; the boundary's own step is still before."""
    schedule = learning_rate_schedule(initial, 250 * steps_per_epoch)
    expected = [(0, 1), (100, 1), (150, 0.1), (200, 0.01), (250, 0.001)]
    for (epoch, factor), (_, following) in zip(
        expected, [*expected[1:], expected[-1]], strict=True
    ):
        step = epoch * steps_per_epoch
        np.testing.assert_allclose(float(schedule(step)), initial * factor, rtol=1e-6)
        np.testing.assert_allclose(
            float(schedule(step + 1)), initial * following, rtol=1e-6
        )


def test_another_length_has_the_same_shape():
    schedule = learning_rate_schedule(1.0, 10)
    rates = [round(float(schedule(step)), 6) for step in range(11)]
    assert rates == [1.0] * 5 + [0.1] * 2 + [0.01] * 2 + [0.001] * 2


@pytest.mark.bad_input
def test_no_steps():
    with pytest.raises(ValueError, match="Received: total_steps=0"):
        learning_rate_schedule(0.1, 0)


def test_optimizer():
    assert float(optimizer(0.2).learning_rate) == pytest.approx(0.2)
    assert optimizer(0.2, total_steps=10).momentum == 0.9


def test_the_recipe_of_snca_drops_at_each_quarter():
    recipe = RECIPES["snca"]
    schedule = learning_rate_schedule(0.1, 1000, recipe.drop_epochs, recipe.train_epochs)
    assert schedule.boundaries == [250, 500, 750]
    assert schedule.values == pytest.approx([0.1, 0.01, 0.001, 0.0001])
