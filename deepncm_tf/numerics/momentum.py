# SPDX-License-Identifier: Apache-2.0
"""The weight of the past in a moving state: a number, or a schedule over the updates."""

import keras
from keras import ops

from deepncm_tf.utils.arguments import check_number

Schedule = keras.optimizers.schedules.LearningRateSchedule


def as_momentum(momentum):
    """A number in [0, 1), or a schedule, also from its config.

    Raises:
        ValueError: If it is neither.
    """
    if isinstance(momentum, dict):
        momentum = keras.saving.deserialize_keras_object(momentum)
    if not isinstance(momentum, Schedule):
        wanted = "a number in [0, 1), or a LearningRateSchedule"
        check_number("momentum", momentum, wanted, lambda x: 0 <= x < 1)
        return float(momentum)
    return momentum


def current(momentum, updates, dtype):
    """The momentum of the update after `updates` of them."""
    if isinstance(momentum, Schedule):
        return ops.cast(momentum(ops.copy(updates)), dtype)
    return momentum


def serialize(momentum):
    """What a layer's config holds."""
    if isinstance(momentum, Schedule):
        return keras.saving.serialize_keras_object(momentum)
    return momentum


def with_learning_rate(momentum, learning_rate):
    """A momentum that rises to 1 as the learning rate falls.

    The state's step, 1 - momentum, falls by the same factors as the rate, so that the state
    does not move on where the network can no longer follow it.

    Args:
        momentum: Float in [0, 1), at the largest rate.
        learning_rate: `keras.optimizers.schedules.PiecewiseConstantDecay`,
            `PiecewiseLinear`, or `PolynomialDecay` to 0.
    """
    if isinstance(learning_rate, keras.optimizers.schedules.PolynomialDecay):
        return keras.optimizers.schedules.PolynomialDecay(
            momentum, learning_rate.decay_steps, 1.0, learning_rate.power
        )
    largest = max(learning_rate.values)
    return type(learning_rate)(
        learning_rate.boundaries,
        [1.0 - (1.0 - momentum) * value / largest for value in learning_rate.values],
    )


def by_steps(momentum, total_steps):
    """The momentum of SNCA's bank on ImageNet: 0.8 and 0.9 after 80 and 120 of 130 epochs,
    where it is not larger from the start.

    Args:
        momentum: Float in [0, 1), of the first part of the run.
        total_steps: Int, steps in the whole run.
    """
    return keras.optimizers.schedules.PiecewiseConstantDecay(
        [total_steps * epoch // 130 for epoch in (80, 120)],
        [momentum, max(momentum, 0.8), max(momentum, 0.9)],
    )
