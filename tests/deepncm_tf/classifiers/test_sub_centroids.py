# SPDX-License-Identifier: Apache-2.0
"""Sub-centroids: official steps, plain loops in float64, and arguments."""

import re

import keras
import numpy as np
import pytest
from helpers import GOLDEN, to_numpy, value_and_gradient

from deepncm_tf.classifiers import SubCentroids
from deepncm_tf.models.losses import LogitCrossEntropy
from deepncm_tf.numerics import centroids

LONE = (3, 1)  # step and class of a sample that is alone


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


@pytest.fixture(params=["g999", "g900_affine"])
def golden(request):
    return dict(np.load(GOLDEN / f"dnc_update_{request.param}.npz", allow_pickle=False))


def official(golden):
    classifier = SubCentroids(5, num_sub_centroids=3, momentum=float(golden["gamma"]))
    classifier.build((None, 8))
    classifier.feature_scale.assign(golden["feat_norm_w"])
    classifier.feature_offset.assign(golden["feat_norm_b"])
    classifier.logit_scale.assign(golden["mask_norm_w"])
    classifier.logit_offset.assign(golden["mask_norm_b"])
    return classifier


def assert_close(actual, expected):
    np.testing.assert_allclose(to_numpy(actual), expected, rtol=1e-5, atol=2e-5)


def test_golden_logits_loss_and_gradient(golden):
    classifier = official(golden)
    for t, (x, y) in enumerate(zip(golden["x"], golden["y"], strict=True)):
        classifier.sub_centroids.assign(golden["proto_before"][t])
        assert_close(classifier.unit_sub_centroids(), golden["proto_unit"][t])
        assert_close(classifier.similarities(x), golden["score"][t])
        logits = classifier(x, training=True)
        assert_close(logits, golden["logits"][t])
        np.testing.assert_array_equal(to_numpy(logits).argmax(-1), golden["pred"][t])

        def loss(features, y=y):
            return LogitCrossEntropy()(y, classifier(features, training=True))

        value, gradient = value_and_gradient(loss, x)
        assert_close(value, golden["loss"][t])
        assert_close(gradient, golden["grad_x"][t])


def test_golden_update(golden):
    classifier = official(golden)
    for t, (x, y) in enumerate(zip(golden["x"], golden["y"], strict=True)):
        classifier.sub_centroids.assign(golden["proto_before"][t])
        classifier.update(x, y)
        same = [c for c in range(5) if (t, c) != LONE]
        assert_close(
            to_numpy(classifier.sub_centroids)[same], golden["proto_after"][t][same]
        )


def test_logits_given_and_computed_move_alike():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(30, 4)).astype("float32"), rng.integers(3, size=30)
    one, other = SubCentroids(3), SubCentroids(3)
    one.build((None, 4))
    other.build((None, 4))
    other.sub_centroids.assign(one.sub_centroids)
    one.update(x, y)
    other.update(x, y, logits=other(x, training=True))
    np.testing.assert_array_equal(
        to_numpy(one.sub_centroids), to_numpy(other.sub_centroids)
    )


class Loop:
    """Algorithm 1 with a list per class, one sample at a time, in float64."""

    def __init__(self, start, temperature, momentum, memory):
        self.p = unit(start.astype("float64"))
        self.temperature = temperature
        self.momentum = momentum
        self.rings = [[] for _ in start]
        self.memory = memory

    def step(self, x, y):
        x = unit(x.astype("float64"))
        correct = np.einsum("nd,ckd->nck", x, self.p).max(-1).argmax(-1) == y
        for sample, label, flag in zip(x, y, correct, strict=True):
            self.rings[label] = [*self.rings[label], (sample, flag)][-self.memory :]
        for c, ring in enumerate(self.rings):
            if not ring:
                continue
            samples = np.stack([sample for sample, _ in ring])
            assigned = self.assign(samples @ self.p[c].T)
            for k in range(self.p.shape[1]):
                mine = [
                    s
                    for (s, flag), a in zip(ring, assigned, strict=True)
                    if flag and a == k
                ]
                if mine:
                    f = unit(np.sum(mine, axis=0))
                    p = self.momentum * self.p[c, k] + (1 - self.momentum) * f
                    self.p[c, k] = unit(p)

    def assign(self, similarities):
        if len(similarities) == 1:
            return similarities.argmax(-1)
        n, k = similarities.shape
        q = np.exp((similarities - similarities.max()) / 0.05)
        for _ in range(3):
            q = q / q.sum(0) / k
            q = q / q.sum(1, keepdims=True) / n
        return q.argmax(-1)


