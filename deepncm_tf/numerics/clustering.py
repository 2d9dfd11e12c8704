# SPDX-License-Identifier: Apache-2.0
"""Clustering within classes, for all classes at once: Sinkhorn-Knopp and k-means.

Samples come in one of two layouts. Flat: `(n, ...)` with labels `(n,)`. By class:
`(num_classes, m, ...)`, where some of the m places of a class may be empty. Work and memory
grow with the number of samples times K, never with samples times all sub-centroids.
"""

import functools
import math

from keras import ops


class Flat:
    """Samples `(n, ...)` with their classes.

    Args:
        labels: `(n,)` integers in [0, num_classes).
        num_classes: Int, number of classes C.
        weights: `(n,)` floats, 0 for samples that take no part, 1 for others; or None.
    """

    def __init__(self, labels, num_classes, weights=None):
        self.labels = ops.cast(labels, "int32")
        self.num_classes = num_classes
        self.weights = weights

    def sum(self, values):
        """Sums over the samples of each class: `(n, ...)` to `(C, ...)`."""
        if self.weights is not None:
            weights = ops.cast(self.weights, values.dtype)
            values = values * ops.reshape(weights, (-1,) + (1,) * (len(values.shape) - 1))
        return ops.segment_sum(values, self.labels, num_segments=self.num_classes)

    def max(self, values):
        """Maxima over the samples of each class: `(n,)` to `(C,)`."""
        if self.weights is not None:
            values = ops.where(self.weights > 0, values, -math.inf)
        return ops.segment_max(values, self.labels, num_segments=self.num_classes)

    def spread(self, values):
        """Gives each sample what belongs to its class: `(C, ...)` to `(n, ...)`."""
        return ops.take(values, self.labels, axis=0)

    def similarities(self, features, sub_centroids):
        """Inner products with the sub-centroids of the own class: `(n, K)`."""
        # One sub-centroid of each class at a time: never (n, K, d).
        return ops.stack(
            [
                ops.sum(features * self.spread(sub_centroids[:, k]), axis=-1)
                for k in range(sub_centroids.shape[1])
            ],
            axis=-1,
        )

    def sums_of_clusters(self, features, assigned, counted):
        """Sums of features and their numbers, `(C, K, d)` and `(C, K)`.

        Args:
            features: `(n, d)`.
            assigned: `(n,)` integers in [0, K).
            counted: `(n, K)`, 1 where a counted sample is assigned, else 0.
        """
        size = counted.shape[-1]
        if self.weights is not None:
            counted = counted * self.weights[:, None]
        counts = ops.segment_sum(counted, self.labels, num_segments=self.num_classes)
        cells = self.labels * size + assigned
        weighted = features * ops.sum(counted, axis=-1, keepdims=True)
        sums = ops.segment_sum(weighted, cells, num_segments=self.num_classes * size)
        return ops.reshape(sums, (self.num_classes, size, -1)), counts


class ByClass:
    """Samples `(num_classes, m, ...)`.

    Features may be of a narrower dtype than sub-centroids. Products are computed in that of
    the features, since copies of so many in a wider one take more than the features.

    Args:
        weights: `(num_classes, m)`, 1 where there is a sample, else 0.
    """

    def __init__(self, weights):
        self.weights = weights

    def sum(self, values):
        weights = ops.cast(self.weights, values.dtype)
        weights = ops.reshape(weights, (*weights.shape, *(1,) * (len(values.shape) - 2)))
        return ops.sum(values * weights, axis=1)

    def max(self, values):
        return ops.max(ops.where(self.weights > 0, values, -math.inf), axis=1)

    def spread(self, values):
        return values[:, None]

    def similarities(self, features, sub_centroids):
        columns = ops.cast(ops.transpose(sub_centroids, (0, 2, 1)), features.dtype)
        return ops.cast(ops.matmul(features, columns), sub_centroids.dtype)  # (C, m, K)

    def sums_of_clusters(self, features, assigned, counted):
        counted = counted * self.weights[..., None]
        rows = ops.cast(ops.transpose(counted, (0, 2, 1)), features.dtype)
        sums = ops.cast(ops.matmul(rows, features), counted.dtype)  # (C, K, d)
        return sums, ops.sum(counted, axis=1)


