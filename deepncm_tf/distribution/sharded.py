# SPDX-License-Identifier: Apache-2.0
"""A variable whose rows the replicas share out among themselves.

It is one variable of which every replica has a copy of its own, with other rows.
"""

import keras
import numpy as np
from keras import ops

from deepncm_tf.distribution import replicas


class ShardedVariable(keras.Variable):
    """A variable of zeros of which each replica holds its share of the rows.

    All shares have the same number of rows, the last one maybe some to spare.

    Args:
        shape: Tuple, of all rows.
        dtype: String.
        name: String.

    Raises:
        ValueError: If the replicas are on several machines.
    """

    def __init__(self, shape, dtype, name):
        if replicas.is_multi_worker(replicas.current_strategy()):
            raise ValueError(
                "`bank_sharding` needs replicas on one machine. Received: "
                "bank_sharding=True under a MultiWorkerMirroredStrategy"
            )
        self.whole_shape = tuple(shape)
        super().__init__(
            keras.initializers.Zeros(),
            shape=(-(-shape[0] // replicas.num_replicas()), *shape[1:]),
            dtype=dtype,
            trainable=False,
            autocast=False,
            aggregation="only_first_replica",
            synchronization="on_read",
            name=name,
        )


def whole(variable):
    """A variable, or for a sharded one a tensor of all its rows."""
    if not isinstance(variable, ShardedVariable):
        return variable
    shares = [ops.convert_to_tensor(share) for share in replicas.components(variable)]
    return ops.concatenate(shares, axis=0)[: variable.whole_shape[0]]


def whole_shape(variable):
    """Shape of a variable; for a sharded one that of all its rows."""
    if isinstance(variable, ShardedVariable):
        return variable.whole_shape
    return tuple(variable.shape)


def assign(variable, values):
    """Gives a variable its values; a sharded one all its rows."""
    if isinstance(variable, ShardedVariable):
        write(variable, 0, values)
    else:
        variable.assign(np.asarray(values))


def write(variable, start, rows):
    """Writes some rows of a variable, sharded or not, in place where the backend can.

    Args:
        variable: `keras.Variable`, `(size, d)`.
        start: Int, the first of the rows.
        rows: `(n, d)` NumPy array, or what slices like one.
    """
    if keras.backend.backend() != "tensorflow":
        before = ops.convert_to_tensor(variable)
        variable.assign(ops.slice_update(before, (start, 0), ops.convert_to_tensor(rows)))
        return
    import tensorflow as tf

    share = variable.shape[0]
    is_sharded = isinstance(variable, ShardedVariable)
    for number, component in enumerate(replicas.components(variable)):
        first = number * share if is_sharded else 0
        begin, end = max(start, first), min(start + len(rows), first + share)
        if begin < end:
            with tf.init_scope():
                values = np.asarray(rows[begin - start : end - start])
                component[begin - first : end - first].assign(values)


def is_shared_out(variable):
    """Whether this is the code of one of several replicas, with a share of the variable."""
    return isinstance(variable, ShardedVariable) and replicas.in_replica()


def agreed_integer(integer):
    """The first worker's integer, on all workers of a strategy."""
    if keras.backend.backend() != "tensorflow":
        return integer
    import tensorflow as tf

    with tf.init_scope():  # all of them get the first worker's variables
        agreed = tf.Variable(integer, dtype="int64")
    return int(getattr(agreed, "values", (agreed,))[0].numpy())
