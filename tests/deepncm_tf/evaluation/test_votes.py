# SPDX-License-Identifier: Apache-2.0
"""Labels and features by which neighbours vote, and those by which they cannot."""

import numpy as np
import pytest

from deepncm_tf import evaluation
from deepncm_tf.evaluation import cross_validation, retrieval

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
    message = "must be finite in float32. Received: NaN or infinity in rows 1, 6 of 8"
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


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("wrong", "received"),
    [
        ([0, 1], r"shape \(2,\) and dtype int64"),
        (np.zeros((8, 1), int), r"shape \(8, 1\)"),
        (np.zeros(8, bool), "dtype bool"),
        (np.zeros(8), "dtype float64"),
        (0, r"shape \(\)"),
        ([0] * 7 + [8], "numbers from 0 to 8"),
        ([0] * 7 + [-2], "numbers from -2 to 0"),
    ],
)
def test_rows_that_cannot_be_left_out(wrong, received):
    message = f"`exclude` must be a row for each of 8 queries.* Received: .*{received}"
    with pytest.raises(ValueError, match=message):
        evaluation.nearest(FEATURES, FEATURES, 1, exclude=wrong)
    unknown = np.where(np.arange(8) == 3, -1, NUMBERS)
    with pytest.raises(ValueError, match=message):
        evaluation.knn_predict(FEATURES, FEATURES, unknown, 1, exclude=wrong)


@pytest.mark.bad_input
@pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning")
def test_similarities_beyond_float32():
    large = np.full((2, 2), 1e20)
    with pytest.raises(ValueError, match=r"within float32. Received: numbers up to 1e\+20"):
        evaluation.nearest(large, large, 1)


@pytest.mark.bad_input
def test_arguments_of_votes_that_are_none():
    with pytest.raises(ValueError, match="`temperature` must be a positive number"):
        evaluation.vote([[1.0, 0.5]], [[0, 1]], 0, 2)
    with pytest.raises(ValueError, match="`memory_budget` must be a positive integer"):
        evaluation.nearest(FEATURES, FEATURES, 1, memory_budget=1e7)
    with pytest.raises(ValueError, match="`bank_labels` must have a class"):
        evaluation.knn_predict(FEATURES, FEATURES, np.full(8, -1), 1)
    for k in (np.int8(3), np.uint8(3)):
        assert evaluation.nearest(FEATURES, FEATURES, k)[1].shape == (8, 3)


def test_rows_of_any_length_get_unit_length():
    rows = [[1e-13, 0], [3e-30, 4e-30], [3e20, 4e20], [3, 4], [0, 0]]
    expected = [[1, 0], [0.6, 0.8], [0.6, 0.8], [0.6, 0.8], [0, 0]]
    np.testing.assert_allclose(evaluation.unit_rows(rows), expected, rtol=1e-6)
    assert evaluation.unit_rows(np.zeros((3, 0))).shape == (3, 0)


@pytest.mark.parametrize("form", ["(n, 1)", "one-hot"])
def test_scores_take_labels_of_every_form(form):
    labels = np.array([0, 1, 2, 2])
    given = labels[:, None] if form == "(n, 1)" else np.eye(3)[labels]
    scores = np.eye(3)[[0, 1, 2, 1]]
    assert evaluation.accuracy(scores, given) == 0.75
    assert evaluation.vote_accuracy(scores, given) == (0.75, 0.75)
    assert evaluation.cluster_agreement(given, given)["purity"] == 1
    assert cross_validation.confusion_matrix(given, given, 3).tolist() == [
        [1, 0, 0],
        [0, 1, 0],
        [0, 0, 2],
    ]
    with pytest.raises(ValueError, match="`labels` must be integers or one-hot"):
        evaluation.accuracy(scores, list("abca"))


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("function", "name"),
    [(evaluation.accuracy, "scores"), (evaluation.vote_accuracy, "votes")],
)
def test_scores_want_samples_and_labels_of_their_classes(function, name):
    scores = np.eye(3)[[0, 1, 2]]
    with pytest.raises(ValueError, match="`labels` must be integers from 0 to 2, below 0"):
        function(scores, [1, 2, 3])
    assert np.mean(function(scores, [0, -1, 2])) == pytest.approx(2 / 3)
    for wrong in (np.zeros((0, 3)), np.zeros(3)):
        message = (
            rf"`{name}` must be .*at least one sample.*{name} of shape \({wrong.shape[0]},"
        )
        with pytest.raises(ValueError, match=message):
            function(wrong, np.zeros(len(wrong), int))
    with pytest.raises(ValueError, match="`labels` must be of at least one sample"):
        evaluation.cluster_agreement([], [])
