# SPDX-License-Identifier: Apache-2.0
"""Exemplars and rules, on features in the plane."""

import json
import re

import keras
import numpy as np
import pytest
from helpers import random_images, small_backbone, to_numpy
from methods import IDS, TABLE, trained_in_space

from deepncm_tf import DeepNCM
from deepncm_tf.classifiers import LinearDiscriminant, OnlineMean, Softmax, SubCentroids
from deepncm_tf.evaluation import explanation
from deepncm_tf.models.rejection import calibrate_features

NAMES = ["cat", "dog", "frog"]


def direction(degrees):
    angle = np.deg2rad(degrees)
    return np.stack([np.cos(angle), np.sin(angle)], axis=-1).astype("float32")


@pytest.fixture
def plane():
    """Three classes of directions, each with two sub-centroids."""
    classifier = SubCentroids(3, 2, feature_norm=None, logit_norm=1.0)
    classifier.build((None, 2))
    classifier.sub_centroids.assign(
        [direction([0, 10]), direction([90, 100]), direction([180, 200])]
    )
    classifier.count.assign([1, 1, 1])
    degrees = np.array([1, 4, 40, 91, 92, 130, 181, 199, 220])
    labels = np.repeat([0, 1, 2], 3)
    images = np.arange(9, dtype="uint8").reshape(9, 1, 1, 1) * np.ones(
        (9, 2, 2, 3), "uint8"
    )
    return classifier, direction(degrees), labels, images


def test_exemplars_are_nearest_and_distinct(plane):
    classifier, features, labels, images = plane
    order = np.random.default_rng(0).permutation(9)
    found = explanation.find_exemplars(
        classifier, features[order], labels[order], images[order], index=order + 100
    )
    # 91 is nearest to both of dog's, 90 and 100; 92 is left for the farther one.
    assert found.index.tolist() == [[100, 101], [103, 104], [106, 107]]
    np.testing.assert_array_equal(found.images[1, 1], images[4])
    np.testing.assert_allclose(found.features[2, 1], features[7])


def test_classes_with_fewer_images_than_sub_centroids(plane):
    classifier, features, labels, images = plane
    keep = [0, 3, 4, 5]  # one cat, no frog
    found = explanation.find_exemplars(
        classifier, features[keep], labels[keep], images[keep], index=keep
    )
    assert sorted(found.index[0]) == [-1, 0]
    assert found.index[2].tolist() == [-1, -1]
    near = explanation.compare(classifier, features[:1], found)
    assert np.isneginf(near[0][found.index < 0]).all()
    (one,) = explanation.explain(classifier, found, features[:1], NAMES)
    assert one["by_exemplars"] == "cat"
    assert "frog" not in one["rule"]


def test_explanations_have_true_numbers(plane):
    classifier, features, labels, images = plane
    exemplars = explanation.find_exemplars(classifier, features, labels, images)
    query = direction([60])
    (found,) = explanation.explain(classifier, exemplars, query, NAMES, labels=[0])
    assert (found["predicted"], found["label"], found["by_exemplars"]) == (
        "dog",
        "cat",
        "dog",
    )
    assert [one["class"] for one in found["classes"]] == ["dog", "cat", "frog"]
    assert found["classes"][0]["logit"] == pytest.approx(np.cos(np.deg2rad(30)), abs=1e-5)
    nearest = found["classes"][0]["exemplars"]
    assert [one["index"] for one in nearest] == [3, 4]
    assert nearest[0]["similarity"] == pytest.approx(np.cos(np.deg2rad(31)), abs=1e-5)
    assert found["rule"] == (
        "IF it is more like training image 3 of “dog” (0.857) than like image 1 of “cat” "
        "(0.559) AND than like image 6 of “frog” (-0.515) THEN it is “dog”."
    )
    margin = np.cos(np.deg2rad(30)) - np.cos(np.deg2rad(50))
    assert f"With {margin:.3f} less for the one" in found["change"]
    assert found["change"].endswith("The true class, “cat”, comes 2.")
    assert json.loads(json.dumps(found)) == found


def test_where_exemplars_and_prototypes_disagree_it_is_said(plane):
    classifier, features, labels, images = plane
    exemplars = explanation.find_exemplars(classifier, features, labels, images)
    (found,) = explanation.explain(classifier, exemplars, direction([49]), NAMES)
    # Nearer to 90 - 49 = 41 than to 49 - 10 = 39? The sub-centroid of cat; but its
    # exemplar is at 4 degrees, dog's at 91.
    assert (found["predicted"], found["by_exemplars"]) == ("cat", "dog")
    assert found["rule"].endswith("says “cat”.")


