# SPDX-License-Identifier: Apache-2.0
"""Online class means: the mean of all features since the beginning."""

import keras
from keras import ops

from deepncm_tf.classifiers.class_means import ClassMeans
from deepncm_tf.numerics import statistics
from deepncm_tf.numerics.precision import sum_dtype


@keras.saving.register_keras_serializable(package="deepncm_tf")
class OnlineMean(ClassMeans):
    """Nearest-mean classifier with the running mean of all samples so far.

    Non-trainable variables: `total` `(num_classes, d)` and `count` `(num_classes,)`, in
    float64, so that neither stops growing after many samples.

    After each training step, with S_c the (weighted) sum of the batch's features of
    class c and n_c its number of samples,

        total_c <- total_c + S_c,   count_c <- count_c + n_c,   m_c = total_c / count_c.

    Logits are -||x - m_c||^2, with the means of before the step.

    Args:
        num_classes: Int, number of classes C.
        metric: `"euclidean"` or `"cosine"`, by which logits are cosines with the means.
        center: A sequence of d numbers that is taken from features; `"mean"` for the mean
            of all samples so far, with `metric="cosine"`; or None.
        unit_length: Bool, whether features are scaled to unit length, after `center`.
        temperature: Float > 0, by which logits are divided.
        **kwargs: Those of `keras.layers.Layer`.

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
        >>> classifier = OnlineMean(num_classes=2)
        >>> logits = classifier(keras.ops.ones((1, 3)))
        >>> classifier.update(keras.ops.ones((2, 3)), [1, 1])
        >>> [float(count) for count in classifier.counts]
        [0.0, 2.0]
    """

    unlearns = True

    def build(self, features_shape):
        super().build(features_shape)
        shape = (self.num_classes, features_shape[-1])
        self.total = self.add_state("total", shape, dtype=sum_dtype())

    def next_state(self, sums, counts):
        yield self.total, self.total + sums
        yield self.count, self.counts + counts

    def _totals(self, counts):
        return ops.copy(self.total)

    def write_statistics(self, folds):
        (sums,) = folds
        self.total.assign(sums.totals)
        self.count.assign(sums.counts)

    def is_exact(self):
        """Whether all samples came from `adapt`: those of training are not on the grid."""
        (sums,) = self.read_statistics()
        return self.unlearns and statistics.is_exact(sums)

    @property
    def means(self):
        means = ops.divide_no_nan(self.total, self.counts[:, None])
        return ops.cast(means, self.state_dtype)
