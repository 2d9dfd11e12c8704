# SPDX-License-Identifier: Apache-2.0
"""A whole training step of each method on ResNet-32, beside softmax's.

The steps take turns one by one in one process, so that a percent can be told.
"""

import statistics
import time

from benchmarks import timing
from benchmarks.table import Row

DEPTH = 32
GOALS = {
    "online": "<= 1.01",
    "condensation": "<= 1.01",
    "decay": "<= 1.01",
    "dnc": "<= 1.05",
    "nca": "<= 1.10",
}


def compare(rounds):
    """Rows of the table: the time of a step over that of softmax's step."""
    times = timing.in_process(measure, 6 * rounds)
    medians = {name: statistics.median(values) for name, values in times.items()}
    softmax = f"softmax {1000 * medians['softmax']:.1f} ms"
    return [
        Row(
            f"Whole step of `{name}`, ResNet-{DEPTH}",
            f"{1000 * medians[name]:.1f} ms",
            softmax,
            timing.ratio(times[name], times["softmax"]),
            goal,
        )
        for name, goal in GOALS.items()
    ]


def measure(rounds):
    """Seconds of the methods' steps, a dictionary of lists of `rounds` floats."""
    import numpy as np

    from deepncm_tf import flags
    from deepncm_tf.data import pipeline
    from deepncm_tf.runs import training
    from deepncm_tf.runs.plan import TrainingPlan

    rng = np.random.default_rng(0)
    images = rng.integers(256, size=(50_000, 32, 32, 3), dtype="uint8")
    labels = rng.integers(10, size=50_000).astype("int32")
    batches = iter(pipeline.training_dataset(images, labels, 128, 1000))
    held = [next(batches) for _ in range(10)]
    del batches  # no augmentation beside what is measured
    models = {}
    for method in ("softmax", *GOALS):
        config = flags.resolve({"ncm": method, "dataset": "cifar10", "resnet_size": DEPTH})
        plan = TrainingPlan.make(config, labels)
        models[method] = training.build_model(config, plan)
        models[method].compile(plan.optimizer(), metrics=["accuracy"])
    times = {method: [] for method in models}
    for round_number in range(-3, rounds):  # tracing, first buffers
        batch = held[round_number % len(held)]
        for method, model in models.items():
            start = time.perf_counter()
            model.train_on_batch(*batch)
            if round_number >= 0:
                times[method].append(time.perf_counter() - start)
    return times
