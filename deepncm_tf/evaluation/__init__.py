# SPDX-License-Identifier: Apache-2.0
"""Arrays in, numbers out: nearest neighbours, retrieval, explanations, and protocols of
continual and few-shot learning."""

from deepncm_tf.evaluation.neighbors import (
    knn_predict,
    nearest,
    unit_rows,
    vote,
)
from deepncm_tf.evaluation.scores import accuracy, cluster_agreement, vote_accuracy

__all__ = [
    "accuracy",
    "cluster_agreement",
    "knn_predict",
    "nearest",
    "unit_rows",
    "vote",
    "vote_accuracy",
]
