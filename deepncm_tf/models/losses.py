# SPDX-License-Identifier: Apache-2.0
"""The training loss of every method: cross-entropy on class logits."""

import inspect
import math

import keras
from keras import ops

from deepncm_tf.numerics import labels
from deepncm_tf.utils.arguments import as_label, check_number


@keras.saving.register_keras_serializable(package="deepncm_tf")
class LogitCrossEntropy(keras.losses.Loss):
    """Softmax cross-entropy of logits against integer or one-hot labels.

    NaN where an integer is outside 0..num_classes-1, but for `ignore_class`.

    Args:
        reduction: As in `keras.losses.Loss`.
        name: String, name of the loss.
        dtype: Dtype of the computation.
        label_smoothing: Float in [0, 1), share of each sample's weight that is spread
            evenly over all classes.
        ignore_class: Int, label of what has no class and no loss, such as void pixels; or
            None. The mean is over all labels, these included.

    Call arguments:
        y_true: Integer labels `(batch, ...)` or `(batch, ..., 1)`, or class weights
            (one-hot or soft labels) `(batch, ..., num_classes)`.
        y_pred: Logits, `(batch, ..., num_classes)`.
    """

    def __init__(
        self,
        reduction="sum_over_batch_size",
        name="crossentropy",
        dtype=None,
        label_smoothing=0.0,
        ignore_class=None,
    ):
        super().__init__(reduction=reduction, name=name, dtype=dtype)
        check_number(
            "label_smoothing", label_smoothing, "a number in [0, 1)", lambda x: 0 <= x < 1
        )
        self.label_smoothing = float(label_smoothing)
        self.ignore_class = as_label("ignore_class", ignore_class)

    def call(self, y_true, y_pred):
        num_classes, rank = y_pred.shape[-1], len(y_pred.shape)
        y_true = labels.normalize(y_true, num_classes, rank, name="y")
        if labels.is_class_weights(y_true, rank):
            loss = ops.categorical_crossentropy(y_true, y_pred, from_logits=True)
            return self._smoothed(loss, y_pred, ops.sum(y_true, axis=-1))
        # Backends differ in what they give for a class that there is not: never a number.
        wrong = ops.logical_or(y_true < 0, y_true >= num_classes)
        loss = ops.sparse_categorical_crossentropy(
            ops.where(wrong, 0, y_true), y_pred, from_logits=True
        )
        loss = ops.where(wrong, math.nan, self._smoothed(loss, y_pred, 1.0))
        if self.ignore_class is None:
            return loss
        return ops.where(y_true == self.ignore_class, 0.0, loss)

    def _smoothed(self, loss, logits, weights):
        """(1 - s) loss + s w / C * (sum over all classes of -log p)."""
        if not self.label_smoothing:
            return loss
        even = ops.logsumexp(logits, axis=-1) - ops.mean(logits, axis=-1)
        return (1.0 - self.label_smoothing) * loss + self.label_smoothing * weights * even

    def get_config(self):
        own = {
            "label_smoothing": self.label_smoothing,
            "ignore_class": self.ignore_class,
        }
        return {**super().get_config(), **own}


def ignored_in_mean(loss):
    """The label that a loss's mean leaves out, as that of Keras's own does; or None."""
    is_keras = isinstance(loss, keras.losses.SparseCategoricalCrossentropy)
    is_mean = is_keras and loss.reduction == "sum_over_batch_size"
    return loss.ignore_class if is_mean else None


def has_known_mean(loss):
    """Whether it is known over which labels a loss averages."""
    known = (LogitCrossEntropy, keras.losses.SparseCategoricalCrossentropy)
    return getattr(loss, "ignore_class", None) is None or isinstance(loss, known)


def expects_probabilities(loss):
    """Whether a Keras loss, object or function, would take logits for probabilities."""
    function = getattr(loss, "fn", loss)
    parameter = inspect.signature(function).parameters.get("from_logits")
    if parameter is None:
        return False
    return not getattr(loss, "_fn_kwargs", {}).get("from_logits", parameter.default)
