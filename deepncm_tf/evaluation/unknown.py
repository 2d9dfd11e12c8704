# SPDX-License-Identifier: Apache-2.0
"""Inputs of no known class: how like the known classes an input is, and what that tells.

All scores are higher the more an input is like the known classes.
"""

import numpy as np
from keras import ops
from scipy.special import logsumexp, softmax
from sklearn import metrics

from deepncm_tf.evaluation import neighbors
from deepncm_tf.numerics.labels import to_class_numbers
from deepncm_tf.utils.arguments import as_positive_integer, check_number

SHRINKAGE = 0.1
NEIGHBOUR = 50  # which neighbour's distance counts; 50 for CIFAR-10 in the paper
QUANTILE = 0.95
ROC_POINTS = 201


def _float64(values):
    """A tensor of any backend, one that has a gradient too, or an array."""
    return ops.convert_to_numpy(values).astype("float64")


def max_probability(logits):
    """Largest probability of a class, `(n,)` float64, of logits `(n, C)`.

    Reference:
        - [Hendrycks and Gimpel, 2017](https://arxiv.org/abs/1610.02136)
    """
    return softmax(_float64(logits), axis=-1).max(axis=-1)


def max_logit(logits):
    """Largest logit, `(n,)` float64, of logits `(n, C)`.

    Reference:
        - [Hendrycks et al., 2022](https://arxiv.org/abs/1911.11132)
    """
    return _float64(logits).max(axis=-1)


def energy(logits, temperature=1.0):
    """T log sum exp(logit / T), the negative energy, `(n,)` float64, of logits `(n, C)`.

    Reference:
        - [Liu et al., 2020](https://arxiv.org/abs/2010.03759)
    """
    check_number("temperature", temperature, "a positive number", lambda t: t > 0)
    return temperature * logsumexp(_float64(logits) / temperature, axis=-1)


class KnownFeatures:
    """Scores of features by a bank of features of the known classes.

    With m_c the mean of class c, m that of all, S the covariance within the classes and S0
    that of all, both shrunk to (1 - shrinkage) S + shrinkage tr(S) / d I.

    Args:
        bank: `(N, d)` array.
        labels: `(N,)` integers from 0 on.
        shrinkage: Float in (0, 1].
        k: Int, which neighbour's distance counts in `knn`; of a smaller bank the last.

    Raises:
        ValueError: If there is no feature, or lengths do not agree.

    Reference:
        - [Lee et al., 2018](https://arxiv.org/abs/1807.03888), Mahalanobis distance
        - [Ren et al., 2021](https://arxiv.org/abs/2106.09022), relative to that of all
        - [Sun et al., 2022](https://arxiv.org/abs/2204.06507), k-th nearest neighbour
    """

    def __init__(self, bank, labels, shrinkage=SHRINKAGE, k=NEIGHBOUR):
        bank, labels = np.asarray(bank, "float64"), np.asarray(labels)
        if bank.ndim != 2 or not len(bank) or labels.shape != bank.shape[:1]:
            raise ValueError(
                "`bank` and `labels` must be (N, d) and (N,), with N >= 1. "
                f"Received: shapes {bank.shape} and {labels.shape}"
            )
        check_number("shrinkage", shrinkage, "in (0, 1]", lambda value: 0 < value <= 1)
        self.k = min(as_positive_integer("k", k), len(bank))
        self.unit_bank = neighbors.unit_rows(bank)
        _, classes, counts = np.unique(labels, return_inverse=True, return_counts=True)
        sums = np.zeros((len(counts), bank.shape[1]))
        np.add.at(sums, classes, bank)
        self.means = sums / counts[:, None]
        self.mean = bank.mean(axis=0)
        self.within = _whitening(bank - self.means[classes], shrinkage)
        self.total = _whitening(bank - self.mean, shrinkage)

    def mean_distance(self, features):
        """-min_c |x - m_c|^2, `(n,)` float64, of features `(n, d)`."""
        return -_least_square(np.asarray(features, "float64"), self.means)

    def knn(self, features):
        """-|x - x_k| of unit vectors, x_k the k-th nearest of the bank: `(n,)` float64."""
        units = neighbors.unit_rows(features)
        similarities, _ = neighbors.nearest(units, self.unit_bank, self.k)
        squares = 2.0 - 2.0 * similarities[:, -1].astype("float64")
        return -np.sqrt(np.maximum(squares, 0.0))

    def mahalanobis(self, features):
        """-min_c (x - m_c)' S^-1 (x - m_c), `(n,)` float64, of features `(n, d)`."""
        features = np.asarray(features, "float64") @ self.within
        return -_least_square(features, self.means @ self.within)

    def relative_mahalanobis(self, features):
        """The same + (x - m)' S0^-1 (x - m), `(n,)` float64, of features `(n, d)`."""
        centred = (np.asarray(features, "float64") - self.mean) @ self.total
        return self.mahalanobis(features) + np.square(centred).sum(axis=1)


