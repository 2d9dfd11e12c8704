# SPDX-License-Identifier: Apache-2.0
"""How sub-centroids start, follow the samples assigned to them, and come back to life."""

import math

import keras
from keras import ops

from deepncm_tf.numerics.clustering import cosines, inverse_root, mask_absent, unit
from deepncm_tf.utils.arguments import as_positive_integer

# Squared lengths below which rounding decides on the direction: of a sum of unit vectors,
# and of past and new directions together, as a share of what they are at right angles.
SHORTEST_SUM = 1e-12
SHORTEST_MIX = 1e-3


def as_sizes(sizes, num_classes):
    """`num_sub_centroids` as an int or a list of C ints, or a `ValueError`."""
    if isinstance(sizes, str):
        raise ValueError(
            "`num_sub_centroids` must be an int, or one for each class, for example from "
            "deepncm_tf.numerics.centroids.sizes_by_count. Received: "
            f"num_sub_centroids={sizes!r}"
        )
    try:
        sizes = list(sizes)
    except TypeError:
        return as_positive_integer("num_sub_centroids", sizes)
    sizes = [as_positive_integer("num_sub_centroids", size) for size in sizes]
    if len(sizes) != num_classes:
        raise ValueError(
            "`num_sub_centroids` must be an int, or one for each of "
            f"{num_classes} classes. Received: {len(sizes)} of them"
        )
    return sizes


def sizes_by_count(counts, maximum=4):
    """Number of sub-centroids of each class, more for classes with more samples.

    1 to `maximum`, by bins of equal width between the smallest and the largest class;
    `maximum` where all are equal.

    Args:
        counts: Sequence of ints, samples of each class.
        maximum: Int >= 1.

    Returns:
        List of ints.

    Reference:
        - Wang, Han, Zhou, Liu, "Visual Recognition with Deep Nearest Centroids", ICLR
          2023, appendix J.
    """
    low, high = min(counts), max(counts)
    if low == high:
        return [maximum] * len(counts)
    return [
        min(int((count - low) * maximum / (high - low)) + 1, maximum) for count in counts
    ]


def near_class_directions(shape, dtype=None):
    """Initializer: a random direction for each class, its sub-centroids a little off it."""
    num_classes, _, dimensions = shape
    directions = keras.random.normal((num_classes, 1, dimensions), dtype=dtype)
    return directions + 0.1 * keras.random.normal(shape, dtype=dtype)


def near_orthogonal_directions(shape, dtype=None):
    """The same with directions at right angles, as far as there are dimensions for them."""
    num_classes, _, dimensions = shape
    directions = keras.initializers.Orthogonal()((num_classes, dimensions), dtype=dtype)
    # Of the length that normal components give: the noise is small beside it.
    directions *= math.sqrt(dimensions * max(1.0, num_classes / dimensions))
    return directions[:, None] + 0.1 * keras.random.normal(shape, dtype=dtype)


def take_first(sub_centroids, features, labels, places):
    """Puts the first samples of a class in the place of its sub-centroids, in turn.

    Args:
        sub_centroids: `(num_classes, K, d)`.
        features: `(n, d)`, of unit length.
        labels: `(n,)` int32 in [0, num_classes).
        places: `(n,)` int32, the place of each sample among all of its class so far.

    Returns:
        The sub-centroids, `(num_classes, K, d)`; a sample of zeros takes no place.
    """
    num_classes, size, _ = sub_centroids.shape
    first = ops.cast(places < size, features.dtype)
    cells = labels * size + ops.minimum(places, size - 1)
    taken = ops.segment_sum(
        features * first[:, None], cells, num_segments=num_classes * size
    )
    taken = ops.reshape(taken, sub_centroids.shape)
    return ops.where(_has_direction(taken), taken, sub_centroids)


