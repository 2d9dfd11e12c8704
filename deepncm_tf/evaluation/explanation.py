# SPDX-License-Identifier: Apache-2.0
"""Explanations by training images: exemplars, and why a class was predicted.

Works with every classifier: it says how near features are to its prototypes (sub-centroids,
class means, or what it has in their place) and to each other.
"""

import collections
import dataclasses

import numpy as np
from keras import ops
from scipy.optimize import linear_sum_assignment

from deepncm_tf.evaluation.wording import (
    CLASSES_SHOWN,
    UNKNOWN,
    as_unknown,
    change_of,
    rule_of,
)
from deepncm_tf.numerics.labels import to_class_numbers


@dataclasses.dataclass(frozen=True, eq=False)
class Exemplars:
    """Training images that stand for a classifier's prototypes, or else for its classes.

    Attributes:
        images: `(num_classes, K, ...)`, as they were given.
        index: `(num_classes, K)` int64, their places in the training set; -1 where a class
            has no such prototype, or no further image.
        labels: `(num_classes, K)` int64, their classes; -1 where there is none.
        features: `(num_classes, K, d)` float32.
    """

    images: np.ndarray
    index: np.ndarray
    labels: np.ndarray
    features: np.ndarray

    def save(self, path):
        # A path without .npz would get it.
        with open(path, "wb") as file:
            np.savez_compressed(file, **dataclasses.asdict(self))

    @classmethod
    def load(cls, path):
        with np.load(path, allow_pickle=False) as arrays:
            return cls(**arrays)


def find_exemplars(classifier, features, labels, images, index=None):
    """For each prototype the nearest training image of its class, all of them distinct.

    Where a classifier has no prototypes (`Softmax`, `NeighborhoodComponents`,
    `LinearDiscriminant`, `RandomFeatures`), the image nearest to the mean of the class's
    features stands for the class, by the Euclidean distance.
    Where two prototypes of a class share the nearest, the images are given out so that the
    sum of the nearnesses is largest. Images whose features are not finite are left out.

    Args:
        classifier: A `Classifier`.
        features: `(n, d)`, of the training images.
        labels: `(n,)` or `(n, 1)` integers, below 0 where an image is of none of the
            classes, or one-hot.
        images: `(n, ...)`.
        index: `(n,)` integers, the images' places in the training set; by default 0..n-1.

    Returns:
        `Exemplars`.

    Raises:
        ValueError: If labels are none.

    Reference:
        - Wang, Han, Zhou, Liu, "Visual Recognition with Deep Nearest Centroids", ICLR
          2023, section 3 (interpretability) and Table 4.
    """
    features, images = np.asarray(features), np.asarray(images)
    labels = to_class_numbers(
        labels, "labels", len(features), classifier.num_classes, unknown=True
    )
    index = np.arange(len(labels)) if index is None else np.asarray(index)
    chosen = None
    for c in range(classifier.num_classes):
        rows = np.flatnonzero(labels == c)
        rows = rows[np.isfinite(features[rows]).all(axis=1)]  # NaN is near to nothing
        near = _nearness(classifier, features[rows], c)
        if chosen is None:
            chosen = np.full((classifier.num_classes, near.shape[1]), -1)
        present = np.flatnonzero(np.isfinite(near).all(axis=0))
        places, prototypes = linear_sum_assignment(near[:, present], maximize=True)
        chosen[c, present[prototypes]] = rows[places]
    return Exemplars(
        images=_rows_at(images, chosen),
        index=np.where(chosen >= 0, index[chosen], -1),
        labels=np.where(chosen >= 0, labels[chosen], -1).astype("int64"),
        features=_rows_at(features, chosen).astype("float32"),
    )


def _nearness(classifier, features, c):
    """How near features of class c are to its prototypes, or else their mean: `(n, K)`."""
    if classifier.has_prototypes:
        # One class at a time: of (n, C, K) numbers only these are looked at.
        return _numpy(classifier.prototype_scores(features))[:, c]
    # The larger a logit, the farther out an image may be: it does not say what is typical.
    if classifier.wants_unit_features:
        features = _numpy(classifier.unit_features(features))
    mean = features.sum(axis=0, dtype="float64") / max(len(features), 1)
    apart = features - mean
    return -np.einsum("nd,nd->n", apart, apart)[:, None]


def _rows_at(array, places):
    """Rows of an array, 0 where a place is below 0."""
    rows = array[places]
    rows[places < 0] = 0  # a product with 0 would keep NaN
    return rows


