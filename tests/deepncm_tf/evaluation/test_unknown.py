# SPDX-License-Identifier: Apache-2.0
"""Scores for unknown inputs against plain loops, their metrics against counts of pairs."""

import numpy as np
import pytest
from keras import ops
from methods import IDS, TABLE, trained_in_space
from sklearn.covariance import EmpiricalCovariance
from sklearn.metrics import roc_curve

from deepncm_tf.classifiers import OnlineMean, SubCentroids
from deepncm_tf.evaluation import unknown
from deepncm_tf.models.calibration import scores_by_class


@pytest.fixture
def rng():
    return np.random.default_rng(3)


@pytest.fixture
def bank(rng):
    labels = np.arange(90) % 3
    return rng.normal(size=(90, 4)) @ rng.normal(size=(4, 4)) + labels[:, None], labels


def test_scores_of_logits_in_a_loop(rng):
    logits = rng.normal(size=(5, 4)) * 3
    for row, probability, largest, energy in zip(
        logits,
        unknown.max_probability(logits),
        unknown.max_logit(logits),
        unknown.energy(logits, temperature=2.0),
        strict=True,
    ):
        assert probability == pytest.approx(max(np.exp(row) / np.exp(row).sum()))
        assert largest == max(row)
        assert energy == pytest.approx(2 * np.log(sum(np.exp(row / 2))))


def test_large_logits_do_not_overflow():
    logits = np.array([[1e30, -1e30]])
    assert unknown.max_probability(logits) == 1
    assert unknown.energy(logits) == 1e30


def test_scores_of_features_in_a_loop(rng, bank):
    features, labels = bank
    known = unknown.KnownFeatures(features, labels, shrinkage=0.3, k=7)
    queries = rng.normal(size=(6, 4)) * 2
    means = np.array([features[labels == c].mean(axis=0) for c in range(3)])

    def shrunk(centred):
        covariance = EmpiricalCovariance(assume_centered=True).fit(centred).covariance_
        level = np.trace(covariance) / 4
        return np.linalg.inv(0.7 * covariance + 0.3 * level * np.eye(4))

    within = shrunk(features - means[labels])
    total = shrunk(features - features.mean(axis=0))
    units = features / np.linalg.norm(features, axis=1, keepdims=True)
    for place, x in enumerate(queries):
        own = queries[[place]]
        assert known.mean_distance(own) == pytest.approx(
            -min(((x - m) ** 2).sum() for m in means)
        )
        distances = np.sort(np.linalg.norm(units - x / np.linalg.norm(x), axis=1))
        assert known.knn(own) == pytest.approx(-distances[6], rel=1e-4)
        mahalanobis = -min((x - m) @ within @ (x - m) for m in means)
        assert known.mahalanobis(own) == pytest.approx(mahalanobis)
        apart = x - features.mean(axis=0)
        relative = mahalanobis + apart @ total @ apart
        assert known.relative_mahalanobis(own) == pytest.approx(relative)


@pytest.mark.parametrize("has_prototypes", [False, True])
def test_all_scores_fall_where_inputs_move_away(bank, has_prototypes):
    features, labels = bank
    known = unknown.KnownFeatures(features, labels)

    class Means:
        def __call__(self, x):
            return -np.square(x[:, None] - known.means).sum(axis=-1)

        def class_nearness(self, x):
            return 2 * self(x)

    Means.has_prototypes = has_prototypes
    classifier, distance = Means(), "distance" if has_prototypes else "mean_distance"
    scores = unknown.all_scores(known, classifier, features)
    assert len(scores) == 7
    assert all(values.shape == (90,) for values in scores.values())
    np.testing.assert_allclose(
        scores[distance], (1 + has_prototypes) * classifier(features).max(axis=1)
    )
    far = unknown.all_scores(known, classifier, -20 * features)
    for name in ("max_logit", "energy", distance, "knn", "mahalanobis"):
        assert np.median(far[name]) < np.median(scores[name]), name
    compared = unknown.compare_scores(classifier, known, features, labels, -20 * features)
    assert compared[distance]["auroc"] > 0.95
    accuracy = (classifier(features).argmax(axis=1) == labels).mean()
    assert compared[distance]["oscr"] <= accuracy


@pytest.mark.parametrize(
    ("cls", "arguments"), [(OnlineMean, {}), (SubCentroids, {"num_sub_centroids": 2})]
)
def test_classes_that_were_never_seen_are_not_near(rng, cls, arguments):
    labels = np.arange(60) % 3
    features = (rng.normal(size=(60, 4)) + 6 * np.eye(3, 4)[labels]).astype("float32")
    known = unknown.KnownFeatures(features, labels)
    classifier = cls(5, **arguments)  # of which the last two have no sample
    classifier.adapt(features, labels)
    others = np.concatenate([np.zeros((1, 4)), rng.normal(size=(30, 4))]).astype("float32")
    near = ops.convert_to_numpy(classifier.prototype_scores(others))
    expected = near[:, :3].max(axis=(1, 2))
    assert (near.max(axis=(1, 2)) > expected).any()  # where the two lie, by chance
    found = unknown.all_scores(known, classifier, others)["distance"]
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    calibrated = scores_by_class("distance", classifier, others, None)
    np.testing.assert_array_equal(found, ops.convert_to_numpy(calibrated).max(axis=1))


