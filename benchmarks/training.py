# SPDX-License-Identifier: Apache-2.0
"""Training as a run does it, beside a plain PyTorch loop of the same network and recipe."""

import os
import statistics

from benchmarks import timing
from benchmarks.table import Row

DEPTHS = {8: 20, 20: 8, 32: 5}  # steps of a turn
# So that PyTorch keeps large blocks of memory, which are else given back and cleared anew
# in each step.
MALLOC = {"MALLOC_MMAP_THRESHOLD_": str(2**25), "MALLOC_TRIM_THRESHOLD_": str(2**31 - 1)}


def compare(rounds):
    """Rows of the table: images/s of three depths, over the better of PyTorch's ways."""
    from benchmarks import torch_resnet

    rows = []
    for depth, steps in DEPTHS.items():
        threads = len(os.sched_getaffinity(0))
        sides = {"ours": timing.Side(train, depth, steps)}
        for name, compiled in (("eager", False), ("torch.compile", True)):
            arguments = depth, steps, compiled, threads
            sides[name] = timing.Side(torch_resnet.train, *arguments, environment=MALLOC)
        times = timing.in_turn(sides, rounds, warm_up=3)
        medians = {name: statistics.median(values) for name, values in times.items()}
        better = min(("eager", "torch.compile"), key=medians.get)
        rate = {
            name: f"{torch_resnet.BATCH_SIZE * steps / seconds:,.0f} images/s"
            for name, seconds in medians.items()
        }
        ratio = timing.ratio(times[better], times["ours"])
        item = f"Training ResNet-{depth}"
        rows.append(Row(item, rate["ours"], f"{better} {rate[better]}", ratio, ">= 1.2"))
    return rows


def train(turns, depth, steps, ncm="softmax"):
    """Trains some steps in each turn: the run's model, pipeline, recipe and `fit`."""
    import keras
    import numpy as np

    from deepncm_tf import flags
    from deepncm_tf.data import pipeline
    from deepncm_tf.runs import training
    from deepncm_tf.runs.plan import TrainingPlan

    class TakeTurns(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            if batch % steps == 0:
                try:
                    next(turns)
                except StopIteration:
                    self.model.stop_training = True

    rng = np.random.default_rng(0)
    images = rng.integers(256, size=(50_000, 32, 32, 3), dtype="uint8")
    labels = rng.integers(10, size=50_000).astype("int32")
    config = flags.resolve({"ncm": ncm, "dataset": "cifar10", "resnet_size": depth})
    plan = TrainingPlan.make(config, labels)
    model = training.build_model(config, plan)
    model.compile(plan.optimizer(), metrics=["accuracy"])
    dataset = pipeline.training_dataset(images, labels, plan.batch_size, 1000)
    model.fit(
        dataset, steps_per_epoch=10**6, shuffle=False, verbose=2, callbacks=[TakeTurns()]
    )
