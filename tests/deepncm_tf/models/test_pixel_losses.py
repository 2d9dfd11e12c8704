# SPDX-License-Identifier: Apache-2.0
"""The losses of prototypes, and the bound on pixels that cluster, against plain loops."""

import contextlib

import keras
import numpy as np
import pytest
import tensorflow as tf
from small_segmenters import C, images_and_masks, segmenter

from deepncm_tf.classifiers import Softmax, SubCentroids
from deepncm_tf.classifiers.clustered_samples import draw
from deepncm_tf.distribution import strategies
from deepncm_tf.models.prototype_losses import prototype_losses

K, D = 3, 5


def scope(num_replicas):
    if num_replicas == 1:
        return contextlib.nullcontext()
    return strategies.get_strategy("mirrored", num_replicas).scope()


@pytest.fixture
def pixels():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(2, 4, 5, D)).astype("float32")
    labels = rng.integers(C, size=(2, 4, 5))
    labels[0, 0] = 255
    return features, labels


@pytest.mark.parametrize("max_samples", [None, 2, 100])
def test_prototype_losses(pixels, max_samples):
    features, labels = pixels
    classifier = SubCentroids(C, K, max_samples=max_samples, feature_norm=None, seed=5)
    classifier.build(features.shape)
    noise = keras.ops.copy(classifier._noise.state) if max_samples else None
    contrast, distance = map(float, prototype_losses(classifier, features, labels))
    if max_samples:
        classifier._noise.state.assign(noise)  # the same are drawn again
    assigned, counted = map(np.asarray, classifier.assigned(features, labels))
    units = features.reshape(-1, D).astype("float64")
    units /= np.linalg.norm(units, axis=1, keepdims=True)
    centres = np.asarray(classifier.sub_centroids, "float64")
    centres /= np.linalg.norm(centres, axis=2, keepdims=True)
    contrasts, distances = [], []
    for x, label, place, counts in zip(
        units, labels.reshape(-1), assigned, counted, strict=True
    ):
        if counts:
            cosines = centres.reshape(-1, D) @ x
            own = centres[label, place] @ x
            contrasts.append(np.log(np.exp(cosines).sum()) - own)
            distances.append((1 - own) ** 2)
    known = labels.reshape(-1)[counted]
    expected = np.bincount(labels[labels != 255], minlength=C)
    np.testing.assert_array_equal(
        np.bincount(known, minlength=C), np.minimum(expected, max_samples or 100)
    )
    np.testing.assert_allclose(contrast, np.mean(contrasts), rtol=1e-5)
    np.testing.assert_allclose(distance, np.mean(distances), rtol=1e-5)


def test_drawing_takes_the_least_noise_of_each_class():
    rng = np.random.default_rng(1)
    labels, noise = rng.integers(4, size=50).astype("int32"), rng.random(50)
    takes_part = (rng.random(50) < 0.8) & (labels < 3)  # none of the last class
    rows, is_there = map(np.asarray, draw(labels, takes_part, noise, 4, 6))
    for c in range(4):
        candidates = np.flatnonzero((labels == c) & takes_part)
        expected = candidates[np.argsort(noise[candidates])][:6]
        np.testing.assert_array_equal(rows[c, is_there[c]], expected)


def test_a_bound_above_the_number_of_pixels_changes_nothing(pixels):
    features, labels = pixels
    states = []
    for max_samples in (None, 40):
        keras.utils.set_random_seed(3)
        classifier = SubCentroids(C, K, momentum=0.5, max_samples=max_samples)
        classifier.build(features.shape)
        for _ in range(3):
            classifier.update(features, labels)
        states.append(np.asarray(classifier.sub_centroids))
    np.testing.assert_allclose(*states, atol=1e-6)


def test_the_bound_is_seeded(pixels):
    features, labels = pixels
    states = []
    for seed in (1, 1, 2):
        keras.utils.set_random_seed(3)
        classifier = SubCentroids(C, K, momentum=0.5, max_samples=4, seed=seed)
        classifier.build(features.shape)
        classifier.update(features, labels)
        states.append(np.asarray(classifier.sub_centroids))
    np.testing.assert_array_equal(states[0], states[1])
    assert not np.allclose(states[0], states[2])


def test_spread_is_the_mean_cosine_within_classes():
    classifier = SubCentroids(2, [3, 2])
    classifier.build((None, D))
    centres = np.asarray(classifier.unit_sub_centroids(), "float64")
    pairs = [
        centres[c, i] @ centres[c, j]
        for c, size in enumerate((3, 2))
        for i in range(size)
        for j in range(size)
        if i != j
    ]
    assert classifier.spread() == pytest.approx(np.mean(pairs), abs=1e-6)
    one = SubCentroids(2, 1)
    one.build((None, D))
    assert one.spread() is None


def test_the_losses_are_added_with_their_weights():
    images, masks = images_and_masks(4)
    images = images.astype("float32")
    losses = []
    for weights in ({}, {"contrast_weight": 0.5, "distance_weight": 2.0}):
        keras.utils.set_random_seed(4)
        model = segmenter(SubCentroids(C, K), **weights)
        if weights:
            features, labels = model.embed(images, verbose=0), masks[:, 2::4, 2::4]
            expected = prototype_losses(model.classifier, features, labels)
        losses.append(model.train_on_batch(images, masks, return_dict=True)["loss"])
    contrast, distance = map(float, expected)
    added = losses[1] - losses[0]
    np.testing.assert_allclose(added, 0.5 * contrast + 2.0 * distance, rtol=1e-4)


@pytest.mark.parametrize(
    ("axes", "parts", "num_replicas"),
    [(1, 1, 1), (2, 1, 1), (3, 1, 1), (3, 3, 1), (3, 1, 2)],
)
def test_labels_of_weight_0_take_no_part(axes, parts, num_replicas):
    images, masks = images_and_masks(6)
    weights = np.ones((6, 12, 16)[:axes], "float32")
    weights[:3] = 0  # all of the first part, and some of the next
    if axes > 1:
        weights[3:, 4:8] = 0
    counts = weights.reshape(*weights.shape, *[1] * (3 - axes)) > 0
    others = np.where(counts | (masks == 255), masks, (masks + 1) % C)
    results = []
    for labels, steps, count in ((masks, 1, 1), (others, parts, num_replicas)):
        keras.utils.set_random_seed(4)
        with scope(count):
            model = segmenter(
                SubCentroids(C, 1),
                accumulate_steps=steps,
                contrast_weight=1.0,
                distance_weight=1.0,
            )
        data = (images.astype("float32"), labels, weights)
        dataset = tf.data.Dataset.from_tensor_slices(data).batch(6)
        model.fit(dataset, shuffle=False, verbose=0)
        results.append(model.get_weights())
    for one, other in zip(*results, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


@pytest.mark.bad_input
def test_bad_bounds():
    with pytest.raises(ValueError, match="`max_samples` must be a positive integer"):
        SubCentroids(C, max_samples=0)
    with pytest.raises(ValueError, match="`max_samples` needs memory_size=0"):
        SubCentroids(C, memory_size=30, max_samples=5)
    with pytest.raises(ValueError, match="must be 0 for other classifiers"):
        segmenter(Softmax(C), distance_weight=1.0)
