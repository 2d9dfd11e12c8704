# SPDX-License-Identifier: Apache-2.0
"""What the class-mean methods share: logits, and an update from class sums."""

from keras import ops

from deepncm_tf.classifiers.classifier import Classifier
from deepncm_tf.classifiers.metrics import RelativeMeanDistance
from deepncm_tf.numerics.precision import sum_dtype

LOWEST_LOGIT = -1e30


class ClassMeans(Classifier):
    """Base class of the methods with one mean per class.

    The logit of class c for feature x is -||x - m_c||^2.

    During training a class that has had no sample has its mean at the origin and competes
    like any other. During inference it is never predicted: its logit is -1e9, or
    lower where the others are as low.

    On GPUs, TensorFlow computes matrix products in TF32 unless
    `tf.config.experimental.enable_tensor_float_32_execution(False)` is called: distances of
    features from near means then keep about three digits.

    A subclass has a property `means`, a variable `count`, and `next_state`.

    Args:
        num_classes: Int, number of classes C.
        **kwargs: Those of `keras.layers.Layer`.

    Call arguments:
        features: `(batch, ..., d)`.
        training: Bool, whether classes without a sample compete.

    Output shape:
        `(batch, ..., num_classes)`.
    """

    def __init__(self, num_classes, **kwargs):
        super().__init__(num_classes, **kwargs)
        self.rmd = RelativeMeanDistance(dtype=self.state_dtype)

    def build(self, features_shape):
        self.count = self.add_state("count", (self.num_classes,), dtype=sum_dtype())

    def call(self, features, training=False):
        logits = negative_squared_distances(
            ops.cast(features, self.state_dtype), self.means
        )
        return logits if training else self.hide_unseen(logits, self.seen())

    def _update(self, samples, apply):
        sums, counts = self.class_sums(samples)
        self.rmd.update_state(sums, counts, self.means)
        # All of the new state is computed before any of it is assigned.
        for variable, value in list(self.next_state(sums, counts)):
            self.assign_state(variable, value, apply)

    def next_state(self, sums, counts):
        """The state after a batch.

        Args:
            sums: `(num_classes, d)`, S_c of the global batch, of `sum_dtype`.
            counts: `(num_classes,)`, n_c of the global batch, of `sum_dtype`.

        Returns:
            Pairs of a variable and its new value.
        """
        raise NotImplementedError

    def _update_metrics(self, samples):
        self.rmd.update_state(*self.class_sums(samples), means=self.means)

    def prototype_scores(self, features):
        distances = negative_squared_distances(
            ops.cast(features, self.state_dtype), self.means
        )
        return ops.expand_dims(distances, axis=-1)

    def compare(self, features, others):
        """-||x - x'||^2, `(n, m)`."""
        return negative_squared_distances(
            ops.cast(features, self.state_dtype), ops.cast(others, self.state_dtype)
        )

    def seen(self):
        return self.counts > 0

    @property
    def means(self):
        """The class means, `(num_classes, d)`; at the origin without a sample."""
        raise NotImplementedError

    @property
    def counts(self):
        """The weight of the samples behind each mean, `(num_classes,)`."""
        return ops.copy(self.count)  # a value, where Keras would hand out the variable


def negative_squared_distances(features, means):
    """-||x - m_c||^2, expanded so that the work is one matrix product.

    Args:
        features: `(..., d)`.
        means: `(num_classes, d)`.

    Returns:
        `(..., num_classes)`, at least -1e30, so that it is finite for any finite input.
    """
    products = ops.matmul(features, ops.transpose(means))  # (..., C)
    norms = ops.sum(ops.square(features), axis=-1, keepdims=True)  # (..., 1)
    logits = 2.0 * products - norms - ops.sum(ops.square(means), axis=-1)
    return ops.maximum(ops.where(ops.isnan(logits), LOWEST_LOGIT, logits), LOWEST_LOGIT)