def sinkhorn(
    similarities, labels, num_classes, epsilon=0.05, iterations=3, weights=None, sizes=None
):
    """Assigns samples to clusters of their class, in equal shares.

    Args:
        similarities: `(n, K)` floats, of each sample to the K sub-centroids of its class.
        labels: `(n,)` integers in [0, num_classes), any order.
        num_classes: Int, number of classes C.
        epsilon: Float > 0, weight of the entropy; the smaller, the harder the plan.
        iterations: Int >= 1, normalizations of columns and rows.
        weights: `(n,)`, 0 for samples that take no part, 1 for others; or None.
        sizes: `(num_classes,)` integers in [1, K], sub-centroids of each class, or None
            for K everywhere.

    Returns:
        `(n,)` int32 in [0, K). A lone sample goes to its nearest sub-centroid, exact ties
        to the first index.

    Reference:
        - Wang, Han, Zhou, Liu, "Visual Recognition with Deep Nearest Centroids", ICLR
          2023, Eqs. 4-5.
    """
    samples = Flat(labels, num_classes, weights)
    return assign(samples, similarities, epsilon, iterations, sizes)


def sinkhorn_plan(samples, similarities, epsilon=0.05, iterations=3, sizes=None):
    """The soft assignment behind `sinkhorn`; each sample's shares add up to one.

    Args:
        samples: `Flat` or `ByClass`, the layout.
        similarities: `(n, K)` or `(num_classes, m, K)`.
        epsilon, iterations, sizes: As in `sinkhorn`.

    Returns:
        Logarithms of the shares, of the shape of `similarities`.
    """
    scaled = _scaled(samples, similarities, epsilon, iterations, sizes, least=1)
    return ops.log_softmax(ops.stack(scaled, axis=-1), axis=-1)


def assign(samples, similarities, epsilon=0.05, iterations=3, sizes=None):
    """Hard assignment by the largest share; see `sinkhorn` and `sinkhorn_plan`."""
    scaled = _scaled(samples, similarities, epsilon, iterations, sizes, least=2)
    return _first_largest(scaled)


def _scaled(samples, similarities, epsilon, iterations, sizes, least):
    """The plan's logarithms before the last normalization of rows: a list of K columns.

    Operations on whole columns are several times as fast as those over a short last axis.
    Classes with fewer samples than `least` keep the scaled similarities.

    Nothing overflows, and no divisor is zero, for any epsilon. Once a class's columns add
    up to 1/K each, some sample has 1/(n K) or more of a column, and its row adds up to 1 or
    less: so no column's sum of shares ever falls below 1/(n K).
    """
    scores = ops.unstack(mask_absent(samples, similarities / epsilon, sizes), axis=-1)
    if len(scores) == 1:
        return scores
    number = samples.sum(ops.ones_like(scores[0]))  # (C,)
    clusters = len(scores) if sizes is None else ops.cast(sizes, "int32")
    # The rows' constant 1/n cancels in the normalization of columns.
    share = -ops.log(ops.cast(clusters, scores[0].dtype))

    def correction(total):
        # That of a cluster that a class does not have is not finite.
        some = ops.logical_and(ops.isfinite(total), number >= least)
        return ops.where(some, share - total, 0.0)

    factors = [correction(_log_sum(samples, score)) for score in scores]  # K times (C,)
    for _ in range(iterations - 1):
        scaled = _add(samples, scores, factors)
        highest = functools.reduce(ops.maximum, scaled)
        shares = [ops.exp(column - highest) for column in scaled]
        rows = 1.0 / functools.reduce(ops.add, shares)
        totals = [ops.log(samples.sum(column * rows)) for column in shares]
        factors = [f + correction(t) for f, t in zip(factors, totals, strict=True)]
    return _add(samples, scores, factors)


def _add(samples, scores, factors):
    return [s + samples.spread(f) for s, f in zip(scores, factors, strict=True)]


def mask_absent(samples, similarities, sizes):
    """Similarities with -inf at clusters that a class does not have."""
    if sizes is None:
        return similarities
    numbers = ops.arange(similarities.shape[-1], dtype="int32")[None]
    available = numbers < ops.cast(sizes, "int32")[:, None]
    return ops.where(samples.spread(available), similarities, -math.inf)


