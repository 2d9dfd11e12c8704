# SPDX-License-Identifier: Apache-2.0
"""Classifiers: Keras layers from features to class logits, with a state that learns."""

import importlib

import keras

from deepncm_tf.classifiers.class_means import ClassMeans
from deepncm_tf.classifiers.classifier import Classifier
from deepncm_tf.classifiers.decay_mean import DecayMean
from deepncm_tf.classifiers.linear_discriminant import LinearDiscriminant
from deepncm_tf.classifiers.mean_condensation import MeanCondensation
from deepncm_tf.classifiers.neighborhood_components import NeighborhoodComponents
from deepncm_tf.classifiers.online_mean import OnlineMean
from deepncm_tf.classifiers.random_features import RandomFeatures
from deepncm_tf.classifiers.softmax import Softmax
from deepncm_tf.classifiers.sub_centroids import SubCentroids
from deepncm_tf.utils.registry import METHODS

__all__ = [
    "ClassMeans",
    "Classifier",
    "DecayMean",
    "LinearDiscriminant",
    "MeanCondensation",
    "NeighborhoodComponents",
    "OnlineMean",
    "RandomFeatures",
    "Softmax",
    "SubCentroids",
    "get",
]

NAMES = {
    name: getattr(
        importlib.import_module(f"deepncm_tf.classifiers.{method.module}"),
        method.class_name,
    )
    for name, method in METHODS.items()
}


def get(identifier, **arguments):
    """Retrieves a classifier.

    Args:
        identifier: A name in `NAMES`, such as `"decay"`; a config dictionary as from
            `keras.saving.serialize_keras_object`; or a `Classifier`, which is returned as
            it is.
        **arguments: Arguments of the constructor, with a name.

    Returns:
        A `Classifier`.

    Raises:
        ValueError: If there is no such classifier.

    Example:
        >>> get("decay", num_classes=10, decay=0.75).decay
        0.75
    """
    if isinstance(identifier, Classifier) and not arguments:
        return identifier
    if isinstance(identifier, dict) and not arguments:
        return keras.saving.deserialize_keras_object(identifier)
    if isinstance(identifier, str) and identifier in NAMES:
        return NAMES[identifier](**arguments)
    raise ValueError(
        f"`identifier` must be one of {sorted(NAMES)}, or a config or a Classifier "
        f"without further arguments. Received: identifier={identifier!r}"
        + (f" with arguments {sorted(arguments)}" if arguments else "")
    )