def test_the_rule_names_images_that_are_shown():
    """Also where the classes that come next are not those of the next nearest exemplars."""
    rng = np.random.default_rng(3)
    x, y = rng.normal(size=(200, 3)).astype("float32"), np.arange(200) % 10
    classifier = OnlineMean(10)
    classifier.update(x, y)
    exemplars = explanation.find_exemplars(classifier, x, y, x)
    near = explanation.compare(classifier, x, exemplars).max(axis=-1)
    disagree = 0
    for i, found in enumerate(
        explanation.explain(classifier, exemplars, x, list("abcdefghij"), y)
    ):
        nearest = {"abcdefghij"[c] for c in np.argsort(-near[i])[:4]}
        disagree += nearest != {one["class"] for one in found["classes"]}
        shown = {near["index"] for one in found["classes"] for near in one["exemplars"]}
        named = {int(index) for index in re.findall(r"image (\d+) of", found["rule"])}
        assert named == shown
        rest = 10 - len(found["classes"])
        assert f"than to any exemplar of the other {rest} classes THEN" in found["rule"]
    assert disagree > 20


def test_distances_are_called_so():
    classifier = OnlineMean(2)
    x, y = np.array([[0, 0], [3, 4]], "float32"), np.array([0, 1])
    classifier.update(x, y)
    exemplars = explanation.find_exemplars(classifier, x, y, x)
    (found,) = explanation.explain(classifier, exemplars, x[:1], ["3", "8"])
    near = [one["exemplars"] for one in found["classes"]]
    assert near == [[{"index": 0, "distance": 0.0}], [{"index": 1, "distance": 5.0}]]
    assert found["rule"] == (
        "IF it is nearer to training image 0 of “3” (distance 0.000) than to image 1 of "
        "“8” (distance 5.000) THEN it is “3”."
    )


@pytest.mark.parametrize(("cls", "arguments"), TABLE, ids=IDS)
def test_every_method_can_be_explained(cls, arguments):
    classifier, x, y = trained_in_space(cls, arguments)
    exemplars = explanation.find_exemplars(classifier, x, y, x)
    shown = exemplars.index[exemplars.index >= 0]
    assert len(set(shown.tolist())) == len(shown) == exemplars.index.size
    assert (y[exemplars.index] == np.arange(3)[:, None]).all()
    np.testing.assert_array_equal(exemplars.labels, y[exemplars.index])
    for found in explanation.explain(classifier, exemplars, x, NAMES, y):
        start = "nearer to" if classifier.compares_by == "distance" else "more like"
        assert found["rule"].startswith(f"IF it is {start} training image")
        assert all(np.isfinite(one["logit"]) for one in found["classes"])


@pytest.mark.parametrize(
    ("cls", "words"),
    [
        (OnlineMean, "its nearness to the nearest prototype"),
        (LinearDiscriminant, "its largest logit"),
    ],
)
def test_the_score_of_a_rejected_image_is_named(cls, words):
    classifier, x, y = trained_in_space(cls, {})
    classifier.adapt(x, y)
    exemplars = explanation.find_exemplars(classifier, x, y, x)
    calibration = calibrate_features(classifier, x, y, alpha=0.5)
    between = x.mean(axis=0, keepdims=True)
    (found,) = explanation.explain(
        classifier, exemplars, between, NAMES, calibration=calibration
    )
    assert (found["predicted"], found["rejection"]["score"]) == ("unknown", "distance")
    assert found["rule"].startswith(f"IF {words} is below {calibration.threshold:.3f} THEN")
    said = f"{words[0].upper()}{words[1:]} is {found['rejection']['value']:.3f}."
    assert said in found["rule"]


