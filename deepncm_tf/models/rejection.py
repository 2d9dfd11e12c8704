# SPDX-License-Identifier: Apache-2.0
"""Predictions that can be "I don't know": conformal p-values of a model's scores."""

import dataclasses
import math
import warnings

import keras
import numpy as np
from keras import ops

from deepncm_tf.models.calibration import (
    SCORES,
    Calibration,
    scores_by_class,
    scores_of_all,
)
from deepncm_tf.models.class_names import names_of
from deepncm_tf.models.inputs import labelled_arrays
from deepncm_tf.numerics.labels import to_class_numbers
from deepncm_tf.utils.arguments import check_choice, check_number

UNKNOWN = "unknown"


@dataclasses.dataclass(frozen=True)
class Classified:
    """What `DeepNCM.classify` says of n images.

    Attributes:
        classes: `(n,)` int64, the predicted class; -1 where the image is of none.
        names: List of n strings, the classes' names or else numbers; `"unknown"` where the
            image is of none.
        p_values: `(n,)` float64, p(x): the share of known images that are as unlike the
            known classes as this one.
        prediction_sets: `(n, num_classes)` bools, classes whose own p-value is above alpha.
    """

    classes: np.ndarray
    names: list
    p_values: np.ndarray
    prediction_sets: np.ndarray


def calibrate(model, x, y=None, score="distance", alpha=0.05, **kwargs):
    """Learns from held-out images how like the known classes their images are.

    Args:
        model: A `DeepNCM`.
        x: Images that training did not see: arrays, as for `predict`, or what gives batches
            of (inputs, labels), as for `fit`, all of which are kept in memory meanwhile.
        y: Labels of images in arrays, integers, one-hot or names, as for `fit`. Images
            whose label is the model's `ignore_class` are left out.
        score: String, `"distance"` (nearness to the nearest prototype; of a method without
            prototypes the largest logit), `"max_logit"`, `"max_probability"` or `"energy"`.
        alpha: Float in (0, 1), share of images of known classes that may be rejected.
        **kwargs: Those of `DeepNCM.embed`, such as `batch_size`; `steps` is the number of
            batches that are taken of a dataset.

    Returns:
        `Calibration`, which is then the model's attribute `calibration`; `save` keeps it.

    Raises:
        ValueError: If an argument is out of its range, no class was seen, an image has
            features that are not finite, or there are too few images for alpha.
    """
    steps = kwargs.pop("steps", None) if y is None else None
    x, y, _ = labelled_arrays(x, y, model.input_shapes, steps)
    number = len(keras.tree.flatten(x)[0])
    classifier, ignored = model.classifier, model.ignore_class
    y = to_class_numbers(y, "y", number, classifier.num_classes, ignore_class=ignored)
    if (y < 0).any():
        x, y = keras.tree.map_structure(lambda part: part[y >= 0], x), y[y >= 0]
    check_calibrates(classifier, len(y), score, alpha)  # first: features take their time
    model.calibration = calibrate_features(
        classifier, model.embed(x, **kwargs), y, score, alpha
    )
    return model.calibration


def check_calibrates(classifier, number, score, alpha):
    """Raises a `ValueError` where `calibrate` could not do it with so many images."""
    check_choice("score", score, SCORES)
    check_number("alpha", alpha, "a number between 0 and 1", lambda value: 0 < value < 1)
    fewest = fewest_images(alpha)
    if number < fewest:
        raise ValueError(
            f"`x` must hold {fewest} images or more, or nothing would ever be rejected at "
            f"alpha={alpha}. Received: {number} images"
        )
    check_seen(classifier)


def fewest_images(alpha):
    """Number of held-out images, of which the least like the known classes is rejected."""
    return math.ceil(min(1 / alpha, 2.0**53) - 1 - 1e-9)  # 1 / alpha may be infinite


def calibrate_features(classifier, features, y, score="distance", alpha=0.05):
    """As `calibrate`, for features.

    Args:
        classifier: A `Classifier`.
        features: `(n, d)`.
        y: `(n,)` integers.
        score, alpha: As in `calibrate`.

    Returns:
        `Calibration`.

    Raises:
        ValueError: As `calibrate`.
    """
    check_calibrates(classifier, len(features), score, alpha)
    fewest = fewest_images(alpha)
    features = ops.convert_to_tensor(features)
    finite = ops.convert_to_numpy(ops.all(ops.isfinite(features), axis=-1))
    if not finite.all():  # scores that are no numbers would leave no room for rejection
        raise ValueError(
            "`x` must hold images with finite features. Received: "
            f"{len(finite) - finite.sum()} of {len(finite)} images with features that are "
            "not finite"
        )
    logits = classifier(features)
    by_class = scores_by_class(score, classifier, features, logits)
    total = scores_of_all(score, by_class, logits)
    calibration = Calibration.of_scores(score, alpha, total, by_class, y)
    counts = calibration.class_counts
    few = np.flatnonzero(counts < fewest)
    if len(few):
        warnings.warn(
            f"Prediction sets always hold classes with less than {fewest} held-out images "
            f"at alpha={alpha}: {len(few)} of {len(counts)} classes, {few[0]} for example "
            f"with {counts[few[0]]}",
            stacklevel=4,
        )
    return calibration


def classify(model, x, **kwargs):
    """Classes of images, or that they are of none.

    Args:
        model: A `DeepNCM` after `calibrate`.
        x: Array of images, or a dataset, as for `DeepNCM.embed`.
        **kwargs: Those of `DeepNCM.embed`.

    Returns:
        `Classified`.

    Raises:
        ValueError: If the model is not calibrated, or no class was seen.
    """
    check_calibrated(model)
    return classify_features(model, model.embed(x, **kwargs))


def classify_features(model, features):
    """As `classify`, of features `(n, d)` as from `DeepNCM.embed`."""
    check_calibrated(model)
    classifier = model.classifier
    features = ops.convert_to_tensor(features)
    judged = model.calibration.judge(classifier, features, classifier(features))
    judged = {name: ops.convert_to_numpy(values) for name, values in judged.items()}
    classes = judged["class"].astype("int64")
    names = names_of(model)
    return Classified(
        classes,
        [UNKNOWN if c < 0 else names[c] for c in classes],
        judged["p_value"].astype("float64"),
        judged["prediction_set"],
    )


def check_calibrated(model):
    """Raises a `ValueError` where a model cannot say when an image is of no class."""
    if model.calibration is None:
        raise ValueError(
            "Call `calibrate` with held-out images before `classify`, and again after "
            "training."
        )
    check_seen(model.classifier)


def check_seen(classifier):
    """Raises a `ValueError` where there is no class that could be predicted."""
    seen = classifier.seen()
    if seen is not None and not bool(ops.any(seen)):
        raise ValueError(
            "No class can be predicted before training or `adapt` has shown samples of it."
        )
