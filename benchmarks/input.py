# SPDX-License-Identifier: Apache-2.0
"""Images per second that the training pipeline gives by itself."""

import statistics
import time

from benchmarks import timing
from benchmarks.table import Row

GOALS = {"standard": ">= 20000", "snca": ">= 8000"}
BATCH_SIZE, STEPS = 128, 300


def compare(rounds):
    """Rows of the table: images/s of each augmentation."""
    rows = []
    for augmentation, goal in GOALS.items():
        rates = timing.in_process(measure, augmentation, rounds)
        rate = statistics.median(rates)
        item = f"Input, `--augmentation={augmentation}`"
        rows.append(Row(item, f"{rate:,.0f} images/s", "", rate, goal))
    return rows


def measure(augmentation, rounds):
    """Images per second in each round."""
    import numpy as np

    from deepncm_tf.data import pipeline

    rng = np.random.default_rng(0)
    images = rng.integers(256, size=(50_000, 32, 32, 3), dtype="uint8")
    labels = rng.integers(10, size=50_000).astype("int32")
    dataset = pipeline.training_dataset(
        images, labels, BATCH_SIZE, epochs=1000, augmentation=augmentation
    )
    rates = []
    for _ in range(rounds + 1):
        batches = iter(dataset)  # whose buffers nothing has filled yet
        next(batches)
        start = time.perf_counter()
        for _ in range(STEPS):
            next(batches)
        rates.append(STEPS * BATCH_SIZE / (time.perf_counter() - start))
    return rates[1:]
