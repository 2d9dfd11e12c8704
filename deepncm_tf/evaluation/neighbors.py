# SPDX-License-Identifier: Apache-2.0
"""Exact nearest neighbours in a bank of features: votes and retrieval metrics.

Similarities are inner products, computed by NumPy on all cores in blocks, so that memory
stays within a budget whatever the size of the bank.
"""

import numpy as np

from deepncm_tf.evaluation.search import largest_products
from deepncm_tf.numerics.labels import to_class_numbers
from deepncm_tf.utils.arguments import as_positive_integer, check_number

CHECKED = 2**20  # numbers at once
SQUARED = 1e-12, 1e18  # lengths
MEMORY_BUDGET = 256 * 2**20  # bytes of similarities, and what is made of them, at once


def nearest(queries, bank, k, exclude=None, memory_budget=MEMORY_BUDGET, progress=None):
    """The k rows of the bank that are nearest to each query.

    Args:
        queries: `(n, d)` array.
        bank: `(N, d)` array.
        k: Int in [1, N], or [1, N - 1] with `exclude`.
        exclude: `(n,)` integers, a row of the bank for each query that is no neighbour:
            itself; -1 for none. Or None.
        memory_budget: Int, bytes.
        progress: Function of the number of queries done, or None.

    Returns:
        `(similarities, rows)`: `(n, k)` float32, falling, and `(n, k)` int32; of equal
        similarities the first row comes first.

    Raises:
        ValueError: If shapes do not agree, there are not so many rows, or a feature or a
            similarity is NaN or infinite in float32.
    """
    queries, bank = np.asarray(queries, "float32"), np.asarray(bank, "float32")
    if queries.ndim != 2 or bank.ndim != 2 or queries.shape[1] != bank.shape[1]:
        raise ValueError(
            "`queries` and `bank` must be (n, d) and (N, d). "
            f"Received: shapes {queries.shape} and {bank.shape}"
        )
    if exclude is not None:
        exclude = _as_rows("exclude", exclude, len(queries), len(bank))
    available = len(bank) - (exclude is not None)
    k = as_positive_integer("k", k)
    memory_budget = as_positive_integer("memory_budget", memory_budget)
    if k > available:
        raise ValueError(
            f"`k` must be an integer from 1 to {available}, the rows of the bank. "
            f"Received: k={k}"
        )
    _check_finite("queries", queries)
    _check_finite("bank", bank)
    products, rows = largest_products(queries, bank, k, exclude, memory_budget, progress)
    if not np.isfinite(products).all():
        largest = [float(np.abs(x).max()) for x in (queries, bank)]
        raise ValueError(
            "`queries` and `bank` must have inner products within float32. Received: "
            f"numbers up to {largest[0]:.3g} and {largest[1]:.3g}"
        )
    return products, rows


