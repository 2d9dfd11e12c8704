# SPDX-License-Identifier: Apache-2.0
"""Time and memory of a training step with a bank, and of exact nearest neighbours.

    python benchmarks/nca.py

A step is logits, loss, gradient and the bank's update. Memory is the process's peak above
what it had after the import, the bank included. With `--products`, in turn with the steps,
the two matrix products that no such step can do without: similarities of the batch to all
rows, and a sum of the rows weighted by as many numbers.
"""

import argparse
import resource
import statistics
import time

import numpy as np
import tensorflow as tf

from deepncm_tf import evaluation
from deepncm_tf.classifiers import NeighborhoodComponents
from deepncm_tf.models.losses import LogitCrossEntropy

# Rows, dimensions, batch, classes.
CASES = {"cifar": (50_000, 128, 128, 10), "imagenet": (1_281_167, 128, 256, 1000)}


CHUNK = 8192  # rows of a product


def unit_rows(rng, count, dimensions):
    return evaluation.unit_rows(rng.normal(size=(count, dimensions)).astype("float32"))


def products(features, bank):
    total = tf.zeros_like(features)
    for start in tf.range(0, len(bank), CHUNK):
        rows = bank[start : start + CHUNK]
        similarities = tf.matmul(rows, features, transpose_b=True)
        total += tf.matmul(similarities, rows, transpose_a=True)
    return total


def measure_step(case, repeats, with_products):
    """Median seconds of a step, and of its products or None."""
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

    times, least = [], []
    bare = tf.function(products)
    for _ in range(repeats + 1):  # the first one traces
        index = rng.choice(rows, batch, replace=False).astype("int32")
        features = tf.constant(unit_rows(rng, batch, dimensions))
        start = time.perf_counter()
        value, _ = step(features, tf.constant(index), tf.constant(labels[index]))
        float(value)
        times.append(time.perf_counter() - start)
        if with_products:
            bank = tf.convert_to_tensor(nca.bank)
            start = time.perf_counter()
            bare(features, bank).numpy()
            least.append(time.perf_counter() - start)
    return statistics.median(times[1:]), statistics.median(least[1:]) if least else None


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
    parser.add_argument("--products", action="store_true", help="also the products alone")
    arguments = parser.parse_args()
    base = peak()
    for name in arguments.cases:
        least = None
        if name == "knn":
            seconds = measure_neighbours(arguments.repeats)
            text = "10,000 queries on 50,000 x 128, k = 30"
        else:
            seconds, least = measure_step(
                CASES[name], arguments.repeats, arguments.products
            )
            rows, dimensions, batch, _ = CASES[name]
            text = f"step with N = {rows:,}, d = {dimensions}, B = {batch}"
        memory = (peak() - base) / 2**30
        print(f"{text}: median {1000 * seconds:.0f} ms, peak {memory:.2f} GiB")
        if least is not None:
            ratio = f"{seconds / least:.2f} times as long"
            print(
                f"  its two products alone: {1000 * least:.0f} ms; the step takes {ratio}"
            )


if __name__ == "__main__":
    main()
