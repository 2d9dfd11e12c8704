# SPDX-License-Identifier: Apache-2.0
"""A memory of the last features of each class."""

import warnings

from keras import ops

from deepncm_tf.distribution import replicas


class FeatureMemory:
    """The last samples of each class, first in, first out.

    Each class has a ring of its own, so that rare classes stay represented and clustering
    within classes needs no sorting. The variables belong to a classifier, which saves them:
    `memory_features` `(num_classes * size, d)`, `memory_flags` `(num_classes * size,)`
    (-1 where nothing was written yet, else whether the sample counted) and
    `memory_written` `(num_classes,)`, the number of samples written to each ring.

    Args:
        add_state: Function `(name, shape, dtype=, initializer=)` that adds a variable.
        num_classes: Int, number of classes C.
        size: Int >= 1, samples kept of each class.
        dimensions: Int, of a feature.
        dtype: Dtype of the features kept.
    """

    def __init__(self, add_state, num_classes, size, dimensions, dtype):
        self.num_classes = num_classes
        self.size = size
        rows = num_classes * size
        self._features = add_state("memory_features", (rows, dimensions), dtype=dtype)
        self._flags = add_state(
            "memory_flags", (rows,), dtype="int32", initializer=_nothing
        )
        self._written = add_state("memory_written", (num_classes,), dtype="int32")

    def write(self, features, labels, flags, keep):
        """Adds samples, in their order; of more than `size` of a class, the last.

        Args:
            features: `(n, d)`.
            labels: `(n,)` int32 in [0, num_classes).
            flags: `(n,)` bools, whether a sample counts.
            keep: `(n,)` bools, whether a sample is added.
        """
        ranks, numbers = ranks_in_class(labels, keep, self.num_classes)
        written = ops.convert_to_tensor(self._written)
        places = (ops.take(written, labels, axis=0) + ranks) % self.size
        last = ranks >= ops.take(numbers, labels, axis=0) - self.size
        rows = labels * self.size + places
        keep = ops.logical_and(keep, last)
        replicas.write_rows(self._features, rows, features, keep)
        replicas.write_rows(self._flags, rows, ops.cast(flags, "int32"), keep)
        # Modulo twice the size, so that the number never overflows. Only its remainder by
        # the size matters: the place of the next sample.
        self._written.assign((written + numbers) % (2 * self.size))

    def clear(self):
        """Empties the rings."""
        self._features.assign(ops.zeros(self._features.shape, self._features.dtype))
        self._flags.assign(_nothing(self._flags.shape, "int32"))
        self._written.assign(ops.zeros(self._written.shape, "int32"))

    def take_classes(self, other, groups):
        """Takes the rings of another memory of the same size.

        Args:
            other: `FeatureMemory`.
            groups: List of tuples of ints: for each class those of `other` that it is. Only
                what is one class as before keeps its ring; others begin anew.
        """
        kept = [(c, group[0]) for c, group in enumerate(groups) if len(group) == 1]
        for variable in ("_features", "_flags", "_written"):
            old = ops.convert_to_numpy(getattr(other, variable))
            new = ops.convert_to_numpy(getattr(self, variable)).copy()
            rows = 1 if variable == "_written" else self.size
            for c, before in kept:
                own = slice(before * rows, (before + 1) * rows)
                new[c * rows : (c + 1) * rows] = old[own]
            getattr(self, variable).assign(new)

    def read(self, dtype):
        """What is kept.

        Args:
            dtype: Of what is returned but the features, which are not copied.

        Returns:
            `(features, counted, there)`: `(num_classes, size, d)`; `(num_classes, size)`
            floats, 1 for samples that count, else 0; the same for samples that are there.
        """
        shape = (self.num_classes, self.size)
        features = replicas.read_all(self._features)
        flags = ops.reshape(ops.convert_to_tensor(self._flags), shape)
        return (
            ops.reshape(features, (*shape, -1)),
            ops.cast(flags > 0, dtype),
            ops.cast(flags >= 0, dtype),
        )


def warn_of_small_memory(memory_size, batch, sizes):
    """Warns of a memory in which some samples of a batch or a class do not fit.

    Args:
        memory_size: Int, samples that it has room for.
        batch: Int, or None where it is not known.
        sizes: List of ints, number of sub-centroids of each class.
    """
    if max(batch or 0, max(sizes) * len(sizes)) > memory_size:
        warnings.warn(
            "`memory_size` should be a batch or more, and K samples of each class or "
            "more: those that do not fit do not count. Received: memory_size="
            f"{memory_size} with a batch of {batch}, {len(sizes)} classes and "
            f"K={max(sizes)}",
            stacklevel=3,
        )


def ranks_in_class(labels, keep, num_classes):
    """Numbers the samples of each class in their order.

    Args:
        labels: `(n,)` int32 in [0, num_classes).
        keep: `(n,)` bools, which samples are numbered.
        num_classes: Int.

    Returns:
        `(n,)` int32 from 0 (meaningless where not kept), and `(num_classes,)`, how many
        there are of each class.
    """
    labels = ops.where(keep, labels, num_classes)  # the others come last
    count = ops.shape(labels)[0]
    order = ops.argsort(labels)  # stable, on every backend
    ordered = ops.take(labels, order, axis=0)
    numbers = ops.segment_sum(ops.ones_like(ordered), ordered, num_segments=num_classes + 1)
    starts = ops.cumsum(numbers) - numbers
    in_order = ops.arange(count, dtype="int32") - ops.take(starts, ordered, axis=0)
    # Where each sample went in the sorted order: the inverse permutation.
    ranks = ops.take(in_order, ops.argsort(order), axis=0)
    return ops.cast(ranks, "int32"), numbers[:num_classes]


def _nothing(shape, dtype=None):
    return ops.full(shape, -1, dtype=dtype)
