# SPDX-License-Identifier: Apache-2.0
"""Episodes: how they are drawn, and each head of many episodes against one at a time."""

import numpy as np
import pytest
from helpers import to_numpy
from scipy import stats
from sklearn.neighbors import NearestCentroid

from deepncm_tf.classifiers import LinearDiscriminant, OnlineMean
from deepncm_tf.evaluation import few_shot


@pytest.fixture
def rng():
    return np.random.default_rng(5)


def samples(rng, classes=8, number=30, dimensions=6, apart=2.0):
    """Features on the grid of the statistics, far from the origin, and shuffled labels."""
    labels = rng.permutation(np.arange(classes * number) % classes)
    means = apart * rng.normal(size=(classes, dimensions))
    x = rng.normal(size=(len(labels), dimensions)) @ rng.normal(size=(dimensions,) * 2)
    return np.round((x + means[labels] + 3) * 2**10) / 2**10, labels


def test_episodes_are_of_distinct_samples_of_distinct_classes(rng):
    _, labels = samples(rng)
    labels[labels == 2] = 1  # of class 2 there is none, of class 1 there are 60
    labels[np.flatnonzero(labels == 0)[:20]] = 3  # of class 0 ten are left
    rows = few_shot.draw_episodes(labels, way=4, size=12, episodes=620, seed=7)
    assert rows.shape == (620, 4, 12)
    assert all(len(np.unique(episode)) == 4 * 12 for episode in rows)
    classes = labels[rows]
    assert (classes == classes[:, :, :1]).all()
    assert all(len(np.unique(episode)) == 4 for episode in classes[:, :, 0])
    assert set(classes.ravel()) == {1, 3, 4, 5, 6, 7}
    again = few_shot.draw_episodes(labels, way=4, size=12, episodes=620, seed=7)
    np.testing.assert_array_equal(rows, again)
    other = few_shot.draw_episodes(labels, way=4, size=12, episodes=620, seed=8)
    assert (rows != other).any()


def test_every_class_and_sample_is_drawn_equally_often(rng):
    labels = rng.permutation(np.repeat([0, 1, 2], [5, 10, 20]))
    rows = few_shot.draw_episodes(labels, way=2, size=3, episodes=3000, seed=0)
    drawn = np.bincount(labels[rows[:, :, 0]].ravel())
    assert drawn == pytest.approx(np.full(3, 2000), abs=5 * np.sqrt(3000 * 2 / 9))
    for place in range(3):  # in each place, be it a shot or a query
        number = np.bincount(rows[:, :, place].ravel(), minlength=35)
        expected = 2000 / np.bincount(labels)[labels]
        assert (abs(number - expected) < 5 * np.sqrt(expected)).all()


def plain(name, support, queries, center):
    """Logits of one episode, `(way, shots, d)` and `(m, d)`, with library and loops."""
    if name in ("unit", "cl2n"):
        center = center if name == "cl2n" else np.zeros_like(center)
        support, queries = support - center, queries - center
        support = support / np.linalg.norm(support, axis=-1, keepdims=True)
        queries = queries / np.linalg.norm(queries, axis=-1, keepdims=True)
    if name == "lda":
        way, shots, dimensions = support.shape
        classifier = LinearDiscriminant(way, shrinkage=few_shot.SHRINKAGE, dtype="float64")
        labels = np.repeat(np.arange(way), shots)
        classifier.adapt(support.reshape(-1, dimensions), labels)
        return to_numpy(classifier(queries))
    return np.array(
        [[-np.square(q - m.mean(axis=0)).sum() for m in support] for q in queries]
    )


@pytest.mark.parametrize("name", few_shot.HEADS)
@pytest.mark.parametrize(("shots", "dimensions"), [(1, 4), (3, 4), (5, 40)])
def test_heads_one_episode_at_a_time(rng, name, shots, dimensions):
    x, labels = samples(rng, dimensions=dimensions)
    center = rng.normal(size=dimensions)
    rows = few_shot.draw_episodes(labels, way=3, size=shots + 4, episodes=6, seed=1)
    support, queries = x[rows[:, :, :shots]], x[rows[:, :, shots:]].reshape(6, 12, -1)
    found = few_shot.HEADS[name](support, queries, center)
    assert found.shape == (6, 12, 3)
    for logits, *episode in zip(found, support, queries, strict=True):
        expected = plain(name, *episode, center)
        np.testing.assert_allclose(
            logits - logits.mean(axis=1, keepdims=True),
            expected - expected.mean(axis=1, keepdims=True),
            rtol=1e-6,
            atol=1e-6,
        )