def test_steps_with_a_memory_are_a_plain_loop():
    rng = np.random.default_rng(1)
    classifier = SubCentroids(
        4, 3, momentum=0.8, memory_size=4 * 10, feature_norm=None, logit_norm=0.1
    )
    classifier.build((None, 6))
    loop = Loop(to_numpy(classifier.sub_centroids), 0.1, 0.8, memory=10)
    centres = rng.normal(size=(4, 6))
    for _ in range(12):
        y = rng.integers(4, size=16)
        x = (centres[y] + rng.normal(size=(16, 6))).astype("float32")
        scores = np.einsum("nd,ckd->nck", unit(x), loop.p).max(-1)
        np.testing.assert_allclose(
            to_numpy(classifier(x, training=True)), scores / 0.1, rtol=1e-4, atol=1e-4
        )
        classifier.update(x, y)
        loop.step(x, y)
        np.testing.assert_allclose(
            to_numpy(classifier.unit_sub_centroids()), loop.p, rtol=1e-4, atol=1e-5
        )
    assert (to_numpy(classifier.count) > 0).all()


def test_dense_prediction_is_prediction_of_each_place():
    rng = np.random.default_rng(2)
    x = rng.normal(size=(2, 3, 4, 5)).astype("float32")
    y = rng.integers(3, size=(2, 3, 4))
    y[0, 0, 0] = 255  # to be ignored
    weights = rng.random(size=(2, 3, 4)) < 0.7
    dense, flat = SubCentroids(3, momentum=0.5), SubCentroids(3, momentum=0.5)
    for classifier in (dense, flat):
        classifier.build((None, 5))
    flat.sub_centroids.assign(dense.sub_centroids)
    dense.update(x, y, sample_weight=weights)
    flat.update(x.reshape(-1, 5), y.reshape(-1), sample_weight=weights.reshape(-1))
    np.testing.assert_array_equal(
        to_numpy(dense.sub_centroids), to_numpy(flat.sub_centroids)
    )
    assert dense(x).shape == (2, 3, 4, 3)
    assert float(np.sum(dense.count)) == (weights & (y < 255)).sum()


def test_one_hot_labels_are_integers():
    rng = np.random.default_rng(3)
    x, y = rng.normal(size=(20, 4)).astype("float32"), rng.integers(3, size=20)
    one, other = SubCentroids(3, momentum=0.5), SubCentroids(3, momentum=0.5)
    for classifier in (one, other):
        classifier.build((None, 4))
    other.sub_centroids.assign(one.sub_centroids)
    one.update(x, y)
    other.update(x, np.eye(3)[y])
    np.testing.assert_array_equal(
        to_numpy(one.sub_centroids), to_numpy(other.sub_centroids)
    )


def test_a_step_that_is_not_taken_changes_nothing():
    rng = np.random.default_rng(4)
    classifier = SubCentroids(3, momentum=0.5, memory_size=21)
    x, y = rng.normal(size=(20, 4)).astype("float32"), rng.integers(3, size=20)
    classifier.update(x, y)
    before = [to_numpy(v).copy() for v in classifier.non_trainable_variables]
    bad = np.full_like(x, np.nan)
    classifier.update(bad, y, apply=keras.ops.convert_to_tensor(False))
    for variable, value in zip(classifier.non_trainable_variables, before, strict=True):
        if "occupancy" not in variable.path and "dead" not in variable.path:
            np.testing.assert_array_equal(to_numpy(variable), value, variable.path)


def test_a_memory_smaller_than_a_batch_is_told():
    classifier = SubCentroids(2, memory_size=4)
    x = np.random.default_rng(0).normal(size=(5, 3)).astype("float32")
    with pytest.warns(UserWarning, match="Received: memory_size=4 with a batch of 5"):
        classifier.update(x, [0, 1, 0, 1, 0])


