# SPDX-License-Identifier: Apache-2.0
"""Scores of predictions: accuracy, neighbours' votes, agreement of clusters."""

import numpy as np


def accuracy(scores, labels):
    """Share of samples whose largest score is that of their class.

    Args:
        scores: `(n, num_classes)`, logits, for example.
        labels: `(n,)` integers.

    Returns:
        Float in [0, 1].
    """
    return float((np.asarray(scores).argmax(axis=-1) == np.asarray(labels)).mean())


def vote_accuracy(votes, labels):
    """Share of samples whose class is voted for most, and among the five with most votes.

    A class without a vote is none that was voted for.

    Args:
        votes: `(n, num_classes)`, as from `neighbors.vote`.
        labels: `(n,)` integers.

    Returns:
        `(first, first_five)`, floats in [0, 1].
    """
    best = np.argsort(-votes, axis=-1, kind="stable")
    has_votes = np.take_along_axis(votes, best, axis=1) > 0
    hits = (best == np.asarray(labels)[:, None]) & has_votes
    return float(hits[:, 0].mean()), float(hits[:, :5].any(axis=1).mean())


def cluster_agreement(clusters, labels):
    """How well clusters agree with classes.

    Args:
        clusters, labels: `(n,)` integers.

    Returns:
        Dictionary: `purity`, the share of samples of their cluster's most frequent class,
        and `normalized_mutual_information`, with the arithmetic mean of the entropies.
    """
    from sklearn.metrics import normalized_mutual_info_score
    from sklearn.metrics.cluster import contingency_matrix

    table = contingency_matrix(labels, clusters)
    return {
        "purity": float(table.max(axis=0).sum() / table.sum()),
        "normalized_mutual_information": float(
            normalized_mutual_info_score(labels, clusters)
        ),
    }
