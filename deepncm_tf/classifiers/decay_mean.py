# SPDX-License-Identifier: Apache-2.0
"""Decay means: an exponential moving average of the batch means."""

import keras
from keras import ops

from deepncm_tf.classifiers.class_means import ClassMeans
from deepncm_tf.utils.arguments import check_number


@keras.saving.register_keras_serializable(package="deepncm_tf")
class DecayMean(ClassMeans):
    """Nearest-mean classifier whose means forget the past exponentially.

    Non-trainable variables: `mean` `(num_classes, d)` and `count` `(num_classes,)`, the
    (weighted) number of samples seen.

    After each training step, for the classes in the batch, with S_c the (weighted) sum of
    the batch's features of class c and n_c its number of samples,

        m_c <- decay * m_c + (1 - decay) * S_c / n_c;

    the other classes keep their mean. Means start at 0, without correction of that bias.
    Logits are -||x - m_c||^2, with the means of before the step.

    Args:
        num_classes: Int, number of classes C.
        decay: Float in [0, 1), weight of the past.
        **kwargs: `metric`, `center`, `unit_length` and `temperature` of `OnlineMean`, and
            those of `keras.layers.Layer`.

    Call arguments:
        features: `(batch, ..., d)`.
        index: Ignored.
        training: Bool, whether classes without a sample compete.

    Output shape:
        `(batch, ..., num_classes)`.

    Reference:
        - Guerriero, Caputo, Mensink, "DeepNCM: Deep Nearest Class Mean Classifiers",
          ICLR workshop 2018, section 2.

    Example:
        >>> classifier = DecayMean(num_classes=1, decay=0.75)
        >>> logits = classifier(keras.ops.ones((1, 2)))
        >>> classifier.update(keras.ops.ones((4, 2)), [0, 0, 0, 0])
        >>> [float(value) for value in classifier.means[0]]
        [0.25, 0.25]
    """

    def __init__(self, num_classes, decay=0.9, **kwargs):
        super().__init__(num_classes, **kwargs)
        check_number("decay", decay, "a number in [0, 1)", lambda x: 0 <= x < 1)
        self.decay = float(decay)

    def build(self, features_shape):
        super().build(features_shape)
        self.mean = self.add_state("mean", (self.num_classes, features_shape[-1]))

    def next_state(self, sums, counts):
        present = (counts > 0)[:, None]
        batch_means = ops.divide_no_nan(sums, counts[:, None])  # (C, d)
        batch_means = ops.cast(batch_means, self.state_dtype)
        moved = self.decay * self.means + (1.0 - self.decay) * batch_means
        yield self.mean, ops.where(present, moved, self.means)
        yield self.count, self.counts + counts

    def write_statistics(self, folds):
        (sums,) = folds
        self.mean.assign(
            ops.cast(ops.divide_no_nan(sums.totals, sums.counts[:, None]), self.mean.dtype)
        )
        self.assign_state(self.count, sums.counts, apply=None)

    @property
    def means(self):
        return ops.copy(self.mean)

    def get_config(self):
        return {**super().get_config(), "decay": self.decay}
