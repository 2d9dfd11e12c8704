# SPDX-License-Identifier: Apache-2.0
"""Sums, gathers and rows of variables over the replicas of a `tf.distribute` strategy.

Outside a strategy, with one replica, and on other backends than TensorFlow every
function here is the identity, so that callers need not ask where they run.
"""

import contextlib

import keras
import numpy as np
from keras import ops


def num_replicas():
    """Number of replicas that train in step: 1 outside a strategy."""
    if keras.backend.backend() != "tensorflow":
        return 1
    import tensorflow as tf

    return tf.distribute.get_strategy().num_replicas_in_sync


def all_reduce_sum(tensors):
    """Sums each tensor over the replicas, in one collective call.

    Args:
        tensors: List of tensors, of the same shapes on every replica.

    Returns:
        List of tensors, the sums, equal on every replica.
    """
    if num_replicas() == 1:
        return tensors
    import tensorflow as tf

    context = tf.distribute.get_replica_context()
    if context is None:  # building or tracing outside the replicas: nothing to add up
        return tensors
    return context.all_reduce(tf.distribute.ReduceOp.SUM, tensors)


def all_gather(tensors):
    """The replicas' tensors one after the other, in one order on every replica.

    Args:
        tensors: List of tensors, whose first axes may differ between replicas.

    Returns:
        List of tensors, equal on every replica.
    """
    if num_replicas() == 1:
        return tensors
    import tensorflow as tf

    context = tf.distribute.get_replica_context()
    if context is None:  # building or tracing outside the replicas: nothing to gather
        return tensors
    return [context.all_gather(tensor, axis=0) for tensor in tensors]


def own_rows(gathered, count):
    """Of what `all_gather` gave the rows of this replica.

    Args:
        gathered: `(n, ...)`.
        count: Int or scalar, their number.
    """
    if num_replicas() == 1:
        return gathered
    import tensorflow as tf

    context = tf.distribute.get_replica_context()
    if context is None:
        return gathered
    (counts,) = all_gather([tf.reshape(count, (1,))])
    start = tf.reduce_sum(counts[: context.replica_id_in_sync_group])
    return gathered[start : start + count]


def in_replica():
    """Whether this is the code of one replica of several."""
    if num_replicas() == 1:
        return False
    import tensorflow as tf

    return tf.distribute.get_replica_context() is not None


def outside_of_graph():
    """Context in which variables can be made while TensorFlow traces a function."""
    if keras.backend.backend() != "tensorflow":
        return contextlib.nullcontext()
    import tensorflow as tf

    return tf.init_scope()


def after(tensors):
    """Context whose operations TensorFlow's graph computes after some tensors."""
    if keras.backend.backend() != "tensorflow":
        return contextlib.nullcontext()
    import tensorflow as tf

    return tf.control_dependencies(tensors)


def strategy_of(model):
    """The `tf.distribute` strategy that a model was made in, or None."""
    return getattr(model, "_distribute_strategy", None)


def scope_of(model):
    """Context of a model's strategy; other backends than TensorFlow have none."""
    strategy = getattr(model, "distribute_strategy", None)
    return contextlib.nullcontext() if strategy is None else strategy.scope()


def components(variable):
    """The backend's own variables that a `keras.Variable` stands for, one per replica."""
    if keras.backend.backend() != "tensorflow":
        return (variable,)
    return getattr(variable.value, "values", (variable.value,))


def read_rows(variable, rows):
    """Some rows of a variable, without reading all of it.

    Args:
        variable: `keras.Variable`, one of its `components` or tensor, `(size, ...)`.
        rows: `(n,)` int32.

    Returns:
        `(n, ...)`.
    """
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        value = variable.value if isinstance(variable, keras.Variable) else variable
        return tf.gather(value, rows)
    return ops.take(ops.convert_to_tensor(variable), rows, axis=0)


def read_all(variable):
    """Reads all of a variable of which `write_rows` writes some rows.

    After such a write, TensorFlow copies the variable each time it is read. This function
    shares its memory instead: a later write makes a copy, and only if the value that was
    read is still in use.

    Args:
        variable: `keras.Variable`, one of its `components` or tensor.

    Returns:
        A tensor of its shape and dtype.
    """
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf
        from tensorflow.python.ops import control_flow_util

        value = variable.value if isinstance(variable, keras.Variable) else variable
        graph = tf.compat.v1.get_default_graph()
        # XLA has no such operation, and no such copies.
        in_xla = control_flow_util.GraphOrParentsInXlaContext(graph)
        if hasattr(value, "read_value_no_copy") and not in_xla:
            return value.read_value_no_copy()
    return ops.convert_to_tensor(variable)


