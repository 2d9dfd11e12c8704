# SPDX-License-Identifier: Apache-2.0
"""The plan of a run: what its flags and its training images come to, made once."""

import dataclasses

import keras
import numpy as np

from deepncm_tf.data import pipeline
from official_resnet import recipe


@dataclasses.dataclass(frozen=True)
class Recipe:
    """An optimizer's recipe: epochs, those at which the rate drops, and Nesterov's way."""

    train_epochs: int
    drop_epochs: tuple
    nesterov: bool = False


RECIPES = {
    "official": Recipe(recipe.TRAIN_EPOCHS, recipe.DROP_EPOCHS),
    "snca": Recipe(200, (50, 100, 150), nesterov=True),
}


@dataclasses.dataclass(frozen=True)
class TrainingPlan:
    """Steps, rates and recipe of a run.

    Attributes:
        labels: `(n,)` integers, classes of the training images in order.
        batch_size: Int, samples in a step.
        steps_per_epoch: Int.
        total_steps: Int, those of `--train_epochs`, of which the rate's drops are
            fractions.
        max_steps: Int, after which the run ends.
        learning_rate: `keras.optimizers.schedules.PiecewiseConstantDecay`.
        nesterov: Bool.
    """

    labels: np.ndarray
    batch_size: int
    steps_per_epoch: int
    total_steps: int
    max_steps: int
    learning_rate: keras.optimizers.schedules.LearningRateSchedule
    nesterov: bool

    @classmethod
    def make(cls, config, labels):
        """The plan of a run.

        Args:
            config: Dictionary of flags as from `flags.resolve`.
            labels: `(n,)` integers, classes of the training images.
        """
        steps = pipeline.steps_per_epoch(len(labels), config["batch_size"])
        total_steps = config["train_epochs"] * steps
        chosen = RECIPES[config["recipe"]]
        return cls(
            labels=labels,
            batch_size=config["batch_size"],
            steps_per_epoch=steps,
            total_steps=total_steps,
            max_steps=min(config["max_train_steps"] or total_steps, total_steps),
            learning_rate=recipe.learning_rate_schedule(
                config["learning_rate"],
                total_steps,
                chosen.drop_epochs,
                chosen.train_epochs,
            ),
            nesterov=chosen.nesterov,
        )

    @property
    def evaluation_batch_size(self):
        """Number of samples that are evaluated at a time; they keep no activations."""
        return 4 * self.batch_size

    @property
    def epochs(self):
        """Number of epochs that are begun."""
        return -(-self.max_steps // self.steps_per_epoch)

    def optimizer(self):
        """A new optimizer, `keras.optimizers.SGD`."""
        return keras.optimizers.SGD(
            self.learning_rate, momentum=recipe.MOMENTUM, nesterov=self.nesterov
        )
