# SPDX-License-Identifier: Apache-2.0
"""The choice of a `tf.distribute` strategy: mirrored, several workers, Slurm."""

import contextlib
import os
import shutil

import keras

STRATEGIES = ("one_device", "mirrored", "multi_worker_mirrored")
# Seconds from one look at the other workers to the next; TensorFlow's 30 would let a job
# wait a minute for a worker that has died.
HEALTH_INTERVAL = 10


def get_strategy(name="one_device", num_devices=None):
    """Picks the strategy of a run. Call it before TensorFlow has used a device.

    Args:
        name: `"one_device"`, `"mirrored"`, or `"multi_worker_mirrored"` for a process on
            each of several machines, which `TF_CONFIG` or Slurm's variables describe.
        num_devices: Int, devices to mirror over: GPUs, or logical CPUs on a machine
            without one. None means every GPU.

    Returns:
        A `tf.distribute.Strategy`, or None for one device.

    Raises:
        ValueError: If the strategy is unknown, there are not so many devices, or nothing
            describes the workers.
    """
    if name not in STRATEGIES:
        raise ValueError(f"`name` must be one of {STRATEGIES}. Received: name={name!r}")
    if name == "one_device":
        return None
    if keras.backend.backend() != "tensorflow":
        raise ValueError(
            f"`{name}` needs Keras's TensorFlow backend; on JAX see "
            "keras.distribution.DataParallel. Received: KERAS_BACKEND="
            f"{keras.backend.backend()!r}"
        )
    if name == "multi_worker_mirrored":
        return _multi_worker_strategy()
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


def leave_devices():
    """Keeps TensorFlow off the GPUs where it only makes batches for another backend."""
    if keras.backend.backend() == "tensorflow":
        return
    import tensorflow as tf

    with contextlib.suppress(RuntimeError):  # devices are in use: keep those there are
        tf.config.set_visible_devices([], "GPU")


def _multi_worker_strategy():
    if "TF_CONFIG" not in os.environ and "SLURM_PROCID" not in os.environ:
        raise ValueError(
            "`multi_worker_mirrored` needs the environment variable TF_CONFIG, the same on "
            "every worker but for its task, or Slurm's variables. Received: neither"
        )
    import tensorflow as tf
    from tensorflow.python.distribute import collective_all_reduce_strategy

    extended = collective_all_reduce_strategy.CollectiveAllReduceExtended
    extended._check_health_interval = HEALTH_INTERVAL
    resolver = None  # TF_CONFIG
    if "TF_CONFIG" not in os.environ:
        resolver = _slurm_resolver(tf.distribute.cluster_resolver)
    return tf.distribute.MultiWorkerMirroredStrategy(cluster_resolver=resolver)


def _slurm_resolver(resolvers):
    """TensorFlow's resolver, which cannot do without GPUs: there, only its addresses."""
    if shutil.which("nvidia-smi"):
        return resolvers.SlurmClusterResolver()
    tasks = int(os.environ.get("SLURM_STEP_NUM_TASKS", os.environ.get("SLURM_NTASKS", 1)))
    resolver = resolvers.SlurmClusterResolver(
        gpus_per_node=tasks, gpus_per_task=1, auto_set_gpu=False
    )
    cluster = resolver.cluster_spec()
    task_type, task_id = resolver.get_task_info()
    return resolvers.SimpleClusterResolver(
        cluster, task_type=task_type, task_id=task_id, num_accelerators={}, rpc_layer="grpc"
    )


def _logical_cpus(count):
    import tensorflow as tf

    cpu = tf.config.list_physical_devices("CPU")[0]
    with contextlib.suppress(RuntimeError):  # devices are in use: keep those there are
        tf.config.set_logical_device_configuration(
            cpu, [tf.config.LogicalDeviceConfiguration()] * count
        )
    available = len(tf.config.list_logical_devices("CPU"))
    if available < count:
        raise ValueError(
            f"`num_devices` logical CPUs must be set up before TensorFlow uses one; "
            f"there are {available}. Received: num_devices={count}"
        )
    return [f"CPU:{index}" for index in range(count)]