def all_scores(known, classifier, features):
    """All seven scores of inputs.

    Args:
        known: `KnownFeatures`.
        classifier: A `Classifier`.
        features: `(n, d)` array.

    Returns:
        Dictionary from names to `(n,)` float64 arrays. Where the classifier has prototypes,
        one is `distance`, the nearness to the nearest of them as the method measures it, by
        which `DeepNCM.calibrate` goes, too. Others, for which it goes by `max_logit`, have
        `mean_distance` of `known` in its place.
    """
    logits = _float64(classifier(features))
    if classifier.has_prototypes:
        nearness = _float64(classifier.class_nearness(features))
        distance = {"distance": nearness.max(axis=1)}
    else:
        distance = {"mean_distance": known.mean_distance(features)}
    return {
        "max_probability": max_probability(logits),
        "max_logit": max_logit(logits),
        "energy": energy(logits),
        **distance,
        "knn": known.knn(features),
        "mahalanobis": known.mahalanobis(features),
        "relative_mahalanobis": known.relative_mahalanobis(features),
    }


def score_maps(known, classifier, features):
    """All seven scores of the pixels of images, as maps.

    Args:
        known: `KnownFeatures`, of pixels of known classes.
        classifier: As for `all_scores`.
        features: `(batch, height, width, d)` array.

    Returns:
        Dictionary from names to `(batch, height, width)` float64 arrays.
    """
    shape = features.shape[:-1]
    scores = all_scores(known, classifier, features.reshape(-1, features.shape[-1]))
    return {name: values.reshape(shape) for name, values in scores.items()}


def compare_scores(classifier, known, features, labels, others):
    """How well each score tells inputs of known classes from others.

    Args:
        classifier: A `Classifier`.
        known: `KnownFeatures` of training inputs.
        features, labels: `(n, d)` and `(n,)` or `(n, 1)` integers or one-hot, of other
            inputs of known classes; labels below 0 are of no class that can be right.
        others: `(m, d)` features.

    Returns:
        Dictionary from names of scores to dictionaries of metrics: those of
        `detection_metrics`, `oscr`, and `roc`, the true positive rates of `roc_curve`.

    Raises:
        ValueError: If labels are none.
    """
    logits = _float64(classifier(features))
    labels = to_class_numbers(
        labels, "labels", len(features), logits.shape[-1], unknown=True
    )
    scores = all_scores(known, classifier, features)
    other_scores = all_scores(known, classifier, others)
    is_right = logits.argmax(axis=-1) == labels
    return {
        name: {
            **detection_metrics(values, other_scores[name]),
            "oscr": oscr(values, is_right, other_scores[name]),
            "roc": roc_curve(values, other_scores[name]).tolist(),
        }
        for name, values in scores.items()
    }