def test_cl2n_is_that_of_the_class_means(rng):
    """`OnlineMean` with unit length has the same logits, up to what classes share."""
    x, labels = samples(rng, classes=4)
    support = x[[np.flatnonzero(labels == c)[:5] for c in range(4)]]
    center = x.mean(axis=0)
    head = OnlineMean(4, center=center.tolist(), unit_length=True, dtype="float64")
    head.adapt(support.reshape(20, -1), np.repeat(np.arange(4), 5))
    (found,) = few_shot.cl2n(support[None], x[None], center)
    expected = to_numpy(head(x))
    np.testing.assert_allclose(  # the head's statistics are on a grid of 2^-12
        found - found.mean(axis=1, keepdims=True),
        expected - expected.mean(axis=1, keepdims=True),
        atol=1e-3,
    )


def test_shrinkage_is_that_of_the_layer():
    assert LinearDiscriminant(2).shrinkage == few_shot.SHRINKAGE


def test_accuracies_of_more_episodes_than_are_computed_at_once(rng):
    x, labels = samples(rng, apart=1.0)
    rows = few_shot.draw_episodes(labels, way=5, size=9, episodes=123, seed=2)
    found = few_shot.episode_accuracies(x, rows, 2, np.zeros(6))
    assert list(found) == list(few_shot.HEADS)
    for episode, accuracy in zip(rows, found["means"], strict=True):
        classes = np.repeat(np.arange(5), 2)
        centroids = NearestCentroid().fit(x[episode[:, :2].ravel()], classes)
        truth = np.repeat(np.arange(5), 7)
        assert accuracy == pytest.approx(centroids.score(x[episode[:, 2:].ravel()], truth))
    assert 0.3 < found["means"].mean() < 0.95


def test_what_can_be_told_apart_and_what_cannot(rng):
    x, labels = samples(rng, apart=1000.0)
    rows = few_shot.draw_episodes(labels, way=5, size=10, episodes=60, seed=0)
    for accuracies in few_shot.episode_accuracies(x, rows, 5, x.mean(axis=0)).values():
        assert accuracies.mean() > 0.98
    # Labels at random: a class is not far from the others, if not quite at their middle.
    rows = few_shot.draw_episodes(rng.permutation(labels), 5, 10, 600, seed=0)
    for accuracies in few_shot.episode_accuracies(x, rows, 5, x.mean(axis=0)).values():
        assert accuracies.mean() == pytest.approx(0.2, abs=0.04)


def test_features_that_are_all_the_same():
    labels = np.arange(40) % 4
    rows = few_shot.draw_episodes(labels, way=4, size=6, episodes=2, seed=0)
    for x in (np.zeros((40, 3)), np.ones((40, 3))):
        for shots in (1, 3):
            found = few_shot.episode_accuracies(x, rows, shots, x[0])
            assert {float(a) for both in found.values() for a in both} == {0.25}


def test_the_interval_is_that_of_a_normal_mean(rng):
    values = rng.random(50)
    mean, half = few_shot.mean_and_interval(values)
    expected = stats.norm.interval(0.95, values.mean(), stats.sem(values))
    assert (mean - half, mean + half) == pytest.approx(expected)


@pytest.mark.bad_input
def test_bad_arguments(rng):
    x, labels = samples(rng)
    with pytest.raises(ValueError, match=r"`way` must be at most 8.*30 samples.*way=9"):
        few_shot.draw_episodes(labels, way=9, size=30, episodes=1, seed=0)
    with pytest.raises(ValueError, match=r"`way` must be at most 0"):
        few_shot.draw_episodes(labels, way=1, size=31, episodes=1, seed=0)
    for name in ("way", "size", "episodes"):
        arguments = {"way": 2, "size": 3, "episodes": 4, name: 0}
        with pytest.raises(ValueError, match=f"{name}=0"):
            few_shot.draw_episodes(labels, seed=0, **arguments)
    rows = few_shot.draw_episodes(labels, way=2, size=3, episodes=1, seed=0)
    with pytest.raises(ValueError, match=r"`shots` must be less than 3.*shots=3"):
        few_shot.episode_accuracies(x, rows, 3, x[0])
    with pytest.raises(ValueError, match=r"`heads` must be one of.*heads='knn'"):
        few_shot.episode_accuracies(x, rows, 1, x[0], heads=["knn"])
