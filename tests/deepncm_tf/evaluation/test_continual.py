# SPDX-License-Identifier: Apache-2.0
"""Classes that arrive task after task: each head against NumPy on all samples so far."""

import numpy as np
import pytest
from helpers import to_numpy
from sklearn.datasets import load_digits
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from deepncm_tf.classifiers import RandomFeatures
from deepncm_tf.evaluation import continual, heads

M = 40
STATISTICS = ("means", "cosine", "lda", "ranpac")
every_head = pytest.mark.parametrize("name", heads.HEADS)


@pytest.fixture(scope="module")
def digits():
    """Pixels in [0, 1], multiples of 1/16 and so on the grid of the statistics."""
    x, y = load_digits(return_X_y=True)
    x = (x / 16).astype("float32")
    return (x[:600], y[:600]), (x[600:900], y[600:900])


def nearest_mean(x, y, queries):
    means = [x[y == c].mean(axis=0) for c in np.unique(y)]
    distances = [np.square(queries - mean).sum(axis=1) for mean in means]
    return np.unique(y)[np.argmin(distances, axis=0)]


def nearest_direction(x, y, queries):
    middle = x.mean(axis=0)
    means = np.array([x[y == c].mean(axis=0) for c in np.unique(y)]) - middle
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    return np.unique(y)[((queries - middle) @ means.T).argmax(axis=1)]


def discriminants(x, y, queries):
    classifier = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=0.1)
    return classifier.fit(x, y).predict(queries)


def random_features(x, y, queries):
    classifier = RandomFeatures(10, M)
    classifier.adapt(x, y)
    return to_numpy(classifier(queries)).argmax(axis=1)


def neighbours(x, y, queries):
    x = x / np.linalg.norm(x, axis=1, keepdims=True)
    found = []
    for query in queries / np.linalg.norm(queries, axis=1, keepdims=True):
        similarities = x @ query
        votes = np.zeros(10)
        for row in np.argsort(-similarities)[:10]:
            votes[y[row]] += np.exp(similarities[row] / 0.05)
        found.append(votes.argmax())
    return np.array(found)


PREDICT = {
    "means": nearest_mean,
    "cosine": nearest_direction,
    "lda": discriminants,
    "ranpac": random_features,
    "knn": neighbours,
}


@every_head
def test_accuracies_are_those_of_all_samples_so_far(digits, name):
    (x, y), (queries, truth) = digits
    tasks = continual.split_classes(10, 5, seed=1)
    head = heads.get(name, 10, M)
    matrix = continual.accuracy_matrix(head, tasks, *digits)
    assert np.isnan(matrix[np.triu_indices(5, 1)]).all()
    for task in range(5):
        known = np.isin(y, tasks[: task + 1])
        for earlier in range(task + 1):
            own = np.isin(truth, tasks[earlier])
            expected = PREDICT[name](
                x[known].astype("float64"), y[known], queries[own].astype("float64")
            )
            # One sample may be on the other side of a boundary in float32.
            assert matrix[task, earlier] == pytest.approx(
                (expected == truth[own]).mean(), abs=1.01 / own.sum()
            )
    assert np.nanmean(matrix) > 0.8


@every_head
def test_the_order_of_classes_changes_nothing_at_the_end(digits, name):
    made = []

    def make(num_classes):
        made.append(heads.get(name, num_classes, M))
        return made[-1]

    runs = [continual.run_protocol(make, *digits, 5, seed) for seed in range(3)]
    assert len({str(run["tasks"]) for run in runs}) == 3
    assert len({run["average_incremental_accuracy"] for run in runs}) == 3
    if name in STATISTICS:
        first, *others = (head.classifier.get_weights() for head in made)
        for weights in others:
            for one, other in zip(first, weights, strict=True):
                np.testing.assert_array_equal(one, other)
        assert len({run["final_accuracy"] for run in runs}) == 1
        whole = heads.get(name, 10, M)
        whole.learn(*digits[0])
        is_right = whole.predict(digits[1][0]) == digits[1][1]
        assert runs[0]["final_accuracy"] == pytest.approx(is_right.mean())
    else:
        finals = [run["final_accuracy"] for run in runs]
        assert max(finals) - min(finals) <= 2 / len(digits[1][1])


def test_figures_of_a_matrix():
    nan = np.nan
    matrix = np.array([[0.8, nan, nan], [0.9, 0.8, nan], [0.5, 0.9, 1.0]])
    found = continual.summarize(matrix, sizes=[10, 10, 20])
    assert found["accuracy"] == pytest.approx([0.8, 17 / 20, 34 / 40])
    assert found["average_incremental_accuracy"] == pytest.approx((0.8 + 0.85 + 0.85) / 3)
    assert found["final_accuracy"] == pytest.approx(0.85)
    assert found["forgetting"] == pytest.approx(((0.9 - 0.5) + (0.8 - 0.9)) / 2)
    one = continual.summarize(np.array([[0.7]]), sizes=[10])
    assert one["forgetting"] == 0
    assert one["final_accuracy"] == one["average_incremental_accuracy"] == 0.7


def test_tasks_have_each_class_once():
    tasks = continual.split_classes(20, 5, seed=3)
    assert tasks.shape == (5, 4)
    assert sorted(tasks.ravel()) == list(range(20))
    np.testing.assert_array_equal(tasks, continual.split_classes(20, 5, seed=3))
    assert (tasks != continual.split_classes(20, 5, seed=4)).any()


def test_labels_may_be_any_numbers(digits):
    """Those of a file, and rows of another number for each class."""
    (x, y), (queries, truth) = digits
    names = np.array([3, 7, 20, 21, 40, 41, 50, 60, 70, 99])
    train, test = (x[:400], names[y[:400]]), (queries, names[truth])
    run = continual.run_protocol(lambda n: heads.get("means", n), train, test, 2, seed=0)
    assert sorted(np.ravel(run["tasks"])) == names.tolist()
    assert [len(row) for row in run["matrix"]] == [1, 2]
    expected = (nearest_mean(*train, test[0]) == test[1]).mean()
    assert run["final_accuracy"] == pytest.approx(expected, abs=1.01 / len(truth))


@pytest.mark.bad_input
def test_bad_arguments(digits):
    with pytest.raises(ValueError, match=r"the number of classes, 10.*num_tasks=3"):
        continual.split_classes(10, 3, seed=0)
    with pytest.raises(ValueError, match="`num_tasks` must be a positive integer"):
        continual.split_classes(10, 0, seed=0)
    with pytest.raises(ValueError, match=r"must be of the same classes.*classes 1, 2, 7$"):
        continual.number_classes([0, 1, 2], [0, 7, 7])
    with pytest.raises(ValueError, match=r"classes 1, 2, 3, 4, 5 and 4 more$"):
        continual.number_classes(np.arange(10), [0])
    with pytest.raises(ValueError, match=r"`name` must be one of.*name='nca'"):
        heads.get("nca", 10)
