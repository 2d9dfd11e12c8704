# SPDX-License-Identifier: Apache-2.0
"""A schedule of straight lines."""

import itertools

import keras
from keras import ops

from deepncm_tf.utils.arguments import is_number


@keras.saving.register_keras_serializable(package="deepncm_tf")
class PiecewiseLinear(keras.optimizers.schedules.LearningRateSchedule):
    """A schedule whose values lie on straight lines between given points.

    Before the first boundary it has the first value, after the last one the last.

    Args:
        boundaries: Sequence of numbers, steps, each larger than the one before.
        values: Sequence of as many numbers.

    Example:
        >>> schedule = PiecewiseLinear([0, 2, 6], [0.0, 1.0, 0.0])
        >>> [float(schedule(step)) for step in (1, 2, 5, 9)]
        [0.5, 1.0, 0.25, 0.0]
    """

    def __init__(self, boundaries, values):
        super().__init__()
        boundaries, values = list(boundaries), list(values)
        if (
            not boundaries
            or len(boundaries) != len(values)
            or not all(map(is_number, [*boundaries, *values]))
            or any(a >= b for a, b in itertools.pairwise(boundaries))
        ):
            raise ValueError(
                "`boundaries` must be rising numbers, and `values` as many numbers. "
                f"Received: boundaries={boundaries}, values={values}"
            )
        self.boundaries = boundaries
        self.values = [float(value) for value in values]

    def __call__(self, step):
        step = ops.cast(step, "float32")
        value = ops.convert_to_tensor(self.values[0], "float32")
        for i in range(len(self.boundaries) - 1):
            start, end = self.boundaries[i : i + 2]
            share = ops.clip((step - start) / (end - start), 0.0, 1.0)
            value = value + share * (self.values[i + 1] - self.values[i])
        return value

    def get_config(self):
        return {"boundaries": self.boundaries, "values": self.values}
