# SPDX-License-Identifier: Apache-2.0
"""A training step of DNC's and of SNCA's head by itself: scores, loss, gradient, state."""

import statistics

from benchmarks import timing
from benchmarks.table import Row

# Classes, sub-centroids, dimensions, batch, and features to cluster: those of the batch
# and of the n / batch - 1 before it.
DNC_CASES = {
    "cifar": (10, 4, 512, 128, 12_928),
    "imagenet": (1000, 4, 2048, 256, 25_856),
    "full memory": (1000, 4, 2048, 256, 256_256),
}
# Rows of the bank, dimensions, batch, classes.
NCA_CASES = {"cifar": (50_000, 128, 128, 10), "imagenet": (1_281_167, 128, 256, 1000)}

FILLED_AT_ONCE = 8192

GOALS = {"dnc cifar": ">= 7", "dnc imagenet": ">= 100", "nca imagenet": ">= 4"}
FULL_MEMORY_GOALS = {
    "float32": {"seconds": "<= 0.4", "GiB": "<= 4.0"},
    "mixed_bfloat16": {"seconds": "", "GiB": ""},
}


def compare(rounds):
    """Rows of the table: heads beside their official way, and the paper's full memory."""
    from benchmarks import torch_heads

    rows = []
    for name, goal in GOALS.items():
        method, case = name.split()
        arguments = {"dnc": DNC_CASES, "nca": NCA_CASES}[method][case]
        ours, theirs = (dnc, torch_heads.dnc) if method == "dnc" else (nca, torch_heads.nca)
        sides = {
            "ours": timing.Side(ours, *arguments),
            "official way": timing.Side(theirs, *arguments),
        }
        times = timing.in_turn(sides, rounds if case == "cifar" else max(3, rounds // 3))
        texts = [
            f"{figure(statistics.median(times[name]))}, {side.memory / 2**30:.1f} GiB"
            for name, side in sides.items()
        ]
        ratio = timing.ratio(times["official way"], times["ours"])
        item = f"A step of `{method}`'s head alone, {case}'s size, times as fast"
        rows.append(Row(item, texts[0], f"official way {texts[1]}", ratio, goal))
    return [*rows, kmeans(rounds), *full_memory(max(3, rounds // 3))]


def kmeans(rounds):
    """A row of the table: how much longer a step takes with k-means."""
    case = DNC_CASES["cifar"]
    sides = {name: timing.Side(dnc, *case, name) for name in ("kmeans", "sinkhorn")}
    times = timing.in_turn(sides, rounds)
    texts = [figure(statistics.median(times[name])) for name in sides]
    ratio = timing.ratio(times["kmeans"], times["sinkhorn"])
    item = "A step of `dnc`'s head with k-means, over Sinkhorn, cifar's size"
    return Row(item, texts[0], texts[1], ratio, "")


def full_memory(rounds):
    """Rows of the table: seconds and memory of a step on the paper's full memory."""
    case, rows = DNC_CASES["full memory"], []
    for policy, goals in FULL_MEMORY_GOALS.items():
        side = timing.Side(dnc, *case, "sinkhorn", policy)
        seconds = statistics.median(timing.in_turn({"ours": side}, rounds)["ours"])
        item = f"A step of `dnc`'s head on the paper's full memory, {policy}"
        figures = {"seconds": seconds, "GiB": side.memory / 2**30}
        rows += [
            Row(f"{item}, {unit}", f"{figures[unit]:.2f} {unit}", "", figures[unit], goal)
            for unit, goal in goals.items()
        ]
    return rows


def figure(seconds):
    return f"{seconds:.2f} s" if seconds >= 1 else f"{1000 * seconds:.1f} ms"


def dnc(
    turns,
    num_classes,
    size,
    dimensions,
    batch,
    samples,
    clustering="sinkhorn",
    policy="float32",
):
    """A step of `SubCentroids` in each turn, with a full memory."""
    import tensorflow as tf

    from deepncm_tf.classifiers import SubCentroids
    from deepncm_tf.models.losses import LogitCrossEntropy

    head = SubCentroids(
        num_classes, size, memory_size=samples, clustering=clustering, dtype=policy
    )
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

    def train_once():
        features = tf.random.normal((batch, dimensions))
        labels = tf.random.uniform((batch,), 0, num_classes, tf.int32)
        value, _ = step(features, labels)
        return value.numpy()

    for start in range(0, samples, FILLED_AT_ONCE):  # so that the memory is full
        count = min(FILLED_AT_ONCE, samples - start)
        head.update(
            tf.random.normal((count, dimensions)),
            tf.random.uniform((count,), 0, num_classes, tf.int32),
        )
    for _ in range(2):
        train_once()
    for _ in turns:
        train_once()


def nca(turns, num_rows, dimensions, batch, num_classes):
    """A step of `NeighborhoodComponents` in each turn."""
    import numpy as np
    import tensorflow as tf

    from deepncm_tf.classifiers import NeighborhoodComponents
    from deepncm_tf.models.losses import LogitCrossEntropy

    rng = np.random.default_rng(0)
    labels = rng.integers(num_classes, size=num_rows).astype("int32")
    head = NeighborhoodComponents(num_classes, num_rows, bank_labels=labels)
    head.build((None, dimensions))
    loss = LogitCrossEntropy()

    @tf.function
    def step(features, index, y):
        with tf.GradientTape() as tape:
            tape.watch(features)
            logits = head(features, index=index, training=True)
            weights = head.loss_weights(y, 2, index)
            value = loss(y, logits, sample_weight=weights)
        gradient = tape.gradient(value, features)
        with tf.control_dependencies([gradient]):  # as in `DeepNCM.train_step`
            head.update(features, y, index)
        return value, gradient

    for _ in turns:
        index = rng.choice(num_rows, batch, replace=False).astype("int32")
        features = tf.math.l2_normalize(tf.random.normal((batch, dimensions)), -1)
        value, _ = step(features, tf.constant(index), tf.constant(labels[index]))
        value.numpy()