@pytest.mark.parametrize(("cls", "arguments"), TABLE, ids=IDS)
def test_distance_is_what_calibrate_goes_by(cls, arguments):
    classifier, features, labels = trained_in_space(cls, arguments)
    known = unknown.KnownFeatures(features, labels)
    scores = unknown.all_scores(known, classifier, features)
    by_class = scores_by_class("distance", classifier, features, classifier(features))
    name = "distance" if classifier.has_prototypes else "max_logit"
    largest = ops.convert_to_numpy(by_class).max(axis=1)
    np.testing.assert_allclose(scores[name], largest, rtol=1e-6)
    assert {"distance", "mean_distance"} & set(scores) == {
        "distance" if classifier.has_prototypes else "mean_distance"
    }


def test_equal_features_and_fewer_samples_than_dimensions(rng):
    for features in (np.ones((5, 3)), rng.normal(size=(2, 30))):
        known = unknown.KnownFeatures(features, np.zeros(len(features), int))
        for score in ("mean_distance", "knn", "mahalanobis", "relative_mahalanobis"):
            assert np.isfinite(getattr(known, score)(features + 1.0)).all()


@pytest.mark.parametrize("seed", range(5))
def test_metrics_count_pairs(seed):
    rng = np.random.default_rng(seed)
    known, strange = rng.integers(0, 9, 40) + 2, rng.integers(0, 9, 30)  # with ties
    found = unknown.detection_metrics(known, strange)
    pairs = np.sign(known[:, None] - strange)
    assert found["auroc"] == pytest.approx((0.5 + 0.5 * pairs).mean())
    for rate, positive, negative in (
        ("fpr_at_95_tpr", known, strange),
        ("fpr_at_95_tpr_unknown", -strange, -known),
    ):
        scores = np.concatenate([positive, negative])
        is_positive = np.arange(len(scores)) < len(positive)
        false, true, _ = roc_curve(is_positive, scores, drop_intermediate=False)
        assert found[rate] == pytest.approx(false[true >= 0.95][0])
    right = rng.random(40) < 0.7
    assert unknown.oscr(known, right, strange) == pytest.approx(
        ((0.5 + 0.5 * pairs) * right[:, None]).mean()
    )
    assert unknown.oscr(known, np.ones(40), strange) == pytest.approx(found["auroc"])


def test_perfect_and_useless_scores():
    perfect = unknown.detection_metrics([3.0, 4.0], [1.0, 2.0])
    assert perfect == {
        **dict.fromkeys(("auroc", "aupr_known", "aupr_unknown"), 1.0),
        **dict.fromkeys(("fpr_at_95_tpr", "fpr_at_95_tpr_unknown"), 0.0),
    }
    useless = unknown.detection_metrics(np.ones(30), np.ones(10))
    assert useless["auroc"] == 0.5
    assert useless["aupr_known"] == 0.75
    assert useless["fpr_at_95_tpr"] == useless["fpr_at_95_tpr_unknown"] == 1.0


def test_roc_curves_count_what_is_accepted(rng):
    known, others = rng.normal(size=40).round(1) + 1, rng.normal(size=30).round(1)
    for rate, found in zip(
        unknown.roc_rates(), unknown.roc_curve(known, others), strict=True
    ):
        allowed = [
            np.mean(known >= t)
            for t in (*known, *others, np.inf)
            if np.mean(others >= t) <= rate + 1e-12
        ]
        assert found == pytest.approx(max(allowed)), rate


@pytest.mark.bad_input
def test_labels_beyond_the_classes(bank):
    features, labels = bank
    known = unknown.KnownFeatures(features, labels)
    classifier = OnlineMean(3)
    classifier.adapt(features, labels)
    with pytest.raises(ValueError, match=r"`labels` must be .* 0 to 2, .*: 3 at 2"):
        unknown.compare_scores(classifier, known, features, labels + 1, features)
    alike = unknown.compare_scores(classifier, known, features, labels * 0 - 1, features)
    assert alike["energy"]["oscr"] == 0  # of no class: none is right


@pytest.mark.bad_input
def test_bad_arguments(bank):
    features, labels = bank
    with pytest.raises(
        ValueError, match=r"`bank` and `labels`.*shapes \(90, 4\) and \(89,\)"
    ):
        unknown.KnownFeatures(features, labels[:-1])
    with pytest.raises(ValueError, match="with N >= 1"):
        unknown.KnownFeatures(features[:0], labels[:0])
    with pytest.raises(ValueError, match=r"`shrinkage` must be in \(0, 1\].*shrinkage=0"):
        unknown.KnownFeatures(features, labels, shrinkage=0)
    with pytest.raises(ValueError, match="`temperature` must be a positive number"):
        unknown.energy(features, temperature=0)
    with pytest.raises(
        ValueError, match="`unknown` must be a one-dimensional array of scores"
    ):
        unknown.detection_metrics([1.0], [])
    with pytest.raises(ValueError, match="with 1 NaN"):
        unknown.detection_metrics([1.0, np.nan], [1.0])


def test_score_maps_are_the_scores_of_pixels():
    rng = np.random.default_rng(0)
    bank, labels = rng.normal(size=(40, 4)), np.arange(40) % 3
    known = unknown.KnownFeatures(bank, labels)
    classifier = OnlineMean(3)
    classifier.update(bank.astype("float32"), labels)
    features = rng.normal(size=(2, 3, 5, 4)).astype("float32")
    maps = unknown.score_maps(known, classifier, features)
    scores = unknown.all_scores(known, classifier, features.reshape(-1, 4))
    assert set(maps) == set(scores)
    for name, values in scores.items():
        assert maps[name].shape == (2, 3, 5)
        np.testing.assert_array_equal(maps[name].reshape(-1), values)
