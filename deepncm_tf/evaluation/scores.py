# SPDX-License-Identifier: Apache-2.0
"""Scores of predictions: accuracy, neighbours' votes, agreement of clusters."""

import numpy as np

from deepncm_tf.numerics.labels import to_class_numbers


def accuracy(scores, labels):
    """Share of samples whose largest score is that of their class.

    Args:
        scores: `(n, num_classes)`, logits, for example; n >= 1.
        labels: `(n,)` or `(n, 1)` integers, below 0 where a sample is of none of these
            classes, or one-hot.

    Returns:
        Float in [0, 1].

    Raises:
        ValueError: If there is no sample, or labels are none.
    """
    scores, labels = _with_labels("scores", scores, labels)
    return float((scores.argmax(axis=-1) == labels).mean())


def vote_accuracy(votes, labels):
    """Share of samples whose class is voted for most, and among the five with most votes.

    A class without a vote is none that was voted for.

    Args:
        votes: `(n, num_classes)`, as from `neighbors.vote`; n >= 1.
        labels: As for `accuracy`.

    Returns:
        `(first, first_five)`, floats in [0, 1].

    Raises:
        ValueError: If there is no sample, or labels are none.
    """
    votes, labels = _with_labels("votes", votes, labels)
    best = np.argsort(-votes, axis=-1, kind="stable")
    has_votes = np.take_along_axis(votes, best, axis=1) > 0
    hits = (best == labels[:, None]) & has_votes
    return float(hits[:, 0].mean()), float(hits[:, :5].any(axis=1).mean())


def _with_labels(name, scores, labels):
    """Scores of classes as an array, and the class numbers of their samples."""
    scores = np.asarray(scores)
    if scores.ndim != 2 or not scores.size:
        raise ValueError(
            f"`{name}` must be (n, num_classes), of at least one sample. Received: {name} "
            f"of shape {scores.shape}"
        )
    return scores, to_class_numbers(labels, "labels", *scores.shape, unknown=True)


def cluster_agreement(clusters, labels):
    """How well clusters agree with classes.

    Args:
        clusters, labels: `(n,)` or `(n, 1)` integers, or one-hot.

    Returns:
        Dictionary: `purity`, the share of samples of their cluster's most frequent class,
        and `normalized_mutual_information`, with the arithmetic mean of the entropies.

    Raises:
        ValueError: If there is no sample, or clusters or labels are none.
    """
    from sklearn.metrics import normalized_mutual_info_score
    from sklearn.metrics.cluster import contingency_matrix

    labels = to_class_numbers(labels, "labels", unknown=True)
    clusters = to_class_numbers(clusters, "clusters", len(labels), unknown=True)
    if not len(labels):
        raise ValueError("`labels` must be of at least one sample. Received: none")
    table = contingency_matrix(labels, clusters)
    return {
        "purity": float(table.max(axis=0).sum() / table.sum()),
        "normalized_mutual_information": float(
            normalized_mutual_info_score(labels, clusters)
        ),
    }