def detection_metrics(known, unknown):
    """How well a score tells known inputs from unknown ones.

    Args:
        known, unknown: `(n,)` and `(m,)` arrays of scores, both with at least one.

    Returns:
        Dictionary of floats in [0, 1]: `auroc`; `aupr_known` and `aupr_unknown`, with
        either as the positive ones; `fpr_at_95_tpr`, the share of unknown inputs accepted
        where 95 % of the known ones are, and `fpr_at_95_tpr_unknown`, the share of known
        inputs rejected where 95 % of the unknown ones are.

    Raises:
        ValueError: If there are no scores, or some are NaN.
    """
    known, unknown = _as_scores("known", known), _as_scores("unknown", unknown)
    scores = np.concatenate([known, unknown])
    is_known = np.arange(len(scores)) < len(known)
    return {
        "auroc": float(metrics.roc_auc_score(is_known, scores)),
        "aupr_known": float(metrics.average_precision_score(is_known, scores)),
        "aupr_unknown": float(metrics.average_precision_score(~is_known, -scores)),
        "fpr_at_95_tpr": _false_positive_rate(known, unknown),
        "fpr_at_95_tpr_unknown": _false_positive_rate(-unknown, -known),
    }


def roc_rates():
    """The false positive rates of `roc_curve`: 0, 0.005, ..., 1."""
    return np.linspace(0.0, 1.0, ROC_POINTS)


def roc_curve(known, unknown):
    """True positive rates where false positive rates are at most those of `roc_rates`.

    Args:
        known, unknown: As in `detection_metrics`; known inputs are the positive ones.

    Returns:
        `(201,)` float64, rising.
    """
    known, unknown = _as_scores("known", known), np.sort(_as_scores("unknown", unknown))
    # Of m unknown inputs so many may be accepted: those above the next one, and ties none.
    number = np.floor(roc_rates() * len(unknown) + 1e-9).astype("int64")
    thresholds = np.append(-np.inf, unknown)[len(unknown) - number]
    true_positives = (known[:, None] > thresholds).mean(axis=0)
    return np.where(number == len(unknown), 1.0, true_positives)


def oscr(known, is_right, unknown):
    """Area under the curve of right and accepted known inputs over accepted unknown ones.

    Args:
        known: `(n,)` scores of known inputs.
        is_right: `(n,)` bools, whether their class is predicted.
        unknown: `(m,)` scores of unknown inputs.

    Returns:
        Float in [0, 1], at most the accuracy of the known inputs.

    Reference:
        - [Dhamija et al., 2018](https://arxiv.org/abs/1811.04110)
    """
    known, unknown = _as_scores("known", known), np.sort(_as_scores("unknown", unknown))
    below = np.searchsorted(unknown, known, "left")
    equal = np.searchsorted(unknown, known, "right") - below
    # The area is the chance that a known input is right and scores above an unknown one.
    above = (below + 0.5 * equal) / len(unknown)
    return float(np.mean(above * np.asarray(is_right, bool)))


def _false_positive_rate(positive, negative):
    """Share of negatives at or above the threshold that 95 % of the positives reach."""
    place = len(positive) - int(np.ceil(QUANTILE * len(positive)))
    return float(np.mean(negative >= np.sort(positive)[place]))


def _as_scores(name, scores):
    scores = np.asarray(scores, "float64")
    if scores.ndim != 1 or not len(scores) or np.isnan(scores).any():
        raise ValueError(
            f"`{name}` must be a one-dimensional array of scores, at least one and none of "
            f"them NaN. Received: shape {scores.shape} with {np.isnan(scores).sum()} NaN"
        )
    return scores


def _whitening(centred, shrinkage):
    """A `(d, d)` matrix W with W W' the inverse of the shrunk covariance."""
    covariance = centred.T @ centred / len(centred)
    dimensions = len(covariance)
    level = np.trace(covariance) / dimensions
    values, vectors = np.linalg.eigh(covariance)
    values = (1.0 - shrinkage) * np.maximum(values, 0.0) + shrinkage * level
    return vectors / np.sqrt(values if level > 0 else 1.0)


def _least_square(features, means):
    """min_c |x - m_c|^2, `(n,)`."""
    squares = np.square(features).sum(axis=1)[:, None] - 2.0 * features @ means.T
    return np.maximum((squares + np.square(means).sum(axis=1)).min(axis=1), 0.0)
