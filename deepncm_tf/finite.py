# SPDX-License-Identifier: Apache-2.0
"""Freezes a training model at the first step that is not finite, until someone looks.

A step with a NaN or an infinity in its images, features, loss or gradients changes
neither weights nor state: what it has assigned is put back, by a select and not by a
branch. So it goes for all steps after it, so that the host need not look after each one
to find the model as it was.
"""

import keras
from keras import ops

from deepncm_tf import replicas

KINDS = ("images", "features", "loss", "gradients")
STEPS_BETWEEN_LOOKS = 20  # each look waits for the device


class NotFiniteError(RuntimeError):
    """Training met a NaN or an infinity.

    The attribute `step` is the step that did, counted from 1.
    """

    def __init__(self, step, kinds, epoch=None):
        where = f"step {step}" + (f" of epoch {epoch}" if epoch else "")
        super().__init__(
            f"Not finite in {where}: {', '.join(kinds)}. The model is as it was before "
            "that step. Look for NaN or infinite values in the images, or try a smaller "
            f"learning rate. Received: NaN or infinity in {kinds[0]}"
        )
        self.step, self.kinds = step, kinds


class FiniteGuard:
    """The guard of one model, on the TensorFlow backend. Make it in the model's scope."""

    def __init__(self):
        import tensorflow as tf

        self.record = tf.Variable(
            tf.zeros(1 + len(KINDS), tf.int32),
            trainable=False,
            aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
        )

    def passes(self, step, tensors):
        """Whether this step and all before it are finite, on every replica.

        Args:
            step: Scalar int tensor, the number of this step.
            tensors: Dictionary from some of `KINDS` to lists of tensors.

        Returns:
            Scalar bool tensor.
        """
        counts = [
            sum(
                ops.cast(~ops.all(ops.isfinite(t)), "float32")
                for t in tensors.get(kind, ())
            )
            for kind in KINDS
        ]
        counts = ops.stack([ops.convert_to_tensor(c, dtype="float32") for c in counts])
        (counts,) = replicas.all_reduce_sum([counts])
        finite = ops.all(counts == 0)
        first = ops.all(ops.equal(self.record, 0))
        found = ops.concatenate(
            [ops.reshape(ops.cast(step, "int32"), (1,)), ops.cast(counts, "int32")]
        )
        self.record.assign(ops.where(finite | ~first, self.record, found))
        return finite & first

    def put_back(self, passed, variables, values):
        """Gives variables their earlier values where the step has not passed."""
        for variable, value in zip(variables, values, strict=True):
            variable.assign(ops.where(passed, variable, value))

    def look(self):
        """Raises `NotFiniteError` where a step was not finite, and lets training go on."""
        import tensorflow as tf

        step, *counts = self.record.numpy()
        if step:
            self.record.assign(tf.zeros_like(self.record))
            kinds = [kind for kind, count in zip(KINDS, counts, strict=True) if count]
            raise NotFiniteError(int(step), kinds)


class LookForFinite(keras.callbacks.Callback):
    """Looks at a model's guard every few steps and at the end of each epoch."""

    def on_train_batch_end(self, batch, logs=None):
        if batch % STEPS_BETWEEN_LOOKS == 0:
            self.model.guard.look()

    def on_epoch_end(self, epoch, logs=None):
        self.model.guard.look()
