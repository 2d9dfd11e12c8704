# SPDX-License-Identifier: Apache-2.0
"""Cross-validation: parts, what is judged by whom, p-values of labels."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deepncm_tf.classifiers import OnlineMean
from deepncm_tf.evaluation import cross_validation


@given(st.lists(st.integers(0, 4), min_size=2, max_size=60), st.integers(2, 6))
def test_each_class_is_spread(labels, number):
    labels = np.array(labels)
    folds = cross_validation.stratified_folds(labels, number)
    for label, count in zip(*np.unique(labels, return_counts=True), strict=True):
        own = folds[labels == label]
        if count == 1:
            assert own.tolist() == [cross_validation.NEVER]
            continue
        parts = np.bincount(own, minlength=number)
        assert parts.max() - parts.min() <= 1
    parts = np.bincount(folds[folds >= 0], minlength=number)
    assert parts.max() - parts.min() <= 1
    np.testing.assert_array_equal(cross_validation.stratified_folds(labels, number), folds)


def test_nobody_judges_what_it_has_learnt():
    rng = np.random.default_rng(0)
    labels = np.append(np.arange(20) % 3, 3)  # the last is alone in its class
    x = rng.normal(size=(21, 2)).astype("float32") + 3 * labels[:, None]
    folds = cross_validation.stratified_folds(labels, 4)
    learnt = []

    def make(rows):
        learnt.append(set(rows.tolist()))
        return OnlineMean(4)

    rows, (logits,) = cross_validation.judge_held_out(
        make, x, labels, folds, lambda classifier, features: (classifier(features),)
    )
    assert rows.tolist() == list(range(20))
    assert all(20 in those for those in learnt)
    for row in rows:
        others = folds != folds[row]
        assert set(np.flatnonzero(others).tolist()) in learnt
        means = np.stack([x[others & (labels == c)].mean(axis=0) for c in range(4)])
        expected = -np.square(x[row] - means).sum(axis=1)
        np.testing.assert_allclose(logits[row], expected, rtol=1e-4, atol=1e-4)


def test_confusion_matrix():
    matrix = cross_validation.confusion_matrix([0, 0, 1, 2, 2], [0, 1, 1, 0, 2], 3)
    assert matrix.tolist() == [[1, 1, 0], [0, 1, 0], [1, 0, 1]]


@pytest.mark.parametrize("seed", range(3))
def test_p_values_in_a_loop(seed):
    rng = np.random.default_rng(seed)
    labels, scores = rng.integers(3, size=40), rng.integers(6, size=40) / 2
    found = cross_validation.own_p_values(scores, labels)
    for i in range(40):
        own = scores[labels == labels[i]]
        assert found[i] == sum(s <= scores[i] for s in own) / len(own)


@pytest.mark.bad_input
def test_labels_that_cannot_be_judged():
    with pytest.raises(ValueError, match=r"must be an integer >= 2\. Received: number=1"):
        cross_validation.stratified_folds([0, 0], 1)
    with pytest.raises(ValueError, match="Received: -1 at 0"):
        cross_validation.stratified_folds([-1, -1, 0, 0])
    folds = cross_validation.stratified_folds([0, 1, 2])
    with pytest.raises(ValueError, match="some class needs two samples"):
        cross_validation.judge_held_out(None, np.zeros((3, 2)), [0, 1, 2], folds, None)


@pytest.mark.bad_input
def test_classes_beyond_the_table():
    counts = cross_validation.confusion_matrix(np.uint8([99, 99]), np.uint8([99, 0]), 100)
    assert (counts[99, 99], counts[99, 0], counts.sum()) == (1, 1, 2)
    for wrong in ([-1], [3]):
        with pytest.raises(ValueError, match="integers from 0 to 2"):
            cross_validation.confusion_matrix(wrong, [1], 3)
        with pytest.raises(ValueError, match="integers from 0 to 2"):
            cross_validation.confusion_matrix([1], wrong, 3)