def move(
    sub_centroids, squares, samples, features, assigned, counted, momentum, where=None
):
    """Moves each sub-centroid towards its samples.

    With p a sub-centroid and s the sum of its samples, of lengths |p| and |s|,

        p <- unit(momentum * p / |p| + (1 - momentum) * s / |s|).

    Where nothing is left of one of the two sums for p to point to, since what is added up
    cancels, p keeps its direction. Lengths come from inner products, so that large arrays
    are passed over few times.

    Args:
        sub_centroids: `(num_classes, K, d)`, of any length.
        squares: `(num_classes, K)`, their squared lengths.
        samples: `clustering.Flat` or `clustering.ByClass`, the layout.
        features: `(n, d)` or `(num_classes, m, d)`, of unit length.
        assigned: `(n,)` or `(num_classes, m)` integers in [0, K).
        counted: Of the shape of `assigned`, 1 for samples that count, else 0.
        momentum: Float in [0, 1), weight of the past.
        where: Scalar bool, False for nothing to move, not even to unit length; or None.

    Returns:
        The sub-centroids, of unit length, and `(num_classes, K)`, how many samples each
        had; those without one keep their direction.

    Reference:
        - Wang, Han, Zhou, Liu, "Visual Recognition with Deep Nearest Centroids", ICLR
          2023, Algorithm 1 and Eqs. 6 and 8.
    """
    counted = (
        ops.one_hot(assigned, sub_centroids.shape[1], dtype=features.dtype)
        * (counted[..., None])
    )
    sums, counts = samples.sums_of_clusters(features, assigned, counted)
    keeping = inverse_root(squares)
    squares_of_sums = ops.sum(ops.square(sums), axis=-1)
    moves = ops.logical_and(counts > 0, squares_of_sums > SHORTEST_SUM)
    past = momentum * keeping
    new = (1.0 - momentum) * inverse_root(squares_of_sums)
    apart = past * past * squares + new * new * squares_of_sums
    mixed = apart + 2.0 * past * new * ops.sum(sub_centroids * sums, axis=-1)
    moves = ops.logical_and(moves, mixed > SHORTEST_MIX * apart)
    past = ops.where(moves, past * inverse_root(mixed), keeping)
    new = ops.where(moves, new * inverse_root(mixed), 0.0)
    if where is not None:
        past, new = ops.where(where, past, 1.0), ops.where(where, new, 0.0)
    return past[..., None] * sub_centroids + new[..., None] * sums, counts


def revive(sub_centroids, counts, idle, patience, samples, features, sizes=None):
    """Moves a sub-centroid that no sample came to for long, of each class one at a time.

    It goes to the sample of its class that is farthest from all sub-centroids.

    Args:
        sub_centroids: `(num_classes, K, d)`.
        counts: `(num_classes, K)`, samples that each had in this step.
        idle: `(num_classes, K)` int32, steps of its class without one, up to now.
        patience: Int, the number of such steps that is too long.
        samples: `clustering.Flat` or `clustering.ByClass`, the layout.
        features: `(n, d)` or `(num_classes, m, d)`, of unit length.
        sizes: Number of sub-centroids of each class, `(num_classes,)`, or None for K.

    Returns:
        The sub-centroids and the new `idle`.
    """
    there = samples.sum(ops.ones_like(features[..., :1]))  # (C, 1)
    idle = ops.where(counts > 0, 0, idle + ops.cast(there > 0, "int32"))
    numbers = ops.arange(sub_centroids.shape[1], dtype="int32")[None]
    dead = idle >= patience
    if sizes is not None:
        dead = ops.logical_and(dead, numbers < ops.cast(sizes, "int32")[:, None])
    dead = ops.logical_and(dead, there > 0)
    first = ops.cast(ops.argmax(dead, axis=-1), "int32")[:, None]
    chosen = ops.logical_and(dead, numbers == first)  # (C, K)
    near = cosines(samples, features, sub_centroids)
    near = mask_absent(samples, near, sizes)
    farness = -ops.max(near, axis=-1, initial=-math.inf)  # also of no samples
    farthest = ops.cast(farness == samples.spread(samples.max(farness)), features.dtype)
    target = unit(samples.sum(features * farthest[..., None]))  # (C, d)
    # The farthest ones may cancel, or be zero.
    chosen = ops.logical_and(chosen, _has_direction(target))
    moved = ops.where(chosen[..., None], target[:, None], sub_centroids)
    return moved, ops.where(chosen, 0, idle)


def _has_direction(vectors):
    """Which vectors are not zero: `(..., 1)` bools."""
    return ops.any(vectors != 0, axis=-1, keepdims=True)
