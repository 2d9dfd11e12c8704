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

    the other classes keep their mean. Means start at 0, so that after t updates of a class
    they have 1 - decay^t of their length, as published. With `bias_correction` they are

        m_c <- m_c + (1 - decay) / (1 - decay^t) * (S_c / n_c - m_c)

    instead: the first update of a class sets its mean, and the mean is always that of the
    batch means with weights that fall by `decay`. Non-trainable is then also `start`,
    `(num_classes,)`, decay^t. Logits are -||x - m_c||^2, with the means of before the step.

    Args:
        num_classes: Int, number of classes C.
        decay: Float in [0, 1), weight of the past.
        bias_correction: Bool, whether means have their whole length from the first update
            on.
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

    def __init__(self, num_classes, decay=0.9, bias_correction=False, **kwargs):
        super().__init__(num_classes, **kwargs)
        check_number("decay", decay, "a number in [0, 1)", lambda x: 0 <= x < 1)
        self.decay = float(decay)
        self.bias_correction = bool(bias_correction)

    def build(self, features_shape):
        super().build(features_shape)
        self.mean = self.add_state("mean", (self.num_classes, features_shape[-1]))
        if self.bias_correction:
            self.start = self.add_state("start", (self.num_classes,), initializer="ones")

    def next_state(self, sums, counts):
        present = (counts > 0)[:, None]
        batch_means = ops.divide_no_nan(sums, counts[:, None])  # (C, d)
        batch_means = ops.cast(batch_means, self.state_dtype)
        if self.bias_correction:
            before = ops.copy(self.start)
            start = self.decay * before
            share = ((1.0 - self.decay) / (1.0 - start))[:, None]
            moved = self.means + share * (batch_means - self.means)
            yield self.start, ops.where(counts > 0, start, before)
        else:
            moved = self.decay * self.means + (1.0 - self.decay) * batch_means
        yield self.mean, ops.where(present, moved, self.means)
        yield self.count, self.counts + counts

    def write_statistics(self, folds):
        (sums,) = folds
        self.mean.assign(
            ops.cast(ops.divide_no_nan(sums.totals, sums.counts[:, None]), self.mean.dtype)
        )
        self.assign_state(self.count, sums.counts, apply=None)
        if self.bias_correction:  # nothing of the start is left in a mean of samples
            self.assign_state(self.start, ops.where(sums.counts > 0, 0.0, 1.0), apply=None)

    def take_classes(self, other, groups):
        """A class of several has had as many updates as the one of them with the most."""
        super().take_classes(other, groups)
        kept = [(c, group[0]) for c, group in enumerate(groups) if len(group) == 1]
        old, new = (ops.convert_to_numpy(one.mean) for one in (other, self))
        new = new.copy()
        for c, before in kept:
            new[c] = old[before]
        self.mean.assign(new)
        if self.bias_correction:
            old = ops.convert_to_numpy(other.start)
            start = [old[list(group)].min(initial=1.0) for group in groups]
            self.assign_state(self.start, start, apply=None)

    @property
    def means(self):
        return ops.copy(self.mean)

    def get_config(self):
        arguments = {"decay": self.decay, "bias_correction": self.bias_correction}
        return {**super().get_config(), **arguments}
