# SPDX-License-Identifier: Apache-2.0
"""Retrieval metrics: how well the nearest images are of a query's class."""

import numpy as np

from deepncm_tf.evaluation import neighbors
from deepncm_tf.numerics.labels import to_class_numbers
from deepncm_tf.utils.arguments import as_positive_integer

CELL = 40  # bytes of a neighbour, with what is made of it


def retrieval_metrics(
    features,
    labels,
    recall_at=(1, 2, 4, 8),
    memory_budget=neighbors.MEMORY_BUDGET,
    progress=None,
):
    """Each image asks for the others of its class, by similarity.

    With R the number of other images of a query's class, and over its R nearest images:

    - `recall_at_k`: whether one of the k nearest is of the class;
    - `precision_at_1`: the same as `recall_at_1`;
    - `r_precision`: the share of the R nearest that are of the class;
    - `map_at_r`: the average over i = 1..R of the precision among the i nearest where the
      i-th is of the class, else 0.

    All are averaged over the queries; those that are alone in their class are left out, and
    images without a class, with labels below 0, altogether.

    Args:
        features: `(n, d)` array, of unit length for cosine similarity.
        labels: `(n,)` or `(n, 1)` integers, or one-hot.
        recall_at: Tuple of ints k >= 1.
        memory_budget: Int, bytes of similarities and neighbours at once.
        progress: Function of the number of queries done, or None.

    Returns:
        Dictionary of floats.

    Raises:
        ValueError: If no image has another of its class, labels or `recall_at` are none,
            or a feature is NaN or infinite.

    Reference:
        - Musgrave, Belongie, Lim, "A Metric Learning Reality Check", ECCV 2020.
    """
    labels = to_class_numbers(labels, "labels", len(features), unknown=True)
    features, labels = np.asarray(features)[labels >= 0], labels[labels >= 0]
    if not isinstance(recall_at, (list, tuple)) or not recall_at:
        raise ValueError(
            "`recall_at` must be a tuple of integers >= 1, such as (1, 2, 4, 8). "
            f"Received: recall_at={recall_at!r}"
        )
    memory_budget = as_positive_integer("memory_budget", memory_budget)
    recall_at = [as_positive_integer("recall_at", k) for k in recall_at]
    _, classes, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    relevant = sizes[classes] - 1  # R
    queries = np.flatnonzero(relevant > 0)
    if not len(queries):
        raise ValueError("`labels` must have a class with two images or more.")
    k = int(min(max(relevant.max(), *recall_at), len(labels) - 1))
    figures = {}
    # Of a block of queries k neighbours each are held, and what is made of them.
    size = max(1, memory_budget // (CELL * k))
    for start in range(0, len(queries), size):
        part = queries[start : start + size]
        hits = _hits(features, labels, part, k, memory_budget, start, progress)
        for name, values in _figures(hits, relevant[part], recall_at).items():
            figures[name] = figures.get(name, 0.0) + float(values.sum())
    return {name: total / len(queries) for name, total in figures.items()}


def _hits(features, labels, queries, k, memory_budget, done, progress):
    """Whether the k nearest of each query are of its class, `(n, k)` bools."""
    _, rows = neighbors.nearest(
        features[queries],
        features,
        k,
        queries,
        memory_budget,
        None if progress is None else lambda count: progress(done + count),
    )
    return labels[rows] == labels[queries][:, None]


def _figures(hits, relevant, recall_at):
    """Each metric of each query, a dictionary of `(n,)` arrays."""
    figures = {f"recall_at_{k}": hits[:, :k].any(axis=1) for k in recall_at}
    figures["precision_at_1"] = hits[:, 0].copy()
    hits &= np.arange(hits.shape[1])[None] < relevant[:, None]
    precision = np.cumsum(hits, axis=1) / np.arange(1, hits.shape[1] + 1)
    figures["r_precision"] = hits.sum(axis=1) / relevant
    figures["map_at_r"] = (precision * hits).sum(axis=1) / relevant
    return figures
