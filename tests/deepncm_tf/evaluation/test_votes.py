# SPDX-License-Identifier: Apache-2.0
"""Labels and features by which neighbours vote, and those by which they cannot."""

import numpy as np
import pytest

from deepncm_tf import evaluation
from deepncm_tf.evaluation import retrieval

C = 3
NUMBERS = np.array([0, 2, 1, 1, 0, 2, 2, 0])
ONE_HOT = np.eye(C)[NUMBERS]
FEATURES = np.random.default_rng(0).normal(size=(8, 4)).astype("float32")


@pytest.mark.parametrize(
    "form",
    [
        *(NUMBERS[:, None], NUMBERS.astype("uint8"), NUMBERS.astype("float64")),
        *(ONE_HOT.astype(bool), ONE_HOT.astype("int8"), ONE_HOT.astype("float16")),
    ],
    ids=["column", "uint8", "float64", "bool_one_hot", "int_one_hot", "float_one_hot"],
)
def test_neighbours_vote_by_labels_of_every_form(form):
    expected = evaluation.knn_predict(FEATURES, FEATURES, NUMBERS, k=3, num_classes=C)
    actual = evaluation.knn_predict(FEATURES, FEATURES, form, k=3, num_classes=C)
    np.testing.assert_array_equal(actual, expected)
    assert evaluation.knn_predict(FEATURES, FEATURES, form, k=3).shape == (8, C)
    assert retrieval.retrieval_metrics(FEATURES, form) == retrieval.retrieval_metrics(
        FEATURES, NUMBERS
    )


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (np.array(["a"] * 8), "numpy.unique.*Received: bank_labels of dtype <U1"),
        (NUMBERS[:7], r"classes of 8 samples.*Received: bank_labels of shape \(7,\)"),
        (np.zeros((8, 5)), r"Received: bank_labels of shape \(8, 5\)"),
        (np.where(NUMBERS == 2, 3, NUMBERS), "Received: 3 at 1"),
        (np.where(NUMBERS == 2, np.nan, NUMBERS), "Received: nan at 1"),
        (NUMBERS + 0.5, r"Received: 0\.5 at 0"),
    ],
)
def test_labels_by_which_neighbours_cannot_vote(wrong, message):
    with pytest.raises(ValueError, match=message):
        evaluation.knn_predict(FEATURES, FEATURES, wrong, k=3, num_classes=C)


@pytest.mark.bad_input
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_features_that_are_not_finite(value):
    bad = FEATURES.copy()
    bad[[1, 6], 2] = value
    message = "must be finite. Received: NaN or infinity in rows 1, 6 of 8"
    with pytest.raises(ValueError, match=f"`queries` {message}"):
        evaluation.knn_predict(bad, FEATURES, NUMBERS, k=3)
    with pytest.raises(ValueError, match=f"`bank` {message}"):
        evaluation.knn_predict(FEATURES, bad, NUMBERS, k=3)
    with pytest.raises(ValueError, match=message):
        retrieval.retrieval_metrics(bad, NUMBERS)
    bad[:] = value
    with pytest.raises(ValueError, match="rows 0, 1, 2, 3, 4 and 3 more of 8"):
        evaluation.nearest(bad, FEATURES, 1)


@pytest.mark.bad_input
def test_numbers_of_neighbours_that_are_none():
    with pytest.raises(ValueError, match=r"`k` must be .*Received: k=2\.5"):
        evaluation.knn_predict(FEATURES, FEATURES, NUMBERS, k=2.5)
    with pytest.raises(ValueError, match=r"`recall_at` must be .*Received: recall_at=5"):
        retrieval.retrieval_metrics(FEATURES, NUMBERS, recall_at=5)
    with pytest.raises(ValueError, match=r"`recall_at` must be .*Received: recall_at=0"):
        retrieval.retrieval_metrics(FEATURES, NUMBERS, recall_at=(1, 0))
