# SPDX-License-Identifier: Apache-2.0
"""How sub-centroids start, and follow the samples that are assigned to them."""

import collections
import math

import keras
from keras import ops

from deepncm_tf.numerics.clustering import inverse_root, unit
from deepncm_tf.utils.arguments import as_positive_integer

# Squared lengths below which rounding decides on the direction: of a sum of unit vectors,
# and of past and new directions together, as a share of what they are at right angles.
SHORTEST_SUM = 1e-12
SHORTEST_MIX = 1e-3
MOST_ROUNDS = 100  # of `settle`, where samples go to and fro


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


def sizes_for(labels, num_classes):
    """As `sizes_by_count`, from the labels of the samples, ints in [0, num_classes)."""
    numbers = collections.Counter(int(label) for label in labels)
    return sizes_by_count([numbers[c] for c in range(num_classes)])


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
    sub_centroids, squares, samples, features, assigned, counted, momentum, apply=None
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
        apply: Scalar bool, False for nothing to move, not even to unit length; or None.

    Returns:
        The sub-centroids, of unit length, and `(num_classes, K)`, how many samples each
        had; those without one keep their direction.

    Reference:
        - Wang, Han, Zhou, Liu, "Visual Recognition with Deep Nearest Centroids", ICLR
          2023, Algorithm 1 and Eqs. 6 and 8.
    """
    counted = (
        ops.one_hot(assigned, sub_centroids.shape[1], dtype=sub_centroids.dtype)
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
    if apply is not None:
        past, new = ops.where(apply, past, 1.0), ops.where(apply, new, 0.0)
    return past[..., None] * sub_centroids + new[..., None] * sums, counts


def settle(assign, samples, features, sub_centroids, past):
    """Clusters samples again and again, until none changes its sub-centroid.

    Args:
        assign: Function `(sub_centroids, squares)` to `(n,)` integers in [0, K).
        samples: `clustering.Flat`, the layout.
        features: `(n, d)`, of unit length.
        sub_centroids: `(num_classes, K, d)`, of unit length: where it starts.
        past: `(num_classes, K)`, weight of the start in what they become.

    Returns:
        The directions of their samples' sums, `(num_classes, K, d)`; where there is none,
        that of the start.
    """
    past = past[..., None] * sub_centroids
    new, assigned = sub_centroids, None
    for _ in range(MOST_ROUNDS):
        before, assigned = assigned, assign(new, ops.sum(ops.square(new), axis=-1))
        if before is not None and bool(ops.all(assigned == before)):
            break
        counted = ops.one_hot(assigned, new.shape[1], dtype=features.dtype)
        sums, _ = samples.sums_of_clusters(features, assigned, counted)
        sums = sums + past
        new = ops.where(_has_direction(sums), unit(sums), new)
    return new


def mean_cosine(units, sizes):
    """Mean cosine between two sub-centroids of a class, over all such pairs.

    Args:
        units: `(num_classes, K, d)`, of unit length.
        sizes: List of ints, how many of them each class has.

    Returns:
        Float, or None where no class has two.
    """
    pairs = sum(size * (size - 1) for size in sizes)
    if not pairs:
        return None
    places = ops.arange(units.shape[1])[None]
    exists = ops.cast(places < ops.convert_to_tensor(sizes)[:, None], units.dtype)
    units = units * exists[..., None]
    # The sum over pairs is the square of the sum, less the squares.
    whole = ops.sum(ops.square(ops.sum(units, axis=1)))
    return float(whole - ops.sum(ops.square(units))) / pairs


def _has_direction(vectors):
    """Which vectors are not zero: `(..., 1)` bools."""
    return ops.any(vectors != 0, axis=-1, keepdims=True)
