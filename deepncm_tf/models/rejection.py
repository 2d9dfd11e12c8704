# SPDX-License-Identifier: Apache-2.0
"""Predictions that can be "I don't know": conformal p-values of a model's scores."""

import dataclasses
import math
import warnings

import numpy as np
from keras import ops

from deepncm_tf.models.class_names import names_of
from deepncm_tf.numerics.labels import to_class_numbers
from deepncm_tf.utils.arguments import check_choice, check_number

# Scores that a model can give by itself; see `evaluation.unknown` for those of a bank.
SCORES = ("max_probability", "max_logit", "energy", "distance")
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


@dataclasses.dataclass(frozen=True)
class Calibration:
    """Sorted scores of held-out images of the known classes.

    With s_i the scores of n such images, p(x) = (1 + #{s_i <= s(x)}) / (n + 1): at most
    alpha of the images of known classes have p(x) <= alpha, if they come as the held-out
    ones came. The same by class, with scores for the class and its images alone.

    Attributes:
        score: String, one of `SCORES`.
        alpha: Float in (0, 1), share of known images that may be rejected.
        scores: `(n,)` float32, rising.
        class_scores: `(n,)` float32, each image's score for its own class, class after
            class, rising in each.
        class_counts: `(num_classes,)` int64, images of each class.

    Reference:
        - Vovk, Gammerman, Shafer, "Algorithmic Learning in a Random World", 2005, on
          conformal and label-conditional p-values.
    """

    score: str
    alpha: float
    scores: np.ndarray
    class_scores: np.ndarray
    class_counts: np.ndarray

    @classmethod
    def of_scores(cls, score, alpha, total, by_class, labels):
        """The calibration of held-out images whose scores are known.

        Args:
            score, alpha: As above.
            total: `(n,)`, how like the known classes the images are.
            by_class: `(n, num_classes)`, how like each class they are.
            labels: `(n,)` integers, their classes.
        """
        total, by_class = _to_float32(total), _to_float32(by_class)
        own = np.take_along_axis(by_class, labels[:, None], axis=1)[:, 0]
        counts = np.bincount(labels, minlength=by_class.shape[1])
        own = own[np.lexsort((own, labels))]
        return cls(score, float(alpha), np.sort(total), own, counts)

    def save(self, path):
        np.savez(path, **dataclasses.asdict(self))

    @classmethod
    def load(cls, path):
        with np.load(path, allow_pickle=False) as file:
            arrays = dict(file)
        return cls(str(arrays.pop("score")), float(arrays.pop("alpha")), **arrays)

    @property
    def threshold(self):
        """Images with a score below it are rejected, a float; -inf where none is."""
        shares = np.arange(1, len(self.scores) + 2, dtype="float32") / np.float32(
            len(self.scores) + 1
        )
        first = int(np.argmax(shares > np.float32(self.alpha)))
        return float(self.scores[first - 1]) if first else -math.inf

    def scores_of(self, classifier, features, logits):
        """How like the known classes inputs are, `(n,)`; arguments as in `judge`."""
        by_class = scores_by_class(self.score, classifier, features, logits)
        return scores_of_all(self.score, by_class, logits)

    def judge(self, classifier, features, logits):
        """Prediction, p-value and prediction set, by operations of Keras.

        Args:
            classifier: The model's `Classifier`.
            features: `(n, d)`.
            logits: `(n, num_classes)`.

        Returns:
            Dictionary: `class` `(n,)` int32, -1 where p(x) <= alpha; `p_value` `(n,)`
            float32; `prediction_set` `(n, num_classes)` bools.
        """
        by_class = scores_by_class(self.score, classifier, features, logits)
        total = scores_of_all(self.score, by_class, logits)
        number = np.array([len(self.scores)], "int64")
        p_values = _p_values(self.scores, number, total[:, None])[:, 0]
        by_class = _p_values(self.class_scores, self.class_counts, by_class)
        predicted = ops.cast(ops.argmax(logits, axis=-1), "int32")
        return {
            "class": ops.where(p_values <= self.alpha, -1, predicted),
            "p_value": p_values,
            "prediction_set": by_class > self.alpha,
        }


def calibrate(model, x, y, score="distance", alpha=0.05, **kwargs):
    """Learns from held-out images how like the known classes their images are.

    Args:
        model: A `DeepNCM`.
        x: Array of images that training did not see.
        y: Their labels, integers or one-hot.
        score: String, `"distance"` (nearness to the nearest prototype; of a method without
            prototypes the largest logit), `"max_logit"`, `"max_probability"` or `"energy"`.
        alpha: Float in (0, 1), share of images of known classes that may be rejected.
        **kwargs: Those of `DeepNCM.embed`, such as `batch_size`.

    Returns:
        `Calibration`, which is then the model's attribute `calibration`; `save` keeps it.

    Raises:
        ValueError: If an argument is out of its range, no class was seen, or there are too
            few images for alpha.
    """
    x = np.asarray(x)
    classifier = model.classifier
    y = to_class_numbers(y, "y", len(x), classifier.num_classes)
    check_calibrates(classifier, len(x), score, alpha)  # first: features take their time
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
    return math.ceil(1 / alpha - 1 - 1e-9)


def calibrate_features(classifier, features, y, score="distance", alpha=0.05):
    """As `calibrate`, for features.

    Args:
        classifier: A `Classifier`.
        features: `(n, d)`.
        y: `(n,)` integers.
        score, alpha: As in `calibrate`.

    Returns:
        `Calibration`.
    """
    check_calibrates(classifier, len(features), score, alpha)
    fewest = fewest_images(alpha)
    features = ops.convert_to_tensor(features)
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


def scores_by_class(score, classifier, features, logits):
    """How like each class inputs are: `(n, num_classes)`, the larger the more."""
    if score == "max_probability":
        return ops.softmax(logits, axis=-1)
    if score == "distance":
        scores = ops.max(classifier.prototype_scores(features), axis=-1)
        seen = classifier.seen()
        return scores if seen is None else ops.where(seen, scores, -math.inf)
    return logits


def scores_of_all(score, by_class, logits):
    """How like the known classes inputs are: `(n,)`, the larger the more."""
    if score == "energy":
        return ops.logsumexp(logits, axis=-1)
    return ops.max(by_class, axis=-1)


def _p_values(ordered, counts, values):
    """(1 + #{s_i <= v}) / (n + 1) for each column's own part of `ordered`.

    Args:
        ordered: `(n,)` array, one rising part after the other.
        counts: `(C,)` array, lengths of the parts.
        values: `(m, C)` tensor; NaN counts as below all.

    Returns:
        `(m, C)` float32.
    """
    padded = ops.convert_to_tensor(np.append(ordered, np.inf).astype("float32"))
    values = ops.cast(values, "float32")
    values = ops.where(ops.isnan(values), -math.inf, values)
    starts = (np.cumsum(counts) - counts).astype("int32")
    low = ops.zeros_like(values, dtype="int32")
    high = low + ops.convert_to_tensor(counts.astype("int32"))
    for _ in range(int(counts.max()).bit_length()):  # a binary search of all at once
        middle = (low + high) // 2
        is_below = ops.take(padded, starts + middle) <= values
        is_below = ops.logical_and(is_below, middle < high)
        low, high = ops.where(is_below, middle + 1, low), ops.where(is_below, high, middle)
    return ops.cast(1 + low, "float32") / (counts + 1).astype("float32")


def _to_float32(values):
    return ops.convert_to_numpy(values).astype("float32")
