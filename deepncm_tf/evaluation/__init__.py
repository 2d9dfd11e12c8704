# SPDX-License-Identifier: Apache-2.0
"""Arrays in, numbers out: nearest neighbours, retrieval, explanations."""

from deepncm_tf.evaluation.neighbors import (
    cluster_agreement,
    knn_predict,
    nearest,
    unit_rows,
    vote,
)

__all__ = ["cluster_agreement", "knn_predict", "nearest", "unit_rows", "vote"]
