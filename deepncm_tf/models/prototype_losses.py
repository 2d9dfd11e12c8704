# SPDX-License-Identifier: Apache-2.0
"""Losses that draw features to the sub-centroid that clustering gives them."""

from keras import ops

from deepncm_tf.classifiers import SubCentroids
from deepncm_tf.distribution import replicas


def check(classifier):
    """Raises a `ValueError` unless a classifier has sub-centroids that follow clusters."""
    if not isinstance(classifier, SubCentroids):
        raise ValueError(
            "`contrast_weight` and `distance_weight` must be 0 for other classifiers than "
            f"SubCentroids. Received: classifier={classifier!r}"
        )


def prototype_losses(classifier, features, labels):
    """This replica's shares of two losses, means over the global batch's samples.

    With s the cosines of a sample with all sub-centroids, and j the one of its own class
    that clustering gives it,

        contrast = -log softmax(s)_j,    distance = (1 - s_j)^2.

    Args:
        classifier: A `SubCentroids`.
        features: `(batch, ..., d)`.
        labels: As in `Classifier.update`; samples of no class have no loss, nor those that
            are not drawn where there is `max_samples`.

    Returns:
        `(contrast, distance)`, two scalars.

    Reference:
        - [Zhou, Wang, Konukoglu, Van Gool, 2022](https://arxiv.org/abs/2203.15102),
          Eqs. 11 and 12; the cosines have no temperature in their code either.
    """
    samples = classifier._samples(features, labels)
    assigned, counted = classifier.assigned(features, labels)
    cosines = classifier.all_similarities(ops.reshape(features, (-1, features.shape[-1])))
    size = cosines.shape[-1]
    cosines = ops.reshape(cosines, (-1, classifier.num_classes * size))
    target = samples.labels * size + assigned
    nearness = ops.take_along_axis(cosines, target[:, None], axis=-1)[:, 0]
    contrast = ops.logsumexp(cosines, axis=-1) - nearness
    distance = ops.square(1.0 - nearness)
    weights = ops.cast(counted, nearness.dtype)
    (number,) = replicas.all_reduce_sum([ops.sum(weights)])
    return tuple(
        ops.sum(ops.where(counted, loss, 0.0)) / ops.maximum(number, 1.0)
        for loss in (contrast, distance)
    )
