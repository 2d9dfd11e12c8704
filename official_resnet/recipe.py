# SPDX-License-Identifier: Apache-2.0
"""The training recipes of the official ResNets, for CIFAR and for ImageNet.

Deviation: Keras's SGD scales each gradient by the learning rate as it enters the
velocity, the official `MomentumOptimizer` as it leaves; the two agree while the rate is
constant and differ for about ten steps after each drop.
"""

import keras

BATCH_SIZE = 128
TRAIN_EPOCHS = 250
LEARNING_RATE = 0.1
MOMENTUM = 0.9
WEIGHT_DECAY = 2e-4  # in the loss: 1/2 * 2e-4 * sum of squares of all trainable variables
GRADIENT_CLIP = 1.0  # by value, after the sum over replicas
BATCH_NORM_MOMENTUM = 0.997
BATCH_NORM_EPSILON = 1e-5

# The rate drops after 100, 150 and 200 of 250 epochs, whatever the length of the run.
DROP_EPOCHS = (100, 150, 200)
RATES = (1.0, 0.1, 0.01, 0.001, 0.0001)

# For ImageNet; the weight decay there leaves batch normalization out, gradients are not
# clipped, and the rate is that of 256 images in a batch, for others in proportion.
IMAGENET_TRAIN_EPOCHS = 100
IMAGENET_DROP_EPOCHS = (30, 60, 80, 90)
IMAGENET_WEIGHT_DECAY = 1e-4
IMAGENET_BATCH_SIZE = 256


def learning_rate_schedule(
    initial_learning_rate,
    total_steps,
    drop_epochs=DROP_EPOCHS,
    train_epochs=TRAIN_EPOCHS,
):
    """Piecewise constant schedule: at each drop the rate falls to a tenth.

    Args:
        initial_learning_rate: Float, the rate of the first part of the run.
        total_steps: Int, optimizer steps in the whole run.
        drop_epochs: Up to four ints, epochs of the recipe after which the rate drops; as
            fractions of `train_epochs` they hold for a run of any length.
        train_epochs: Int, epochs of the recipe.

    Returns:
        A `keras.optimizers.schedules.PiecewiseConstantDecay`. As in the official code,
        the step at a boundary itself still has the earlier rate.

    Raises:
        ValueError: If `total_steps` is not positive.
    """
    if total_steps < 1:
        raise ValueError(
            "`total_steps` must be a positive number of optimizer steps. "
            f"Received: total_steps={total_steps}"
        )
    return keras.optimizers.schedules.PiecewiseConstantDecay(
        boundaries=[total_steps * epoch // train_epochs for epoch in drop_epochs],
        values=[initial_learning_rate * rate for rate in RATES[: len(drop_epochs) + 1]],
    )


def optimizer(initial_learning_rate=LEARNING_RATE, total_steps=None, momentum=MOMENTUM):
    """SGD with momentum on the official schedule.

    Args:
        initial_learning_rate: Float.
        total_steps: Int, optimizer steps in the whole run, or None for a constant rate.
        momentum: Float in [0, 1).

    Returns:
        A `keras.optimizers.SGD`.
    """
    rate = initial_learning_rate
    if total_steps is not None:
        rate = learning_rate_schedule(initial_learning_rate, total_steps)
    return keras.optimizers.SGD(rate, momentum=momentum)