def compare(classifier, features, exemplars):
    """Similarity of features with exemplars: `(n, num_classes, K)`, -inf where none is."""
    flat = exemplars.features.reshape(-1, exemplars.features.shape[-1])
    near = _numpy(classifier.compare(np.asarray(features, "float32"), flat))
    near = near.reshape(len(features), *exemplars.index.shape)
    return np.where(exemplars.index >= 0, near, -np.inf)


def explain(
    classifier,
    exemplars,
    features,
    class_names,
    labels=None,
    calibration=None,
    thing="image",
):
    """Explains predictions by exemplars.

    Args:
        classifier: A `Classifier`.
        exemplars: `Exemplars`.
        features: `(n, d)`, of the images to explain.
        class_names: List of strings, one for each class; where several have the same,
            their numbers are put after it.
        labels: `(n,)` or `(n, 1)` integers, the true classes, below 0 where it is none of
            these; or None.
        calibration: `Calibration` that says which images are of no known class, or None.
        thing: String, what is explained, for the words: `"image"` or `"pixel"`.

    Returns:
        List of dictionaries that JSON can hold, one per image: `predicted`, `label` and
        `classes` (the predicted one, the next three, and that of the nearest exemplar
        where it is none of them; each with its `logit` and the `index` and `similarity`,
        or `distance` where the classifier measures one, of its exemplars, the nearest
        first), `by_exemplars` (the class of the nearest exemplar), `rule` and `change` in
        words. The rule names exemplars of these classes alone. With a calibration
        `predicted` is `"unknown"` where an image is rejected, and `rejection` a dictionary
        of its `score`'s name, `value` and `threshold`, `p_value` and `alpha`; else None.

    Raises:
        ValueError: If there are not as many names as classes, or labels are none.
    """
    class_names = _distinct(class_names, classifier.num_classes)
    if labels is not None:
        labels = to_class_numbers(
            labels, "labels", len(features), classifier.num_classes, unknown=True
        )
    features = np.asarray(features, "float32")
    logits = _numpy(classifier(features))
    nearness = compare(classifier, features, exemplars)
    measure = classifier.compares_by
    rejections = [None] * len(features)
    if calibration is not None:
        rejections = _rejections(calibration, classifier, features, logits)
    explanations = []
    for i, (scores, near) in enumerate(zip(logits, nearness, strict=True)):
        order = list(np.argsort(-scores, kind="stable")[:CLASSES_SHOWN])
        by_exemplars = int(near.max(axis=1).argmax())
        if by_exemplars not in order:  # the rule is about it
            order.append(by_exemplars)
        explained = {
            "predicted": class_names[order[0]],
            "label": None if labels is None else _name(class_names, labels[i]),
            "by_exemplars": class_names[by_exemplars],
            "classes": [
                {
                    "class": class_names[c],
                    "logit": float(scores[c]),
                    "exemplars": _nearest_first(near[c], exemplars.index[c], measure),
                }
                for c in order
            ],
        }
        num_known = int(np.isfinite(near).any(axis=1).sum())
        explained["rule"] = rule_of(explained, measure, num_known, thing)
        explained["change"] = change_of(explained, thing)
        if calibration is not None:
            explained["rejection"] = rejections[i]
        if rejections[i] is not None:
            explained |= as_unknown(explained, measure, classifier.has_prototypes)
        explanations.append(explained)
    return explanations


def _distinct(class_names, num_classes):
    """The names of the classes, with their numbers where several have the same."""
    if len(class_names) != num_classes:
        raise ValueError(
            f"`class_names` must be a name for each of {num_classes} classes. "
            f"Received: {len(class_names)} names"
        )
    times = collections.Counter(class_names)
    return [
        name if times[name] == 1 else f"{name} ({c})" for c, name in enumerate(class_names)
    ]


def _name(class_names, label):
    return class_names[label] if label >= 0 else UNKNOWN


def _rejections(calibration, classifier, features, logits):
    """For each image why it is of no known class, or None."""
    judged = calibration.judge(classifier, features, logits)
    values = _numpy(calibration.scores_of(classifier, features, logits))
    columns = zip(_numpy(judged["class"]), values, _numpy(judged["p_value"]), strict=True)
    return [
        {
            "score": calibration.score,
            "value": float(value),
            "threshold": calibration.threshold,
            "p_value": float(p_value),
            "alpha": calibration.alpha,
        }
        if c < 0
        else None
        for c, value, p_value in columns
    ]


def _nearest_first(nearness, index, measure):
    order = [k for k in np.argsort(-nearness, kind="stable") if index[k] >= 0]
    numbers = nearness
    if measure == "distance":
        numbers = np.sqrt(np.maximum(-nearness, 0.0))  # rounding may have made it less
    return [{"index": int(index[k]), measure: float(numbers[k])} for k in order]


def _numpy(tensor):
    return ops.convert_to_numpy(tensor)
