# SPDX-License-Identifier: Apache-2.0
"""Step by step against the official DeepNCM code (tests/golden, see its README)."""

import keras
import numpy as np
import pytest
from helpers import GOLDEN, to_numpy, value_and_gradient

from deepncm_tf.classifiers import DecayMean, MeanCondensation, OnlineMean
from deepncm_tf.classifiers.metrics import RelativeMeanDistance
from deepncm_tf.models.losses import LogitCrossEntropy
from deepncm_tf.numerics.samples import Samples

NUM_CLASSES = 5
FIRST_SEEN = 6  # the step that first has a sample of class 4
CASES = {
    "online": lambda: OnlineMean(NUM_CLASSES),
    "decay": lambda: DecayMean(NUM_CLASSES, decay=0.9),
    "condensation_postinc": lambda: MeanCondensation(NUM_CLASSES, condensation_steps=3),
}


@pytest.fixture(params=CASES)
def case(request):
    golden = dict(np.load(GOLDEN / f"deepncm_{request.param}.npz", allow_pickle=False))
    return request.param, CASES[request.param](), golden


def assert_close(actual, expected):
    np.testing.assert_allclose(to_numpy(actual), expected, rtol=1e-5, atol=2e-5)


def same_means(name, steps):
    """The classes whose means are the official ones after a number of steps.

    The official condensation gives class 4 a phantom sample at the origin, ours none:
    the two part when the class has its first sample.
    """
    parted = name == "condensation_postinc" and steps > FIRST_SEEN
    return slice(NUM_CLASSES - 1 if parted else NUM_CLASSES)


def test_logits_loss_and_gradient(case):
    name, classifier, golden = case
    losses = LogitCrossEntropy(reduction=None)
    for t, (x, y) in enumerate(zip(golden["x"], golden["y"], strict=True)):
        logits = classifier(x, training=True)
        same = same_means(name, t)
        assert_close(logits[:, same], golden["logits"][t][:, same])
        if same.stop == NUM_CLASSES:

            def loss(features, t=t, y=y):
                return keras.ops.mean(losses(y, classifier(features, training=True)))

            value, gradient = value_and_gradient(loss, x)
            assert_close(losses(y, logits), golden["loss_per_example"][t])
            assert_close(value, golden["loss"][t])
            assert_close(gradient, golden["grad_x"][t])
        classifier.update(x, y)


def test_state(case):
    name, classifier, golden = case
    # Counts differ on purpose: decay's official one is 1 for all classes from the first
    # step on, ours counts samples; the phantom sample of condensation is not counted.
    counted = slice(0) if name == "decay" else slice(NUM_CLASSES - 1)
    if name == "online":
        counted = slice(NUM_CLASSES)
    classifier.build(golden["x"][0].shape)
    for t, (x, y) in enumerate(zip(golden["x"], golden["y"], strict=True)):
        sums, counts = classifier.class_sums(Samples(x, y, NUM_CLASSES))
        assert_close(counts, golden["batch_count"][t][0])
        assert_close(sums, golden["batch_mean"][t] * golden["batch_count"][t].T)
        before, after = same_means(name, t), same_means(name, t + 1)
        assert_close(classifier.means[before], golden["mean_before"][t].T[before])
        classifier.update(x, y)
        assert_close(classifier.means[after], golden["mean_after"][t].T[after])
        assert_close(classifier.counts[counted], golden["count_after"][t][0, counted])
        if name != "decay":
            assert_close(classifier.total[counted], golden["total_after"][t].T[counted])


def test_condensation_differs_by_the_phantom_sample_alone():
    golden = np.load(GOLDEN / "deepncm_condensation_postinc.npz", allow_pickle=False)
    classifier = CASES["condensation_postinc"]()
    for x, y in zip(golden["x"][: FIRST_SEEN + 1], golden["y"], strict=False):
        classifier.update(x, y)
    n = golden["batch_count"][FIRST_SEEN][0, 4]
    official = golden["mean_after"][FIRST_SEEN].T[4]
    assert_close(classifier.means[4] * n / (n + 1), official)
    assert to_numpy(classifier.counts)[4] == n


def test_relative_mean_distance(case):
    name, classifier, golden = case
    expected = golden["rmd_intended_batch"]
    for t, (x, y) in enumerate(zip(golden["x"], golden["y"], strict=True)):
        counts = golden["batch_count"][t]
        metric = RelativeMeanDistance()
        metric.update_state(
            golden["batch_mean"][t] * counts.T, counts[0], golden["mean_before"][t].T
        )
        assert_close(metric.result(), expected[t])
        classifier.rmd.reset_state()
        classifier.update_metrics(x, y)
        if same_means(name, t).stop == NUM_CLASSES:
            assert_close(classifier.rmd.result(), expected[t])
        classifier.update(x, y)