def _check_finite(name, features):
    """Raises a `ValueError` that names the rows with a NaN or an infinity."""
    size = max(1, CHECKED // max(1, features.shape[1]))
    rows = []
    for start in range(0, len(features), size):
        is_finite = np.isfinite(features[start : start + size]).all(axis=1)
        rows.extend(start + np.flatnonzero(~is_finite))
    if rows:
        more = f" and {len(rows) - 5} more" if len(rows) > 5 else ""
        raise ValueError(
            f"`{name}` must be finite in float32. Received: NaN or infinity in rows "
            f"{', '.join(map(str, rows[:5]))}{more} of {len(features)}"
        )


def _as_rows(name, rows, count, num_rows):
    """An argument as `(count,)` integers from -1 to num_rows - 1, or a `ValueError`."""
    rows = np.asarray(rows)
    if rows.shape != (count,) or (rows.dtype.kind not in "iu" and count):
        received = f"shape {rows.shape} and dtype {rows.dtype}"
    elif count and not -1 <= rows.min() <= rows.max() < num_rows:
        received = f"numbers from {rows.min()} to {rows.max()}"
    else:
        return rows.astype("int64")
    raise ValueError(
        f"`{name}` must be a row for each of {count} queries, integers from 0 to "
        f"{num_rows - 1}, or -1 for none. Received: {received}"
    )


def vote(similarities, labels, temperature, num_classes):
    """Scores of classes from the votes of neighbours, exp(similarity / temperature) each.

    Args:
        similarities: `(n, k)` floats, falling.
        labels: `(n, k)` integers, classes of the neighbours.
        temperature: Float > 0.
        num_classes: Int.

    Returns:
        `(n, num_classes)` float64, the sums of the votes, relative to the largest vote of a
        query, so that nothing overflows at any temperature.

    Raises:
        ValueError: If a label is none of a class, or the temperature is not positive.

    Reference:
        - Wu, Efros, Yu, "Improving Generalization via Scalable Neighborhood Component
          Analysis", ECCV 2018, section 3.4.
    """
    _check_temperature(temperature)
    labels = np.asarray(labels)
    if labels.size and not 0 <= labels.min() <= labels.max() < num_classes:
        raise ValueError(
            f"`labels` must be integers from 0 to {num_classes - 1}. "
            f"Received: {labels.min()} to {labels.max()}"
        )
    similarities = np.asarray(similarities, "float64")
    votes = np.exp((similarities - similarities.max(axis=1, keepdims=True)) / temperature)
    cells = np.arange(len(labels))[:, None] * num_classes + labels
    size = len(labels) * num_classes
    scores = np.bincount(cells.ravel(), weights=votes.ravel(), minlength=size)
    return scores.reshape(len(labels), num_classes)


def knn_predict(
    queries, bank, bank_labels, k=30, temperature=0.05, num_classes=None, **kwargs
):
    """Class scores of queries, by the votes of their k nearest rows of a bank.

    Args:
        queries: `(n, d)` array; of unit length for cosine similarity.
        bank: `(N, d)` array.
        bank_labels: `(N,)` or `(N, 1)` integers, or one-hot `(N, num_classes)`; rows with
            a label below 0 take no part.
        k: Int, number of neighbours.
        temperature: Float > 0, of the votes exp(similarity / temperature).
        num_classes: Int, by default the largest label + 1.
        **kwargs: `exclude`, `memory_budget` and `progress` of `nearest`.

    Returns:
        `(n, num_classes)` float64; the argmax is the prediction.

    Example:
        >>> scores = knn_predict([[1.0, 0.0]], [[0.9, 0.1], [0.0, 1.0]], [1, 0], k=2)
        >>> int(scores.argmax(axis=-1)[0])
        1
    """
    _check_temperature(temperature)
    if num_classes is not None:
        as_positive_integer("num_classes", num_classes)
    bank_labels = to_class_numbers(
        bank_labels, "bank_labels", len(bank), num_classes, unknown=True
    )
    if len(bank_labels) and bank_labels.min() < 0:
        known = bank_labels >= 0
        if not known.any():
            raise ValueError(
                "`bank_labels` must have a class, a number from 0 on. "
                f"Received: {bank_labels.min()} to {bank_labels.max()}"
            )
        if kwargs.get("exclude") is not None:
            places = np.where(known, np.cumsum(known) - 1, -1)
            own = _as_rows("exclude", kwargs["exclude"], len(queries), len(bank))
            kwargs["exclude"] = np.where(own < 0, -1, places[own])
        bank, bank_labels = np.asarray(bank)[known], bank_labels[known]
    similarities, rows = nearest(queries, bank, k, **kwargs)
    classes = int(bank_labels.max()) + 1 if num_classes is None else num_classes
    return vote(similarities, bank_labels[rows], temperature, classes)


def unit_rows(features):
    """Features of unit length, as a float32 array; zero stays zero."""
    features = np.asarray(features, "float32")
    with np.errstate(over="ignore"):
        lengths = np.linalg.norm(features, axis=-1, keepdims=True)
    # Squares of float32 are right between these; of others nearer to 1.
    if not ((lengths > SQUARED[0]) & (lengths < SQUARED[1])).all():
        largest = np.abs(features).max(axis=-1, keepdims=True, initial=0.0)
        features = features / np.where(largest > 0, largest, 1)
        lengths = np.linalg.norm(features, axis=-1, keepdims=True)
    return features / np.where(lengths > 0, lengths, 1)


def _check_temperature(temperature):
    check_number("temperature", temperature, "a positive number", lambda t: t > 0)
