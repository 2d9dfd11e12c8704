# SPDX-License-Identifier: Apache-2.0
"""A bank spread over the replicas: each holds its share of the rows.

The bank is one variable of which every replica has a copy of its own, with other rows.
Queries go to all replicas, and the sums over their rows come back.
"""

import math
import random

import keras
import numpy as np
from keras import ops

from deepncm_tf.distribution import replicas
from deepncm_tf.numerics.bank import class_log_sums, nearest_class

NOISE_ROWS = 8192  # made at once: the noise for a large bank is large


def create(size, dimensions, dtype, sharded):
    """A bank of zeros.

    Args:
        size: Int, number of rows, over all replicas.
        dimensions: Int.
        dtype: String.
        sharded: Bool, whether each replica gets its share of the rows, the last one maybe
            some to spare; else it gets all of them.

    Returns:
        `keras.Variable`, `(size, dimensions)`, or `(rows of a replica, dimensions)`.

    Raises:
        ValueError: If the replicas of a sharded bank are on several machines.
    """
    rows = size
    if sharded:
        if replicas.is_multi_worker(replicas.current_strategy()):
            raise ValueError(
                "`bank_sharding` needs replicas on one machine. Received: "
                "bank_sharding=True under a MultiWorkerMirroredStrategy"
            )
        rows = -(-size // replicas.num_replicas())
    variable = keras.Variable(
        keras.initializers.Zeros(),
        shape=(rows, dimensions),
        dtype=dtype,
        trainable=False,
        autocast=False,
        aggregation="only_first_replica",
        synchronization="on_read" if rows < size else "auto",
        name="bank",
    )
    variable.size_of_all = size
    return variable


def whole(variable):
    """A variable, or for a sharded one a tensor of all its rows."""
    if not _is_sharded(variable):
        return variable
    shares = [ops.convert_to_tensor(share) for share in replicas.components(variable)]
    return ops.concatenate(shares, axis=0)[: variable.size_of_all]


def whole_shape(variable):
    """Shape of a variable; for a sharded one that of all its rows."""
    shape = tuple(variable.shape)
    return (variable.size_of_all, *shape[1:]) if _is_sharded(variable) else shape


def assign(variable, values):
    """Gives a variable its values; a sharded one all its rows."""
    if _is_sharded(variable):
        write(variable, 0, values)
    else:
        variable.assign(np.asarray(values))


def write(variable, start, rows):
    """Writes some rows of a bank, sharded or not, in place where the backend can.

    Args:
        variable: As from `create`.
        start: Int, the first of the rows.
        rows: `(n, d)` NumPy array, or what slices like one.
    """
    if keras.backend.backend() != "tensorflow":
        bank = ops.convert_to_tensor(variable)
        variable.assign(ops.slice_update(bank, (start, 0), ops.convert_to_tensor(rows)))
        return
    import tensorflow as tf

    share = variable.shape[0]
    for number, component in enumerate(replicas.components(variable)):
        first = number * share if _is_sharded(variable) else 0
        begin, end = max(start, first), min(start + len(rows), first + share)
        if begin < end:
            with tf.init_scope():
                values = np.asarray(rows[begin - start : end - start])
                component[begin - first : end - first].assign(values)


def fill_with_noise(variable, limit):
    """Gives a bank uniform noise in ±limit, the same for any number of replicas."""
    rng = np.random.default_rng(_agreed_seed())
    size, dimensions = whole_shape(variable)
    for start in range(0, size, NOISE_ROWS):
        rows = min(NOISE_ROWS, size - start)
        noise = rng.uniform(-limit, limit, size=(rows, dimensions))
        write(variable, start, noise.astype(variable.dtype))


def _agreed_seed():
    """A random integer, the same on all workers of a strategy."""
    seed = random.randint(1, 10**9)  # as Keras's initializers draw theirs
    if keras.backend.backend() != "tensorflow":
        return seed
    import tensorflow as tf

    with tf.init_scope():  # all of them get the first worker's variables
        agreed = tf.Variable(seed, dtype="int64")
    return int(getattr(agreed, "values", (agreed,))[0].numpy())


class Shard:
    """The rows of this replica, and sums over those of all.

    Args:
        variable: `keras.Variable` `(rows_per_replica, d)`, one copy for each replica.
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
        spare = self.size * replicas.num_replicas() - variable.size_of_all
        labels = ops.pad(ops.convert_to_tensor(labels), [[0, spare]], constant_values=-1)
        self.labels = labels[self.first : self.first + self.size]

    def own(self, index):
        """Places of rows of the whole bank in this shard; -1 where they are not here."""
        place = index - self.first
        here = ops.logical_and(place >= 0, place < self.size)
        return ops.where(ops.logical_and(here, index >= 0), place, -1)

    def class_log_sums(self, features, temperature, index=None):
        """As `bank.class_log_sums`, over the rows of all replicas."""
        everyone, index = self._gather(features, index)
        local = class_log_sums(
            everyone, self.rows, self.labels, self.num_classes, temperature, index
        )
        (parts,) = replicas.all_gather([local[None]])  # (replicas, batch of all, C)
        largest = ops.stop_gradient(ops.max(parts, axis=0, initial=-math.inf))
        largest = ops.where(ops.isfinite(largest), largest, 0.0)
        total = ops.sum(ops.exp(parts - largest), axis=0)
        there = total > 0
        logs = largest + ops.log(ops.where(there, total, 1.0))
        return self._mine(ops.where(there, logs, -math.inf), features)

    def nearest_class(self, features):
        """As `bank.nearest_class`, among the rows of all replicas."""
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


def is_spread(variable):
    """Whether this is one of several replicas, with its own share of the variable."""
    return _is_sharded(variable) and replicas.in_replica()


def _is_sharded(variable):
    return hasattr(variable, "size_of_all") and variable.size_of_all > variable.shape[0]
