# SPDX-License-Identifier: Apache-2.0
"""Features of known samples, among which the nearest of others are looked up."""

import dataclasses

import numpy as np

from deepncm_tf.evaluation.neighbors import nearest


@dataclasses.dataclass(frozen=True, eq=False)
class Neighbors:
    """The nearest known samples of n queries.

    Attributes:
        similarities: `(n, k)` float32, falling.
        rows: `(n, k)` int32, places of the samples in the bank.
        labels: `(n, k)`, their labels, or None where the bank has none.
    """

    similarities: np.ndarray
    rows: np.ndarray
    labels: np.ndarray | None


@dataclasses.dataclass(frozen=True, eq=False)
class FeatureBank:
    """Features of known samples.

    Args:
        features: `(N, d)` array; of unit length for cosine similarity.
        labels: `(N,)` or `(N, 1)` array, or None.
    """

    features: np.ndarray
    labels: np.ndarray | None = None

    def __post_init__(self):
        if self.labels is None:
            return
        shape = np.shape(self.labels)
        if shape not in ((len(self.features),), (len(self.features), 1)):
            raise ValueError(
                "`labels` must have a label for each row of `features`, (N,) or (N, 1). "
                f"Received: labels of shape {shape} for {len(self.features)} rows"
            )
        object.__setattr__(self, "labels", np.reshape(self.labels, -1))

    def lookup(self, queries, k=5):
        """The k nearest samples of each query.

        Args:
            queries: `(n, d)` array.
            k: Int from 1 to N.

        Returns:
            `Neighbors`.

        Raises:
            ValueError: As `evaluation.nearest`.
        """
        similarities, rows = nearest(queries, self.features, k)
        labels = None if self.labels is None else self.labels[rows]
        return Neighbors(similarities, rows, labels)
