# SPDX-License-Identifier: Apache-2.0
"""Time and memory of a training step of DNC's head, beside the official one.

    python benchmarks/dnc_head.py

A step is scores, loss, gradient and the update of sub-centroids and memory. The case `C K d
n` has n features to cluster: a batch and the n / batch - 1 before it. Beside it:
the same work in the way of the official code (all samples against all sub-centroids, a loop
over the classes) with the paper's Sinkhorn, in TensorFlow as well, in turn with ours.
"""

import argparse
import resource
import statistics
import time

import keras
import numpy as np
import tensorflow as tf

from deepncm_tf.classifiers import SubCentroids
from deepncm_tf.models.losses import LogitCrossEntropy

CASES = {
    "cifar": (10, 4, 512, 128, 12_928),
    "small": (100, 4, 128, 128, 12_928),  # of experiments/dnc_ablation.tsv
    "imagenet": (1000, 4, 2048, 256, 25_856),
}


def ours(num_classes, size, dimensions, batch, samples, clustering="sinkhorn"):
    """A function of a batch that makes one step."""
    head = SubCentroids(num_classes, size, memory_size=samples, clustering=clustering)
    head.build((None, dimensions))
    loss = LogitCrossEntropy()

    @tf.function
    def step(features, labels):
        with tf.GradientTape() as tape:
            tape.watch(features)
            logits = head(features, training=True)
            value = loss(labels, logits)
        gradients = tape.gradient(value, [features, *head.trainable_variables])
        head.update(features, labels, logits=logits)
        return value, gradients

    return step


def official_way(num_classes, size, dimensions, batch, samples):
    """The same, each class by itself, on the similarities of all to all."""
    centroids = tf.Variable(
        tf.math.l2_normalize(tf.random.normal((num_classes, size, dimensions)), -1)
    )
    memory = tf.Variable(
        tf.math.l2_normalize(tf.random.normal((samples - batch, dimensions)), -1)
    )
    memory_labels = tf.Variable(
        tf.random.uniform((samples - batch,), 0, num_classes, tf.int32)
    )
    norms = [keras.layers.LayerNormalization(epsilon=1e-5) for _ in range(2)]
    loss = LogitCrossEntropy()

    def step(features, labels):
        with tf.GradientTape() as tape:
            tape.watch(features)
            units = tf.math.l2_normalize(norms[0](features), -1)
            everything = tf.concat([tf.stop_gradient(memory), units], 0)
            every_label = tf.concat([memory_labels, labels], 0)
            cosines = tf.einsum("nd,ckd->nck", everything, centroids)
            logits = norms[1](tf.reduce_max(cosines, -1))
            value = loss(every_label, logits)
        gradient = tape.gradient(value, features)
        correct = tf.argmax(logits, -1, tf.int32) == every_label
        for c in range(num_classes):
            rows = tf.where(every_label == c)[:, 0]
            if not rows.shape[0]:
                continue
            near = tf.gather(cosines[:, c], rows)
            q = tf.exp(near / 0.05)
            for _ in range(3):
                q = q / tf.reduce_sum(q, 0) / size
                q = (
                    q
                    / tf.reduce_sum(q, 1, keepdims=True)
                    / tf.cast(tf.shape(q)[0], q.dtype)
                )
            hot = (
                tf.one_hot(tf.argmax(q, -1), size)
                * tf.cast(tf.gather(correct, rows), q.dtype)[:, None]
            )
            f = tf.math.l2_normalize(
                tf.matmul(hot, tf.gather(everything, rows), transpose_a=True), -1
            )
            moved = tf.math.l2_normalize(0.999 * centroids[c] + 0.001 * f, -1)
            there = tf.reduce_sum(hot, 0)[:, None] > 0
            centroids[c].assign(tf.where(there, moved, centroids[c]))
        return value, gradient

    return step


def batch_of(rng, case):
    num_classes, _, dimensions, batch, _ = case
    features = rng.normal(size=(batch, dimensions)).astype("float32")
    labels = rng.integers(num_classes, size=batch).astype("int32")
    return tf.constant(features), tf.constant(labels)


def measure(case, repeats, others, base):
    num_classes, size, dimensions, batch, samples = case
    rng = np.random.default_rng(0)
    steps = {"ours": ours(*case)}
    if "kmeans" in others:
        steps["k-means"] = ours(*case, clustering="kmeans")
    for _ in range(samples // batch + 2):  # fills the memory
        for step in steps.values():
            step(*batch_of(rng, case))
    print(f"C={num_classes} K={size} d={dimensions}, {samples:,} features")
    print(f"  peak memory above the import: {(peak() - base) / 2**30:.2f} GiB")
    if "official" in others:
        steps["official way"] = official_way(*case)
    times = {label: [] for label in steps}
    for _ in range(repeats):
        for label, step in steps.items():
            arguments = batch_of(rng, case)
            start = time.perf_counter()
            value, _ = step(*arguments)
            float(value)
            times[label].append(time.perf_counter() - start)
    medians = {label: statistics.median(seconds) for label, seconds in times.items()}
    for label, seconds in medians.items():
        ratio = seconds / medians["ours"]
        print(f"  {label}: median {1000 * seconds:.1f} ms, {ratio:.2f} times ours")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument(
        "cases", nargs="*", default=["cifar", "imagenet"], help="of " + ", ".join(CASES)
    )
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--official", action="store_true", help="also the official way")
    parser.add_argument("--kmeans", action="store_true", help="also ours with k-means")
    arguments = parser.parse_args()
    base = peak()
    others = [name for name in ("official", "kmeans") if vars(arguments)[name]]
    for name in arguments.cases:
        measure(CASES[name], arguments.repeats, others, base)


def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    main()
