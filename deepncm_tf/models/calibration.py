# SPDX-License-Identifier: Apache-2.0
"""What a model knows of held-out images: sorted scores, and the p-values of others."""

import dataclasses
import math

import numpy as np
from keras import ops

# Scores that a model can give by itself; see `evaluation.unknown` for those of a bank.
SCORES = ("max_probability", "max_logit", "energy", "distance")


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
        p_values = p_values_of(self.scores, number, total[:, None])[:, 0]
        by_class = p_values_of(self.class_scores, self.class_counts, by_class)
        predicted = ops.cast(ops.argmax(logits, axis=-1), "int32")
        return {
            "class": ops.where(p_values <= self.alpha, -1, predicted),
            "p_value": p_values,
            "prediction_set": by_class > self.alpha,
        }


def scores_by_class(score, classifier, features, logits):
    """How like each class inputs are: `(n, num_classes)`, the larger the more."""
    if score == "max_probability":
        return ops.softmax(logits, axis=-1)
    if score == "distance":
        return classifier.class_nearness(features)
    return logits


def scores_of_all(score, by_class, logits):
    """How like the known classes inputs are: `(n,)`, the larger the more."""
    if score == "energy":
        return ops.logsumexp(logits, axis=-1)
    return ops.max(by_class, axis=-1)


def p_values_of(ordered, counts, values):
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
    starts = ops.convert_to_tensor((np.cumsum(counts) - counts).astype("int32"))
    low = ops.zeros_like(values, dtype="int32")
    high = low + ops.convert_to_tensor(counts.astype("int32"))
    for _ in range(int(counts.max()).bit_length()):  # a binary search of all at once
        middle = (low + high) // 2
        is_below = ops.take(padded, starts + middle) <= values
        is_below = ops.logical_and(is_below, middle < high)
        low, high = ops.where(is_below, middle + 1, low), ops.where(is_below, high, middle)
    return ops.cast(1 + low, "float32") / ops.convert_to_tensor(
        (counts + 1).astype("float32")
    )


def _to_float32(values):
    return ops.convert_to_numpy(values).astype("float32")
