# SPDX-License-Identifier: Apache-2.0
"""The training loss of every method: cross-entropy on class logits."""

import inspect
import math

import keras
from keras import ops

from deepncm_tf.numerics import labels


@keras.saving.register_keras_serializable(package="deepncm_tf")
class LogitCrossEntropy(keras.losses.Loss):
    """Softmax cross-entropy of logits against integer or one-hot labels.

    NaN where an integer is outside 0..num_classes-1.

    Args:
        reduction: As in `keras.losses.Loss`.
        name: String, name of the loss.
        dtype: Dtype of the computation.

    Call arguments:
        y_true: Integer labels `(batch, ...)` or `(batch, ..., 1)`, or class weights
            (one-hot or soft labels) `(batch, ..., num_classes)`.
        y_pred: Logits, `(batch, ..., num_classes)`.
    """

    def __init__(self, reduction="sum_over_batch_size", name="crossentropy", dtype=None):
        super().__init__(reduction=reduction, name=name, dtype=dtype)

    def call(self, y_true, y_pred):
        num_classes, rank = y_pred.shape[-1], len(y_pred.shape)
        y_true = labels.normalize(y_true, num_classes, rank, name="y")
        if labels.is_class_weights(y_true, rank):
            return ops.categorical_crossentropy(y_true, y_pred, from_logits=True)
        # Backends differ in what they give for a class that there is not: never a number.
        wrong = ops.logical_or(y_true < 0, y_true >= num_classes)
        loss = ops.sparse_categorical_crossentropy(
            ops.where(wrong, 0, y_true), y_pred, from_logits=True
        )
        return ops.where(wrong, math.nan, loss)


def expects_probabilities(loss):
    """Whether a Keras loss, object or function, would take logits for probabilities."""
    function = getattr(loss, "fn", loss)
    parameter = inspect.signature(function).parameters.get("from_logits")
    if parameter is None:
        return False
    return not getattr(loss, "_fn_kwargs", {}).get("from_logits", parameter.default)
