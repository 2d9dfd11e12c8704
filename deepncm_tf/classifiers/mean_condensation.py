# SPDX-License-Identifier: Apache-2.0
"""Mean condensation: from time to time the past is made to weigh as one sample."""

import keras
from keras import ops

from deepncm_tf.classifiers.online_mean import OnlineMean
from deepncm_tf.utils.arguments import as_positive_integer


@keras.saving.register_keras_serializable(package="deepncm_tf")
class MeanCondensation(OnlineMean):
    """Nearest-mean classifier with online means, condensed every few steps.

    Non-trainable variables: `total` `(num_classes, d)`, `count` `(num_classes,)` and
    `steps`, the number of updates so far.

    Each training step moves the means as `OnlineMean` does. After every
    `condensation_steps`-th of them, for each class that has had a sample,

        total_c <- m_c,   count_c <- 1.

    Args:
        num_classes: Int, number of classes C.
        condensation_steps: Int >= 1, updates from one condensation to the next.
        **kwargs: `metric`, `center`, `unit_length` and `temperature` of `OnlineMean`, and
            those of `keras.layers.Layer`.

    Call arguments:
        features: `(batch, ..., d)`.
        index: Ignored.
        training: Bool, whether classes without a sample compete.

    Output shape:
        `(batch, ..., num_classes)`.

    Deviations:
        The official code also gives a class without a sample the count 1, a phantom
        sample at the origin; here it stays without one. In the official graph the reset
        races with the step counter; here it follows every r-th update.

    Reference:
        - Guerriero, Caputo, Mensink, "DeepNCM: Deep Nearest Class Mean Classifiers",
          ICLR workshop 2018, section 2.

    Example:
        >>> classifier = MeanCondensation(num_classes=1, condensation_steps=2)
        >>> logits = classifier(keras.ops.ones((1, 3)))
        >>> classifier.update(keras.ops.ones((4, 3)), [0, 0, 0, 0])
        >>> float(classifier.counts[0])
        4.0
        >>> classifier.update(keras.ops.ones((4, 3)), [0, 0, 0, 0])
        >>> float(classifier.counts[0])
        1.0
    """

    unlearns = False  # what is condensed cannot be taken apart again

    def __init__(self, num_classes, condensation_steps=100, **kwargs):
        super().__init__(num_classes, **kwargs)
        self.condensation_steps = as_positive_integer(
            "condensation_steps", condensation_steps
        )

    def build(self, features_shape):
        super().build(features_shape)
        self.steps = self.add_state("steps", (), dtype="int32")

    def next_state(self, sums, counts):
        # A select, not a branch: assignments and collectives fail inside a conditional
        # under a strategy.
        (_, total), (_, count) = super().next_state(sums, counts)
        steps = self.steps + 1
        condense = ops.equal(steps % self.condensation_steps, 0)
        condense = ops.logical_and(condense, count > 0)  # (C,)
        means = ops.divide_no_nan(total, count[:, None])
        yield self.total, ops.where(condense[:, None], means, total)
        yield self.count, ops.where(condense, ops.ones_like(count), count)
        yield self.steps, steps

    def take_classes(self, other, groups):
        super().take_classes(other, groups)
        self.steps.assign(ops.copy(other.steps))

    def get_config(self):
        return {**super().get_config(), "condensation_steps": self.condensation_steps}
