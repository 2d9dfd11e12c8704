# SPDX-License-Identifier: Apache-2.0
"""The training loss of every method: cross-entropy on class logits."""

import inspect

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="deepncm_tf")
class LogitCrossEntropy(keras.losses.Loss):
    """Softmax cross-entropy of logits against integer or one-hot labels.

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
        if len(y_true.shape) == len(y_pred.shape):
            if y_true.shape[-1] == y_pred.shape[-1] != 1:
                return ops.categorical_crossentropy(y_true, y_pred, from_logits=True)
            if y_true.shape[-1] != 1:
                raise ValueError(
                    f"`y` must be integers, or weights of {y_pred.shape[-1]} classes in "
                    f"its last axis. Received: y of shape {tuple(y_true.shape)}"
                )
            y_true = ops.squeeze(y_true, axis=-1)
        return ops.sparse_categorical_crossentropy(
            ops.cast(y_true, "int32"), y_pred, from_logits=True
        )


def expects_probabilities(loss):
    """Whether a Keras loss, object or function, would take logits for probabilities."""
    function = getattr(loss, "fn", loss)
    parameter = inspect.signature(function).parameters.get("from_logits")
    if parameter is None:
        return False
    return not getattr(loss, "_fn_kwargs", {}).get("from_logits", parameter.default)
