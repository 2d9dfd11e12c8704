# SPDX-License-Identifier: Apache-2.0
"""Sums over replicas, and the choice of a `tf.distribute` strategy.

Outside a strategy, with one replica, and on other backends than TensorFlow every
function here is the identity, so that callers need not ask where they run.
"""

import contextlib

import keras
import numpy as np

STRATEGIES = ("one_device", "mirrored")


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


def read_copies(variable):
    """The replicas' own values of a variable, `(num_replicas, ...)`."""
    copies = getattr(variable.value, "values", (variable.value,))
    return np.stack([np.asarray(copy) for copy in copies])


def assign_copies(variable, values):
    """Gives the replicas their own values of a variable that is summed when read.

    Args:
        variable: `keras.Variable` of a metric.
        values: As `read_copies` gave them, maybe with another number of replicas.
    """
    copies = getattr(variable.value, "values", (variable.value,))
    if len(copies) != len(values):
        values = [values.sum(axis=0), *[np.zeros_like(values[0])] * (len(copies) - 1)]
    for copy, value in zip(copies, values, strict=True):
        copy.assign(value)


def get_strategy(name="one_device", num_devices=None):
    """Picks the strategy of a run. Call it before TensorFlow has used a device.

    Args:
        name: `"one_device"` or `"mirrored"`.
        num_devices: Int, devices to mirror over: GPUs, or logical CPUs on a machine
            without one. None means every GPU.

    Returns:
        A `tf.distribute.Strategy`, or None for one device.

    Raises:
        ValueError: If the strategy is unknown or there are not so many devices.
    """
    if name not in STRATEGIES:
        raise ValueError(f"`name` must be one of {STRATEGIES}. Received: name={name!r}")
    if name == "one_device":
        return None
    import tensorflow as tf

    gpus = tf.config.list_physical_devices("GPU")
    if not gpus:
        # TensorFlow's collectives on CPUs clash when a process makes a second strategy.
        return tf.distribute.MirroredStrategy(
            _logical_cpus(num_devices or 2),
            cross_device_ops=tf.distribute.ReductionToOneDevice(),
        )
    if num_devices is not None and num_devices > len(gpus):
        raise ValueError(
            f"`num_devices` must be at most the number of GPUs, {len(gpus)}. "
            f"Received: num_devices={num_devices}"
        )
    return tf.distribute.MirroredStrategy(
        [f"GPU:{index}" for index in range(num_devices or len(gpus))]
    )


def _logical_cpus(count):
    import tensorflow as tf

    cpu = tf.config.list_physical_devices("CPU")[0]
    with contextlib.suppress(RuntimeError):  # devices are in use: keep those there are
        tf.config.set_logical_device_configuration(
            cpu, [tf.config.LogicalDeviceConfiguration()] * count
        )
    there = len(tf.config.list_logical_devices("CPU"))
    if there < count:
        raise ValueError(
            f"`num_devices` logical CPUs must be set up before TensorFlow uses one; "
            f"there are {there}. Received: num_devices={count}"
        )
    return [f"CPU:{index}" for index in range(count)]
