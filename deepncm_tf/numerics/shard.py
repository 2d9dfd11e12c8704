# SPDX-License-Identifier: Apache-2.0
"""A replica's share of a bank: queries go to all replicas, and sums over rows come back."""

import math

from keras import ops

from deepncm_tf.distribution import replicas
from deepncm_tf.numerics.log_sums import class_log_sums, nearest_class


class Shard:
    """The rows of this replica, and sums over those of all.

    Args:
        variable: `ShardedVariable`, the bank.
        labels: `(size,)` int32, classes of all rows, below 0 for those that take no part.
        num_classes: Int, number of classes C.
    """

    def __init__(self, variable, labels, num_classes):
        import tensorflow as tf

        number = tf.distribute.get_replica_context().replica_id_in_sync_group
        self.number = int(tf.get_static_value(number))
        self.rows = replicas.components(variable)[self.number]
        self.num_classes = num_classes
        self.size = variable.shape[0]
        self.first = self.number * self.size
        spare = self.size * replicas.num_replicas() - variable.whole_shape[0]
        labels = ops.pad(ops.convert_to_tensor(labels), [[0, spare]], constant_values=-1)
        self.labels = labels[self.first : self.first + self.size]

    def own(self, index):
        """Places of rows of the whole bank in this shard; -1 where they are not here."""
        place = index - self.first
        is_own = ops.logical_and(place >= 0, place < self.size)
        return ops.where(ops.logical_and(is_own, index >= 0), place, -1)

    def class_log_sums(self, features, temperature, index=None):
        """As `log_sums.class_log_sums`, over the rows of all replicas."""
        everyone, index = self._gather(features, index)
        local = class_log_sums(
            everyone, self.rows, self.labels, self.num_classes, temperature, index
        )
        (parts,) = replicas.all_gather([local[None]])  # (replicas, batch of all, C)
        largest = ops.stop_gradient(ops.max(parts, axis=0, initial=-math.inf))
        largest = ops.where(ops.isfinite(largest), largest, 0.0)
        total = ops.sum(ops.exp(parts - largest), axis=0)
        has_rows = total > 0
        logs = largest + ops.log(ops.where(has_rows, total, 1.0))
        return self._mine(ops.where(has_rows, logs, -math.inf), features)

    def nearest_class(self, features):
        """As `log_sums.nearest_class`, among the rows of all replicas."""
        everyone, _ = self._gather(features)
        similarities, classes = nearest_class(
            everyone, self.rows, self.labels, self.num_classes
        )
        similarities, classes = replicas.all_gather([similarities[None], classes[None]])
        best = ops.argmax(similarities, axis=0)
        return tuple(
            self._mine(ops.take_along_axis(values, best[None], axis=0)[0], features)
            for values in (similarities, classes)
        )

    def _gather(self, features, index=None):
        if index is None:
            return replicas.all_gather([features])[0], None
        everyone, index = replicas.all_gather([features, index])
        return everyone, self.own(index)

    def _mine(self, values, features):
        """The rows of this replica's samples among those of all."""
        count = ops.convert_to_tensor(ops.shape(features)[0], dtype="int32")
        (counts,) = replicas.all_gather([count[None]])
        before = ops.sum(counts[: self.number])
        return values[before : before + count]