def test_first_samples_start_the_sub_centroids():
    classifier = SubCentroids(
        2, 2, momentum=0.999999, initializer="samples", feature_norm=None, logit_norm=1.0
    )
    x = unit(np.random.default_rng(5).normal(size=(5, 3))).astype("float32")
    classifier.update(x[:2], [0, 1])
    classifier.update(x[2:], [0, 0, 0])
    found = to_numpy(classifier.unit_sub_centroids())
    np.testing.assert_allclose(found[0], x[[0, 2]], atol=1e-5)
    np.testing.assert_allclose(found[1, 0], x[1], atol=1e-5)


def test_sub_centroids_of_a_class_start_near_each_other():
    classifier = SubCentroids(20, 4, initializer="class")
    classifier.build((None, 64))
    p = unit(to_numpy(classifier.sub_centroids))
    within = np.einsum("ckd,cjd->ckj", p, p)
    assert within.min() > 0.9
    assert np.abs(np.einsum("cd,ed->ce", p[:, 0], p[:, 0]) - np.eye(20)).max() < 0.6


@pytest.mark.parametrize("num_classes", [20, 100])
def test_directions_of_classes_at_right_angles(num_classes):
    classifier = SubCentroids(num_classes, 4, initializer="orthogonal")
    classifier.build((None, 64))
    p = unit(to_numpy(classifier.sub_centroids))
    assert np.einsum("ckd,cjd->ckj", p, p).min() > 0.9
    means = unit(p.mean(axis=1))
    cosines = means @ means.T
    # With more classes than dimensions a tight frame: the least sum of squares there is.
    expected = max(num_classes, num_classes**2 / 64)
    assert np.square(cosines).sum() == pytest.approx(expected, rel=0.05)


@pytest.mark.parametrize(
    ("counts", "sizes"),
    [
        ([5, 5, 5], [4, 4, 4]),
        ([0, 10, 20, 40], [1, 2, 3, 4]),
        ([100, 1], [4, 1]),
        ([1, 9, 11, 100], [1, 1, 1, 4]),
    ],
)
def test_sizes_follow_the_number_of_samples(counts, sizes):
    assert centroids.sizes_by_count(counts, 4) == sizes


def test_classes_with_fewer_sub_centroids():
    classifier = SubCentroids(3, num_sub_centroids=[1, 3, 2], momentum=0.5)
    rng = np.random.default_rng(6)
    x, y = rng.normal(size=(60, 4)).astype("float32"), rng.integers(3, size=60)
    classifier.update(x, y)
    start = to_numpy(classifier.sub_centroids).copy()
    for _ in range(3):
        classifier.update(x, y)
    moved = (np.abs(to_numpy(classifier.sub_centroids) - start) > 1e-3).any(axis=-1)
    assert moved.tolist() == [[True, False, False], [True, True, True], [True, True, False]]
    cosines = to_numpy(classifier.all_similarities(x))
    assert np.isneginf(cosines[:, 0, 1:]).all()
    assert np.isfinite(to_numpy(classifier(x))).all()
    assert float(classifier.dead.result()) == 0


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_sub_centroids": 0}, "`num_sub_centroids` must be a positive integer"),
        ({"num_sub_centroids": [1, 2]}, "one for each of 3 classes. Received: 2 of them"),
        (
            {"momentum": 1.0},
            "`momentum` must be a number in [0, 1), or a LearningRateSchedule. Received: "
            "momentum=1.0",
        ),
        ({"memory_size": -1}, "`memory_size` must be a positive integer or 0. Received"),
        ({"memory_size": None}, "`memory_size` must be a positive integer or 0. Received"),
        ({"num_sub_centroids": "auto"}, "Received: num_sub_centroids='auto'"),
        ({"feature_norm": "batch"}, "`feature_norm` must be one of ('layer', None)"),
        ({"logit_norm": 0}, '`logit_norm` must be "layer" or a positive temperature'),
        ({"clustering": "gmm"}, "`clustering` must be one of ('sinkhorn', 'kmeans')"),
        ({"sinkhorn_epsilon": 0}, "`sinkhorn_epsilon` must be a positive number"),
        ({"sinkhorn_iterations": 0}, "`sinkhorn_iterations` must be a positive integer"),
        ({"initializer": "zeros"}, "`initializer` must be one of ('random', 'class'"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        SubCentroids(3, **arguments)
