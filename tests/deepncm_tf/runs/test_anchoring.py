# SPDX-License-Identifier: Apache-2.0
"""Runs whose sub-centroids are training images in their last epochs."""

import itertools

import keras
import numpy as np
import pytest
from interrupting import batches_done, stop_at
from same_run import assert_same_run, metrics
from small_runs import config, use_few_digits, use_small_network

from deepncm_tf import evaluation
from deepncm_tf.data import datasets, pipeline
from deepncm_tf.runs import anchoring, training
from deepncm_tf.utils import signals

pytestmark = pytest.mark.usefixtures("few_digits")
VALUES = {"ncm": "dnc", "num_sub_centroids": "2", "anchor_epochs": 2, "seed": 3}
VALUES |= {"sub_centroid_initializer": "samples", "train_epochs": 4}


@pytest.fixture(scope="module")
def anchored(tmp_path_factory):
    """A run, and where its sub-centroids were when images were chosen for them."""
    folder, places = tmp_path_factory.mktemp("anchored") / "run", []
    choose = anchoring.Anchoring._choose

    def remember(self):
        images = pipeline.standardize(self.images)
        units = self.classifier.unit_features(self.model.embed(images, verbose=0))
        places.append((np.asarray(units), np.asarray(self.classifier.unit_sub_centroids())))
        choose(self)

    with pytest.MonkeyPatch.context() as patch:
        use_few_digits(patch)
        use_small_network(patch)
        patch.setattr(anchoring, "STEPS", 2)
        patch.setattr(anchoring.Anchoring, "_choose", remember)
        training.run(config(folder, **VALUES))
    return folder, places


def test_the_nearest_images_of_the_class_are_chosen_once(anchored):
    folder, places = anchored
    ((units, sub_centroids),) = places
    exemplars = keras.models.load_model(folder / "model.keras").exemplars
    _, labels = datasets.load("digits")["train"]
    for c in range(10):
        index = exemplars.index[c]
        rows = np.flatnonzero(labels == c)
        assert len(set(index)) == 2
        assert set(labels[index]) == {c}
        cosines = units[rows] @ sub_centroids[c].T
        best = max(
            cosines[i, 0] + cosines[j, 1]
            for i in range(len(rows))
            for j in range(len(rows))
            if i != j
        )
        found = sum(units[index[k]] @ sub_centroids[c, k] for k in range(2))
        assert found == pytest.approx(best, abs=1e-5)


def test_the_model_is_judged_by_its_images(anchored):
    folder, _ = anchored
    model = keras.models.load_model(folder / "model.keras")
    images, labels = datasets.load("digits")["train"]
    exemplars = model.exemplars
    np.testing.assert_array_equal(exemplars.images, images[exemplars.index])
    np.testing.assert_array_equal(exemplars.labels, labels[exemplars.index])
    units = model.classifier.unit_features(
        model.embed(pipeline.standardize(images), verbose=0)
    )
    np.testing.assert_allclose(
        model.classifier.unit_sub_centroids(),
        np.asarray(units)[exemplars.index],
        atol=1e-5,
    )
    test, truth = datasets.load("digits")["test"]
    logits = model.predict(pipeline.standardize(test), verbose=0)
    accuracy = evaluation.accuracy(logits, truth)
    assert metrics(folder)[-1]["test_accuracy"] == pytest.approx(accuracy)


@pytest.mark.thorough
def test_nothing_else_moves_sub_centroids(anchored, tmp_path, small_network, monkeypatch):
    """Without a look at the images' features they stay through the last epochs."""
    monkeypatch.setattr(anchoring, "STEPS", 1000)
    follow, seen = anchoring.Anchoring._follow, []

    def remember(self, model):
        before = np.asarray(self.classifier.sub_centroids).copy()
        found = follow(self, model)
        seen.append((before, np.asarray(self.classifier.sub_centroids).copy()))
        return found

    monkeypatch.setattr(anchoring.Anchoring, "_follow", remember)
    training.run(config(tmp_path / "run", **VALUES))
    assert len(seen) == 4  # when chosen, after each of two epochs, at the end
    for (_, after), (before, moved) in itertools.pairwise(seen[:3]):
        np.testing.assert_array_equal(after, before)
        assert (before != moved).any()


@pytest.mark.slow
def test_a_run_resumed_among_anchors_is_the_same(
    anchored, tmp_path, monkeypatch, small_network
):
    folder, _ = anchored
    monkeypatch.setattr(anchoring, "STEPS", 2)
    resumed = config(tmp_path / "run", **VALUES)
    with monkeypatch.context() as patch, pytest.raises(signals.StoppedError):
        stop_at(patch, 8)
        training.run(resumed)
    assert batches_done(tmp_path / "run") == 2  # of 3, in the first epoch with anchors
    training.run(resumed)
    assert_same_run(folder, tmp_path / "run")
    exemplars = [
        keras.models.load_model(path / "model.keras").exemplars
        for path in (folder, tmp_path / "run")
    ]
    np.testing.assert_array_equal(exemplars[0].index, exemplars[1].index)


@pytest.mark.thorough
def test_two_devices_choose_the_same_images(anchored, tmp_path, small_network, monkeypatch):
    folder, _ = anchored
    monkeypatch.setattr(anchoring, "STEPS", 2)
    mirrored = {"distribution_strategy": "mirrored", "num_devices": 2}
    training.run(config(tmp_path / "run", **VALUES, **mirrored))
    exemplars = [
        keras.models.load_model(path / "model.keras").exemplars
        for path in (folder, tmp_path / "run")
    ]
    np.testing.assert_array_equal(exemplars[0].index, exemplars[1].index)
