# SPDX-License-Identifier: Apache-2.0
"""Sub-centroids become training images: the nearest ones of their class."""

import keras
import numpy as np

from deepncm_tf.evaluation.explanation import Exemplars, find_exemplars
from deepncm_tf.models.inputs import labelled_arrays
from deepncm_tf.numerics.labels import to_class_numbers


def anchor(model, x, y=None, images=None, **kwargs):
    """Puts each sub-centroid of a model on the nearest training image of its class.

    Args:
        model: A `DeepNCM` whose classifier is a `SubCentroids`.
        x: Samples in arrays, as for `predict`; or what gives batches of (inputs, labels),
            as for `fit`, where inputs may hold an `"index"`; an index of -1 is none.
        y: Labels of samples in arrays, integers, one-hot or names, as for `fit`.
        images: Array to keep the exemplars' pictures from, a picture for each sample; by
            default `x`, of several inputs the first.
        **kwargs: Those of `DeepNCM.embed`, such as `batch_size`; `steps` is the number of
            batches that are taken of a dataset.

    Returns:
        `Exemplars`: distinct images, with their features and their places in the training
        set (in the array or the dataset, where it gives no index).

    Raises:
        ValueError: If the classifier has no sub-centroids, or images and labels do not fit.

    Reference:
        - Wang, Han, Zhou, Liu, "Visual Recognition with Deep Nearest Centroids", ICLR
          2023, Table 4.
    """
    if not hasattr(model.classifier, "anchor"):
        raise ValueError(
            "`anchor` needs a classifier with sub-centroids, SubCentroids; for others see "
            "deepncm_tf.explanation.find_exemplars. Received: classifier="
            f"{model.classifier!r}"
        )
    steps = kwargs.pop("steps", None) if y is None else None
    x, y, index = labelled_arrays(x, y, model.input_shapes, steps)
    first = keras.tree.flatten(x)[0]
    num_classes, ignored = model.classifier.num_classes, model.ignore_class
    y = to_class_numbers(y, "y", len(first), num_classes, ignore_class=ignored)
    images = first if images is None else np.asarray(images)
    if not len(first) or len(images) != len(first):
        raise ValueError(
            "`x` must hold at least one sample, and `images` a picture for each of them. "
            f"Received: {len(first)} samples and {len(images)} pictures"
        )
    model.exemplars = find_exemplars(
        model.classifier,
        model.embed(x, **kwargs),
        y,
        images,
        index,
    )
    model.classifier.anchor(model.exemplars)
    return model.exemplars


def exemplars_at(index, images, labels, features):
    """Exemplars of which it is known which images they are.

    Args:
        index: `(num_classes, K)` int64, their places; -1 where there is none.
        images: `(m, ...)`, those of the m places that are not -1, in order.
        labels: `(n,)` integers of the whole training set.
        features: `(m, d)`, of the images.

    Returns:
        `Exemplars`.
    """
    known = index >= 0
    of_places = []
    for rows in (np.asarray(images), np.asarray(features, "float32")):
        whole = np.zeros((*index.shape, *rows.shape[1:]), rows.dtype)
        whole[known] = rows
        of_places.append(whole)
    classes = np.where(known, np.asarray(labels)[index], -1).astype("int64")
    return Exemplars(of_places[0], index, classes, of_places[1])
