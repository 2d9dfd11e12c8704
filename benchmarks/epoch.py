# SPDX-License-Identifier: Apache-2.0
"""What share of a run's epochs is not training: evaluation, checkpoint and logging."""

import statistics
import tempfile

from benchmarks import timing
from benchmarks.table import Row

EPOCHS = 4


def compare(rounds):
    """A row of the table: the share in an epoch of ResNet-8 on arrays like CIFAR-10."""
    shares = timing.in_process(measure, max(EPOCHS, rounds // 3))
    share = statistics.median(shares)
    item = "Evaluation, checkpoint and logging, share of an epoch, ResNet-8"
    return [Row(item, f"{share:.1%}", "", share, "<= 0.03")]


def measure(epochs):
    """The share of each epoch but the first, in which functions are traced."""
    import time
    from unittest import mock

    import numpy as np

    from deepncm_tf import flags
    from deepncm_tf.data import datasets
    from deepncm_tf.runs import callbacks, training

    rng = np.random.default_rng(0)

    def split(count):
        images = rng.integers(256, size=(count, 32, 32, 3), dtype="uint8")
        return images, rng.integers(10, size=count).astype("int32")

    ends, outside = [], []
    splits = {"train": split(50_000), "test": split(10_000)}
    report_end, record_end = (
        callbacks.EpochReport.on_epoch_end,
        callbacks.Record.on_epoch_end,
    )

    def start_of_end(self, epoch, logs=None):
        ends.append(time.perf_counter())
        report_end(self, epoch, logs)

    def end_of_end(self, epoch, logs=None):
        record_end(self, epoch, logs)
        outside.append(time.perf_counter() - ends[-1])

    with (
        tempfile.TemporaryDirectory() as folder,
        mock.patch.object(datasets, "load", return_value=splits),
        mock.patch.object(callbacks.EpochReport, "on_epoch_end", start_of_end),
        mock.patch.object(callbacks.Record, "on_epoch_end", end_of_end),
    ):
        given = {"ncm": "decay", "dataset": "cifar10", "resnet_size": 8}
        given.update(train_epochs=epochs + 1, model_dir=folder + "/run")
        training.run(flags.resolve(given))
    lengths = np.diff(ends)  # from the end of one epoch's training to the next one's
    return (np.array(outside[1:-1]) / lengths[1:]).tolist()