def write_rows(variable, rows, values, keep):
    """Writes rows of a variable in place, the same on every replica.

    Args:
        variable: `keras.Variable` or one of its `components`, `(size, ...)`.
        rows: `(n,)` int32; those to be kept are distinct.
        values: `(n, ...)`, the new rows.
        keep: `(n,)` bools, which of them are written.
    """
    if values.shape[0] == 0:
        return
    # The others repeat one that is: the number of rows stays the same, whatever is kept,
    # and the order of equal writes does not matter. With none, a row is written back.
    # A row more, since a graph may get no sample at all.
    chosen = ops.argmax(ops.pad(ops.cast(keep, "int32"), [[0, 1]]))
    any_kept = ops.any(keep)
    row = ops.where(any_kept, ops.take(ops.pad(rows, [[0, 1]]), chosen, axis=0), 0)
    old = read_rows(variable, ops.reshape(row, (1,)))
    value = ops.take(ops.concatenate([ops.cast(values, old.dtype), old]), chosen, axis=0)
    value = ops.where(any_kept, value, old[0])
    rows = ops.where(keep, rows, row)
    wide = ops.reshape(keep, (-1,) + (1,) * (len(values.shape) - 1))
    values = ops.cast(ops.where(wide, values, value), variable.dtype)
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        # Keras would copy the variable.
        value = variable.value if isinstance(variable, keras.Variable) else variable
        value.scatter_update(tf.IndexedSlices(values, rows))
    else:
        variable.assign(ops.scatter_update(variable, rows[:, None], values))


def read_copies(variable):
    """The replicas' own values of a metric's variable, `(num_replicas, ...)`."""
    if _in_multi_worker():  # one value for all workers, who all must come here
        return np.asarray(variable)[None]
    return np.stack([np.asarray(copy) for copy in components(variable)])


def assign_copies(variable, values):
    """Gives the replicas their own values of a metric's variable.

    What is summed over the replicas when read keeps its sum; what all of them update
    alike, which the aggregation `only_first_replica` says, is the same on each.

    Args:
        variable: `keras.Variable` of a metric.
        values: As `read_copies` gave them, maybe with another number of replicas.
    """
    copies = components(variable)
    if variable.aggregation == "only_first_replica":
        values = [values[0]] * len(copies)
    elif _in_multi_worker() and not is_chief(current_strategy()):
        values = [np.zeros_like(values[0])] * len(copies)
    elif len(copies) != len(values):
        values = [values.sum(axis=0), *[np.zeros_like(values[0])] * (len(copies) - 1)]
    for copy, value in zip(copies, values, strict=True):
        copy.assign(value)


def current_strategy():
    """The `tf.distribute` strategy in whose scope this is, or None on other backends."""
    if keras.backend.backend() != "tensorflow":
        return None
    import tensorflow as tf

    return tf.distribute.get_strategy()


def _in_multi_worker():
    return num_replicas() > 1 and is_multi_worker(current_strategy())


def is_multi_worker(strategy):
    """Whether a strategy spans several processes."""
    return strategy is not None and strategy.extended._in_multi_worker_mode()


def is_chief(strategy):
    """Whether this process is the one that writes."""
    if not is_multi_worker(strategy):
        return True
    resolver = strategy.cluster_resolver
    if "chief" in resolver.cluster_spec().jobs:
        return resolver.task_type == "chief"
    return resolver.task_id == 0


def reducible(logs):
    """Logs of a step in a form that Keras can reduce over several workers.

    There it takes a mean over axis 0, which scalars do not have (keras issue 20585): each
    becomes a vector of one. Elsewhere logs stay as they are.
    """
    if not _in_multi_worker():
        return logs
    return {name: keras.ops.reshape(value, (1,)) for name, value in logs.items()}


def wait_for_all(strategy):
    """Waits until every worker has come here."""
    if is_multi_worker(strategy):
        import tensorflow as tf

        strategy.reduce(tf.distribute.ReduceOp.SUM, tf.constant(1.0), axis=None)
