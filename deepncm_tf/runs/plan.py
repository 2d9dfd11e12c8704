# SPDX-License-Identifier: Apache-2.0
"""The plan of a run: what its flags and its training images come to, made once."""

import dataclasses

import keras
import numpy as np

from deepncm_tf import flags
from deepncm_tf.data import pipeline
from deepncm_tf.models.losses import LogitCrossEntropy
from deepncm_tf.numerics.piecewise_linear import PiecewiseLinear
from official_resnet import recipe


@dataclasses.dataclass(frozen=True)
class Recipe:
    """An optimizer's recipe.

    Attributes:
        train_epochs: Int, epochs of the recipe.
        drop_epochs: Ints, epochs after which the rate falls to a tenth.
        warm_up: Float in (0, 1), share of the run in which the rate rises to its full
            value, from which it falls to 0, both in a straight line; or None.
        power: Float > 0, of the polynomial of the time left by which the rate falls to 0,
            as it does in segmentation; or None.
        nesterov: Bool.
        label_smoothing: Float in [0, 1), of methods that allow it.
        images: Int, size of the batches of which the rate is given, which is in proportion
            for others; None where it is that of all.
    """

    train_epochs: int
    drop_epochs: tuple = ()
    warm_up: float | None = None
    power: float | None = None
    nesterov: bool = False
    label_smoothing: float = 0.0
    images: int | None = None

    def learning_rate(self, full, total_steps, batch_size):
        """The schedule of a run of any length, whose largest rate is `full`."""
        full *= batch_size / self.images if self.images else 1
        if self.power is not None:
            return keras.optimizers.schedules.PolynomialDecay(
                full, total_steps, end_learning_rate=0.0, power=self.power
            )
        if self.warm_up is None:
            return recipe.learning_rate_schedule(
                full, total_steps, self.drop_epochs, self.train_epochs
            )
        peak = max(1, round(self.warm_up * total_steps))
        # The step after the last one would have rate 0.
        return PiecewiseLinear([0, peak, max(total_steps, peak + 1)], [full / 10, full, 0])


RECIPES = {
    "official": Recipe(recipe.TRAIN_EPOCHS, recipe.DROP_EPOCHS),
    "snca": Recipe(200, (50, 100, 150), nesterov=True),
    "polynomial": Recipe(50, power=0.9),
    "fast": Recipe(40, warm_up=0.2, nesterov=True, label_smoothing=0.1),
    "imagenet": Recipe(
        recipe.IMAGENET_TRAIN_EPOCHS,
        recipe.IMAGENET_DROP_EPOCHS,
        images=recipe.IMAGENET_BATCH_SIZE,
    ),
    "snca_imagenet": Recipe(130, (40, 80, 120)),
}


@dataclasses.dataclass(frozen=True)
class TrainingPlan:
    """Steps, rates and recipe of a run.

    Attributes:
        labels: `(n,)` integers, classes of the training images in order; or their masks.
        batch_size: Int, samples in a step.
        steps_per_epoch: Int.
        total_steps: Int, those of `--train_epochs`, of which the rate's drops are
            fractions.
        max_steps: Int, after which the run ends.
        learning_rate: `keras.optimizers.schedules.PiecewiseConstantDecay`, or
            `PiecewiseLinear`; of segmentation `PolynomialDecay`.
        nesterov: Bool.
        label_smoothing: Float in [0, 1), of methods that allow it.
    """

    labels: np.ndarray
    batch_size: int
    steps_per_epoch: int
    total_steps: int
    max_steps: int
    learning_rate: keras.optimizers.schedules.LearningRateSchedule
    nesterov: bool
    label_smoothing: float = 0.0

    @classmethod
    def make(cls, config, labels):
        """The plan of a run.

        Args:
            config: Dictionary of flags as from `flags.resolve`.
            labels: `(n,)` integers, classes of the training images; or their masks.
        """
        steps = pipeline.steps_per_epoch(len(labels), config["batch_size"])
        total_steps = config["train_epochs"] * steps
        is_segmentation = flags.task_of(config) == flags.SEGMENTATION
        chosen = RECIPES["polynomial" if is_segmentation else config["recipe"]]
        return cls(
            labels=labels,
            batch_size=config["batch_size"],
            steps_per_epoch=steps,
            total_steps=total_steps,
            max_steps=min(config["max_train_steps"] or total_steps, total_steps),
            learning_rate=chosen.learning_rate(
                config["learning_rate"], total_steps, config["batch_size"]
            ),
            nesterov=chosen.nesterov,
            label_smoothing=chosen.label_smoothing,
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

    def loss(self, classifier):
        """The loss for a classifier, or None for the one that `compile` has."""
        if not self.label_smoothing or not classifier.allows_label_smoothing:
            return None
        return LogitCrossEntropy(label_smoothing=self.label_smoothing)