def kmeans(samples, features, sub_centroids, iterations=3, sizes=None):
    """Assigns samples to clusters of their class by spherical k-means.

    Args:
        samples: `Flat` or `ByClass`, the layout.
        features: `(n, d)` or `(num_classes, m, d)`, of unit length.
        sub_centroids: `(num_classes, K, d)`: where it starts.
        iterations: Int >= 1.
        sizes: As in `sinkhorn`.

    Returns:
        `(n,)` or `(num_classes, m)` int32 in [0, K).

    Reference:
        - The comparison of the same paper's appendix H.
    """
    sub_centroids = unit(sub_centroids)
    for step in range(iterations):
        near = samples.similarities(features, sub_centroids)
        near = ops.unstack(mask_absent(samples, near, sizes), axis=-1)
        assigned = _first_largest(near)
        if step < iterations - 1:
            counted = ops.one_hot(assigned, len(near), dtype=near[0].dtype)
            sums, counts = samples.sums_of_clusters(features, assigned, counted)
            moved = unit(sums)
            sub_centroids = ops.where(counts[..., None] > 0, moved, sub_centroids)
    return assigned


def cosines(samples, features, sub_centroids, squares=None):
    """Cosine of each sample with the sub-centroids of its class.

    Args:
        samples: `Flat` or `ByClass`, the layout.
        features: `(n, d)` or `(num_classes, m, d)`, of unit length.
        sub_centroids: `(num_classes, K, d)`, of any length.
        squares: `(num_classes, K)`, their squared lengths where the caller has them.

    Returns:
        `(n, K)` or `(num_classes, m, K)`.
    """
    if squares is None:
        squares = ops.sum(ops.square(sub_centroids), axis=-1)
    inverse = samples.spread(inverse_root(squares))
    return samples.similarities(features, sub_centroids) * inverse


@ops.custom_gradient
def unit(vectors):
    """Vectors of unit length, in the last axis, however short or long; zero stays zero.

    The gradient is at most that of vectors of length 1e-6, and zero where they are zero.
    """
    # The squares of large numbers overflow, those of small ones vanish. Not divided by the
    # largest: on JAX, XLA multiplies by the reciprocal instead, which vanishes as well.
    largest = ops.max(ops.abs(vectors), axis=-1, keepdims=True, initial=0.0)
    factor = ops.where(largest > 2.0**50, 2.0**-76, 1.0)
    factor = ops.where(largest < 2.0**-50, 2.0**76, ops.cast(factor, vectors.dtype))
    scaled = vectors * factor
    squares = ops.sum(ops.square(scaled), axis=-1, keepdims=True)
    inverse = ops.where(squares > 0, ops.rsqrt(squares), 0.0)
    units = scaled * inverse

    def gradient(*arguments, upstream=None):
        upstream = arguments[0] if upstream is None else upstream
        along = ops.sum(units * upstream, axis=-1, keepdims=True)
        return (upstream - along * units) * ops.minimum(inverse * factor, 1e6)

    return units, gradient


def inverse_root(squares):
    """1 / sqrt of squared lengths, for those from 1e-12 to 1e18; finite also for 0."""
    return ops.rsqrt(ops.maximum(squares, 1e-24))


def _first_largest(columns):
    """Which column is the largest, the first of equal ones: int32 of a column's shape."""
    largest, *others = columns
    place = ops.zeros_like(largest, dtype="int32")
    for k, other in enumerate(others, start=1):
        place = ops.where(other > largest, k, place)
        largest = ops.maximum(other, largest)
    return place


def _log_sum(samples, scores):
    """Logarithm of the sum of exponentials over the samples of each class: `(C,)`."""
    highest = samples.max(scores)
    highest = ops.where(ops.isfinite(highest), highest, 0.0)  # nothing there
    # A sample that takes no part may lie above, and infinity times no weight is NaN.
    shifted = ops.minimum(scores - samples.spread(highest), 0.0)
    return highest + ops.log(samples.sum(ops.exp(shifted)))
