# SPDX-License-Identifier: Apache-2.0
"""The samples of a batch that `SubCentroids` clusters: all, or some of each class."""

from keras import ops

from deepncm_tf.distribution import replicas
from deepncm_tf.numerics import clustering
from deepncm_tf.numerics.memory import ranks_in_class


def gather(samples, units, correct, apply=None):
    """The samples of all replicas, as on one device.

    Args:
        samples: `Samples` of this replica.
        units: `(n, d)`, their features of unit length.
        correct: `(n,)` bools, whether they are classified correctly.
        apply: Scalar bool tensor, False where none takes part; or None.

    Returns:
        `(units, labels, takes_part, correct)`; features of those that take no part are 0.
    """
    takes_part = samples.takes_part
    if apply is not None:
        takes_part = ops.logical_and(takes_part, apply)
    takes_part = ops.logical_and(takes_part, ops.all(ops.isfinite(units), axis=-1))
    flags = [ops.cast(flag, "int32") for flag in (takes_part, correct)]
    numbers = ops.stack([samples.labels, *flags], axis=1)
    units, numbers = replicas.all_gather([ops.stop_gradient(units), numbers])
    takes_part = numbers[:, 1] > 0
    units = ops.where(takes_part[:, None], units, 0.0)  # others may be NaN
    return units, numbers[:, 0], takes_part, numbers[:, 2] > 0


def draw(labels, takes_part, noise, num_classes, size):
    """Draws samples of each class: those with the least noise.

    Args:
        labels: `(n,)` int32 in [0, num_classes).
        takes_part: `(n,)` bools, which samples can be drawn.
        noise: `(n,)` floats.
        num_classes: Int, number of classes C.
        size: Int m, the most of a class.

    Returns:
        `(rows, is_there)`: `(C, m)` int32, their places in the batch, 0 where there is
        none; and `(C, m)` bools.
    """
    order = ops.cast(ops.argsort(noise), "int32")
    labels = ops.take(labels, order, axis=0)
    takes_part = ops.take(takes_part, order, axis=0)
    ranks, _ = ranks_in_class(labels, takes_part, num_classes)
    drawn = ops.logical_and(takes_part, ranks < size)
    cells = num_classes * size
    places = ops.where(drawn, labels * size + ranks, cells)  # the last is for the others
    numbers = ops.stack([order, ops.ones_like(order)], axis=1)
    numbers = ops.segment_sum(numbers, places, num_segments=cells + 1)[:cells]
    numbers = ops.reshape(numbers, (num_classes, size, 2))
    return numbers[..., 0], numbers[..., 1] > 0


class ClusteredSamples:
    """Samples in the layout in which they are clustered.

    Args:
        units: `(n, d)`, features of unit length, zero where they take no part.
        labels: `(n,)` int32 in [0, num_classes).
        takes_part, correct: `(n,)` bools.
        num_classes: Int, number of classes C.
        drawn: What `draw` returns, or None for all samples.

    Attributes:
        layout: `clustering.Flat`, or `clustering.ByClass` where samples were drawn.
        units: `(n, d)` or `(C, m, d)`.
        counted: `(n,)` or `(C, m)`, 1 for samples that move their sub-centroid, else 0.
    """

    def __init__(self, units, labels, takes_part, correct, num_classes, drawn=None):
        self.takes_part = takes_part
        self._rows = None
        self.units, self.counted = units, ops.cast(correct, units.dtype)
        if drawn is None:
            weights = ops.cast(takes_part, units.dtype)
            self.layout = clustering.Flat(labels, num_classes, weights)
            return
        self._rows, is_there = drawn
        weights = ops.cast(is_there, units.dtype)
        self.layout = clustering.ByClass(weights)
        self.units = ops.take(units, self._rows, axis=0) * weights[..., None]
        self.counted = ops.take(self.counted, self._rows, axis=0)

    def of_batch(self, assigned):
        """Clusters as from `clustering.assign`, in the order of the batch.

        Returns:
            `(n,)` int32, and `(n,)` bools, which samples have one.
        """
        if self._rows is None:
            return assigned, self.takes_part
        there = ops.cast(self.layout.weights > 0, "int32")
        numbers = ops.stack([ops.cast(assigned, "int32") * there, there], axis=-1)
        count = ops.shape(self.takes_part)[0]
        numbers = ops.segment_sum(
            ops.reshape(numbers, (-1, 2)),
            ops.reshape(self._rows, (-1,)),
            num_segments=count,
        )
        return numbers[:, 0], numbers[:, 1] > 0
