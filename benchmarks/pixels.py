# SPDX-License-Identifier: Apache-2.0
"""A whole step of segmentation with DNC, beside softmax's, on features (8, 45, 60, 128).

The steps take turns one by one in one process, so that a percent can be told.
"""

import statistics
import time

from benchmarks import timing
from benchmarks.table import Row

GOAL = "<= 1.10"
SETTINGS = {
    "decoder": "upernet",
    "dataset": "camvid",
    "decoder_width": 128,
    "batch_size": 8,
}
VARIANTS = {
    "softmax": {"ncm": "softmax"},
    "dnc": {"ncm": "dnc", "num_sub_centroids": "10"},
    "dnc, 1000 pixels of a class": {
        "ncm": "dnc",
        "num_sub_centroids": "10",
        "pixels_per_class": 1000,
    },
}


def compare(rounds):
    """Rows of the table: the time of a step over that of softmax's step."""
    times = timing.in_process(measure, rounds)
    medians = {name: statistics.median(values) for name, values in times.items()}
    softmax = f"softmax {1000 * medians['softmax']:.0f} ms"
    return [
        Row(
            f"Whole step of UPerNet, `{name}`",
            f"{1000 * medians[name]:.0f} ms",
            softmax,
            timing.ratio(times[name], times["softmax"]),
            GOAL,
        )
        for name in VARIANTS
        if name != "softmax"
    ]


def measure(rounds):
    """Seconds of the methods' steps, a dictionary of lists of `rounds` floats."""
    import numpy as np

    from deepncm_tf import flags
    from deepncm_tf.runs import training
    from deepncm_tf.runs.plan import TrainingPlan

    rng = np.random.default_rng(0)
    images = rng.integers(256, size=(8, 180, 240, 3)).astype("float32")
    masks = rng.integers(11, size=(8, 12, 16)).repeat(15, axis=1).repeat(15, axis=2)
    masks = masks.astype("int32")
    models = {}
    for name, values in VARIANTS.items():
        config = flags.resolve({**SETTINGS, **values})
        plan = TrainingPlan.make(config, masks)
        models[name] = training.build_model(config, plan)
        models[name].compile(plan.optimizer())
    times = {name: [] for name in models}
    for round_number in range(-2, rounds):  # tracing, first buffers
        for name, model in models.items():
            start = time.perf_counter()
            model.train_on_batch(images, masks)
            if round_number >= 0:
                times[name].append(time.perf_counter() - start)
    return times
