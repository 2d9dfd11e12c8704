# SPDX-License-Identifier: Apache-2.0
"""Few-shot episodes: classes of which a head has seen a few samples each.

Each episode draws some classes and, of each, samples to learn from (shots) and others that
are asked for (queries). Episodes are computed many at a time.
"""

import numpy as np

from deepncm_tf.utils.arguments import as_positive_integer, check_choice

EPISODES = 50  # at once
SHRINKAGE = 0.1  # as in `LinearDiscriminant`
NORMAL_95 = 1.959964  # standard errors on either side of a 95 % interval


def draw_episodes(labels, way, size, episodes, seed):
    """Draws the samples of episodes.

    Args:
        labels: `(n,)` integers.
        way: Int, classes of an episode.
        size: Int, samples of each class, shots and queries.
        episodes: Int, number of episodes.
        seed: Int >= 0.

    Returns:
        `(episodes, way, size)` integers, rows of the labels: in each episode, each row at
        most once, in an order that is random too.

    Raises:
        ValueError: If there are not so many classes with so many samples.
    """
    labels = np.asarray(labels)
    classes = large_classes(labels, size)
    if as_positive_integer("way", way) > len(classes):
        raise ValueError(
            f"`way` must be at most {len(classes)}, the number of classes with {size} "
            f"samples. Received: way={way}"
        )
    members = [np.flatnonzero(labels == one) for one in classes]
    table = np.full((len(members), max(map(len, members))), -1)
    for row, own in zip(table, members, strict=True):
        row[: len(own)] = own
    rng = np.random.default_rng(seed)
    parts = []
    for start in range(0, as_positive_integer("episodes", episodes), EPISODES):
        number = min(EPISODES, episodes - start)
        drawn = table[rng.random((number, len(table))).argsort(axis=1)[:, :way]]
        keys = np.where(drawn >= 0, rng.random(drawn.shape), np.inf)
        places = keys.argsort(axis=-1)[..., :size]
        parts.append(np.take_along_axis(drawn, places, axis=-1))
    return np.concatenate(parts)


def large_classes(labels, size):
    """The labels of classes with at least so many samples, rising."""
    classes, counts = np.unique(labels, return_counts=True)
    return classes[counts >= as_positive_integer("size", size)]


def means(support, queries, center):
    """Logits by the nearest class mean.

    Args:
        support: `(episodes, way, shots, d)` float64.
        queries: `(episodes, m, d)` float64.
        center: `(d,)`, the mean of features of other classes.

    Returns:
        `(episodes, m, way)` float64.
    """
    class_means = support.mean(axis=2)
    # |x - m|^2 without |x|^2, which is the same for all classes.
    products = queries @ class_means.swapaxes(1, 2)
    return 2.0 * products - np.square(class_means).sum(axis=-1)[:, None, :]


def unit(support, queries, center):
    """As `means`, of features of unit length (SimpleShot's L2N)."""
    return means(_unit(support), _unit(queries), center)


def cl2n(support, queries, center):
    """As `means`, of features centred and scaled to unit length (SimpleShot's CL2N).

    Reference:
        - [Wang et al., 2019](https://arxiv.org/abs/1911.04623)
    """
    return unit(support - center, queries - center, center)


def lda(support, queries, center):
    """As `means`, by the linear discriminants of `LinearDiscriminant` for equal classes.

    The covariance has the rank of the few samples, and is inverted among them: by
    Woodbury's identity, (a I + b X'X)^-1 = (I - b X' (a I + b X X')^-1 X) / a.
    """
    episodes, way, shots, dimensions = support.shape
    number = way * shots
    class_means = support.mean(axis=2)
    middle = class_means.mean(axis=1, keepdims=True)
    apart = (support - class_means[:, :, None]).reshape(episodes, number, dimensions)
    a = SHRINKAGE * np.square(apart).sum(axis=(1, 2), keepdims=True) / (number * dimensions)
    varies = (
        a > np.finfo("float64").eps * np.square(support).mean(axis=(1, 2, 3))[:, None, None]
    )
    a = np.where(varies, a, 1.0)  # where all samples are at their means, Lambda is I
    b = np.where(varies, (1.0 - SHRINKAGE) / number, 0.0)
    offsets = (class_means - middle).swapaxes(1, 2)  # (episodes, d, way)
    small = a * np.eye(number) + b * (apart @ apart.swapaxes(1, 2))
    within = apart.swapaxes(1, 2) @ np.linalg.solve(small, apart @ offsets)
    kernel = (offsets - b * within) / a
    biases = -0.5 * (offsets * kernel).sum(axis=1)
    return (queries - middle) @ kernel + biases[:, None, :]


HEADS = {"means": means, "unit": unit, "cl2n": cl2n, "lda": lda}


def episode_accuracies(features, rows, shots, center, heads=tuple(HEADS)):
    """Accuracy of heads in each episode.

    Args:
        features: `(n, d)` array.
        rows: `(episodes, way, size)` integers, as from `draw_episodes`.
        shots: Int in [1, size - 1], how many samples of a class are learnt; the others are
            queries.
        center: `(d,)` array, the mean of features of other classes, which CL2N takes away.
        heads: Names in `HEADS`.

    Returns:
        Dictionary from heads to `(episodes,)` float64.

    Raises:
        ValueError: If a head is another, or no sample is left for queries.
    """
    for name in heads:
        check_choice("heads", name, tuple(HEADS))
    episodes, way, size = rows.shape
    if as_positive_integer("shots", shots) >= size:
        raise ValueError(
            f"`shots` must be less than {size}, the samples of a class in an episode. "
            f"Received: shots={shots}"
        )
    truth = np.repeat(np.arange(way), size - shots)
    center = np.asarray(center, "float64")
    found = {name: [] for name in heads}
    for start in range(0, episodes, EPISODES):
        part = rows[start : start + EPISODES]
        samples = np.asarray(features[part.ravel()], "float64").reshape(*part.shape, -1)
        support, queries = samples[:, :, :shots], samples[:, :, shots:]
        queries = queries.reshape(len(part), len(truth), -1)
        for name in heads:
            predicted = HEADS[name](support, queries, center).argmax(axis=-1)
            found[name].append((predicted == truth).mean(axis=-1))
    return {name: np.concatenate(parts) for name, parts in found.items()}


def mean_and_interval(values):
    """The mean of values, and how far the 95 % interval of it reaches on either side.

    Args:
        values: `(n,)` floats, n >= 2.

    Returns:
        `(mean, half_width)`, floats.
    """
    error = np.std(values, ddof=1) / np.sqrt(len(values))
    return float(np.mean(values)), float(NORMAL_95 * error)


def _unit(vectors):
    """Vectors of unit length; zero stays zero."""
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return vectors / np.where(lengths > 0, lengths, 1.0)
