# SPDX-License-Identifier: Apache-2.0
"""Retrieval metrics: how well the nearest images are of a query's class."""

import numpy as np

from deepncm_tf.evaluation import neighbors
from deepncm_tf.numerics.labels import to_class_numbers
from deepncm_tf.utils.arguments import as_positive_integer


def retrieval_metrics(features, labels, recall_at=(1, 2, 4, 8), **kwargs):
    """Each image asks for the others of its class, by similarity.

    With R the number of other images of a query's class, and over its R nearest images:

    - `recall_at_k`: whether one of the k nearest is of the class;
    - `precision_at_1`: the same as `recall_at_1`;
    - `r_precision`: the share of the R nearest that are of the class;
    - `map_at_r`: the average over i = 1..R of the precision among the i nearest where the
      i-th is of the class, else 0.

    All are averaged over the queries; those that are alone in their class are left out.

    Args:
        features: `(n, d)` array, of unit length for cosine similarity.
        labels: `(n,)` or `(n, 1)` integers, or one-hot.
        recall_at: Tuple of ints k >= 1.
        **kwargs: `memory_budget` and `progress` of `neighbors.nearest`.

    Returns:
        Dictionary of floats.

    Raises:
        ValueError: If no image has another of its class, labels or `recall_at` are none,
            or a feature is NaN or infinite.

    Reference:
        - Musgrave, Belongie, Lim, "A Metric Learning Reality Check", ECCV 2020.
    """
    labels = to_class_numbers(labels, "labels", len(features), unknown=True)
    if not isinstance(recall_at, (list, tuple)) or not recall_at:
        raise ValueError(
            "`recall_at` must be a tuple of integers >= 1, such as (1, 2, 4, 8). "
            f"Received: recall_at={recall_at!r}"
        )
    recall_at = [as_positive_integer("recall_at", k) for k in recall_at]
    _, classes, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    relevant = sizes[classes] - 1  # R
    queries = np.flatnonzero(relevant > 0)
    if not len(queries):
        raise ValueError("`labels` must have a class with two images or more.")
    relevant = relevant[queries]
    k = min(max(relevant.max(), *recall_at), len(labels) - 1)
    _, rows = neighbors.nearest(
        np.asarray(features)[queries], features, int(k), exclude=queries, **kwargs
    )
    hits = labels[rows] == labels[queries][:, None]  # (queries, k)
    figures = {f"recall_at_{k}": _mean(hits[:, :k].any(axis=1)) for k in recall_at}
    figures["precision_at_1"] = _mean(hits[:, 0])
    hits &= np.arange(hits.shape[1])[None] < relevant[:, None]
    precision = np.cumsum(hits, axis=1) / np.arange(1, hits.shape[1] + 1)
    figures["r_precision"] = _mean(hits.sum(axis=1) / relevant)
    figures["map_at_r"] = _mean((precision * hits).sum(axis=1) / relevant)
    return figures


def _mean(values):
    return float(np.mean(values))
