# SPDX-License-Identifier: Apache-2.0
"""Heads to compare: each learns classes from features, some samples after others."""

import numpy as np
from keras import ops

from deepncm_tf import classifiers
from deepncm_tf.evaluation import neighbors
from deepncm_tf.utils.arguments import check_choice

ROWS = 4096  # queries at once
NEIGHBOURS = 10
TEMPERATURE = 0.05  # of the neighbours' votes


class StatisticsHead:
    """A head whose state is class statistics, which do not depend on the samples' order.

    Args:
        classifier: A `Classifier` that adapts from statistics.
    """

    def __init__(self, classifier):
        self.classifier = classifier

    def learn(self, features, labels):
        """Learns more samples.

        Args:
            features: `(n, d)` array.
            labels: `(n,)` integers from 0 to num_classes - 1.
        """
        self.classifier.adapt(np.asarray(features, "float32"), labels, reset=False)

    def predict(self, features):
        """Classes among those that were learnt, `(n,)` integers, of features `(n, d)`."""
        features = np.asarray(features, "float32")
        parts = [features[start : start + ROWS] for start in range(0, len(features), ROWS)]
        logits = [
            ops.convert_to_numpy(self.classifier(part)) for part in parts or [features]
        ]
        return np.concatenate(logits).argmax(axis=-1)


class NeighboursHead:
    """Votes of the nearest samples, all of which are kept; methods as `StatisticsHead`.

    Args:
        num_classes: Int, number of classes C.
        k: Int, number of neighbours; all samples where there are fewer.
    """

    def __init__(self, num_classes, k=NEIGHBOURS):
        self.num_classes = num_classes
        self.k = k
        self.bank, self.labels = [], []

    def learn(self, features, labels):
        self.bank.append(neighbors.unit_rows(features))
        self.labels.append(np.asarray(labels))

    def predict(self, features):
        bank, labels = np.concatenate(self.bank), np.concatenate(self.labels)
        votes = neighbors.knn_predict(
            neighbors.unit_rows(features),
            bank,
            labels,
            k=min(self.k, len(bank)),
            temperature=TEMPERATURE,
            num_classes=self.num_classes,
        )
        return votes.argmax(axis=-1)


def _means(num_classes, random_features):
    return StatisticsHead(classifiers.OnlineMean(num_classes))


def _cosine(num_classes, random_features):
    # Without other data to take the centre from, it is the mean of all samples so far.
    means = classifiers.OnlineMean(num_classes, metric="cosine", center="mean")
    return StatisticsHead(means)


def _lda(num_classes, random_features):
    return StatisticsHead(classifiers.LinearDiscriminant(num_classes))


def _ranpac(num_classes, random_features):
    return StatisticsHead(classifiers.RandomFeatures(num_classes, random_features))


def _knn(num_classes, random_features):
    return NeighboursHead(num_classes)


HEADS = {
    "means": _means,
    "cosine": _cosine,
    "lda": _lda,
    "ranpac": _ranpac,
    "knn": _knn,
}


def get(name, num_classes, random_features=2000):
    """A head that has learnt nothing yet.

    Args:
        name: `"means"`, the nearest class mean; `"cosine"`, the same by the cosine, seen
            from the mean of all samples so far; `"lda"`, linear discriminants; `"ranpac"`,
            ridge regression on random features; or `"knn"`, the 10 nearest samples.
        num_classes: Int, number of classes C.
        random_features: Int, number of the random features of `"ranpac"`.

    Returns:
        An object with `learn(features, labels)` and `predict(features)`.

    Raises:
        ValueError: If the name is another.
    """
    check_choice("name", name, tuple(HEADS))
    return HEADS[name](num_classes, random_features)
