# SPDX-License-Identifier: Apache-2.0
"""Time and memory of a training step with a bank, and of exact nearest neighbours.

    python benchmarks/nca.py

A step is logits, loss, gradient and the bank's update. Memory is the process's peak above
what it had after the import, the bank included.
"""

import argparse
import resource
import statistics
import time

import numpy as np
import tensorflow as tf

from deepncm_tf import evaluation
from deepncm_tf.classifiers import NeighborhoodComponents
from deepncm_tf.losses import LogitCrossEntropy

# Rows, dimensions, batch, classes.
CASES = {"cifar": (50_000, 128, 128, 10), "imagenet": (1_281_167, 128, 256, 1000)}


def unit_rows(rng, count, dimensions):
    return evaluation.unit_rows(rng.normal(size=(count, dimensions)).astype("float32"))


def measure_step(case, repeats):
    rows, dimensions, batch, num_classes = case
    rng = np.random.default_rng(0)
    labels = rng.integers(num_classes, size=rows).astype("int32")
    nca = NeighborhoodComponents(num_classes, rows, bank_labels=labels)
    nca.build((None, dimensions))
    loss = LogitCrossEntropy()

    @tf.function
    def step(features, index, y):
        with tf.GradientTape() as tape:
            tape.watch(features)
            logits = nca(features, index=index, training=True)
            weights = nca.loss_weights(y, 2, index)
            value = loss(y, logits, sample_weight=weights)
        gradient = tape.gradient(value, features)
        with tf.control_dependencies([gradient]):  # as in `DeepNCM.train_step`
            nca.update(features, y, index)
        return value, gradient

    times = []
    for _ in range(repeats + 1):  # the first one traces
        index = rng.choice(rows, batch, replace=False).astype("int32")
        features = tf.constant(unit_rows(rng, batch, dimensions))
        start = time.perf_counter()
        value, _ = step(features, tf.constant(index), tf.constant(labels[index]))
        float(value)
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:])


def measure_neighbours(repeats):
    rng = np.random.default_rng(0)
    bank, queries = unit_rows(rng, 50_000, 128), unit_rows(rng, 10_000, 128)
    labels = rng.integers(10, size=len(bank))
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        evaluation.knn_predict(queries, bank, labels, k=30, num_classes=10)
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument(
        "cases", nargs="*", default=[*CASES, "knn"], help="of cifar, imagenet and knn"
    )
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    base = peak()
    for name in arguments.cases:
        if name == "knn":
            seconds = measure_neighbours(arguments.repeats)
            text = "10,000 queries on 50,000 x 128, k = 30"
        else:
            seconds = measure_step(CASES[name], arguments.repeats)
            rows, dimensions, batch, _ = CASES[name]
            text = f"step with N = {rows:,}, d = {dimensions}, B = {batch}"
        memory = (peak() - base) / 2**30
        print(f"{text}: median {1000 * seconds:.0f} ms, peak {memory:.2f} GiB")


if __name__ == "__main__":
    main()
