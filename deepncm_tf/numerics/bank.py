# SPDX-License-Identifier: Apache-2.0
"""A bank of features, whole or shared out among replicas; callers do not ask which."""

import random

import keras
import numpy as np
from keras import ops

from deepncm_tf.distribution import replicas, sharded
from deepncm_tf.numerics import log_sums
from deepncm_tf.numerics.shard import Shard

UNKNOWN = -1  # label of a row that no sample has been written to
NOISE_ROWS = 8192  # made at once: the noise for a large bank is large


class Bank:
    """The features of all training samples, and sums over those of each class.

    Args:
        rows: `keras.Variable` `(size, d)`, as from `make_rows`.
        labels: `keras.Variable` `(size,)` int32, below 0 for rows that take no part.
        num_classes: Int, number of classes C.
    """

    def __init__(self, rows, labels, num_classes):
        self.rows = rows
        self.labels = labels
        self.num_classes = num_classes

    def class_log_sums(self, features, temperature, index=None):
        """As `log_sums.class_log_sums`, over the rows of all replicas."""
        if sharded.is_shared_out(self.rows):
            return self._shard().class_log_sums(features, temperature, index)
        return log_sums.class_log_sums(
            features,
            sharded.whole(self.rows),
            self.labels,
            self.num_classes,
            temperature,
            index,
        )

    def nearest_class(self, features):
        """As `log_sums.nearest_class`, among the rows of all replicas."""
        if sharded.is_shared_out(self.rows):
            return self._shard().nearest_class(features)
        rows = sharded.whole(self.rows)
        return log_sums.nearest_class(features, rows, self.labels, self.num_classes)

    def write(self, index, labels, keep, change):
        """Gives rows a class and new features.

        Args:
            index: `(n,)` int32, the rows, the same on every replica; below 0 for none.
            labels: `(n,)` int32, their classes.
            keep: `(n,)` bools, which of them are written; these are distinct.
            change: Function from the features before, `(n, d)`, to those after.
        """
        keep = ops.logical_and(keep, index >= 0)
        replicas.write_rows(self.labels, ops.maximum(index, 0), labels, keep)
        rows = self.rows
        if sharded.is_shared_out(rows):
            shard = self._shard()
            rows, index = shard.rows, shard.own(index)
            keep = ops.logical_and(keep, index >= 0)
        places = ops.maximum(index, 0)
        replicas.write_rows(rows, places, change(replicas.read_rows(rows, places)), keep)

    def labels_of(self, index):
        """Classes of rows, `(n,)` int32; -1 where `index` is below 0."""
        labels = replicas.read_rows(self.labels, ops.maximum(index, 0))
        return ops.where(index >= 0, labels, -1)

    def counts(self):
        """Number of rows of each class, `(num_classes,)`."""
        labels = replicas.read_all(self.labels)
        labels = ops.where(labels >= 0, labels, self.num_classes)
        return log_sums.class_counts(labels, self.num_classes + 1)[: self.num_classes]

    def whole(self):
        """All rows, `(size, d)`."""
        return sharded.whole(self.rows)

    def assign(self, values):
        """Gives all rows their values, `(size, d)`; a `ValueError` for another shape."""
        wanted, received = sharded.whole_shape(self.rows), tuple(values.shape)
        if wanted != received:
            raise ValueError(
                f"The bank must be of shape {wanted}. Received: shape {received}"
            )
        sharded.assign(self.rows, values)

    def fill(self, index, labels, features, reset):
        """Writes rows from outside of a graph.

        Args:
            index: `(n,)` array of integers, the rows, or all of them below 0 for the first
                rows that are free; single ones below 0 are left out.
            labels: `(n,)` array of their classes.
            features: `(n, d)` array.
            reset: Bool, whether the other rows lose class and features, and take no part.

        Raises:
            ValueError: If there are more samples than free rows.
        """
        known = np.full(self.labels.shape, UNKNOWN) if reset else np.array(self.labels)
        keep = index >= 0
        if not keep.any():
            free = np.flatnonzero(known < 0)
            if len(features) > len(free):
                raise ValueError(
                    "`bank_size` must leave a row for each sample. Received: "
                    f"{len(features)} samples for {len(free)} free rows of {len(known)}"
                )
            index, keep = free[: len(features)], slice(None)
        rows = np.array(self.whole())
        if reset:
            rows[:] = 0.0  # the next sample of a row that is lost is its first
        rows[index[keep]], known[index[keep]] = features[keep], labels[keep]
        self.assign(rows)
        self.labels.assign(known.astype("int32"))

    def _shard(self):
        return Shard(self.rows, self.labels, self.num_classes)


def make_rows(size, dimensions, dtype, limit, shared_out=False):
    """The rows of a bank: uniform noise in ±limit, the same for any number of replicas.

    Args:
        size: Int, number of rows.
        dimensions: Int.
        dtype: String.
        limit: Float > 0.
        shared_out: Bool, whether each replica gets its share of the rows; else all.

    Returns:
        `keras.Variable`, not trainable.
    """
    if shared_out and replicas.num_replicas() > 1:
        rows = sharded.ShardedVariable((size, dimensions), dtype, name="bank")
    else:
        rows = keras.Variable(
            keras.initializers.Zeros(),
            shape=(size, dimensions),
            dtype=dtype,
            trainable=False,
            autocast=False,
            aggregation="only_first_replica",
            name="bank",
        )
    seed = random.randint(1, 10**9)  # as Keras's initializers draw theirs
    rng = np.random.default_rng(sharded.agreed_integer(seed))
    for start in range(0, size, NOISE_ROWS):
        number = min(NOISE_ROWS, size - start)
        noise = rng.uniform(-limit, limit, size=(number, dimensions))
        sharded.write(rows, start, noise.astype(rows.dtype))
    return rows