def test_anchored_sub_centroids_are_their_exemplars(tmp_path):
    images, labels = random_images(30, num_classes=3)
    model = DeepNCM(small_backbone(), SubCentroids(3, 2, momentum=0.5))
    model.compile("sgd")
    model.fit(images, labels, epochs=2, verbose=0)
    exemplars = model.anchor(images, labels, batch_size=8, verbose=0)
    units = model.classifier.unit_features(exemplars.features)
    np.testing.assert_allclose(
        to_numpy(model.classifier.unit_sub_centroids()), to_numpy(units), atol=1e-5
    )
    dataset = [
        (
            {"image": images[i : i + 7], "index": np.arange(i, min(i + 7, 30)) + 5},
            labels[i : i + 7],
        )
        for i in range(0, 30, 7)
    ]
    again = model.anchor(dataset, verbose=0)  # they are already there
    np.testing.assert_array_equal(again.index, exemplars.index + 5)
    model.anchor([(x["image"], y) for x, y in dataset], verbose=0)
    without = [({"image": x["image"], "index": np.full(len(y), -1)}, y) for x, y in dataset]
    again = model.anchor(without, verbose=0)
    np.testing.assert_array_equal(again.index, exemplars.index)
    logits = model.predict(images, verbose=0)
    near = explanation.compare(model.classifier, model.embed(images, verbose=0), exemplars)
    np.testing.assert_array_equal(logits.argmax(-1), near.max(-1).argmax(-1))

    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded.exemplars.index, model.exemplars.index)
    np.testing.assert_array_equal(loaded.exemplars.images, exemplars.images)
    np.testing.assert_array_equal(loaded.exemplars.labels, [[0, 0], [1, 1], [2, 2]])
    np.testing.assert_array_equal(loaded.predict(images, verbose=0), logits)
    with pytest.raises(ValueError, match="`x` must be of shape"):
        loaded.fit(images[:, :2], labels, verbose=0)
    assert loaded.exemplars is not None
    loaded.fit(images, labels, verbose=0)
    assert loaded.exemplars is None  # they are no longer where it was anchored


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (None, "`y`, the labels, must be given with samples in arrays"),
        ([0, 1], r"`y` must be the classes of 3 samples.* shape \(2,\)"),
        (np.eye(4)[:3], r"shape \(3, 4\)"),
    ],
)
def test_labels_that_do_not_fit(labels, message):
    model = DeepNCM(small_backbone(), SubCentroids(3, 1))
    with pytest.raises(ValueError, match=message):
        model.anchor(random_images(3, num_classes=3)[0], labels, verbose=0)


@pytest.mark.parametrize("form", ["one-hot", "column"])
def test_labels_of_any_form_anchor_alike(form):
    images, labels = random_images(12, num_classes=3)
    model = DeepNCM(small_backbone(), SubCentroids(3, 1))
    first = model.anchor(images, labels, verbose=0)
    others = np.eye(3)[labels] if form == "one-hot" else labels[:, None]
    again = model.anchor(images, others, verbose=0)
    np.testing.assert_array_equal(again.index, first.index)


def test_a_single_class():
    images, labels = random_images(4, num_classes=1)
    model = DeepNCM(small_backbone(), SubCentroids(1, 2))
    exemplars = model.anchor(images, labels, verbose=0)
    features = model.embed(images[exemplars.index[0, :1]], verbose=0)
    (found,) = explanation.explain(model.classifier, exemplars, features, ["cat"])
    place = exemplars.index[0, 0]
    assert found["rule"] == (
        f"IF it is more like training image {place} of “cat” (1.000) THEN it is “cat”."
    )
    assert found["change"] == "Nothing: “cat” is the only class."


def test_other_classifiers_cannot_be_anchored():
    model = DeepNCM(small_backbone(), Softmax(3))
    with pytest.raises(
        ValueError, match=re.escape("`anchor` needs a classifier with sub-")
    ):
        model.anchor(np.zeros((2, 8, 8, 3)), [0, 1])


def test_classes_of_the_same_name_are_told_apart(plane):
    # ImageNet has two cranes.
    classifier, features, labels, images = plane
    exemplars = explanation.find_exemplars(classifier, features, labels[:, None], images)
    assert exemplars.labels.tolist() == [[0, 0], [1, 1], [2, 2]]
    query = [features[:1], ["crane", "dog", "crane"], [2]]
    (found,) = explanation.explain(classifier, exemplars, *query)
    assert (found["predicted"], found["label"]) == ("crane (0)", "crane (2)")
    assert "IF it is more like training image 0 of “crane (0)” (1.0" in found["rule"]
    assert "The true class, “crane (2)”, comes 3." in found["change"]


@pytest.mark.bad_input
def test_names_and_labels_that_are_none(plane):
    classifier, features, labels, images = plane
    exemplars = explanation.find_exemplars(classifier, features, labels, images)
    with pytest.raises(ValueError, match=r"of 3 classes\. Received: 2 names"):
        explanation.explain(classifier, exemplars, features[:1], NAMES[:2])
    with pytest.raises(ValueError, match="`labels` must be integers from 0 to 2"):
        explanation.explain(classifier, exemplars, features[:1], NAMES, [3])
    (found,) = explanation.explain(classifier, exemplars, features[:1], NAMES, [-1])
    assert found["label"] == "unknown"
    with pytest.raises(ValueError, match="`labels` must be the classes of 9 samples"):
        explanation.find_exemplars(classifier, features, labels[:2], images)


def test_exemplars_are_saved_where_they_are_asked_for(plane, tmp_path):
    exemplars = explanation.find_exemplars(*plane)
    exemplars.save(tmp_path / "exemplars")
    again = explanation.Exemplars.load(tmp_path / "exemplars")
    np.testing.assert_array_equal(again.images, exemplars.images)
