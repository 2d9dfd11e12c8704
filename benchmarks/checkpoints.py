# SPDX-License-Identifier: Apache-2.0
"""What it costs to write checkpoints for good: with and without fsync, in turn.

    python benchmarks/checkpoints.py [FOLDER]

Milliseconds of a checkpoint, median of 30 and the middle 90 % of them, for networks on
CIFAR-10 with their optimizer's state; and how much longer one with fsync takes than the one
right after it, where `os.fsync` does nothing.
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import pathlib
import sys
import tempfile
import time
from unittest import mock

import keras
import numpy as np

from deepncm_tf import flags
from deepncm_tf.runs import training
from deepncm_tf.runs.checkpoints import Checkpoints, Progress
from deepncm_tf.runs.plan import TrainingPlan
from official_resnet import recipe

CHECKPOINTS = 30


def variables(resnet_size):
    config = flags.resolve({"ncm": "decay", "resnet_size": resnet_size})
    plan = TrainingPlan.make(config, np.zeros(50000, "int32"))
    model = training.build_model(config, plan)
    model.compile(keras.optimizers.SGD(0.1, momentum=recipe.MOMENTUM))
    model.build_training(
        keras.KerasTensor((None, 32, 32, 3), "float32"), keras.KerasTensor((None,), "int32")
    )
    return model.variables + model.optimizer.variables


def milliseconds(checkpoints, progress):
    start = time.perf_counter()
    checkpoints.save(progress)
    return 1e3 * (time.perf_counter() - start)


def main(folder=None):
    print("| network | kB | without | with fsync | longer by |")
    print("|---|---|---|---|---|")
    for resnet_size in (8, 32):
        with tempfile.TemporaryDirectory(dir=folder) as path:
            checkpoints = Checkpoints(pathlib.Path(path), variables(resnet_size))
            times = {"without": [], "with": []}
            for batch in range(1, CHECKPOINTS + 3):
                progress = Progress([{"epoch": 1}], batches=batch)
                times["with"].append(milliseconds(checkpoints, progress))
                with mock.patch("os.fsync"):
                    times["without"].append(milliseconds(checkpoints, progress))
            size = max(file.stat().st_size for file in pathlib.Path(path).iterdir())
        without, with_fsync = (np.array(t[2:]) for t in times.values())
        cells = [
            f"{np.median(t):.1f} ({np.quantile(t, 0.05):.1f} to {np.quantile(t, 0.95):.1f})"
            for t in (without, with_fsync, with_fsync - without)
        ]
        print(f"| ResNet-{resnet_size} | {size / 1e3:.0f} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main(*sys.argv[1:])
