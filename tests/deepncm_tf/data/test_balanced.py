# SPDX-License-Identifier: Apache-2.0
"""Batches with as many samples of each class."""

import numpy as np
import pytest

from deepncm_tf.data.balanced import BalancedBatches, balanced_dataset, balanced_order

LABELS = np.array([0] * 20 + [1] * 6 + [2] * 2)
X = np.arange(len(LABELS), dtype="float32")[:, None]


def test_each_batch_has_as_many_of_each_class():
    order = balanced_order(LABELS, 2)
    assert order.shape == (len(LABELS) // 6, 6)
    for rows in order:
        assert np.bincount(LABELS[rows]).tolist() == [2, 2, 2]
        assert len(set(rows)) == 6  # no sample twice where there are enough
    order = balanced_order(LABELS, 3, classes_per_batch=2)
    for rows in order:
        assert sorted(np.bincount(LABELS[rows], minlength=3)) == [0, 3, 3]


def test_classes_and_samples_take_turns():
    order = balanced_order(LABELS, 1, classes_per_batch=2, seed=3)
    rows, classes = order.ravel(), LABELS[order].ravel()
    counts = np.bincount(classes)
    assert counts.max() - counts.min() <= 1
    frequent = np.bincount(rows[classes == 0], minlength=20)[:20]
    assert frequent.max() <= 1 or frequent.min() >= 1


def test_order_follows_seed_and_epoch():
    first = balanced_order(LABELS, 2, seed=1, epoch=0)
    np.testing.assert_array_equal(first, balanced_order(LABELS, 2, seed=1, epoch=0))
    assert (first != balanced_order(LABELS, 2, seed=1, epoch=1)).any()
    assert (first != balanced_order(LABELS, 2, seed=2, epoch=0)).any()


def test_the_dataset_and_the_py_dataset_give_the_same_batches():
    batches = BalancedBatches(X, LABELS, 2, seed=1)
    dataset = balanced_dataset(X, LABELS, 2, seed=1).as_numpy_iterator()
    for _ in range(2):  # epochs
        for number in range(len(batches)):
            inputs, labels = batches[number]
            others, other_labels = next(dataset)
            np.testing.assert_array_equal(others["index"], inputs["index"])
            np.testing.assert_array_equal(others["image"], inputs["image"])
            np.testing.assert_array_equal(other_labels, labels)
            np.testing.assert_array_equal(X[inputs["index"]], inputs["image"])
        batches.on_epoch_end()


@pytest.mark.bad_input
def test_bad_arguments():
    with pytest.raises(ValueError, match="Received: samples_per_class=0"):
        balanced_order(LABELS, 0)
    with pytest.raises(ValueError, match=r"of classes, 3\. Received: classes_per_batch=4"):
        balanced_order(LABELS, 1, 4)
    with pytest.raises(ValueError, match=r"Received: labels of shape \(2, 2\)"):
        balanced_order(np.zeros((2, 2), int), 1)
