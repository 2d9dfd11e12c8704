# SPDX-License-Identifier: Apache-2.0
"""What classifiers say of samples that they have not learnt: cross-validation."""

import numpy as np

from deepncm_tf.numerics.labels import to_class_numbers
from deepncm_tf.utils.arguments import as_positive_integer

FOLDS = 5
NEVER = -1  # the fold of samples that are always learnt


def stratified_folds(labels, number=FOLDS, seed=0):
    """Parts of equal size in which each class has its share.

    Args:
        labels: `(n,)` or `(n, 1)` integers >= 0, or one-hot.
        number: Int >= 2, number of parts.
        seed: Int >= 0.

    Returns:
        `(n,)` integers from 0 to number - 1; `NEVER` for the sample of a class that has
        no other, which nobody could tell who has not learnt it.

    Raises:
        ValueError: If labels or `number` are none.
    """
    if as_positive_integer("number", number) < 2:
        raise ValueError(f"`number` must be an integer >= 2. Received: number={number!r}")
    labels = to_class_numbers(labels, "labels")
    folds = np.full(len(labels), NEVER)
    first = 0  # where the last class ended, or small classes would fill the first parts
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        if len(rows) < 2:
            continue
        rows = np.random.default_rng([seed, int(label)]).permutation(rows)
        folds[rows] = (first + np.arange(len(rows))) % number
        first += len(rows)
    return folds


def judge_held_out(make, features, labels, folds, judge):
    """Judges each part of samples by a classifier that has learnt the others.

    Args:
        make: Function from rows of samples to a new classifier for them.
        features: `(n, d)` array.
        labels: `(n,)` integers.
        folds: `(n,)` integers, as from `stratified_folds`.
        judge: Function of `(classifier, features)` to a tuple of arrays, each with a row
            for each of the features.

    Returns:
        `(rows, judged)`: the rows of the samples that were judged, rising, and the tuple
        of arrays for them.

    Raises:
        ValueError: If no sample is in a part.
    """
    rows, judged = [], []
    numbers = np.unique(folds[folds != NEVER])
    if not len(numbers):
        raise ValueError(
            "`folds` must have a part: some class needs two samples. "
            f"Received: {len(folds)} samples, none of them in a part"
        )
    for fold in numbers:
        learnt, held_out = np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)
        classifier = make(learnt)
        classifier.adapt(features[learnt], labels[learnt])
        rows.append(held_out)
        judged.append([np.asarray(part) for part in judge(classifier, features[held_out])])
    rows = np.concatenate(rows)
    order = np.argsort(rows)
    judged = (np.concatenate(parts)[order] for parts in zip(*judged, strict=True))
    return rows[order], tuple(judged)


def confusion_matrix(labels, predicted, num_classes):
    """Samples of each class (rows) that were taken for each class (columns).

    Args:
        labels, predicted: `(n,)` or `(n, 1)` integers from 0 to C - 1, or one-hot.
        num_classes: Int, number of classes C.

    Returns:
        `(C, C)` integers.

    Raises:
        ValueError: If labels or predictions are none.
    """
    labels = to_class_numbers(labels, "labels", None, num_classes)
    predicted = to_class_numbers(predicted, "predicted", len(labels), num_classes)
    places = labels * num_classes + predicted
    counts = np.bincount(places, minlength=num_classes**2)
    return counts.reshape(num_classes, num_classes)


def own_p_values(scores, labels):
    """How usual each sample is among those of its class.

    Args:
        scores: `(n,)`, how like its own class each sample is.
        labels: `(n,)` integers.

    Returns:
        `(n,)`, the share of the samples of its class that are as unlike it: p-values of
        the sample's label, if the others' are right.
    """
    scores, labels = np.asarray(scores), np.asarray(labels)
    p_values = np.empty(len(scores))
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        below = np.searchsorted(np.sort(scores[rows]), scores[rows], side="right")
        p_values[rows] = below / len(rows)
    return p_values
