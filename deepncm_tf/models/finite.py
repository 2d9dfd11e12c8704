# SPDX-License-Identifier: Apache-2.0
"""Keeps a model as it was before its first faulty step, until the error is raised.

A step is faulty if labels or sample weights are wrong, or if images, features, loss or
gradients have a NaN or an infinity. It changes neither weights nor state: their earlier
values are selected again, without a branch in the graph. The steps after it change nothing
either, so that the host can check every few steps and still find the model unchanged.
"""

import keras
from keras import ops

from deepncm_tf.distribution import replicas
from deepncm_tf.numerics.precision import sum_dtype
from deepncm_tf.utils.errors import UserError

INPUTS = ("labels", "sample weights")
KINDS = (*INPUTS, "inputs", "features", "loss", "gradients")
EVALUATION = -1  # in place of a step
STEPS_BETWEEN_LOOKS = 20  # each look waits for the device


class NotFiniteError(UserError):
    """Training met a NaN or an infinity.

    The attribute `step` is the step that did, counted from 1.
    """

    def __init__(self, step, kinds, epoch=None):
        where = f"step {step}" + (f" of epoch {epoch}" if epoch else "")
        super().__init__(
            f"Not finite in {where}: {', '.join(kinds)}. The model is as it was before "
            "that step. Look for NaN or infinite values in the inputs, or try a smaller "
            f"learning rate. Received: NaN or infinity in {kinds[0]}"
        )
        self.step, self.kinds = step, kinds


class FiniteGuard:
    """The guard of one model. Make it in the model's scope.

    Args:
        num_classes: Int, number of classes C.
    """

    def __init__(self, num_classes):
        self.num_classes = num_classes
        self.record = _variable(1 + len(KINDS), "int32")  # step, and counts of KINDS
        self.received = _variable(len(INPUTS), sum_dtype())  # a wrong value of each
        self.variables = [self.record, self.received]

    def passes(self, step, tensors, wrong):
        """Whether this step and all before it are sound, on every replica.

        Args:
            step: Scalar int tensor, the number of this step, or `EVALUATION`.
            tensors: Dictionary from some of `KINDS` to lists of tensors.
            wrong: Dictionary from `INPUTS` to what `labels.find_wrong` has found.

        Returns:
            Scalar bool tensor.
        """
        counts = [_count(wrong[kind][0]) for kind in INPUTS]
        counts += [
            sum(_count(~ops.all(ops.isfinite(t))) for t in _floats(tensors.get(kind, ())))
            for kind in KINDS[len(INPUTS) :]
        ]
        counts = ops.stack([ops.convert_to_tensor(c, dtype="float32") for c in counts])
        values = ops.stack([wrong[kind][1] for kind in INPUTS])
        values = ops.where(counts[: len(INPUTS)] > 0, values, 0.0)
        # Of several replicas' wrong values that of the first one is told.
        (everyone,) = replicas.all_gather([values[None]])
        first = ops.argmax(ops.cast(everyone != 0, "int32"), axis=0)
        values = ops.take_along_axis(everyone, first[None], axis=0)[0]
        (counts,) = replicas.all_reduce_sum([counts])
        sound = ops.all(counts == 0)
        earlier = ops.convert_to_tensor(self.record)
        first = ops.all(ops.equal(earlier, 0))
        record = ops.concatenate(
            [ops.reshape(ops.cast(step, "int32"), (1,)), ops.cast(counts, "int32")]
        )
        keep = sound | ~first
        received = ops.convert_to_tensor(self.received)
        self.record.assign(ops.where(keep, earlier, record))
        self.received.assign(ops.where(keep, received, values))
        return sound & first

    def put_back(self, passed, variables, values):
        """Gives variables their earlier values where the step has not passed."""
        for variable, value in zip(variables, values, strict=True):
            now = ops.convert_to_tensor(variable)
            variable.assign(ops.where(passed, now, value))

    def look(self):
        """Raises an error where a step was not sound, and lets training go on.

        Raises:
            ValueError: If labels or sample weights were none.
            NotFiniteError: If something was NaN or infinite.
        """
        step, *counts = ops.convert_to_numpy(self.record)
        if not step:
            return
        self.record.assign([0] * (1 + len(KINDS)))
        kinds = [kind for kind, count in zip(KINDS, counts, strict=True) if count]
        if kinds[0] not in INPUTS:
            raise NotFiniteError(int(step), kinds)
        value = float(ops.convert_to_numpy(self.received)[INPUTS.index(kinds[0])])
        text = f"{value:.0f}" if value.is_integer() else f"{value}"
        if step != EVALUATION:
            text += f" in step {step}. The model is as it was before that step"
        if kinds[0] == "labels":
            raise ValueError(
                f"`y` must be integers from 0 to {self.num_classes - 1}, or one-hot or "
                "other weights of the classes, finite and >= 0; a label that means none of "
                f"them is given as DeepNCM(ignore_class=...). Received: a label of {text}"
            )
        raise ValueError(
            f"`sample_weight` must be finite numbers >= 0. Received: a weight of {text}"
        )


class LookForFinite(keras.callbacks.Callback):
    """Looks at a model's guard every few steps and at the end of each epoch."""

    def on_train_batch_end(self, batch, logs=None):
        if batch % STEPS_BETWEEN_LOOKS == 0:
            self.model.look()

    def on_epoch_end(self, epoch, logs=None):
        self.model.look()


def _floats(tensors):
    """Those that can hold a NaN at all: images may be bytes."""
    dtypes = (keras.backend.standardize_dtype(tensor.dtype) for tensor in tensors)
    pairs = zip(tensors, dtypes, strict=True)
    return [tensor for tensor, dtype in pairs if keras.backend.is_float_dtype(dtype)]


def _count(wrong):
    return ops.sum(ops.cast(wrong, "float32"))


def _variable(size, dtype):
    return keras.Variable(
        keras.initializers.Zeros(),
        shape=(size,),
        dtype=dtype,
        trainable=False,
        autocast=False,
        aggregation="only_first_replica",
    )
